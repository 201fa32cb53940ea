"""One ONNX graph: loaded, looked at, run; every failure of onnxruntime becomes an EncoderError."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EncoderError, MissingExtraError
from .providers import CPU, choose_providers, warn_of_fallback
from .tables import mapped_tables

_MOST_THREADS = 8  # short texts do not feed more; ask for more with ``threads``


def import_onnxruntime() -> ModuleType:
    """onnxruntime, imported at the first call. Raises MissingExtraError that names the extra."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"onnxruntime cannot be imported ({error}); run: pip install 'personaplug-edge[cpu]', "
            "or 'personaplug-edge[cuda]' on a machine with an NVIDIA GPU (never both)"
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


class Session:
    """A loaded graph. Thread-safe: onnxruntime allows calls of run from several threads at once."""

    def __init__(self, path: str | Path, *, providers: Sequence[str] | None = None, threads: int = 0) -> None:
        """``providers`` and ``threads`` are those of :class:`Encoder`. Raises EncoderError when the file is no
        graph."""
        self.path = Path(path)
        ort = import_onnxruntime()
        wanted = choose_providers(providers, ort.get_available_providers())
        if not self.path.is_file():
            raise EncoderError(f"{self.path} is missing; expected an ONNX file, export the bundle again")
        self.threads = threads if threads > 0 else min(_usable_cores(), _MOST_THREADS)
        """Threads that share one run, the caller's included."""
        try:
            options = _options(ort, self.threads)
            self._tables = self._map_tables(ort, options, wanted)
            self._session = ort.InferenceSession(str(self.path), options, providers=wanted)
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            raise EncoderError(f"{self.path} cannot be loaded: {_first_line(error)}; export it again") from error
        self.providers: list[str] = self._session.get_providers()
        """Execution providers in use, the preferred first."""
        warn_of_fallback(wanted, self.providers, self.path)
        self.inputs: dict[str, Any] = {node.name: node for node in self._session.get_inputs()}
        """Graph inputs by name; each has ``shape`` (numbers or names) and ``type``."""
        self.outputs: dict[str, Any] = {node.name: node for node in self._session.get_outputs()}
        """Graph outputs by name."""

    def _map_tables(self, ort: ModuleType, options: Any, providers: Sequence[str]) -> list[Any]:
        """Puts mapped tables in the place of the file's own; what is returned has to live as long as the session."""
        tables = []
        if list(providers) == [CPU]:  # others would copy them to their own memory
            for name, table in mapped_tables(self.path).items():
                tables.append(ort.OrtValue.ortvalue_from_numpy(table))
                options.add_initializer(name, tables[-1])
        return tables

    @property
    def callers(self) -> int:
        """How many calls of :meth:`run` at once use the processor best; an accelerator takes one at a time."""
        return self.threads if self.providers == [CPU] else 1

    def require(self, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raise EncoderError unless the graph takes exactly ``inputs`` and gives at least ``outputs``."""
        if set(self.inputs) != set(inputs) or not set(outputs) <= set(self.outputs):
            raise EncoderError(
                f"{self.path}: expected inputs {', '.join(inputs)} and outputs {', '.join(outputs)}; "
                f"got {', '.join(self.inputs)} and {', '.join(self.outputs)}; export it again"
            )

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph; outputs as float32. C-contiguous float32 inputs are read in place. Raises EncoderError."""
        try:
            results = self._session.run(list(outputs), dict(inputs))
        except Exception as error:
            shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())
            raise EncoderError(f"{self.path} failed on {shapes}: {_first_line(error)}") from error
        return [np.asarray(result, dtype=np.float32) for result in results]


def _options(ort: ModuleType, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # llama.cpp's threads share the cores, and a spinning pool takes them away while it has nothing to do. Measured on
    # 2 busy cores, MiniLM, one query: 7-12 ms and 8-11 ms of CPU without spinning, 12-18 and 23-26 with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings about node placement are not the caller's affair
    return options


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
