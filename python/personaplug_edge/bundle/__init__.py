"""The bundle: a folder with a plug, its encoders and its LLM; ``bundle.json`` names and hashes all of them."""

from __future__ import annotations

from .digest import ModelLike, sha256_of, tokenizer_digest
from .files import check_files, files_of
from .folder import Bundle, PersonaRows, bundles_folder, known_bundles
from .manifest import (
    FORMAT,
    MANIFEST_NAME,
    EncoderPart,
    FilePart,
    GraphPart,
    HeadPart,
    HistoryPart,
    LLMPart,
    Manifest,
    PersonaPart,
    PromptPart,
)
from .template import fill

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "Bundle",
    "EncoderPart",
    "FilePart",
    "GraphPart",
    "HeadPart",
    "HistoryPart",
    "LLMPart",
    "Manifest",
    "ModelLike",
    "PersonaPart",
    "PersonaRows",
    "PromptPart",
    "bundles_folder",
    "check_files",
    "files_of",
    "fill",
    "known_bundles",
    "sha256_of",
    "tokenizer_digest",
]
