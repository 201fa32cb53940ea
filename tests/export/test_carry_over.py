"""Which tokens two vocabularies share, the map between their rows, and its folding into a plug."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from personaplug_export.carry_over import LEAST, carry_over, fold
from personaplug_export.few_examples import draw_evenly
from personaplug_export.onnx_plug import export_plug
from personaplug_export.reference import Plug, scale_rows
from personaplug_export.vocabulary import is_byte_level, shared_tokens, token_bytes

SENTENCEPIECE = {"<s>": 0, "<0x0A>": 1, "<0x61>": 2, "▁the": 3, "the": 4, "a": 5, "é": 6, "▁": 7, "▁▁x": 8, "only": 9}
BYTE_LEVEL = {"<s>": 0, "Ċ": 1, "a": 2, "the": 3, "Ġthe": 4, "Ã©": 5, "Ġ": 6, "ĠĠx": 7, "Ġmine": 8, "<|日|>": 9}


def test_tokens_are_shared_by_their_bytes_whatever_marks_a_space() -> None:
    assert is_byte_level(BYTE_LEVEL) and not is_byte_level(SENTENCEPIECE)
    assert shared_tokens(SENTENCEPIECE, BYTE_LEVEL) == [
        (0, 0), (1, 1), (3, 4), (4, 3), (5, 2), (6, 5), (7, 6), (8, 7)
    ]  # fmt: skip
    assert token_bytes(SENTENCEPIECE)[b"a"] == 5, "the piece, not the byte that is there for unknown text"
    assert token_bytes(BYTE_LEVEL)["<|日|>".encode()] == 9
    assert shared_tokens(BYTE_LEVEL, BYTE_LEVEL) == [(i, i) for i in range(10)]
    assert shared_tokens({"red": 3, "blue": 1}, {"blue": 0, "green": 2}) == [(1, 0)]
    assert shared_tokens({"x": 0}, {"y": 0}) == []


def test_every_byte_has_a_character_of_its_own() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = {character: index for index, character in enumerate(sorted(ByteLevel.alphabet()))}
    # As in a real vocabulary, more words than just the space.
    found = token_bytes({**alphabet, "Ġa": 256})
    assert {bytes([byte]) for byte in range(256)} <= set(found)


def test_the_map_between_spaces_is_found_through_noise() -> None:
    torch.manual_seed(0)
    truth = torch.randn(8, 12)
    old = torch.randn(300, 8)
    found = carry_over(old, old @ truth + 0.1 * torch.randn(300, 12))
    assert found.shared == 300 and not found.random and found.cosine > 0.99
    torch.testing.assert_close(found.matrix, truth, atol=0.05, rtol=0)
    assert carry_over(old, torch.randn(300, 12)).cosine < 0.2


def test_a_ridge_helps_where_tokens_are_few() -> None:
    torch.manual_seed(0)
    truth, old = torch.randn(60, 20), torch.randn(64, 60)
    found = carry_over(old, old @ truth + 6 * torch.randn(64, 20))
    assert found.ridge > 1e-3


def test_with_too_few_tokens_the_map_is_random_and_always_the_same() -> None:
    rows = torch.randn(LEAST - 1, 6)
    found = carry_over(rows, rows)
    assert found.random and found.cosine == 0 and found.matrix.shape == (6, 6)
    assert torch.equal(found.matrix, carry_over(torch.zeros(0, 6), torch.zeros(0, 6)).matrix)


@torch.no_grad()
@pytest.mark.parametrize("width", [40, 96])
def test_folding_is_exact(make_plug: Callable[..., Plug], width: int) -> None:
    plug = make_plug(static_tokens=1, learned_recency=True, instruction_rows=3)
    torch.manual_seed(4)
    matrix = torch.randn(64, width)
    folded = fold(plug, matrix, 0.7)
    vectors = torch.nn.functional.normalize(torch.randn(5, 32), dim=-1)
    query = plug.query(vectors[0])
    torch.testing.assert_close(folded.query(vectors[0]), query)
    expected = scale_rows(plug.persona(query, vectors) @ matrix, 0.7)
    torch.testing.assert_close(folded.persona(query, vectors), expected, atol=1e-5, rtol=1e-5)
    for ours, theirs in ((folded.instruction, plug.instruction), (folded.cold_start, plug.cold_start)):
        torch.testing.assert_close(ours, scale_rows(theirs @ matrix, 0.7), atol=1e-5, rtol=1e-5)
    assert folded.config.inner_width == 64 and folded.config.embedding_width == width
    twice = fold(folded, torch.linalg.pinv(matrix), plug.config.token_norm)
    assert twice.config.inner_width == 64
    if width > 64:
        torch.testing.assert_close(twice.persona(query, vectors), plug.persona(query, vectors), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_folded_plug_is_saved_loaded_and_exported(make_plug: Callable[..., Plug], tmp_path: Path) -> None:
    folded = fold(make_plug(), torch.randn(64, 40), 1.0)
    folded.save(tmp_path)
    loaded = Plug.load(tmp_path)
    vectors = torch.randn(4, 32)
    torch.testing.assert_close(loaded.projector(vectors), folded.projector(vectors))
    export_plug(loaded, tmp_path)  # compares each graph with PyTorch


def test_a_plug_from_before_inner_widths_is_read(make_plug: Callable[..., Plug], tmp_path: Path) -> None:
    make_plug().save(tmp_path)
    facts = json.loads((tmp_path / "plug.json").read_text())
    del facts["inner_width"]
    (tmp_path / "plug.json").write_text(json.dumps(facts))
    assert Plug.load(tmp_path).projector.inner.out_features == 64


def test_examples_are_drawn_evenly_over_users() -> None:
    users = ["a"] * 50 + ["b"] * 2 + ["c"] * 10
    drawn = [users[i] for i in draw_evenly(users, 9, seed=0)]
    assert {user: drawn.count(user) for user in "abc"} in ({"a": 4, "b": 2, "c": 3}, {"a": 3, "b": 2, "c": 4})
    assert draw_evenly(users, 9, seed=0) == draw_evenly(users, 9, seed=0) != draw_evenly(users, 9, seed=1)
    assert draw_evenly(users, 100, seed=0) == list(range(62))
