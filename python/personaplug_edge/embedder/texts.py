"""Texts on their way into an encoder are cut before the tokenizer sees them."""

from __future__ import annotations

CHARACTERS_PER_TOKEN = 32
"""Characters of a text kept for each token of the encoder's limit.

English has 4 to 5 a token, and no usual tokenizer has 32 on average, so the tokens that are left are those of the whole
text; a megabyte takes no longer than a page.
"""


def cut(text: str, max_tokens: int) -> str:
    """The part of ``text`` that can reach the encoder."""
    return text[: max_tokens * CHARACTERS_PER_TOKEN]
