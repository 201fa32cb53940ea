"""What the library's messages advise in Python, as one would do it from a shell."""

from __future__ import annotations

IN_SHELL = (
    ("; change the permissions, or open it with read_only=True", "; change the permissions"),
    (" was opened with read_only=True; open it without to change it", " is read-only; change the permissions"),
    (
        " was opened with read_only=True and lacks vectors of the bundle",
        " is read-only and lacks vectors of the bundle",
    ),
    ("; open it without and call reembed() once", "; change the permissions for one request, which makes them"),
    ("; open it once without read_only to bring it up to date", "; make it writable once to bring it up to date"),
    (": call choose() with labels", ": `personaplug generate --labels` takes it"),
    ("; shorten the prompt or make the engine with a larger context", "; shorten the prompt"),
    ("; list() gives the whole history", "; `personaplug history list` gives the whole history"),
    ("; users() lists them", "; `personaplug users` lists them"),
)
"""Ends of messages, and what stands in their place."""


def in_shell(message: str) -> str:
    """A message of the library for somebody who is at the command line."""
    for words, others in IN_SHELL:
        message = message.replace(words, others)
    return message
