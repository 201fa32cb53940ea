"""What counts as text, wherever it comes in: in the store, in an encoder, in a request."""

from __future__ import annotations

from personaplug_edge.errors import TextError


def check_unicode(value: object, what: str) -> str:
    """The value if it is a str without NUL and lone surrogates; otherwise TextError."""
    if not isinstance(value, str):
        raise TextError(f"{what} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise TextError(f"{what} holds a NUL character at position {value.index(chr(0))}; remove it")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"{what} is not valid Unicode: a lone surrogate at position {error.start}; decode its bytes as UTF-8"
        ) from None
    return value


def check_text(value: object, what: str = "the text") -> str:
    """As :func:`check_unicode`, and not of white space alone."""
    text = check_unicode(value, what)
    if not text.strip():
        raise TextError(f"{what} is empty; expected at least one character that is not white space")
    return text
