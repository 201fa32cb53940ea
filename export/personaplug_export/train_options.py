"""How a plug is trained."""

from __future__ import annotations

from dataclasses import dataclass


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
    static_tokens: int = 0
    """of the k, the first ones that do not depend on the request"""
    warm_start: bool = False
    """let the projector start at the LLM's own token rows instead of random ones; see ``warm_start.py``"""
    hold: float = 0.0
    """after a warm start: weight of a second loss that holds the first half of the persona tokens where they started"""
    inner_width: int = 0
    """width between the projector's two layers; 0: the LLM's"""
    learned_recency: bool = False
    """learn how fast older items lose weight"""
    contrast: float = 0.0
    """weight of a second loss: the answer must be likelier with its user's history than with another user's"""
    margin: float = 1.0
    """of that loss, in nats an answer: where the difference is larger nothing is learned from it"""
    history_template: str = "{output}: {text}"
    """what is encoded of a history item that has an output: "{text}" leaves that out, named twice it weighs more"""
    input_encoder: str = "head"
    """"head" on the frozen encoder, or "full": train a copy of it"""
    template: str = "{input}\nanswer:"
    """the request as the LLM reads it"""
    max_input_tokens: int = 256
    """longer requests are cut at their end, the template's own words kept"""
    max_items: int = 512
    """the last items of a history that are read"""
    cross_fit: str = "labels"
    """with LLMs of folds: "labels" learns tasks with labels from them, "all" every task, "none" does without"""
    bloggers: int = 600
    """of a folder of posts, so many users are trained on"""
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

    def __post_init__(self) -> None:
        if self.cross_fit not in ("labels", "all", "none"):
            raise ValueError(f'cross_fit: expected "labels", "all" or "none", got {self.cross_fit!r}')
        if self.hold and not self.warm_start:
            raise ValueError("hold keeps rows where a warm start put them: it needs warm_start")
