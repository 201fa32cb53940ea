"""PPlug in PyTorch, as the paper writes it (arXiv 2409.11901, section 3): the reference that the runtime is held to.

h_i = Enc_his(item i)                    frozen, computed outside
q   = normalize(Head(Enc_input(x)))      eq. 2; the head is the light form, the encoder itself may be trained too
w_i = softmax_i(t q.h_i)                 eq. 4; the paper has t = 1, here it can be learned
P   = norm * unit(sum_i w_i Proj(h_i))   eq. 5; the scale is the LLM's own mean token-row norm, not a constant
                                         optional: w_i times (1 + newer items)^-r (eq. 4), and rows of P with w_i = 1/n
LLM input = [ I ; P ; Emb(x) ]           section 3.3
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PlugConfig:
    """The shape of a plug. d: width of the encoder's vectors; H: embedding width of the LLM."""

    vector_width: int
    """d"""
    embedding_width: int
    """H"""
    persona_tokens: int = 1
    """k, the rows that the personal embedding takes in the prompt; 1 in the paper"""
    instruction_rows: int = 1
    """r, the rows of the instruction embedding; 1 in the paper"""
    token_norm: float = 1.0
    """mean L2 norm of the LLM's token rows; every row of P and I has it"""
    learned_temperature: bool = True
    """learn the softmax temperature t, from 10; False keeps the paper's 1"""
    subtract_mean: bool = True
    """subtract the mean vector of the population from every item before it is projected"""
    static_tokens: int = 0
    """of the k persona tokens, the first ones whose weights are all equal: the same rows for every request"""
    learned_recency: bool = False
    """learn r: an item weighs (1 + a)^-r as much as the newest of equal score, where a items are newer"""
    input_encoder: str = "head"
    """"head": a linear map on the frozen encoder's vector; "full": the input encoder itself was trained"""
    inner_width: int = 0
    """width between the projector's two layers; 0: H. A plug adapted to another LLM keeps that of its first one"""


class Projector(nn.Module):
    """Proj: Linear(d, H) - GELU - Linear(H, kH), applied to each item before the sum (eq. 5); inner H: inner_width."""

    def __init__(self, config: PlugConfig) -> None:
        super().__init__()
        self.shape = (config.persona_tokens, config.embedding_width)
        self.register_buffer("mean", torch.zeros(config.vector_width))
        inner_width = config.inner_width or config.embedding_width
        self.inner = nn.Linear(config.vector_width, inner_width)
        self.outer = nn.Linear(inner_width, config.persona_tokens * config.embedding_width)

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., d) to (..., k, H)."""
        rows = self.outer(nn.functional.gelu(self.inner(vectors - self.mean)))
        return rows.unflatten(-1, self.shape)


class InputHead(nn.Module):
    """The trained part of a light input encoder: a linear map that starts as the identity, then unit length."""

    def __init__(self, config: PlugConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.vector_width, config.vector_width)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., d) to (..., d), of unit length."""
        return nn.functional.normalize(self.linear(vectors), dim=-1)


class Aggregator(nn.Module):
    """Input-aware attention over the history, and the scale of the personal embedding (eqs. 4 and 5).

    With a single "item" that is the mean of all projections, the weights are 1 and the result is the static persona.
    """

    def __init__(self, config: PlugConfig) -> None:
        super().__init__()
        self.token_norm, self.static_tokens = config.token_norm, config.static_tokens
        start = math.log(10.0) if config.learned_temperature else 0.0
        self.log_temperature = nn.Parameter(torch.tensor(start), requires_grad=config.learned_temperature)
        # softplus(0.54) = 1: at first the tenth newest item weighs a tenth of the newest of equal score.
        self.decay = nn.Parameter(torch.tensor(0.54)) if config.learned_recency else None

    def forward(
        self, query: Tensor, vectors: Tensor, projections: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """query (..., d), vectors (..., n, d), projections (..., n, k, H) to persona (..., k, H) and weights (..., n).

        Items are in the order of time. ``mask`` (..., n) is False where an item is padding, after the others.
        """
        scores = self.log_temperature.exp() * (vectors @ query.unsqueeze(-1)).squeeze(-1)
        if self.decay is not None:
            scores = scores - nn.functional.softplus(self.decay) * self._age(scores, mask).log1p()
        weights = self._softmax(scores, mask)
        rows = _weighted(weights, projections)
        if self.static_tokens:
            even = _weighted(self._softmax(torch.zeros_like(scores), mask), projections)
            rows = torch.cat([even[..., : self.static_tokens, :], rows[..., self.static_tokens :, :]], dim=-2)
        return scale_rows(rows, self.token_norm), weights

    @staticmethod
    def _age(scores: Tensor, mask: Tensor | None) -> Tensor:
        """How many items of a history are newer than each of its own, (..., n); 0 for padding."""
        if mask is not None:
            return mask.flip(-1).cumsum(-1).flip(-1).sub(1).clamp_min(0).to(scores.dtype)
        return torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype).flip(-1)

    @staticmethod
    def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(-1)


class Plug(nn.Module):
    """The trained parts for one LLM: instruction embedding I, projector, aggregator, input head, cold-start rows."""

    def __init__(self, config: PlugConfig) -> None:
        super().__init__()
        self.config = config
        self.projector = Projector(config)
        self.aggregator = Aggregator(config)
        self.input_head = InputHead(config)
        self._instruction = nn.Parameter(torch.randn(config.instruction_rows, config.embedding_width))
        self._cold_start = nn.Parameter(torch.randn(config.persona_tokens, config.embedding_width))

    @property
    def instruction(self) -> Tensor:
        """I, shape (r, H)."""
        return scale_rows(self._instruction, self.config.token_norm)

    @property
    def cold_start(self) -> Tensor:
        """The persona of a user without history, shape (k, H)."""
        return scale_rows(self._cold_start, self.config.token_norm)

    def query(self, vectors: Tensor) -> Tensor:
        """q from the input encoder's vectors, (..., d) to (..., d)."""
        return self.input_head(vectors) if self.config.input_encoder == "head" else vectors

    def persona(self, query: Tensor, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """P of histories (..., n, d); an empty history (no True in its mask row) gets the cold-start rows."""
        persona, _ = self.aggregator(query, vectors, self.projector(vectors), mask)
        if mask is None:
            return persona
        return torch.where(mask.any(-1)[..., None, None], persona, self.cold_start)

    def save(self, folder: Path) -> None:
        """Writes ``plug.json`` and ``plug.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plug.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "plug.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Plug:
        """Reads what :meth:`save` wrote."""
        plug = cls(PlugConfig(**json.loads((folder / "plug.json").read_text())))
        plug.load_state_dict(load_file(folder / "plug.safetensors"))
        return plug.eval()


def _weighted(weights: Tensor, projections: Tensor) -> Tensor:
    """weights (..., n), projections (..., n, k, H) to their weighted sum (..., k, H)."""
    return (weights.unsqueeze(-2) @ projections.flatten(-2)).squeeze(-2).unflatten(-1, projections.shape[-2:])


def scale_rows(rows: Tensor, norm: float) -> Tensor:
    """Rows (..., H) brought to the L2 norm ``norm``; a row of zeros stays zero."""
    return rows * (norm / rows.norm(dim=-1, keepdim=True).clamp_min(1e-6))


def mean_token_norm(table: Tensor) -> float:
    """Mean L2 norm of a token-embedding table (vocabulary, H): the scale at which the LLM expects its input."""
    return float(table.detach().float().norm(dim=-1).mean())
