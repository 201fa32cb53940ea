"""``personaplug-export train``: a plug for any frozen causal LM, from histories and questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from personaplug_export.folds import FOLDS
from personaplug_export.train import Trainer
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import EncoderOptions

_DEFAULT = TrainOptions()


def train_command(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Task folders (LaMP's files, or users.jsonl and questions.jsonl), each with =SHARE to draw it more "
            "often than 1."
        ),
    ],
    llm: Annotated[Path, typer.Option(help="Hugging Face folder of the frozen LLM.", exists=True, file_okay=False)],
    encoder: Annotated[
        Path, typer.Option(help="Hugging Face folder of the sentence encoder.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option(help="Where the plug and its checkpoints go; an interrupted run goes on there.")],
    pooling: Annotated[str, typer.Option(help="cls or mean.")] = "cls",
    prefix: Annotated[str, typer.Option(help="Text in front of every text that is encoded.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Tokens of a text that the encoder reads.")] = 128,
    persona_tokens: Annotated[int, typer.Option(help="Rows of the personal embedding.")] = _DEFAULT.persona_tokens,
    instruction_rows: Annotated[
        int, typer.Option(help="Rows of the instruction embedding.")
    ] = _DEFAULT.instruction_rows,
    learned_temperature: Annotated[bool, typer.Option(help="Learn the temperature, or keep the paper's 1.")] = True,
    subtract_mean: Annotated[bool, typer.Option(help="Subtract the population's mean vector.")] = True,
    static_tokens: Annotated[
        int, typer.Option(help="Of the persona rows, so many that do not depend on the request.")
    ] = _DEFAULT.static_tokens,
    warm_start: Annotated[bool, typer.Option(help="Let the projector start at the LLM's own token rows.")] = False,
    hold: Annotated[
        float, typer.Option(help="With --warm-start: weight of the loss that holds half of the persona rows there.")
    ] = _DEFAULT.hold,
    inner_width: Annotated[
        int, typer.Option(help="Width between the projector's layers; 0 takes the LLM's.")
    ] = _DEFAULT.inner_width,
    learned_recency: Annotated[bool, typer.Option(help="Learn how fast older items lose weight.")] = False,
    contrast: Annotated[
        float, typer.Option(help="Weight of the loss that sets a user apart from others; twice the time.")
    ] = _DEFAULT.contrast,
    history_template: Annotated[
        str, typer.Option(help='What is encoded of a history item with an output; "{text}" leaves the output out.')
    ] = _DEFAULT.history_template,
    input_encoder: Annotated[
        str, typer.Option(help='"head" on the frozen encoder, or "full".')
    ] = _DEFAULT.input_encoder,
    template: Annotated[str, typer.Option(help="The request as the LLM reads it.")] = _DEFAULT.template,
    max_input_tokens: Annotated[int, typer.Option()] = _DEFAULT.max_input_tokens,
    bloggers: Annotated[
        int, typer.Option(help="Of a folder of posts, so many users are trained on.")
    ] = _DEFAULT.bloggers,
    fold_llm: Annotated[
        list[Path] | None,
        typer.Option(
            help="Twice: the same LLM tuned without the users of fold 0, and of fold 1. Where --llm was tuned on these "
            "very tasks, it knows their answers without a history, and the plug had better learn from these two.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    cross_fit: Annotated[
        str, typer.Option(help='With --fold-llm: "labels", "all", or "none" of the tasks are learned from those.')
    ] = _DEFAULT.cross_fit,
    drop: Annotated[float, typer.Option(help="Up to this share of a history is dropped at random.")] = _DEFAULT.drop,
    drop_all: Annotated[float, typer.Option(help="Chance that a history is dropped whole.")] = _DEFAULT.drop_all,
    steps: Annotated[int, typer.Option()] = _DEFAULT.steps,
    batch: Annotated[int, typer.Option()] = _DEFAULT.batch,
    lr: Annotated[float, typer.Option()] = _DEFAULT.lr,
    seed: Annotated[int, typer.Option()] = _DEFAULT.seed,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = _DEFAULT.device,
    bf16: Annotated[bool, typer.Option(help="Run the LLM in bfloat16.")] = _DEFAULT.bf16,
) -> None:
    """Trains a plug and reports the loss on the dev questions, with histories and without."""
    options = TrainOptions(
        persona_tokens=persona_tokens,
        instruction_rows=instruction_rows,
        learned_temperature=learned_temperature,
        subtract_mean=subtract_mean,
        static_tokens=static_tokens,
        warm_start=warm_start,
        hold=hold,
        inner_width=inner_width,
        learned_recency=learned_recency,
        contrast=contrast,
        history_template=history_template,
        input_encoder=input_encoder,
        template=template.replace("\\n", "\n"),
        max_input_tokens=max_input_tokens,
        bloggers=bloggers,
        cross_fit=cross_fit,
        drop=drop,
        drop_all=drop_all,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        device=device,
        bf16=bf16,
    )
    if fold_llm and len(fold_llm) != FOLDS:
        raise typer.BadParameter(f"expected --fold-llm {FOLDS} times, once a fold, got it {len(fold_llm)} times")
    folders, shares = parse_tasks(tasks)
    out.mkdir(parents=True, exist_ok=True)
    encoder_options = EncoderOptions(pooling=pooling, prefix=prefix, max_tokens=max_tokens)
    trainer = Trainer(llm, encoder, encoder_options, options, out, fold_llm or ())
    trainer.run(trainer.examples(folders, "train"), shares)
    losses = {task: trainer.evaluate(examples) for task, examples in trainer.examples(folders, "dev").items()}
    (out / "dev_loss.json").write_text(json.dumps(losses, indent=2) + "\n")
    for task, loss in losses.items():
        typer.echo(f"{task}: {loss:.4f} nats an answer on dev")


def parse_tasks(tasks: list[str]) -> tuple[list[Path], dict[str, float]]:
    """Folders and shares by name of "FOLDER=SHARE"; the share is 1 where none is given."""
    folders, shares = [], {}
    for task in tasks:
        name, _, share = task.partition("=")
        folder = Path(name)
        if not folder.is_dir():
            raise typer.BadParameter(
                f"{folder} is not a folder of a task: LaMP's files, or users.jsonl and questions.jsonl"
            )
        folders.append(folder)
        shares[folder.name] = float(share or 1)
    return folders, shares
