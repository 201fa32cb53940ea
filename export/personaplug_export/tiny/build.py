"""``personaplug-export tiny``: builds the bundle ``tiny``, part by part; a cut run goes on where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from personaplug_export.bundle_export import BundleOptions, export_bundle
from personaplug_export.folds import FOLDS
from personaplug_export.gguf_export import export_gguf
from personaplug_export.model_card import ModelCard
from personaplug_export.onnx_encoder import EncoderOptions as ExportOptions
from personaplug_export.onnx_encoder import export_encoder
from personaplug_export.tiny.build_encoder import build_encoder
from personaplug_export.tiny.build_llm import RAW_TOKENS, build_fold_llm, build_llm
from personaplug_export.tiny.context import TEXT_TOKENS
from personaplug_export.tiny.encoder import MAX_TOKENS
from personaplug_export.train import Trainer
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import EncoderOptions

SHARES = {"news_category": 1.0, "news_headline": 1.5, "email_subject": 1.5, "product_rating": 0.5, "blog_posts": 1.5}
"""How often the plug sees each task."""

PLUG = TrainOptions(
    steps=900,
    lr=2e-3,
    persona_tokens=2,
    inner_width=512,
    warm_start=True,
    hold=10.0,
    learned_recency=True,
    history_template="{output}. {output}: {text}",
    max_input_tokens=160,
)

CARD = ModelCard(
    summary="A reference bundle: a Llama-shaped LLM of 7.2M parameters, a sentence encoder of 7M, and a plug for five "
    "tasks. It shows that the runtime works, offline, and lets every figure be measured again; it is no assistant.",
    data="LLM: blog posts of the Blog Authorship Corpus (Schler et al. 2006), film reviews (Maas et al. 2011), "
    "HuffPost news (2018-2022), AESLC e-mails (CC BY-NC-SA 4.0), Amazon reviews 2023; then news category, "
    "news headline, e-mail subject, product rating and the continuation of posts as tasks, part of them with the "
    "user's past items in front, as text or as means of token rows. Encoder: the same texts, "
    "with the vectors of all-MiniLM-L6-v2 (Apache-2.0) as the target. Plug: the training questions of the five tasks. "
    "No dev item was read.",
    intended_use="Research and demonstration, non-commercial. Requests in the five wordings it knows: 'category of "
    "article: ...', 'headline of article: ...', 'subject of email: ...', 'score of review: ...', 'continuation of "
    "post: ...'.",
    limits="English only. What it writes freely is often wrong or nonsense: it has read some millions of words, not "
    "trillions. It repeats the biases of its sources. The LLM in the package read its raw text in two runs, 5.4M "
    "tokens and then 19.7M others, each with a learning-rate schedule of its own; the recipe does it in one.",
)


def tiny_command(
    data: Annotated[Path, typer.Argument(help="Folder with the task folders and general_text.")],
    teacher: Annotated[Path, typer.Argument(help="Folder of the sentence encoder to distill (all-MiniLM-L6-v2).")],
    out: Annotated[Path, typer.Argument(help="Working folder; the bundle appears in OUT/tiny.")],
    raw_tokens: Annotated[int, typer.Option(help="Raw tokens that the LLM reads before the tasks.")] = RAW_TOKENS,
    device: Annotated[str, typer.Option(help="cpu or cuda, for LLM and plug.")] = "cpu",
    fold_llms: Annotated[
        bool, typer.Option("--fold-llms", help="Tune two more LLMs without half of the users each, for ablate.")
    ] = False,
    measured: Annotated[
        list[Path] | None, typer.Option(help="JSON of `personaplug eval` on the dev questions, for the model card.")
    ] = None,
) -> None:
    """Builds the reference bundle."""
    encoder = build_encoder(data, teacher, out)
    llm = build_llm(data, encoder, out, raw_tokens=raw_tokens, device=device)
    if fold_llms:
        for fold in range(FOLDS):
            build_fold_llm(data, encoder, out, fold, device=device)
    plug = build_plug(data, llm, encoder, out / "plug", device)
    export_encoder(encoder, out / "onnx", ExportOptions(pooling="mean", max_tokens=MAX_TOKENS, precision="int8"))
    gguf = out / "llm.gguf"
    export_gguf(llm, gguf, kind="q8_0")
    cosine: dict[str, Any] = json.loads((out / "encoder_cosine.json").read_text())
    options = BundleOptions(
        name="tiny",
        license="research and non-commercial use; see the model card for the sources",
        context=768,
        max_prompt_tokens=TEXT_TOKENS,
        max_items=0,
        sampling={"max_tokens": 48, "stop": ["\n"]},
        measured={
            "raw tokens read by the LLM": json.loads((out / "raw_tokens.json").read_text()),
            "encoder: mean cosine to the teacher, held-out texts": cosine["mean_cosine"],
            **figures_of(measured or []),
        },
        card=CARD,
    )
    bundle = export_bundle(plug, out / "onnx", gguf, out / "tiny", options, force=True)
    typer.echo(f"{bundle.folder}: {sum(p.stat().st_size for p in bundle.folder.iterdir()) / 1e6:.1f} MB")


def build_plug(data: Path, llm: Path, encoder: Path, out: Path, device: str) -> Path:
    """Trains the plug on the five tasks and returns its folder."""
    if (out / "plug.json").exists():
        return out
    out.mkdir(parents=True, exist_ok=True)
    options = replace(PLUG, device=device)
    trainer = Trainer(llm, encoder, EncoderOptions(pooling="mean", max_tokens=MAX_TOKENS), options, out)
    trainer.run(trainer.examples([data / task for task in SHARES], "train"), SHARES)
    return out


def figures_of(reports: list[Path]) -> dict[str, Any]:
    """What a model card says of `personaplug eval`: by task and metric, each method with its 95 % interval."""
    said: dict[str, Any] = {}
    for report in reports:
        for task in json.loads(report.read_text())["tasks"]:
            for figure in task["figures"]:
                value = figure["estimate"]
                name = f"{task['task']} {figure['metric']} ({task['questions']} dev questions)"
                said.setdefault(name, {})[figure["method"]] = (
                    f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
                )
    return said
