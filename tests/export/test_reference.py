"""The reference PPlug against the paper's equations, written out in numpy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [export] extra")

from personaplug_export.reference import Plug, PlugConfig, mean_token_norm  # noqa: E402


def make_plug(**changes: object) -> Plug:
    torch.manual_seed(3)
    config = PlugConfig(**{"vector_width": 6, "embedding_width": 8, "persona_tokens": 2, "token_norm": 1.7, **changes})
    return Plug(config).eval()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@torch.no_grad()
def test_persona_is_the_weighted_sum_of_projected_items() -> None:
    plug = make_plug()
    plug.projector.mean.copy_(torch.arange(6) / 10)
    rng = np.random.default_rng(0)
    items, query = unit(rng.normal(size=(5, 6))), unit(rng.normal(size=6))
    weights_in, bias_in = plug.projector.inner.weight.numpy(), plug.projector.inner.bias.numpy()
    weights_out, bias_out = plug.projector.outer.weight.numpy(), plug.projector.outer.bias.numpy()
    centered = items - np.arange(6) / 10
    projected = (gelu(centered @ weights_in.T + bias_in) @ weights_out.T + bias_out).reshape(5, 2, 8)
    scores = 10.0 * items @ query
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    expected = 1.7 * unit(np.einsum("n,nkh->kh", weights, projected))

    vectors = torch.from_numpy(items).float()
    persona, got_weights = plug.aggregator(torch.from_numpy(query).float(), vectors, plug.projector(vectors))

    np.testing.assert_allclose(persona, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got_weights, weights, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_nothing_and_an_empty_history_is_a_cold_start() -> None:
    plug = make_plug()
    vectors = torch.nn.functional.normalize(torch.randn(2, 4, 6), dim=-1)
    queries = torch.nn.functional.normalize(torch.randn(2, 6), dim=-1)
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    batched = plug.persona(queries, vectors, mask)
    single = plug.persona(queries[0], vectors[0, :3])
    torch.testing.assert_close(batched[0], single, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(batched[1], plug.cold_start)


@torch.no_grad()
def test_one_item_weighs_one_so_that_the_aggregator_scales_a_mean() -> None:
    plug = make_plug()
    projections = plug.projector(torch.randn(7, 6))
    mean = projections.mean(0, keepdim=True)
    persona, weights = plug.aggregator(torch.zeros(6), torch.zeros(1, 6), mean)
    assert weights.tolist() == [1.0]
    torch.testing.assert_close(persona.norm(dim=-1), torch.full((2,), 1.7))
    torch.testing.assert_close(persona, 1.7 * torch.nn.functional.normalize(mean[0], dim=-1))


@torch.no_grad()
def test_static_tokens_do_not_depend_on_the_request() -> None:
    plug = make_plug(static_tokens=1)
    vectors = torch.nn.functional.normalize(torch.randn(5, 6), dim=-1)
    first, second = (plug.persona(vectors[i], vectors) for i in (0, 1))
    projections = plug.projector(vectors)
    torch.testing.assert_close(first[0], second[0])
    torch.testing.assert_close(first[0], 1.7 * torch.nn.functional.normalize(projections.mean(0)[0], dim=-1))
    assert not torch.allclose(first[1], second[1])


@torch.no_grad()
def test_with_recency_the_newer_of_two_equal_items_weighs_more_and_padding_changes_nothing() -> None:
    plug = make_plug(learned_recency=True, static_tokens=1)
    plug.aggregator.decay.fill_(1.0)  # softplus(1) = 1.313
    same = torch.nn.functional.normalize(torch.randn(1, 6), dim=-1).expand(3, 6)
    _, weights = plug.aggregator(same[0], same, plug.projector(same))
    expected = torch.tensor([3.0, 2.0, 1.0]).pow(-math.log1p(math.e))
    torch.testing.assert_close(weights, expected / expected.sum())
    vectors = torch.nn.functional.normalize(torch.randn(4, 6), dim=-1)
    padded = plug.persona(same[:1], vectors[None], torch.tensor([[True, True, True, False]]))
    torch.testing.assert_close(padded[0], plug.persona(same[0], vectors[:3]), rtol=1e-5, atol=1e-6)


def test_without_a_learned_temperature_it_is_the_papers_one() -> None:
    plug = make_plug(learned_temperature=False)
    assert plug.aggregator.log_temperature.exp().item() == 1.0
    assert not plug.aggregator.log_temperature.requires_grad


@torch.no_grad()
def test_the_input_head_starts_as_the_identity() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(3, 6), dim=-1)
    torch.testing.assert_close(make_plug().query(vectors), vectors)


@torch.no_grad()
def test_saving_and_loading_keeps_every_number(tmp_path: Path) -> None:
    plug = make_plug()
    plug.save(tmp_path)
    loaded = Plug.load(tmp_path)
    assert loaded.config == plug.config
    for name, value in plug.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_the_scale_is_measured_from_the_token_table() -> None:
    assert mean_token_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]])) == pytest.approx(3.0)
