"""Errors of the export side."""

from __future__ import annotations

from personaplug_edge.errors import MissingExtraError, PersonaPlugError

__all__ = ["ExportError", "MissingExtraError", "require"]


class ExportError(PersonaPlugError, RuntimeError):
    """An export failed, or what came out of it differs from what went in."""


def require(*modules: str) -> None:
    """Raises :class:`MissingExtraError` unless every one of the modules is installed."""
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"exporting needs {', '.join(missing)}, which is not installed; pip install 'personaplug-edge[export]'"
        )
