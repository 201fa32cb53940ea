"""Trains a plug for any frozen Hugging Face causal LM: instruction embedding, projector, aggregator, input encoder.

The loss is next-token cross-entropy on the answer (arXiv 2409.11901, eq. 6); the LLM and the behavior encoder stay as
they are. Part of each history is dropped at random, as the authors' code does, and now and then all of it, so that the
cold-start rows are trained too.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from personaplug_edge.evaluate.blogs import USERS
from personaplug_edge.evaluate.data import Example
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_export.examples import Examples, pad_histories, population_mean
from personaplug_export.folds import FOLDS, fold_of
from personaplug_export.loss import plug_loss
from personaplug_export.reference import Plug, PlugConfig, mean_token_norm
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import EncoderOptions, FrozenEncoder
from personaplug_export.warm_start import WarmStart

CHECKPOINT_SECONDS = 120


class Trainer:
    """One training run: the frozen LLM, the encoders, the plug, and where it stands."""

    def __init__(
        self,
        llm_folder: Path,
        encoder_folder: Path,
        encoder_options: EncoderOptions,
        options: TrainOptions,
        out: Path,
        fold_llms: Sequence[Path] = (),
    ) -> None:
        """``fold_llms``: for each fold of users an LLM that has not been tuned on them (see ``folds.py``); the plug
        then learns from these, and ``llm_folder`` is the one that it is for.
        """
        self.options, self.out = options, out
        torch.manual_seed(options.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(llm_folder)
        self.llm = self._load_llm(llm_folder)
        wanted = fold_llms if options.cross_fit != "none" else ()
        self.fold_llms = [self._load_llm(folder) for folder in wanted]
        self.encoder = FrozenEncoder(encoder_folder, encoder_options, options.device)
        table = self.llm.get_input_embeddings().weight
        self.plug = Plug(
            PlugConfig(
                vector_width=self.encoder.width,
                embedding_width=table.shape[1],
                persona_tokens=options.persona_tokens,
                instruction_rows=options.instruction_rows,
                token_norm=mean_token_norm(table),
                learned_temperature=options.learned_temperature,
                subtract_mean=options.subtract_mean,
                static_tokens=options.static_tokens,
                learned_recency=options.learned_recency,
                input_encoder=options.input_encoder,
                inner_width=options.inner_width,
            )
        ).to(options.device)
        self.input_encoder = self.encoder
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.plug.parameters() if p.requires_grad], "peak": options.lr}
        ]
        if options.input_encoder == "full":
            self.input_encoder = FrozenEncoder(encoder_folder, encoder_options, options.device)
            groups.append({"params": list(self.input_encoder.model.parameters()), "peak": options.lr / 100})
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay)

    def _load_llm(self, folder: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False).to(self.options.device)

    def examples(self, folders: Sequence[Path], split: str) -> dict[str, Examples]:
        """The questions of the tasks, by task, with their vectors."""
        bloggers = self.options.bloggers if split == "train" else USERS
        return {
            task.name: Examples(
                task.examples,
                self.tokenizer,
                self.encoder,
                self.options,
                self.out / "vectors" / f"{task.name}-{split}.pt",
                labels=task.labels,
            )
            for folder in folders
            for task in read_tasks(folder, split=split, bloggers=bloggers)
        }

    def rows(
        self,
        examples: Examples,
        questions: Sequence[Example],
        order: np.random.Generator | None,
        owners: Sequence[Example] | None = None,
    ) -> Tensor:
        """[I; P] of the questions, (batch, r + k, H); with ``owners``, of the histories of these questions instead."""
        histories = [examples.history(q, order) for q in owners or questions]
        vectors, mask = pad_histories(histories, self.encoder.width, self.options.device)
        if self.options.input_encoder == "head":
            requests = torch.stack([examples.vectors[q.input] for q in questions]).to(self.options.device)
        else:
            requests = self.input_encoder.forward([q.input for q in questions])
        persona = self.plug.persona(self.plug.query(requests), vectors, mask)
        instruction = self.plug.instruction.expand(len(questions), -1, -1)
        return torch.cat([instruction, persona], dim=1)

    def loss(
        self,
        examples: Examples,
        questions: Sequence[Example],
        order: np.random.Generator | None,
        each: bool = False,
        owners: Sequence[Example] | None = None,
    ) -> Tensor:
        """The loss of some questions of one task; ``owners`` as in :meth:`rows`."""
        device = "cuda" if self.options.device.startswith("cuda") else "cpu"
        rows = self.rows(examples, questions, order, owners)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.options.bf16):
            return plug_loss(
                self._llm_of(examples, questions, order), rows, [examples.tokens(q) for q in questions], each=each
            )

    def _llm_of(self, examples: Examples, questions: Sequence[Example], order: np.random.Generator | None) -> Any:
        """The LLM that teaches: of a batch of training questions, all of one fold, the one not tuned on them.

        Labels are what an LLM gets by heart. Free text it had better learn from the very LLM that will write it.
        """
        wanted = self.options.cross_fit == "all" or bool(examples.labels)
        if order is None or not self.fold_llms or not wanted:
            return self.llm
        return self.fold_llms[fold_of(questions[0].user_id)]

    def contrast_loss(self, examples: Examples, questions: Sequence[Example], order: np.random.Generator) -> Tensor:
        """Mean of max(0, margin - (NLL with another user's history - NLL with one's own)), in nats an answer.

        The others' histories are those of the batch; questions whose neighbor is of the same user are left out.
        """
        others = [*questions[1:], questions[0]]
        pairs = [(q, other) for q, other in zip(questions, others, strict=True) if q.user_id != other.user_id]
        if not pairs:
            return torch.zeros((), device=self.options.device)
        own, other = zip(*pairs, strict=True)
        right = self.loss(examples, own, order, each=True)
        wrong = self.loss(examples, own, order, each=True, owners=other)
        return torch.relu(self.options.margin - (wrong - right)).mean()

    def run(self, train: dict[str, Examples], shares: dict[str, float]) -> None:
        """Trains to the last step, from the last checkpoint if there is one, and writes the plug to ``out``."""
        if self.options.subtract_mean and not self.plug.projector.mean.any():  # one that is adapted brings its own
            self.plug.projector.mean.copy_(population_mean(train).to(self.options.device))
        first, started, running = self._resume(), time.monotonic(), math.nan
        warm = None
        if self.options.warm_start and (self.options.hold or not first):
            table = self.llm.get_input_embeddings().weight.detach()
            warm = WarmStart(train.values(), table, self.tokenizer)
        if warm is not None and not first:
            near = warm.fit(self.plug, self.options.seed)
            print(f"warm start: mean cosine {near:.3f} of the projected items to words of theirs", flush=True)
        saved = started
        for step, (task, indices) in enumerate(_draw(train, shares, self.options, by_fold=bool(self.fold_llms))):
            if step < first:
                continue
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, self.options)
            order = np.random.default_rng((self.options.seed, step))
            questions = [train[task].questions[i] for i in indices]
            loss = self.loss(train[task], questions, order)
            loss.backward()
            if self.options.contrast:
                (self.options.contrast * self.contrast_loss(train[task], questions, order)).backward()
            if self.options.hold and warm is not None:
                held, drawn = (self.options.persona_tokens + 1) // 2, torch.Generator().manual_seed(step)
                (self.options.hold * warm.distance(self.plug.projector, held, drawn)).backward()
            torch.nn.utils.clip_grad_norm_(self.plug.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            running = loss.item() if math.isnan(running) else 0.95 * running + 0.05 * loss.item()
            if step % 25 == 0:
                seconds = time.monotonic() - started
                temperature = self.plug.aggregator.log_temperature.exp().item()
                print(
                    f"plug {step}/{self.options.steps} {task} loss {running:.4f} t {temperature:.1f} {seconds:.0f} s",
                    flush=True,
                )
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(step + 1)
                saved = time.monotonic()
        self._save(self.options.steps)
        self.plug.save(self.out)
        if self.options.input_encoder == "full":
            self.input_encoder.model.save_pretrained(self.out / "input_encoder")
            self.input_encoder.tokenizer.save_pretrained(self.out / "input_encoder")
        facts = {**asdict(self.options), "encoder": asdict(self.encoder.options)}
        (self.out / "train.json").write_text(json.dumps(facts, indent=2) + "\n")

    @torch.no_grad()
    def evaluate(self, examples: Examples, batch: int = 32) -> float:
        """Mean negative log-likelihood of an answer, in nats."""
        questions = sorted(examples.questions, key=lambda q: len(q.input) + len(q.gold))
        sums = [self.loss(examples, questions[i : i + batch], None, each=True) for i in range(0, len(questions), batch)]
        return float(torch.cat(sums).mean())

    def _save(self, step: int) -> None:
        state = {"step": step, "plug": self.plug.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.options.input_encoder == "full":
            state["input_encoder"] = self.input_encoder.model.state_dict()
        partial = self.out / "checkpoint.partial"
        torch.save(state, partial)
        partial.replace(self.out / "checkpoint.pt")

    def _resume(self) -> int:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True, map_location=self.options.device)
        self.plug.load_state_dict(state["plug"])
        self.optimizer.load_state_dict(state["optimizer"])
        if "input_encoder" in state:
            self.input_encoder.model.load_state_dict(state["input_encoder"])
        return int(state["step"])


def _draw(
    train: dict[str, Examples], shares: dict[str, float], options: TrainOptions, by_fold: bool
) -> Iterator[tuple[str, list[int]]]:
    """A task and the indices of a batch of its questions, of like length and if wanted of one fold, for every step."""
    order = np.random.default_rng(options.seed)
    weights = np.array([shares.get(task, 1.0) for task in train])
    queues: dict[str, list[list[int]]] = {task: [] for task in train}
    for _ in range(options.steps):
        task = list(train)[order.choice(len(weights), p=weights / weights.sum())]
        if not queues[task]:
            queues[task] = _length_batches(train[task].questions, options.batch, order, by_fold)
        yield task, queues[task].pop()


def _length_batches(
    questions: Sequence[Example], batch: int, order: np.random.Generator, by_fold: bool
) -> list[list[int]]:
    shuffled = order.permutation(len(questions)).tolist()
    folds = [[i for i in shuffled if fold_of(questions[i].user_id) == fold] for fold in range(FOLDS)]
    batches = []
    for indices in folds if by_fold else [shuffled]:
        for start in range(0, len(indices), 16 * batch):
            pool = sorted(indices[start : start + 16 * batch], key=lambda i: len(questions[i].input))
            batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    return [batches[i] for i in order.permutation(len(batches))]


def _schedule(step: int, options: TrainOptions) -> float:
    rise = max(1, int(options.warmup * options.steps))
    return min(1.0, (step + 1) / rise) * max(0.0, 1 - step / options.steps)
