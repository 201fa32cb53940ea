"""The command ``personaplug``: one file a command; heavy imports happen inside the commands."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code: 0 done, 1 a failure told in one line, 2 wrong usage, 130 Ctrl-C."""
    try:
        from .app import run

        return run(arguments)
    except KeyboardInterrupt:  # Ctrl-C before a command had begun, or while its modules were read
        return 130
