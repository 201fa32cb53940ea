"""``personaplug-export ablate``: the same training budget for many variants of a plug, compared on the dev questions.

Each variant is trained in a folder of its own and evaluated in PyTorch, every answer's likelihood with its user's
history and with another's; what is done stays done, so that a stopped run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import torch
import typer

from personaplug_edge.evaluate.bootstrap import Estimate, UserBootstrap
from personaplug_edge.evaluate.data import Example, Task
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_edge.evaluate.methods import wrong_history
from personaplug_edge.evaluate.metrics import Prediction, metrics_of
from personaplug_export.examples import Examples
from personaplug_export.label_choice import choose_label
from personaplug_export.train import Trainer
from personaplug_export.train_command import parse_tasks
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import EncoderOptions

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "rows without a history": {"drop_all": 1.0},
    "paper's temperature (1)": {"learned_temperature": False},
    "items without the user's output": {"history_template": "{text}"},
    "items with the output twice": {"history_template": "{output}. {output}: {text}"},
    "no mean subtracted": {"subtract_mean": False},
    "no history dropout": {"drop": 0.0, "drop_all": 0.0},
    "no instruction row": {"instruction_rows": 0},
    "2 persona tokens": {"persona_tokens": 2},
    "4 persona tokens": {"persona_tokens": 4},
    "8 persona tokens": {"persona_tokens": 8},
    "static + query token": {"persona_tokens": 2, "static_tokens": 1},
    "2 static + 2 query tokens": {"persona_tokens": 4, "static_tokens": 2},
    "learned recency": {"learned_recency": True},
    "warm start": {"warm_start": True},
    "2 persona tokens, warm start": {"persona_tokens": 2, "warm_start": True},
    "2 persona tokens, warm start, recency": {"persona_tokens": 2, "warm_start": True, "learned_recency": True},
    "2 persona tokens, warm start, half held": {"persona_tokens": 2, "warm_start": True, "hold": 10.0},
    "2 persona tokens, warm start, half held, recency": {
        "persona_tokens": 2,
        "warm_start": True,
        "hold": 10.0,
        "learned_recency": True,
    },
    "wider projector": {"inner_width": 512},
    "all that tiny has": {
        "persona_tokens": 2,
        "warm_start": True,
        "hold": 10.0,
        "learned_recency": True,
        "inner_width": 512,
        "history_template": "{output}. {output}: {text}",
    },
    "contrast with another user": {"contrast": 0.5},
    "input encoder trained whole": {"input_encoder": "full"},
    "every task cross-fitted": {"cross_fit": "all"},
    "nothing cross-fitted": {"cross_fit": "none"},
}
"""Changes to the base by name. ``cross_fit`` "none" leaves the LLMs of the folds out; with a ``drop_all`` of 1 the rows
are trained, and asked, without any history: what is better than they are comes from the history."""

BARE = "bare LLM"
"""The row without any plug."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all variants share."""

    folders: Sequence[Path]
    shares: Mapping[str, float]
    llm: Path
    fold_llms: Sequence[Path]
    encoder: Path
    encoder_options: EncoderOptions
    options: TrainOptions


def run_variant(
    setting: Setting, changes: Mapping[str, Any], out: Path, kind: type[Trainer] = Trainer
) -> dict[str, list[dict[str, Any]]]:
    """Trains and evaluates one variant in ``out``; the predictions of each task, also kept in ``predictions.json``."""
    kept = out / "predictions.json"
    if kept.exists():
        found: dict[str, list[dict[str, Any]]] = json.loads(kept.read_text())
        return found
    out.mkdir(parents=True, exist_ok=True)
    options = replace(setting.options, **changes)
    trainer = kind(setting.llm, setting.encoder, setting.encoder_options, options, out, setting.fold_llms)
    _share_vectors(out, f"vectors-{crc32(options.history_template.encode()):08x}")
    trainer.run(trainer.examples(setting.folders, "train"), dict(setting.shares))
    tasks = [task for folder in setting.folders for task in read_tasks(folder, split="dev")]
    examples = trainer.examples(setting.folders, "dev")
    answers = {task.name: evaluate(trainer, task, examples[task.name]) for task in tasks}
    kept.write_text(json.dumps(answers) + "\n")
    return answers


def run_bare(setting: Setting, out: Path) -> dict[str, list[dict[str, Any]]]:
    """The predictions of the LLM without a plug, as those of :func:`run_variant`."""
    bare = replace(setting, options=replace(setting.options, steps=0, instruction_rows=0), fold_llms=())

    class Bare(Trainer):
        def rows(self, examples: Examples, questions: Sequence[Example], *_: Any, **__: Any) -> torch.Tensor:
            return torch.zeros(len(questions), 0, self.plug.config.embedding_width, device=self.options.device)

    return run_variant(bare, {}, out, Bare)


@torch.no_grad()
def evaluate(trainer: Trainer, task: Task, examples: Examples, batch: int = 32) -> list[dict[str, Any]]:
    """Of each question: the NLL of its answer with its own history and another user's, and of a label task the label
    that is the likeliest.
    """
    questions = sorted(examples.questions, key=lambda q: len(q.input) + len(q.gold))
    others = [replace(q, history=wrong_history(task, q)) for q in questions]
    if trainer.options.drop_all == 1:
        questions = others = [replace(q, history=()) for q in questions]
    examples.learn(others)
    found = []
    for start in range(0, len(questions), batch):
        part, wrong = questions[start : start + batch], others[start : start + batch]
        own_nll = trainer.loss(examples, part, None, each=True).tolist()
        wrong_nll = trainer.loss(examples, part, None, each=True, owners=wrong).tolist()
        labels = [choose_label(trainer, examples, q, task.labels) if task.labels else "" for q in part]
        for q, own, other, label in zip(part, own_nll, wrong_nll, labels, strict=True):
            tokens = len(examples.tokens(q)[1])
            found.append(
                {"id": q.id, "user_id": q.user_id, "gold": q.gold, "tokens": tokens}
                | {"nll": own, "wrong_nll": other, "label": label}
            )
    return sorted(found, key=lambda row: str(row["id"]))


def table(results: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> str:
    """Markdown: of each variant and task the NLL of an answer against the base's, and that of another user's history
    against one's own; of label tasks also the metric. Intervals resample users.
    """
    lines = []
    base = results["base"]
    for task, reference in base.items():
        labels = any(row["label"] for row in reference)
        rating = labels and all(row["gold"].isdigit() for row in reference)
        metric = metrics_of("rating" if rating else "label", sorted({r["gold"] for r in reference}))[0]
        bootstrap = UserBootstrap([row["user_id"] for row in reference])
        head = ["variant", "NLL / answer", "- base", "wrong user's - own", *([metric.name, "- base"] if labels else [])]
        lines += [f"\n### {task}: {len(reference)} questions\n", _row(head), _row(["---"] + ["---:"] * (len(head) - 1))]
        for name, tasks in results.items():
            nll = metrics_of("text", ())[-1]
            own, other = _predictions(tasks[task], "nll"), _predictions(tasks[task], "wrong_nll")
            cells = [
                name,
                f"{bootstrap.estimate(nll, own).value:.3f}",
                _signed(bootstrap.difference(nll, own, _predictions(reference, "nll"))),
                _signed(bootstrap.difference(nll, other, own)),
            ]
            if labels:
                cells += [
                    f"{bootstrap.estimate(metric, own).value:.3f}",
                    _signed(bootstrap.difference(metric, own, _predictions(reference, "nll"))),
                ]
            lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def ablate_command(
    tasks: Annotated[list[str], typer.Argument(help="Task folders, each with =SHARE, as for train.")],
    llm: Annotated[Path, typer.Option(help="Hugging Face folder of the frozen LLM.", exists=True, file_okay=False)],
    encoder: Annotated[
        Path, typer.Option(help="Hugging Face folder of the sentence encoder.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option(help="A folder a variant goes there, and ablations.md.")],
    fold_llm: Annotated[list[Path] | None, typer.Option(help="As for train.", exists=True, file_okay=False)] = None,
    pooling: Annotated[str, typer.Option(help="cls or mean.")] = "cls",
    max_tokens: Annotated[int, typer.Option(help="Tokens of a text that the encoder reads.")] = 128,
    max_input_tokens: Annotated[int, typer.Option()] = 256,
    steps: Annotated[int, typer.Option(help="Steps of every variant.")] = 300,
    seed: Annotated[int, typer.Option()] = 0,
    variant: Annotated[
        list[str] | None, typer.Option(help="Only these, by name; base is always compared with.")
    ] = None,
) -> None:
    """Trains every variant of a plug for as many steps and tabulates what each is worth on the dev questions."""
    unknown = [name for name in variant or () if name not in VARIANTS]
    if unknown:
        raise typer.BadParameter(f"no variant {unknown[0]!r}; there are: {', '.join(VARIANTS)}")
    folders, shares = parse_tasks(tasks)
    setting = Setting(
        folders=folders,
        shares=shares,
        llm=llm,
        fold_llms=fold_llm or (),
        encoder=encoder,
        encoder_options=EncoderOptions(pooling=pooling, max_tokens=max_tokens),
        options=TrainOptions(steps=steps, seed=seed, max_input_tokens=max_input_tokens),
    )
    chosen = {name: VARIANTS[name] for name in VARIANTS if name == "base" or not variant or name in variant}
    results = {BARE: run_bare(setting, out / "bare")}
    for name, changes in chosen.items():
        if "cross_fit" in changes and not fold_llm:
            continue
        typer.echo(f"{name}: {changes}")
        results[name] = run_variant(setting, changes, out / name.replace(" ", "-"))
    (out / "ablations.md").write_text(table(results))
    typer.echo(table(results))


def _share_vectors(out: Path, name: str) -> None:
    """Vectors of the same texts are the same for all variants: they are kept beside the variants' folders."""
    shared = out.parent / name
    shared.mkdir(exist_ok=True)
    if not (out / "vectors").exists():
        (out / "vectors").symlink_to(shared.resolve(), target_is_directory=True)


def _predictions(rows: Sequence[Mapping[str, Any]], nll: str) -> list[Prediction]:
    return [
        Prediction(
            id=str(row["id"]),
            user_id=row["user_id"],
            gold=row["gold"],
            text=row["label"],
            logprob=-row[nll],
            tokens=row["tokens"],
        )
        for row in rows
    ]


def _signed(estimate: Estimate) -> str:
    star = "*" if estimate.low > 0 or estimate.high < 0 else ""
    return f"{estimate.value:+.3f}{star} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
