"""Texts on their way into an encoder: checked, and cut before the tokenizer sees them."""

from __future__ import annotations

from ..errors import TextError

CHARACTERS_PER_TOKEN = 32
"""Characters of a text kept for each token of the encoder's limit.

English has 4 to 5 a token, and no usual tokenizer has 32 on average, so the tokens that are left are those of the whole
text; a megabyte takes no longer than a page.
"""


def check_text(text: object, what: str = "text") -> str:
    """Return ``text``. Raises TextError that names ``what``: not str, white space alone, a NUL, a lone surrogate."""
    if not isinstance(text, str):
        raise TextError(f"{what}: expected str, got {type(text).__name__}")
    if not text.strip():
        raise TextError(f"{what} is empty; expected at least one character that is not white space")
    if "\0" in text:
        raise TextError(f"{what} has a NUL character at {text.index(chr(0))}; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"{what} is not valid Unicode: lone surrogate at {error.start}; decode the bytes with errors='replace'"
        ) from error
    return text


def cut(text: str, max_tokens: int) -> str:
    """The part of ``text`` that can reach the encoder."""
    return text[: max_tokens * CHARACTERS_PER_TOKEN]
