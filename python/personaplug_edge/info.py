"""What is installed and what it can run on. A part that is missing or broken is a fact too: ``{"error": ...}``."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def package_version() -> str:
    """The version of this package."""
    from . import __version__

    return __version__


def collect(bundle: str = "tiny", *, store: Path | None = None) -> dict[str, Any]:
    """Versions, llama.cpp's devices, ONNX execution providers, and the facts of a bundle, as JSON takes them."""
    return {
        "personaplug_edge": package_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": _installed("numpy"),
        "llama_cpp": _part(_llama_cpp),
        "onnxruntime": _part(_onnxruntime),
        "bundle": _part(lambda: _bundle(bundle)),
        "store": {"path": str(store), "bytes": store.stat().st_size if store.exists() else 0} if store else None,
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _part(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _llama_cpp() -> dict[str, Any]:
    from ._native import core

    return {
        "version": core.LLAMA_CPP_VERSION,
        "commit": core.LLAMA_CPP_COMMIT,
        "llama_cpp_python": _installed("llama-cpp-python"),
        "built_against": core.LLAMA_CPP_PYTHON_VERSION,
        "system": core.system_info().strip(),
        "devices": [dict(device) for device in core.devices()],
    }


def _onnxruntime() -> dict[str, Any]:
    import onnxruntime

    return {
        "version": onnxruntime.__version__,
        "execution_providers": list(onnxruntime.get_available_providers()),
        "device": onnxruntime.get_device(),
    }


def _bundle(name: str) -> dict[str, Any]:
    from .bundle import Bundle

    bundle = Bundle.load(name, verify=False)
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "license": manifest.license,
        "folder": str(bundle.folder),
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "llm": asdict(manifest.llm),
        "behavior_encoder": asdict(manifest.behavior_encoder),
        "persona": asdict(manifest.persona),
        "prompt": asdict(manifest.prompt),
        "sampling": dict(manifest.sampling),
        "measured": dict(manifest.measured),
    }
