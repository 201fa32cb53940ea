"""Which tokens two vocabularies share: the same bytes of text, however each marks its spaces.

SentencePiece writes a space as "▁" and a byte it has no piece for as "<0x0A>"; byte-level BPE writes every byte as a
visible character, a space as "Ġ" (the table of GPT-2). Both are brought to the bytes that the token stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SPACE = "▁"
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def shared_tokens(old: Mapping[str, int], new: Mapping[str, int]) -> list[tuple[int, int]]:
    """The ids (old, new) of the tokens that both vocabularies have, ordered by the old id."""
    wanted, found = token_bytes(old), token_bytes(new)
    return sorted((index, found[text]) for text, index in wanted.items() if text in found)


def token_bytes(vocabulary: Mapping[str, int]) -> dict[bytes, int]:
    """The id of each token by the bytes that it stands for; of two with the same bytes, a piece goes before a byte."""
    visible = _visible_bytes() if is_byte_level(vocabulary) else None
    found: dict[bytes, int] = {}
    single: dict[bytes, int] = {}
    for token, index in vocabulary.items():
        if visible is not None:
            found.setdefault(_from_visible(token, visible), index)
        elif byte := BYTE.fullmatch(token):
            single[bytes.fromhex(byte[1])] = index
        else:
            found.setdefault(token.replace(SPACE, " ").encode(), index)
    return single | found


def is_byte_level(vocabulary: Mapping[str, int]) -> bool:
    """Whether tokens are written in the visible bytes of GPT-2: more of them start with its space than with "▁"."""
    starts = [token[:1] for token in vocabulary]
    return starts.count("Ġ") > starts.count(SPACE)


def _from_visible(token: str, visible: Mapping[str, int]) -> bytes:
    """The bytes of a byte-level token; an added token that is written plainly stands for itself."""
    if all(character in visible for character in token):
        return bytes(visible[character] for character in token)
    return token.encode()


def _visible_bytes() -> dict[str, int]:
    """The byte of each of GPT-2's 256 characters: printable Latin-1 is itself, the others follow from U+0100 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(itself)]
    return {chr(byte): byte for byte in itself} | {chr(256 + n): byte for n, byte in enumerate(others)}
