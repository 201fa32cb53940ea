"""personaplug-edge: one frozen LLM that answers everybody in their own way, on the device.

from personaplug_edge import PersonaPlug

plug = PersonaPlug.load("tiny")
anna = plug.user("anna")
anna.remember("The senator's bill failed in committee.", output="politics")
print(plug.generate("headline of article: ...", user=anna).text)
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personaplug_edge.async_plug import AsyncPersonaPlug
    from personaplug_edge.batch import BadRow, BatchOptions, BatchResult, BatchSummary, generate_batch
    from personaplug_edge.beams import BeamResult, Beams
    from personaplug_edge.bundle import Bundle
    from personaplug_edge.conversation import Conversation, Turn
    from personaplug_edge.engine import LLM, Chunk, Generation
    from personaplug_edge.errors import PersonaPlugError
    from personaplug_edge.plug import PersonaPlug
    from personaplug_edge.prompt import Prompt
    from personaplug_edge.results import Attribution, Choice, Reply, Score
    from personaplug_edge.sampling import Sampling
    from personaplug_edge.store import HistoryStore, Item, NewItem
    from personaplug_edge.user import User

__version__ = "0.1.0"

# Before anything imports onnxruntime, which since 1.31 reports its sessions to its maker unless told not to: nothing
# here speaks to a network. (Its thread for it also keeps a forked child from ending.)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOME = {
    "AsyncPersonaPlug": "async_plug",
    "Attribution": "results",
    "BadRow": "batch",
    "BatchOptions": "batch",
    "BatchResult": "batch",
    "BatchSummary": "batch",
    "BeamResult": "beams",
    "Beams": "beams",
    "Bundle": "bundle",
    "Choice": "results",
    "Chunk": "engine",
    "Conversation": "conversation",
    "Generation": "engine",
    "HistoryStore": "store",
    "Item": "store",
    "LLM": "engine",
    "NewItem": "store",
    "PersonaPlug": "plug",
    "PersonaPlugError": "errors",
    "Prompt": "prompt",
    "Reply": "results",
    "Sampling": "sampling",
    "Score": "results",
    "Turn": "conversation",
    "User": "user",
    "generate_batch": "batch",
}
__all__ = [
    "LLM",
    "AsyncPersonaPlug",
    "Attribution",
    "BadRow",
    "BatchOptions",
    "BatchResult",
    "BatchSummary",
    "BeamResult",
    "Beams",
    "Bundle",
    "Choice",
    "Chunk",
    "Conversation",
    "Generation",
    "HistoryStore",
    "Item",
    "NewItem",
    "PersonaPlug",
    "PersonaPlugError",
    "Prompt",
    "Reply",
    "Sampling",
    "Score",
    "Turn",
    "User",
    "generate_batch",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that importing the package costs nothing.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
