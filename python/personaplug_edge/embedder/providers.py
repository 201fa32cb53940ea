"""Which execution providers of onnxruntime a graph runs on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..errors import EncoderError

_SHORT = {"cuda": "CUDAExecutionProvider", "coreml": "CoreMLExecutionProvider", "cpu": "CPUExecutionProvider"}
CPU = _SHORT["cpu"]


def choose_providers(asked: Sequence[str] | None, available: Sequence[str]) -> list[str]:
    """Providers in order of preference, the CPU always last.

    ``asked`` None: CUDA, CoreML, CPU, those of them that this onnxruntime has. Otherwise the given ones, as ``cuda``
    or in full (``CUDAExecutionProvider``); one that this onnxruntime lacks is left out with a RuntimeWarning. Raises
    EncoderError on a name that cannot be one.
    """
    if asked is None:
        return [name for name in _SHORT.values() if name in available]
    if isinstance(asked, str):
        asked = [asked]
    chosen: list[str] = []
    for entry in asked:
        name = _SHORT.get(entry.lower(), entry)
        if not name.endswith("ExecutionProvider"):
            known = ", ".join([*_SHORT, *(each for each in available if each not in _SHORT.values())])
            raise EncoderError(f"unknown execution provider {entry!r}; expected some of {known}")
        if name in available:
            chosen.append(name)
        else:
            _warn(f"this onnxruntime has no {name} (it has {', '.join(available)}); going on without it")
    return [*dict.fromkeys(chosen), *([] if CPU in chosen else [CPU])]


def warn_of_fallback(wanted: Sequence[str], got: Sequence[str], path: Path) -> None:
    """RuntimeWarning when a provider could not be started, as onnxruntime-gpu's on a machine without a GPU."""
    lost = [name for name in wanted if name not in got]
    if lost:
        _warn(f"{', '.join(lost)} could not be started for {path.name}; it runs on {', '.join(got)}")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
