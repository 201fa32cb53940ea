"""The extension, imported in the right order and checked.

llama-cpp-python's wheel holds two copies of libllama. Importing ``llama_cpp`` first maps the one that the extension then
shares; the other way round two are mapped, each with globals of its own. And ``llama.h`` passes structs by value without
its soname telling: the version the extension was built with must be the one that is installed.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from personaplug_edge.errors import VersionMismatchError

if TYPE_CHECKING:
    from types import ModuleType


def _check_versions(built: str, installed: str) -> None:
    """Raises VersionMismatchError with the mending command unless both are the same."""
    if built != installed:
        raise VersionMismatchError(
            f"personaplug_edge was built against llama-cpp-python {built}, but {installed} is installed; run: "
            f"pip install 'llama-cpp-python=={built}', or build again: pip install --no-build-isolation --force-reinstall personaplug-edge"
        )


def _load() -> ModuleType:
    try:
        import llama_cpp
    except ImportError as error:
        raise VersionMismatchError(f"llama-cpp-python cannot be imported ({error}); run: pip install llama-cpp-python==0.3.36") from error
    try:
        from personaplug_edge import _core
    except ImportError as error:
        raise VersionMismatchError(
            f"the extension personaplug_edge._core cannot be loaded ({error}); run: pip install --force-reinstall personaplug-edge "
            f"(from a source tree: cmake --preset dev && cmake --build --preset dev)"
        ) from error
    installed = getattr(llama_cpp, "__version__", None) or importlib.metadata.version("llama-cpp-python")
    _check_versions(_core.LLAMA_CPP_PYTHON_VERSION, installed)
    return _core


if TYPE_CHECKING:
    from personaplug_edge import _core as core
else:
    core = _load()

__all__ = ["core"]
