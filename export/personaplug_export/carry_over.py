"""Carries a plug's rows from the embedding space of one LLM into that of another: a linear map, folded into the plug.

A plug's rows stand where token rows stand, so that the tokens which both LLMs know say how one space lies in the other:
A (H_old, H_new) = argmin sum |x A - y|^2 + ridge |A|^2 over their rows x and y. A linear map commutes with the weighted
sum of projections, and rows are brought to the token norm afterwards, so that A can go into the projector's outer
layer, I and the cold-start rows with nothing lost, and its own scale is free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from personaplug_export.reference import Plug

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Tried on tokens kept apart, as shares of the mean eigenvalue of x'x."""
LEAST = 32
"""With fewer shared tokens a map fitted to them says less than none."""
KEPT_APART = 10
"""One token of so many says how well the map does."""


@dataclass(frozen=True, kw_only=True)
class CarryOver:
    """A map between two embedding spaces, and what is known of it."""

    matrix: Tensor
    """A (H_old, H_new), float32"""
    shared: int
    """tokens that both vocabularies have"""
    ridge: float = 0.0
    """the one of RIDGES that did best on tokens kept apart"""
    cosine: float = 0.0
    """mean cosine of x A and y of those tokens; 0 for a random map"""

    @property
    def random(self) -> bool:
        """Whether the map says nothing, for want of shared tokens."""
        return self.shared < LEAST


def carry_over(old: Tensor, new: Tensor, seed: int = 0) -> CarryOver:
    """The map from rows of shared tokens, (n, H_old) and (n, H_new) in the same order; a random one for n < LEAST.

    A random map keeps the distances between rows, up to chance, so that what the projector tells apart stays apart.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(old) < LEAST:
        matrix = torch.randn(old.shape[1], new.shape[1], generator=generator) / old.shape[1] ** 0.5
        return CarryOver(matrix=matrix, shared=len(old))
    order = torch.randperm(len(old), generator=generator)
    apart, fitted = order[: len(old) // KEPT_APART], order[len(old) // KEPT_APART :]
    maps = ridge_maps(old[fitted], new[fitted])
    cosines = [float(torch.cosine_similarity(old[apart].double() @ a, new[apart].double()).mean()) for a in maps]
    best = max(range(len(RIDGES)), key=cosines.__getitem__)
    matrix = ridge_maps(old, new)[best].float()
    return CarryOver(matrix=matrix, shared=len(old), ridge=RIDGES[best], cosine=cosines[best])


def ridge_maps(old: Tensor, new: Tensor) -> list[Tensor]:
    """The least-squares maps (H_old, H_new) from rows to rows, float64, one for each of RIDGES."""
    x, y = old.double(), new.double()
    values, vectors = torch.linalg.eigh(x.T @ x)
    values = values.clamp_min(0)
    target = vectors.T @ (x.T @ y)
    return [vectors @ (target / (values + ridge * values.mean()).unsqueeze(1)) for ridge in RIDGES]


@torch.no_grad()
def fold(plug: Plug, matrix: Tensor, token_norm: float) -> Plug:
    """The plug whose persona, I and cold start are those of ``plug`` times ``matrix``, with the norm ``token_norm``.

    What lies before the projector's outer layer stays as it is, so that its inner width is that of the old plug.
    """
    config = replace(
        plug.config,
        embedding_width=matrix.shape[1],
        inner_width=plug.projector.inner.out_features,
        token_norm=token_norm,
    )
    k, width = plug.config.persona_tokens, plug.config.embedding_width
    state = plug.state_dict()
    for name in ("_instruction", "_cold_start"):
        state[name] = _as_large(state[name] @ matrix, state[name])[0]
    weight, bias = state["projector.outer.weight"], state["projector.outer.bias"]
    mapped = torch.einsum("khw,hn->knw", weight.view(k, width, -1), matrix).flatten(0, 1)
    state["projector.outer.weight"], scale = _as_large(mapped, weight)
    state["projector.outer.bias"] = scale * (bias.view(k, width) @ matrix).flatten()
    folded = Plug(config)
    folded.load_state_dict(state)
    return folded


def _as_large(mapped: Tensor, before: Tensor) -> tuple[Tensor, float]:
    """``mapped`` with the root mean square of ``before``, and the factor: a step of the optimizer then says as much."""
    if not mapped.numel():
        return mapped, 1.0
    scale = float(before.square().mean().sqrt() / mapped.square().mean().sqrt().clamp_min(1e-12))
    return mapped * scale, scale
