"""The extension, imported in the right order and checked.

llama-cpp-python's wheel holds two copies of libllama. Importing ``llama_cpp`` first maps the one that the extension
then shares; the other way round two are mapped, each with globals of its own. And ``llama.h`` passes structs by value
without its soname telling: the version the extension was built with must be the one that is installed.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from personaplug_edge.errors import VersionMismatchError

if TYPE_CHECKING:
    from personaplug_edge import _core as core

REBUILD = "pip install --force-reinstall personaplug-edge"
IN_PLACE = "cmake --preset dev && cmake --build --preset dev"


def check_versions(built: str, installed: str) -> None:
    """Raises VersionMismatchError with the mending command unless both are the same."""
    if built != installed:
        raise VersionMismatchError(
            f"personaplug_edge was built against llama-cpp-python {built}, but {installed} is installed; run: "
            f"pip install 'llama-cpp-python=={built}'"
        )


def _load() -> object:
    try:
        import llama_cpp
    except ImportError as error:
        raise VersionMismatchError(
            f"llama-cpp-python cannot be imported ({error}); run: pip install llama-cpp-python==0.3.36"
        ) from error
    try:
        from personaplug_edge import _core
    except ImportError as error:
        raise VersionMismatchError(
            f"personaplug_edge._core cannot be loaded ({error}); run: {REBUILD} (in a source tree: {IN_PLACE})"
        ) from error
    installed = getattr(llama_cpp, "__version__", None) or importlib.metadata.version("llama-cpp-python")
    check_versions(_core.LLAMA_CPP_PYTHON_VERSION, installed)
    return _core


if not TYPE_CHECKING:
    core = _load()

__all__ = ["core"]
