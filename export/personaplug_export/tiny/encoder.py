"""A small BERT-like sentence encoder, distilled from a larger one: its sentence vectors are the target.

The token table starts from the closed-form least-squares answer to "which vector for each token makes the mean over a
text the teacher's vector?", so that the transformer layers only have to learn what the order of words adds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from personaplug_export.tiny import corpus

VOCABULARY = 12_288
MAX_TOKENS = 128
BATCH_TOKENS = 4_096
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def encoder_texts(data: Path, general: int, seed: int = 0) -> list[str]:
    """Texts like those that the encoder will meet: history items with and without output, requests, general text."""
    texts: list[str] = []
    for item in corpus.known_items(data / "news_category"):
        texts += [
            item["text"],
            item["title"],
            f"{item['category']}: {item['text']}",
            f"{item['title']}: {item['text']}",
        ]
    for item in corpus.known_items(data / "email_subject"):
        texts += [_cut(item["text"], 60), f"{item['title']}: {_cut(item['text'], 40)}"]
    for item in corpus.known_items(data / "product_rating"):
        texts += [_cut(item["text"], 60), f"{item['score']}: {_cut(item['text'], 60)}"]
    rest = [text for text in corpus.raw_documents(data, seed) if len(text) > 100]
    return texts + [_cut(text, 28) for text in rest[:general]]


def train_wordpiece(texts: list[str], target: Path) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer, as BERT's, of VOCABULARY pieces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )
    fast.save_pretrained(target)
    return fast


def teacher_vectors(teacher: Path, texts: list[str], target: Path, threads: int = 0) -> NDArray[np.float16]:
    """Unit vectors (texts, width) of a mean-pooled sentence encoder's folder, kept in ``target``.

    Through ONNX Runtime, which is some three times faster than PyTorch here.
    """
    if target.exists():
        return np.load(target)
    import onnxruntime
    from optimum.exporters.onnx import main_export

    graph = target.parent / "teacher-onnx"
    if not (graph / "model.onnx").exists():
        main_export(str(teacher), graph, task="feature-extraction", library_name="transformers")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph / "model.onnx", options, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    ids = tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    vectors = np.zeros((len(texts), int(session.get_outputs()[0].shape[-1])), dtype=np.float16)
    order, started = sorted(range(len(ids)), key=lambda i: len(ids[i])), time.monotonic()
    for start in range(0, len(order), 16):
        rows = order[start : start + 16]
        tokens, mask = (part.numpy() for part in pad([ids[i] for i in rows]))
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = session.run(None, feed)[0]
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        vectors[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        if start % 16_000 == 0:
            print(f"teacher {start}/{len(order)} {time.monotonic() - started:.0f} s", flush=True)
    np.save(target, vectors)
    return vectors


def new_encoder(width: int, seed: int = 0) -> BertModel:
    """Two layers of width 384: small enough to sit in the package, large enough for word order."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        intermediate_size=1024,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


def start_token_table(model: BertModel, ids: list[list[int]], vectors: NDArray[np.float16], ridge: float = 1.0) -> None:
    """Sets the token table to the ridge regression of the vectors on bags of tokens, scaled to BERT's usual size."""
    from scipy.sparse import csr_matrix

    rows = np.repeat(np.arange(len(ids)), [len(i) for i in ids])
    values = np.concatenate([np.full(len(i), 1 / len(i)) for i in ids])
    bags = csr_matrix((values, (rows, np.concatenate(ids))), shape=(len(ids), VOCABULARY), dtype=np.float32)
    gram = (bags.T @ bags).toarray() + (ridge / VOCABULARY) * np.eye(VOCABULARY, dtype=np.float32)
    table = np.linalg.solve(gram, bags.T @ vectors.astype(np.float32))
    table *= 0.02 / table.std()
    model.embeddings.word_embeddings.weight.data.copy_(torch.from_numpy(table))


def sentence_vectors(model: BertModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean over tokens, unit length: (batch, width)."""
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * weights).sum(1).float() / weights.sum(1).float(), dim=-1)


def train_encoder(
    model: BertModel, ids: list[list[int]], vectors: NDArray[np.float16], epochs: int, checkpoint: Path
) -> None:
    """Maximizes the cosine to the teacher and keeps the distances within a batch; resumes at the last whole epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    batches = list(_batches(ids))
    steps, first = epochs * len(batches), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    targets = torch.from_numpy(vectors.astype(np.float32))
    started, running = time.monotonic(), math.nan
    for epoch in range(first, epochs):
        order = np.random.default_rng(epoch).permutation(len(batches))
        for n, which in enumerate(order):
            step = epoch * len(batches) + n
            optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 200) * max(0.02, 1 - step / steps)
            batch = batches[which]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                student = sentence_vectors(model, *pad([ids[i] for i in batch]))
            teacher = targets[batch]
            cosine = (student * teacher).sum(-1)
            relations = (student @ student.T - teacher @ teacher.T).square().mean()
            loss = (1 - cosine).mean() + relations
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            mean = cosine.mean().item()
            running = mean if math.isnan(running) else 0.98 * running + 0.02 * mean
            if n % 100 == 0:
                seconds = time.monotonic() - started
                print(
                    f"encoder {epoch}/{epochs} {n}/{len(batches)} cosine {running:.3f} {seconds:.0f} s",
                    flush=True,
                )
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
        torch.save(state, checkpoint.with_suffix(".partial"))
        checkpoint.with_suffix(".partial").replace(checkpoint)


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (batch, longest)."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def _batches(ids: list[list[int]]) -> Iterator[list[int]]:
    """Indices of texts of like length, BATCH_TOKENS a batch."""
    batch: list[int] = []
    for index in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        if batch and len(ids[index]) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _cut(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


@torch.no_grad()
def mean_cosine(model: BertModel, ids: list[list[int]], vectors: NDArray[np.float16]) -> float:
    """Mean cosine between the model's vectors and the teacher's."""
    student = torch.cat([sentence_vectors(model, *pad([row])) for row in ids]).numpy()
    return float((student * vectors.astype(np.float32)).sum(-1).mean())
