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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from personaplug_export.data import Item, Question, read_questions
from personaplug_export.reference import Plug, PlugConfig, mean_token_norm
from personaplug_export.vectors import EncoderOptions, FrozenEncoder, cached_vectors

IGNORE = -100
CHECKPOINT_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a plug is trained."""

    persona_tokens: int = 1
    """k"""
    instruction_rows: int = 1
    """r; 0 leaves the instruction embedding out"""
    learned_temperature: bool = True
    """False keeps the paper's 1"""
    subtract_mean: bool = True
    """subtract the mean vector of all training users' items before projecting"""
    with_output: bool = True
    """encode what the user answered together with the item's text"""
    input_encoder: str = "head"
    """"head" on the frozen encoder, or "full": train a copy of it"""
    template: str = "{input}\nanswer:"
    """the request as the LLM reads it"""
    max_input_tokens: int = 256
    """longer requests are cut at their end, the template's own words kept"""
    max_items: int = 512
    """the last items of a history that are read"""
    drop: float = 0.5
    """up to this share of a history is dropped at random"""
    drop_all: float = 0.1
    """chance that a whole history is dropped"""
    steps: int = 900
    """optimizer steps"""
    batch: int = 32
    """questions a step"""
    lr: float = 3e-3
    """peak learning rate of the plug; a full input encoder gets a hundredth"""
    weight_decay: float = 1e-4
    """AdamW"""
    warmup: float = 0.05
    """share of the steps with a rising learning rate"""
    seed: int = 0
    """order of questions, dropped items, initial weights"""
    device: str = "cpu"
    """"cpu" or "cuda" """
    bf16: bool = True
    """autocast of the LLM to bfloat16"""


def item_text(item: Item, with_output: bool) -> str:
    """The text of a history item that the behavior encoder reads; the bundle's history template says the same."""
    return f"{item.output}: {item.text}" if with_output and item.output else item.text


class Examples:
    """Questions with tokenized request and answer, and the vectors of everything they refer to."""

    def __init__(
        self,
        questions: Sequence[Question],
        tokenizer: PreTrainedTokenizerBase,
        encoder: FrozenEncoder,
        options: TrainOptions,
        cache: Path,
    ) -> None:
        self.questions, self.options = questions, options
        self.tokenizer = tokenizer
        texts = [q.input for q in questions]
        texts += [item_text(i, options.with_output) for q in questions for i in q.history[-options.max_items :]]
        self.vectors = cached_vectors(encoder, texts, cache)
        self.mark = options.template.partition("{input}")[2]

    def tokens(self, question: Question) -> tuple[list[int], list[int]]:
        """Token ids of the request with its start token, and of the answer with its end token."""
        head, tail = self.options.template.split("{input}")
        request = question.input
        prompt = self.tokenizer(head + request + tail, add_special_tokens=False)["input_ids"]
        while len(prompt) > self.options.max_input_tokens:
            request = request[: int(len(request) * self.options.max_input_tokens / len(prompt))]
            prompt = self.tokenizer(head + request + tail, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(head + request + tail + " " + question.output, add_special_tokens=False)["input_ids"]
        start = [self.tokenizer.bos_token_id] if self.tokenizer.bos_token_id is not None else []
        return start + prompt, whole[len(prompt) :] + [self.tokenizer.eos_token_id]

    def history(self, question: Question, order: np.random.Generator | None) -> list[Tensor]:
        """The vectors of a question's history; with ``order``, part of them dropped at random."""
        items = question.history[-self.options.max_items :]
        if order is not None:
            if order.random() < self.options.drop_all:
                return []
            kept = order.random(len(items)) >= order.uniform(0, self.options.drop)
            items = tuple(item for item, keep in zip(items, kept, strict=True) if keep)
        return [self.vectors[item_text(item, self.options.with_output)] for item in items]


def pad_histories(histories: list[list[Tensor]], width: int, device: str) -> tuple[Tensor, Tensor]:
    """Vectors (batch, longest, d) and their mask (batch, longest); at least one column."""
    longest = max(1, *map(len, histories))
    vectors = torch.zeros(len(histories), longest, width)
    mask = torch.zeros(len(histories), longest, dtype=torch.bool)
    for row, history in enumerate(histories):
        if history:
            vectors[row, : len(history)] = torch.stack(history)
            mask[row, : len(history)] = True
    return vectors.to(device), mask.to(device)


def plug_loss(
    llm: PreTrainedModel, rows: Tensor, pairs: Sequence[tuple[list[int], list[int]]], *, each: bool = False
) -> Tensor:
    """Cross-entropy of the answers given [start; rows; request], rows (batch, r + k, H); mean, or the sum of each answer."""
    device = rows.device
    longest = max(len(request) + len(answer) for request, answer in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    labels = torch.full((len(pairs), longest), IGNORE)
    for row, (request, answer) in enumerate(pairs):
        ids[row, : len(request) + len(answer)] = torch.tensor(request + answer)
        labels[row, len(request) : len(request) + len(answer)] = torch.tensor(answer)
    table = llm.get_input_embeddings()
    embedded = table(ids.to(device))
    whole = torch.cat([embedded[:, :1], rows.to(embedded.dtype), embedded[:, 1:]], dim=1)
    blank = torch.full((len(pairs), rows.shape[1]), IGNORE)
    labels = torch.cat([labels[:, :1], blank, labels[:, 1:]], dim=1).to(device)
    hidden = llm.base_model(inputs_embeds=whole).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORE
    logits = llm.get_output_embeddings()(hidden[wanted]).float()
    losses = torch.nn.functional.cross_entropy(logits, labels[:, 1:][wanted], reduction="none")
    if not each:
        return losses.mean()
    return torch.zeros(len(pairs), device=device).index_add(0, wanted.nonzero()[:, 0], losses)


class Trainer:
    """One training run: the frozen LLM, the encoders, the plug, and where it stands."""

    def __init__(
        self, llm_folder: Path, encoder_folder: Path, encoder_options: EncoderOptions, options: TrainOptions, out: Path
    ) -> None:
        self.options, self.out = options, out
        torch.manual_seed(options.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(llm_folder)
        self.llm = AutoModelForCausalLM.from_pretrained(llm_folder).eval().requires_grad_(False).to(options.device)
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
                input_encoder=options.input_encoder,
            )
        ).to(options.device)
        self.input_encoder = self.encoder
        groups: list[dict[str, Any]] = [{"params": [p for p in self.plug.parameters() if p.requires_grad], "peak": options.lr}]
        if options.input_encoder == "full":
            self.input_encoder = FrozenEncoder(encoder_folder, encoder_options, options.device)
            groups.append({"params": list(self.input_encoder.model.parameters()), "peak": options.lr / 100})
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay)

    def examples(self, folders: Sequence[Path], split: str) -> dict[str, Examples]:
        """The questions of the tasks, by task, with their vectors."""
        return {
            folder.name: Examples(
                read_questions(folder, split),
                self.tokenizer,
                self.encoder,
                self.options,
                self.out / "vectors" / f"{folder.name}-{split}.pt",
            )
            for folder in folders
        }

    def rows(self, examples: Examples, questions: Sequence[Question], order: np.random.Generator | None) -> Tensor:
        """[I; P] of the questions, (batch, r + k, H)."""
        histories = [examples.history(q, order) for q in questions]
        vectors, mask = pad_histories(histories, self.encoder.width, self.options.device)
        if self.options.input_encoder == "head":
            requests = torch.stack([examples.vectors[q.input] for q in questions]).to(self.options.device)
        else:
            requests = self.input_encoder.forward([q.input for q in questions])
        persona = self.plug.persona(self.plug.query(requests), vectors, mask)
        instruction = self.plug.instruction.expand(len(questions), -1, -1)
        return torch.cat([instruction, persona], dim=1)

    def loss(self, examples: Examples, questions: Sequence[Question], order: np.random.Generator | None, each: bool = False) -> Tensor:
        """The loss of some questions of one task."""
        device = "cuda" if self.options.device.startswith("cuda") else "cpu"
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.options.bf16):
            return plug_loss(self.llm, self.rows(examples, questions, order), [examples.tokens(q) for q in questions], each=each)

    def run(self, train: dict[str, Examples], shares: dict[str, float]) -> None:
        """Trains to the last step, from the last checkpoint if there is one, and writes the plug to ``out``."""
        if self.options.subtract_mean:
            self.plug.projector.mean.copy_(population_mean(train).to(self.options.device))
        first, started, running = self._resume(), time.monotonic(), math.nan
        saved = started
        for step, (task, indices) in enumerate(_draw(train, shares, self.options)):
            if step < first:
                continue
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, self.options)
            order = np.random.default_rng((self.options.seed, step))
            loss = self.loss(train[task], [train[task].questions[i] for i in indices], order)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.plug.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            running = loss.item() if math.isnan(running) else 0.95 * running + 0.05 * loss.item()
            if step % 25 == 0:
                temperature = self.plug.aggregator.log_temperature.exp().item()
                print(f"plug {step}/{self.options.steps} {task} loss {running:.4f} t {temperature:.1f} {time.monotonic() - started:.0f} s", flush=True)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(step + 1)
                saved = time.monotonic()
        self._save(self.options.steps)
        self.plug.save(self.out)
        if self.options.input_encoder == "full":
            self.input_encoder.model.save_pretrained(self.out / "input_encoder")
            self.input_encoder.tokenizer.save_pretrained(self.out / "input_encoder")
        (self.out / "train.json").write_text(json.dumps(asdict(self.options), indent=2) + "\n")

    @torch.no_grad()
    def evaluate(self, examples: Examples, batch: int = 32) -> float:
        """Mean negative log-likelihood of an answer, in nats."""
        questions = sorted(examples.questions, key=lambda q: len(q.input) + len(q.output))
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


def population_mean(examples: dict[str, Examples]) -> Tensor:
    """The mean over users of the mean vector of each user's items (d,)."""
    users: dict[str, tuple[Item, ...]] = {}
    vectors: dict[str, Tensor] = {}
    for task in examples.values():
        vectors |= task.vectors
        for question in task.questions:
            if len(question.history) > len(users.get(question.user_id, ())):
                users[question.user_id] = question.history
    with_output = next(iter(examples.values())).options.with_output
    limit = next(iter(examples.values())).options.max_items
    means = [torch.stack([vectors[item_text(i, with_output)] for i in items[-limit:]]).mean(0) for items in users.values()]
    return torch.stack(means).mean(0)


def _draw(train: dict[str, Examples], shares: dict[str, float], options: TrainOptions) -> Iterator[tuple[str, list[int]]]:
    """A task and the indices of a batch of its questions, of like length, for every step."""
    order = np.random.default_rng(options.seed)
    weights = np.array([shares.get(task, 1.0) for task in train])
    queues: dict[str, list[list[int]]] = {task: [] for task in train}
    for _ in range(options.steps):
        task = list(train)[order.choice(len(weights), p=weights / weights.sum())]
        if not queues[task]:
            queues[task] = _length_batches(train[task].questions, options.batch, order)
        yield task, queues[task].pop()


def _length_batches(questions: Sequence[Question], batch: int, order: np.random.Generator) -> list[list[int]]:
    shuffled = order.permutation(len(questions))
    batches = []
    for start in range(0, len(shuffled), 16 * batch):
        pool = sorted(shuffled[start : start + 16 * batch].tolist(), key=lambda i: len(questions[i].input))
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    return [batches[i] for i in order.permutation(len(batches))]


def _schedule(step: int, options: TrainOptions) -> float:
    rise = max(1, int(options.warmup * options.steps))
    return min(1.0, (step + 1) / rise) * max(0.0, 1 - step / options.steps)
