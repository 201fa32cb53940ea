"""Puts plug, encoders and LLM into a bundle: one folder, hashed, read back by the runtime, and there whole or not."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personaplug_edge.bundle import (
    MANIFEST_NAME,
    Bundle,
    EncoderPart,
    GraphPart,
    HeadPart,
    HistoryPart,
    LLMPart,
    Manifest,
    PersonaPart,
    PromptPart,
    files_of,
    tokenizer_digest,
)
from personaplug_export.errors import ExportError, require
from personaplug_export.model_card import ModelCard, render_card
from personaplug_export.train_options import TrainOptions

if TYPE_CHECKING:
    from personaplug_export.reference import Plug

LLM_FILE = "llm.gguf"
CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What a manifest says beyond what the files say themselves. None: what ``train.json`` beside the plug says."""

    name: str
    """name of the bundle"""
    version: str = "1"
    """version of the bundle"""
    license: str = "unstated"
    """license of the weights"""
    context: int = 0
    """context to run with, in tokens; 0: the LLM's own"""
    prompt_template: str | None = None
    """the request as the LLM reads it"""
    max_input_tokens: int | None = None
    """tokens of the input that are kept"""
    max_prompt_tokens: int = PromptPart.max_prompt_tokens
    """tokens up to which past items may lengthen a prompt"""
    max_items: int | None = None
    """newest items of a history that are read; 0: all"""
    input_prefix: str = ""
    """put in front of the input before it is encoded; "": the encoder's own"""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """options of Sampling that generation starts from"""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """figures"""
    card: ModelCard = field(default_factory=ModelCard)
    """the parts of the model card that are prose"""


def export_bundle(
    plug_folder: Path,
    encoder_folder: Path,
    gguf: Path,
    target: Path,
    options: BundleOptions,
    *,
    input_encoder_folder: Path | None = None,
    force: bool = False,
) -> Bundle:
    """Writes the bundle folder ``target`` and returns it as the runtime reads it.

    ``encoder_folder`` (and ``input_encoder_folder``, for a plug whose input encoder was trained itself) come from the
    encoder export; the plug's graphs are exported here. Raises ExportError when the parts do not fit each other, or
    when ``target`` exists and ``force`` is not given.
    """
    require("torch", "onnx", "onnxruntime")
    from personaplug_export.reference import Plug

    if target.exists() and not force:
        raise ExportError(f"{target} exists; --force replaces it")
    for path, what in (
        (plug_folder / "plug.json", "the plug"),
        (encoder_folder / "encoder.json", "the encoder"),
        (gguf, "the LLM"),
    ):
        if not path.is_file():
            raise ExportError(f"no {path}: expected {what}, as train, onnx and gguf write them")
    plug = Plug.load(plug_folder)
    trained = _read_json(plug_folder / "train.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        manifest = _fill(workplace, plug, trained, encoder_folder, input_encoder_folder, gguf, options)
        (workplace / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        _try(Bundle.load(workplace))
        workplace.chmod(0o755)  # mkdtemp makes it private
        _swap(workplace, target)
    finally:
        if workplace.exists():
            shutil.rmtree(workplace)
    return Bundle.load(target)


def _fill(
    folder: Path,
    plug: Plug,
    trained: Mapping[str, Any],
    encoder_folder: Path,
    input_encoder_folder: Path | None,
    gguf: Path,
    options: BundleOptions,
) -> Manifest:
    from personaplug_export.onnx_plug import export_plug

    behavior = _copy_encoder(encoder_folder, folder, "")
    if behavior.width != plug.config.vector_width:
        raise ExportError(
            f"the plug takes vectors of width {plug.config.vector_width}, {encoder_folder} gives {behavior.width}"
        )
    shutil.copyfile(gguf, folder / LLM_FILE)
    llm = _llm_part(folder / LLM_FILE, options.context)
    if llm.embedding_width != plug.config.embedding_width:
        raise ExportError(
            f"the plug makes rows of width {plug.config.embedding_width}, {gguf} has {llm.embedding_width}"
        )
    export_plug(plug, folder)
    _write_rows(plug, folder / "rows.npz")
    query = _query_part(folder, plug, behavior, input_encoder_folder, options.input_prefix)
    prompt = PromptPart(
        template=_first(options.prompt_template, trained.get("template"), "{input}"),
        max_input_tokens=_first(options.max_input_tokens, trained.get("max_input_tokens"), 256),
        max_prompt_tokens=options.max_prompt_tokens,
    )
    history = HistoryPart(
        template=trained.get("history_template", TrainOptions.history_template),
        max_items=_first(options.max_items, trained.get("max_items"), 0),
    )
    _check_encoder(trained.get("encoder", {}), behavior)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    shape = {
        "LLM": f"{llm.architecture}, embedding width {llm.embedding_width}, {llm.vocabulary_size} tokens",
        "behavior encoder": f"width {behavior.width}, {behavior.max_tokens} tokens at most",
        "input encoder": "a linear head on the behavior encoder"
        if isinstance(query, HeadPart)
        else "an encoder of its own",
        "persona tokens": plug.config.persona_tokens,
        "instruction rows": plug.config.instruction_rows,
        "prompt": json.dumps(prompt.template),
    }
    (folder / CARD_FILE).write_text(
        render_card(
            options.card,
            name=options.name,
            version=options.version,
            license=options.license,
            shape=shape,
            sizes=sizes,
            measured=options.measured,
        ),
        encoding="utf-8",
    )
    return Manifest(
        name=options.name,
        version=options.version,
        license=options.license,
        files=files_of(folder, [*sizes, CARD_FILE]),
        llm=llm,
        behavior_encoder=behavior,
        input_encoder=query,
        projector=GraphPart(file="projector.onnx"),
        aggregator=GraphPart(file="aggregator.onnx"),
        persona=PersonaPart(tokens=plug.config.persona_tokens, rows="rows.npz", token_norm=plug.config.token_norm),
        model_card=CARD_FILE,
        history=history,
        prompt=prompt,
        sampling=dict(options.sampling),
        measured=dict(options.measured),
    )


def _copy_encoder(source: Path, folder: Path, prefix: str) -> EncoderPart:
    described = _read_json(source / "encoder.json")
    names = {key: f"{prefix}{described[key]}" for key in ("file", "tokenizer")}
    for key, name in names.items():
        shutil.copyfile(source / described[key], folder / name)
    return EncoderPart(**{**described, **names})


def _check_encoder(trained: dict[str, Any], exported: EncoderPart) -> None:
    """The encoder has to read texts as it did while the plug was trained; its pooling lies in its graph."""
    for name in ("prefix", "max_tokens"):
        if name in trained and trained[name] != getattr(exported, name):
            raise ExportError(
                f"the plug was trained with the encoder's {name} {trained[name]!r}, and the encoder was exported with "
                f"{getattr(exported, name)!r}; export it with --{name.replace('_', '-')} {trained[name]!r}"
            )


def _query_part(
    folder: Path, plug: Plug, behavior: EncoderPart, input_encoder_folder: Path | None, prefix: str
) -> EncoderPart | HeadPart:
    if plug.config.input_encoder == "head":
        if input_encoder_folder is not None:
            raise ExportError("the plug has a head on the behavior encoder; leave the input encoder out")
        return HeadPart(head="input_head.onnx", prefix=prefix or behavior.prefix)
    if input_encoder_folder is None:
        raise ExportError(
            "the plug's input encoder was trained itself: export it (onnx) and give it by --input-encoder"
        )
    part = _copy_encoder(input_encoder_folder, folder, "input_")
    if part.width != plug.config.vector_width:
        raise ExportError(
            f"the plug takes queries of width {plug.config.vector_width}, {input_encoder_folder} gives {part.width}"
        )
    return EncoderPart(**{**part.__dict__, "prefix": prefix or part.prefix})


def _llm_part(path: Path, context: int) -> LLMPart:
    from personaplug_edge._native import core

    model = core.Model(str(path))
    return LLMPart(
        file=path.name,
        architecture=model.architecture,
        embedding_width=model.embedding_width,
        vocabulary_size=model.vocabulary_size,
        tokenizer_sha256=tokenizer_digest(model),
        context=context,
    )


def _write_rows(plug: Plug, path: Path) -> None:
    rows = {"instruction": plug.instruction, "cold_start": plug.cold_start}
    arrays = {name: value.detach().float().numpy() for name, value in rows.items()}
    np.savez(path, instruction=arrays["instruction"], cold_start=arrays["cold_start"])


def _try(bundle: Bundle) -> None:
    """Loads every graph of a bundle and runs one item through it."""
    from personaplug_edge.embedder import UserEmbedder

    embedder = UserEmbedder.from_bundle(bundle, threads=1, providers=["cpu"])
    vectors = embedder.behavior([embedder.item_text("a text", "an output")])
    persona = embedder.aggregate(embedder.query("an input"), vectors, embedder.project(vectors)).persona
    norms = np.linalg.norm(persona, axis=1)
    expected = bundle.manifest.persona.token_norm
    if not np.allclose(norms, expected, rtol=1e-3):
        raise ExportError(f"a persona row has norm {norms.tolist()}, expected {expected}")


def _swap(new: Path, target: Path) -> None:
    """Puts ``new`` in the place of ``target``; what was there goes only once the new one is in place."""
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / "bundle")
    try:
        new.rename(target)
    except OSError:
        (old / "bundle").rename(target)
        raise
    finally:
        shutil.rmtree(old)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
