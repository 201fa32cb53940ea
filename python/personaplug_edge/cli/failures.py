"""From exceptions to one line on stderr and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..errors import GrammarError, PersonaPlugError, SamplingError
from .wording import in_shell

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


def one_line(error: BaseException) -> str:
    """What went wrong, in one line: the package's own messages in the shell's words, others with their type."""
    if isinstance(error, PersonaPlugError):
        message = in_shell(str(error)) or type(error).__name__
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        message = f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)"
    return " ".join(message.split())


@contextmanager
def guarded(*, debug: bool) -> Iterator[None]:
    """Runs a command's body; with ``debug`` the errors pass through and Python prints their traceback."""
    _see_to_streams()
    try:
        yield
        sys.stdout.flush()  # a broken pipe shows here and not while the interpreter ends
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        print("\npersonaplug: interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # the reader (head, less) has left: nothing more can be said, and nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as error:
        if debug:
            raise
        print(f"personaplug: error: {one_line(error)}", file=sys.stderr)
        raise typer.Exit(_code_of(error)) from None


def _code_of(error: Exception) -> int:
    """2, wrong usage, for a value of an option that the engine refused; a grammar comes from a file."""
    return 2 if isinstance(error, SamplingError) and not isinstance(error, GrammarError) else 1


def _see_to_streams() -> None:
    """A closed stdin reads as empty, a closed stdout ends the command, and no character is beyond an encoding."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    if sys.stdout is None:
        if sys.stderr is not None:
            print("personaplug: error: standard output is closed; give it a file, or /dev/null", file=sys.stderr)
        raise typer.Exit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
