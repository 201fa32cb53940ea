"""The extension, loaded in the right order and checked.

llama-cpp-python's wheel holds two copies of libllama. Where the one that ``llama_cpp`` loads is mapped first, the
extension shares it, and so does an ``import llama_cpp`` later; the other way round two are mapped, each with globals of
its own. The library alone is loaded here: importing all of ``llama_cpp`` takes .1 s and 8 MB. And ``llama.h`` passes
structs by value without its soname telling: the version the extension was built with must be the one installed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
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


def _map_libllama() -> None:
    """Loads the file that ``import llama_cpp`` loads; imports ``llama_cpp`` where that is not to be foreseen."""
    found = None if "llama_cpp" in sys.modules else importlib.util.find_spec("llama_cpp")
    if found is not None and found.origin is not None and "LLAMA_CPP_LIB_PATH" not in os.environ:
        folder = Path(found.origin).parent / "lib"
        for name in ("libllama.so", "libllama.dylib") if os.name == "posix" else ():
            if (folder / name).exists():
                ctypes.CDLL(str(folder / name))
                return
    import llama_cpp  # noqa: F401


def installed_version(package: str, distribution: str) -> str:
    """The version of the distribution that ``package`` is imported from.

    It stands in the name of the folder beside the package. importlib.metadata, which also knows of eggs and of trees
    that are not installed, reads it from there with the e-mail parser: 1.6 MB that nothing else here needs.
    """
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:
        stem = distribution.replace("-", "_")
        versions = {
            folder.name[len(stem) + 1 : -len(".dist-info")]
            for folder in Path(found.origin).parent.parent.glob(f"{stem}-*.dist-info")
        }
        if len(versions) == 1:
            return versions.pop()
    from importlib.metadata import version

    return version(distribution)


def _load() -> object:
    try:
        _map_libllama()
    except (ImportError, OSError) as error:
        raise VersionMismatchError(
            f"llama-cpp-python cannot be loaded ({error}); run: pip install llama-cpp-python==0.3.36"
        ) from error
    try:
        from personaplug_edge import _core
    except ImportError as error:
        raise VersionMismatchError(
            f"personaplug_edge._core cannot be loaded ({error}); run: {REBUILD} (in a source tree: {IN_PLACE})"
        ) from error
    check_versions(_core.LLAMA_CPP_PYTHON_VERSION, installed_version("llama_cpp", "llama-cpp-python"))
    return _core


if not TYPE_CHECKING:
    core = _load()

__all__ = ["core"]
