"""What an adaptation reads before it starts, and the folder it writes to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from personaplug_export.adapt_options import AdaptOptions
from personaplug_export.errors import ExportError
from personaplug_export.hf_llama import read_config
from personaplug_export.reference import Plug
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import FrozenEncoder

FACTS = "adapt.json"
MAY_CHANGE = ("device", "bf16", "compare", "dev_examples")
"""Options that a run which goes on may have other values of."""


def read_plug(folder: Path) -> tuple[Plug, dict[str, Any]]:
    """A plug and what ``train.json`` beside it says; raises ExportError where there is none."""
    for name in ("plug.json", "plug.safetensors"):
        if not (folder / name).is_file():
            raise ExportError(f"no {name} in {folder}: expected the folder of a plug, as train writes it")
    path = folder / "train.json"
    return Plug.load(folder), json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def token_rows(folder: Path) -> tuple[Tensor, dict[str, int]]:
    """The token-embedding table (vocabulary, H), float32, and the vocabulary of a causal LM's folder."""
    read_config(folder)
    table = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").get_input_embeddings().weight
    return table.detach().float(), AutoTokenizer.from_pretrained(folder).get_vocab()


def trained_encoder(plug_folder: Path, like: FrozenEncoder) -> FrozenEncoder:
    """The input encoder of a plug that was trained with one of its own."""
    folder = plug_folder / "input_encoder"
    if not folder.is_dir():
        raise ExportError(f"the input encoder of {plug_folder} was trained itself, and there is no {folder}")
    encoder = FrozenEncoder(folder, like.options, like.device)
    encoder.model.requires_grad_(False)
    return encoder


def train_options(plug: Plug, trained: Mapping[str, Any], options: AdaptOptions) -> TrainOptions:
    """As the plug was trained, but for what ``options`` says."""
    known = {field.name for field in fields(TrainOptions)}
    before = {name: value for name, value in trained.items() if name in known}
    shape = {name: value for name, value in asdict(plug.config).items() if name in known}
    given = {name: value for name, value in asdict(options).items() if name in known and value is not None}
    return TrainOptions(**{**before, **shape, **given})


def facts_of(paths: Mapping[str, Path], fold_llms: Sequence[Path], options: AdaptOptions) -> dict[str, Any]:
    """What a run is known by: where its parts lie, the digest of ``paths["plug"]``, and its options."""
    facts: dict[str, Any] = {name: str(path.resolve()) for name, path in paths.items()}
    facts["fold_llms"] = [str(path.resolve()) for path in fold_llms]
    facts["plug_sha256"] = hashlib.sha256((paths["plug"] / "plug.safetensors").read_bytes()).hexdigest()
    return {**facts, **asdict(options)}


def check_target(out: Path, facts: Mapping[str, Any]) -> None:
    """Raises ExportError unless ``out`` is new or holds a run that was begun with the same settings."""
    path = out / FACTS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in facts if name not in MAY_CHANGE and facts[name] != before.get(name)]
        if other:
            told = ", ".join(f"{name} {before.get(name)!r}, not {facts[name]!r}" for name in other)
            raise ExportError(f"{out} holds an adaptation with {told}; give another --out, or remove it")
    elif (out / "checkpoint.pt").exists() or (out / "plug.json").exists():
        raise ExportError(f"{out} holds a plug that was not adapted; give another --out, or remove it")


def write_facts(out: Path, facts: Mapping[str, Any]) -> None:
    """Makes ``out`` the folder of the run with these facts."""
    out.mkdir(parents=True, exist_ok=True)
    (out / FACTS).write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")
