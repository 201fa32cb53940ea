"""What a batch run is told once, for all rows."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BatchError
from ..personalize.registry import parse
from ..sampling import Sampling
from .remote import size_of

if TYPE_CHECKING:
    from ..adapters import AdapterFolder
    from ..bundle import Bundle
    from ..personalizer import PersonaMode


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where and how a batch runs on Ray."""

    address: str | None = None
    """Of a cluster ("auto": the one this machine is part of); None: Ray is started here and ends with the run."""
    workers: int = 0
    """Processes that hold the bundle; 0: as many as the free CPUs feed."""
    threads: int = 1
    """CPU threads of a worker. Two workers of one thread answer more rows than one of two."""
    store: str | Path | None = None
    """File of the history store, at the same path on every machine; None: no store, or the plug's."""
    adapters: str | Path | None = None
    """Folder that ``personaplug-export lora`` wrote, at the same path on every machine; None: none, or the plug's."""

    def check(self) -> None:
        """Raises BatchError for a value that cannot be meant."""
        if self.workers < 0 or self.threads < 1:
            raise BatchError(f"expected workers >= 0 and threads >= 1, got {self.workers} and {self.threads}")


RESERVED = frozenset(
    ("id", "user", "text", "finish_reason", "prompt_tokens", "generated_tokens", "persona_digest", "history_items")
    + ("label", "logprobs", "token_logprobs", "method", "untrained")
)
"""Names that the output gives a meaning of its own."""


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Options of a batch run; where a row says otherwise, the row wins."""

    persona: PersonaMode = "query"
    """Of rows that name none; see :data:`personaplug_edge.personalizer.PersonaMode`."""
    method: str | None = None
    """In place of ``persona``, such as "bm25:4" or "lora+pplug" (docs/methods.md); None: ``persona``."""
    sampling: Sampling | None = None
    """Of rows without ``options``; None: the bundle's. A row's options are put over it."""
    labels: tuple[str, ...] = ()
    """Of rows without ``labels``: choose the likeliest of these in place of generating."""
    histories: str | Path | None = None
    """A JSONL file of histories by user (format: docs/batch.md), for rows with a user and no history of their own."""
    keep: tuple[str, ...] = ()
    """Further fields of the rows that are copied to the output; any other unknown field makes a row bad."""
    cut: bool = False
    """Cut requests longer than the bundle's ``max_input_tokens``; otherwise one that does not fit is a bad row."""
    require_history: bool = False
    """A row with a persona but without any history item is bad; otherwise the cold-start persona stands in."""
    seed: int = 0
    """Of the run: a row that draws (temperature > 0) and names no seed gets one made from this and its id."""
    ordered: bool = True
    """Rows come out in the order of the input; False: as they are finished."""
    group: int = 256
    """Rows embedded and decoded together; also what a kill can cost at most. The text may depend on it, see docs."""
    sequences: int = 16
    """Rows decoded at the same time. The text may depend on it."""
    threads: int = 0
    """CPU threads of the decoder; 0: physical cores."""

    def check(self) -> None:
        """Raises BatchError for a value that cannot be meant, MethodError for a method that is not known."""
        if self.method is not None:
            parse(self.method)
        if self.persona not in ("query", "static", "off"):
            raise BatchError(f'persona: expected "query", "static" or "off", got {self.persona!r}')
        for name, least, most in (("group", 1, 1 << 20), ("sequences", 1, 128), ("threads", 0, 512)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise BatchError(f"{name}: expected {least} to {most}, got {value!r}")
        if taken := sorted(RESERVED & set(self.keep)):
            raise BatchError(f"keep: the output has fields of its own named {', '.join(taken)}; rename yours")

    def facts(self, bundle: Bundle, adapters: AdapterFolder | None = None) -> dict[str, Any]:
        """Whatever decides the output beside the input: a run goes on only where these are the same, as JSON."""
        from .. import __version__
        from .._native import core

        files = "".join(sorted(part.sha256 for part in bundle.manifest.files.values()))
        options = asdict(self)
        del options["threads"]  # decides the speed alone
        options["sampling"] = asdict(self.base_sampling(bundle))
        options["sampling"]["logit_bias"] = {
            str(token): bias for token, bias in options["sampling"]["logit_bias"].items()
        }
        if self.method is None:
            del options["method"]  # as in the records of runs from before there was one
        histories = str(self.histories) if self.histories else None
        trained = {} if adapters is None else {"adapters": adapters.digest}
        return trained | {
            "bundle": f"{bundle.manifest.name} {hashlib.sha256(files.encode()).hexdigest()[:16]}",
            "versions": f"personaplug-edge {__version__}, llama.cpp {core.LLAMA_CPP_VERSION}",
            "options": {**options, "histories": [histories, size_of(histories)] if histories else None},
        }

    def base_sampling(self, bundle: Bundle) -> Sampling:
        """The sampling of rows without options."""
        return self.sampling or Sampling(**bundle.sampling_options)
