"""How a plug is adapted to another LLM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """How a plug is adapted to another LLM. None: as the plug was trained."""

    examples: int = 200
    """questions of the train split, evenly over users, of all tasks together"""
    dev_examples: int = 400
    """questions of the dev split that tell what it brought, drawn in the same way"""
    steps: int = 150
    """optimizer steps; 0 carries the rows over and stops"""
    batch: int = 16
    """questions a step"""
    lr: float = 3e-3
    """peak learning rate"""
    train_query: bool = False
    """train what is about users too: input head, temperature, recency"""
    compare: bool = False
    """train an instruction embedding alone, and a plug from nothing, with the same examples and steps"""
    template: str | None = None
    """the request as the LLM reads it"""
    max_input_tokens: int | None = None
    """longer requests are cut at their end"""
    seed: int = 0
    """examples, their order, dropped items"""
    device: str = "cpu"
    """"cpu" or "cuda" """
    bf16: bool = True
    """autocast of the LLM to bfloat16"""
