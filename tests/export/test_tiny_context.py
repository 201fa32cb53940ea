"""What the tiny LLM is tuned on besides bare requests: rows of a user's own words, and past items as text."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from personaplug_edge.evaluate.data import Example, PastItem  # noqa: E402
from personaplug_export.tiny import context, llm  # noqa: E402

PAST = tuple(PastItem(f"text {i}", ("sport", "art")[i % 2]) for i in range(20))


def tokenize(text: str) -> list[int]:
    """A token a character, none of them special."""
    return [3 + ord(character) % 90 for character in text]


def test_rows_stand_behind_the_start_token() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(100, 8)
    row = llm.SoftRow((4, 5), (0.75, 0.25), 0.0)
    examples = [
        llm.TaskExample([1, 10, 11], [12, 2], (row, llm.SoftRow((), (), 1.0))),
        llm.TaskExample([1, 10], [13, 14, 2]),
    ]
    batch = llm.pad_examples(examples)
    assert batch.ids.tolist() == [[1, 0, 0, 10, 11, 12, 2], [1, 10, 13, 14, 2, 0, 0]]
    assert batch.labels[0].tolist() == [llm.IGNORE] * 5 + [12, 2]
    assert batch.labels[1].tolist() == [llm.IGNORE, llm.IGNORE, 13, 14, 2, llm.IGNORE, llm.IGNORE]

    embedded = llm.embed(table, batch, torch.Generator().manual_seed(0))
    plain = table(batch.ids)
    rows = torch.zeros(batch.ids.shape, dtype=torch.bool)
    rows[0, 1:3] = True
    assert torch.equal(embedded[~rows], plain[~rows])
    length = table.weight.norm(dim=-1).mean().item()
    assert embedded[0, 1:3].norm(dim=-1).tolist() == pytest.approx([length] * 2, rel=1e-5)
    mean = 0.75 * table.weight[4] + 0.25 * table.weight[5]
    assert torch.cosine_similarity(embedded[0, 1], mean, dim=0).item() == pytest.approx(1, abs=1e-5)
    embedded[0, 1].sum().backward()
    assert not table.weight.grad.any()  # the table does not bend to the rows


def test_rows_are_made_of_what_the_user_answered() -> None:
    order, nearness = np.random.default_rng(0), np.linspace(0, 1, len(PAST), dtype=np.float32)
    known = set(tokenize("sport") + tokenize("art"))
    rows = [row for _ in range(50) for row in context.soft_rows(PAST, nearness, tokenize, order)]
    told = [row for row in rows if row.tokens]
    assert 0 < len(rows) - len(told) < len(rows) / 2  # some are noise alone
    for row in told:
        assert set(row.tokens) <= known and sum(row.weights) == pytest.approx(1) and len(row.weights) == len(row.tokens)
        assert len(row.tokens) <= context.ITEMS_A_ROW * context.TOKENS_AN_ITEM


def test_past_items_stand_as_the_runtime_writes_them() -> None:
    question = Example(id="1", user_id="u", input="tag of: a film", gold="art", history=PAST)
    order, nearness = np.random.default_rng(0), np.linspace(0, 1, len(PAST), dtype=np.float32)
    seen = set()
    for _ in range(20):
        example = context._with_text(question, nearness, tokenize, order)
        assert len(example.request) <= context.TEXT_TOKENS + 10 and not example.rows
        ends = tokenize("tag of: a film\nanswer:")
        assert example.request[0] == 1 and example.request[-len(ends) :] == ends
        assert example.answer == [*tokenize("art"), 2]
        seen.add(len(example.request))
    assert len(seen) > 2  # of one to four items
