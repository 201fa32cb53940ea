"""``personaplug-export adapt``: a plug for another LLM, with few examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personaplug_export.adapt import Adaptation
from personaplug_export.adapt_options import AdaptOptions
from personaplug_export.carry_over import CarryOver
from personaplug_export.few_examples import few_examples
from personaplug_export.folds import FOLDS
from personaplug_export.train_command import parse_tasks

_DEFAULT = AdaptOptions()


def adapt_command(
    plug: Annotated[
        Path, typer.Argument(help="Folder of the plug, as train or adapt wrote it.", exists=True, file_okay=False)
    ],
    tasks: Annotated[
        list[str],
        typer.Argument(help="Task folders, as for train, each with =SHARE to draw it more often."),
    ],
    from_llm: Annotated[
        Path,
        typer.Option(
            help="Hugging Face folder of the LLM that the plug was trained for.", exists=True, file_okay=False
        ),
    ],
    llm: Annotated[
        Path, typer.Option(help="Hugging Face folder of the LLM that it shall serve.", exists=True, file_okay=False)
    ],
    encoder: Annotated[
        Path, typer.Option(help="Hugging Face folder of the plug's sentence encoder.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option(help="Where the new plug goes; an interrupted run goes on there.")],
    examples: Annotated[
        int, typer.Option(min=1, help="Train questions of all tasks together, evenly over users.")
    ] = _DEFAULT.examples,
    dev_examples: Annotated[
        int, typer.Option(min=1, help="Dev questions that tell what it brought.")
    ] = _DEFAULT.dev_examples,
    steps: Annotated[int, typer.Option(min=0, help="0 carries the rows over and stops.")] = _DEFAULT.steps,
    batch: Annotated[int, typer.Option(min=1, help="Questions a step.")] = _DEFAULT.batch,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = _DEFAULT.lr,
    fold_llm: Annotated[
        list[Path] | None,
        typer.Option(
            help="Twice, as for train: where the new LLM was tuned on these very questions.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    train_query: Annotated[
        bool, typer.Option("--train-query", help="Train input head, temperature and recency, too.")
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Train an instruction embedding alone, and a plug from nothing, with the same examples and steps.",
        ),
    ] = False,
    template: Annotated[
        str | None, typer.Option(help="The request as the new LLM reads it; else as the plug was trained.")
    ] = None,
    max_input_tokens: Annotated[
        int | None, typer.Option(help="Longer requests are cut; else as the plug was trained.")
    ] = None,
    seed: Annotated[int, typer.Option()] = _DEFAULT.seed,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = _DEFAULT.device,
    bf16: Annotated[bool, typer.Option(help="Run the LLM in bfloat16.")] = _DEFAULT.bf16,
) -> None:
    """Adapts a plug to another LLM with few examples, and reports the loss on dev questions before and after.

    How texts are encoded comes from the plug's train.json; encoders, head and temperature stay as they are.
    """
    options = AdaptOptions(
        examples=examples,
        dev_examples=dev_examples,
        steps=steps,
        batch=batch,
        lr=lr,
        train_query=train_query,
        compare=compare,
        template=None if template is None else template.replace("\\n", "\n"),
        max_input_tokens=max_input_tokens,
        seed=seed,
        device=device,
        bf16=bf16,
    )
    if fold_llm and len(fold_llm) != FOLDS:
        raise typer.BadParameter(f"expected --fold-llm {FOLDS} times, once a fold, got it {len(fold_llm)} times")
    folders, shares = parse_tasks(tasks)
    adaptation = Adaptation(plug, from_llm, llm, encoder, options, out, fold_llm or ())
    typer.echo(_told(adaptation.carried))
    drawn = {
        split: few_examples(folders, shares, split, count, seed)
        for split, count in (("train", examples), ("dev", dev_examples))
    }
    train, dev = (adaptation.examples(drawn[split], split) for split in drawn)
    for line in adaptation.run(train, dev, shares).lines():
        typer.echo(line)
    typer.echo(f"nats an answer on dev; the plug is in {out}")


def _told(carried: CarryOver) -> str:
    if carried.random:
        return (
            f"{carried.shared} tokens are in both vocabularies, too few to carry the rows over: they start at random, "
            "the rest of the plug is kept"
        )
    return (
        f"{carried.shared} tokens are in both vocabularies; the map of their rows reaches a cosine of "
        f"{carried.cosine:.3f} on those kept apart"
    )
