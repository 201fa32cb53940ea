"""An answer written to the terminal as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, cast

from .terminal import clean

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..engine import Chunk


def write_stream(chunks: Iterator[Chunk]) -> str:
    """Writes the chunks to stdout and returns the whole; an exception, Ctrl-C too, closes the stream, which cancels."""
    parts: list[str] = []
    generator = cast("Generator[Chunk, None, None]", chunks)
    with closing(generator):
        for chunk in generator:
            parts.append(chunk.text)
            sys.stdout.write(clean(chunk.text) if sys.stdout.isatty() else chunk.text)
            sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(parts)
