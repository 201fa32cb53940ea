"""Adapts a plug to another LLM: its rows are carried over by a linear map, and trained for a short while.

The encoders, the input head, temperature, recency and the population's mean say something about users, whatever LLM
answers them: they stay. The projector, I and the cold-start rows end in the embedding space of one LLM.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig

from personaplug_edge.evaluate.data import Task
from personaplug_export.adapt_load import (
    check_target,
    facts_of,
    read_plug,
    token_rows,
    train_options,
    trained_encoder,
    write_facts,
)
from personaplug_export.adapt_losses import answer_losses, bare_losses, without_history
from personaplug_export.adapt_options import AdaptOptions
from personaplug_export.adapt_report import AdaptReport
from personaplug_export.carry_over import CarryOver, carry_over, fold
from personaplug_export.errors import ExportError
from personaplug_export.examples import Examples
from personaplug_export.reference import Plug
from personaplug_export.train import Trainer
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import EncoderOptions
from personaplug_export.vocabulary import shared_tokens

ROWS = ("_instruction", "_cold_start")
ROWS_LR = 10
"""Rows alone take so many times the learning rate: their numbers are about 1, the projector's weights far smaller."""
QUERY = ("input_head.", "aggregator.")


class Adaptation:
    """A plug, the LLM it was trained for, and the one that it shall serve."""

    def __init__(
        self,
        plug_folder: Path,
        old_llm: Path,
        new_llm: Path,
        encoder_folder: Path,
        options: AdaptOptions,
        out: Path,
        fold_llms: Sequence[Path] = (),
    ) -> None:
        """Loads all of it and carries the rows over. ``fold_llms``: as of the trainer, kin of ``new_llm``.

        Raises ExportError when there is no plug, it does not fit the encoder or the old LLM, or ``out`` holds anything
        but an adaptation with the same settings.
        """
        old_plug, trained = read_plug(plug_folder)
        self.options, self.out = options, out
        paths = {"plug": plug_folder, "from_llm": old_llm, "llm": new_llm, "encoder": encoder_folder}
        self.facts = facts_of(paths, fold_llms, options)
        check_target(out, self.facts)
        width = AutoConfig.from_pretrained(encoder_folder).hidden_size
        if width != old_plug.config.vector_width:
            raise ExportError(
                f"{plug_folder} takes vectors of width {old_plug.config.vector_width}, {encoder_folder} gives {width}: "
                "adapt it with the encoder that it was trained with"
            )
        old_rows, old_ids = token_rows(old_llm)
        if old_rows.shape[1] != old_plug.config.embedding_width:
            raise ExportError(
                f"{plug_folder} makes rows of width {old_plug.config.embedding_width}, {old_llm} has "
                f"{old_rows.shape[1]}: --from-llm is the LLM that it was trained for"
            )
        self.train_options = train_options(old_plug, trained, options)
        encoder_options = EncoderOptions(**trained.get("encoder", {}))
        self.scratch = Trainer(new_llm, encoder_folder, encoder_options, self.train_options, out, fold_llms)
        """has the LLM and the encoders of all runs; its own plug is one from nothing"""
        self.scratch_lr = float(trained.get("lr", TrainOptions().lr))
        new_rows = self.scratch.llm.get_input_embeddings().weight.detach().float().cpu()
        self.carried = _map(old_rows, old_ids, new_rows, self.scratch.tokenizer.get_vocab())
        self.plug = fold(old_plug, self.carried.matrix, self.scratch.plug.config.token_norm).to(options.device)
        self.input_encoder = self.scratch.input_encoder
        if old_plug.config.input_encoder == "full":
            self.input_encoder = trained_encoder(plug_folder, self.scratch.encoder)
        known = {"shared_tokens": self.carried.shared, "ridge": self.carried.ridge, "cosine": self.carried.cosine}
        self.facts |= known
        write_facts(out, self.facts)

    def examples(self, drawn: Mapping[str, Task], split: str) -> dict[str, Examples]:
        """The questions of tasks, by task, with their vectors."""
        return {
            name: Examples(
                task.examples,
                self.scratch.tokenizer,
                self.scratch.encoder,
                self.train_options,
                self.out / "vectors" / f"{name}-{split}.pt",
                labels=task.labels,
            )
            for name, task in drawn.items()
        }

    def run(self, train: dict[str, Examples], dev: dict[str, Examples], shares: dict[str, float]) -> AdaptReport:
        """Trains what is to be trained, writes plug, ``train.json`` and ``adapt.json``, and says what it brought."""
        report = AdaptReport({task: [q.user_id for q in examples.questions] for task, examples in dev.items()})
        blank = {task: without_history(examples) for task, examples in dev.items()}
        # Copied before it is trained. Both start from the carried rows.
        alone = self._instruction_only(copy.deepcopy(self.plug)) if self.options.compare else None
        carried = self._carried()
        report.add("no persona", {task: bare_losses(carried, examples) for task, examples in dev.items()})
        report.add("carried over, not trained", _losses(carried, dev))
        carried.run(train, shares)
        report.add("adapted, no history", _losses(carried, blank))
        report.add("adapted", _losses(carried, dev))
        if alone is not None:
            alone.run({task: _with(examples, alone.options) for task, examples in train.items()}, shares)
            report.add("instruction only, trained alone", _losses(alone, blank))
            scratch = self._from_nothing()
            scratch.run(train, shares)
            report.add("from nothing", _losses(scratch, dev))
        counts = {task: len(examples.questions) for task, examples in train.items()}
        write_facts(self.out, {**self.facts, "train_questions": counts, **report.facts()})
        return report

    def _carried(self) -> Trainer:
        query = QUERY if self.options.train_query else ()
        trainer = _variant(self.scratch, self.plug, ("projector.", *ROWS, *query), self.train_options, self.out)
        trainer.input_encoder = self.input_encoder
        return trainer

    def _instruction_only(self, plug: Plug) -> Trainer:
        """Sees no history, so that I and the cold-start rows are all there is."""
        lr = ROWS_LR * self.train_options.lr
        options = replace(self.train_options, drop_all=1.0, contrast=0.0, lr=lr)
        trainer = _variant(self.scratch, plug, ROWS, options, self.out / "instruction_only")
        trainer.input_encoder = self.input_encoder
        return trainer

    def _from_nothing(self) -> Trainer:
        """Rows, head and all from nothing, at the learning rate that the plug was trained with."""
        trainer = copy.copy(self.scratch)
        trainer.options, trainer.out = replace(self.train_options, lr=self.scratch_lr), _folder(self.out / "scratch")
        for group in trainer.optimizer.param_groups:
            group["peak"] *= self.scratch_lr / self.options.lr
        return trainer


def _map(old: Tensor, old_ids: Mapping[str, int], new: Tensor, new_ids: Mapping[str, int]) -> CarryOver:
    """The map between two tables by their shared tokens; a table may have fewer rows than its tokenizer has tokens."""
    pairs = [(a, b) for a, b in shared_tokens(old_ids, new_ids) if a < len(old) and b < len(new)]
    indices = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return carry_over(old[indices[:, 0]], new[indices[:, 1]])


def _variant(base: Trainer, plug: Plug, trained: tuple[str, ...], options: TrainOptions, out: Path) -> Trainer:
    """A run with the LLM and encoder of ``base`` that trains those parameters of ``plug`` whose names start so."""
    trainer = copy.copy(base)
    trainer.plug, trainer.out = plug, _folder(out)
    trainer.options = replace(options, warm_start=False, hold=0.0)  # it has started elsewhere already
    names = {name for name, value in plug.named_parameters() if value.requires_grad and name.startswith(trained)}
    for name, value in plug.named_parameters():
        value.requires_grad_(name in names)
    chosen = [value for value in plug.parameters() if value.requires_grad]
    groups = [{"params": chosen, "peak": options.lr}]
    trainer.optimizer = torch.optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay)
    return trainer


def _losses(trainer: Trainer, dev: Mapping[str, Examples]) -> dict[str, list[float]]:
    return {task: answer_losses(trainer, examples) for task, examples in dev.items()}


def _with(examples: Examples, options: TrainOptions) -> Examples:
    changed = copy.copy(examples)
    changed.options = options
    return changed


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
