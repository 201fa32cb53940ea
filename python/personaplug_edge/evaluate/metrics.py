"""Metrics as LaMP computes them (arXiv 2304.11406, section 2.4), in a form that can be resampled by user.

Each metric maps every question to a vector of contributions; its value is a function of their sum. So the metric of a
resample of users is a function of a weighted sum of per-user sums, and 2,000 resamples are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError
from .data import Kind, is_number

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answer: ``text`` as produced, ``logprob`` of the gold answer over its ``tokens`` (None: no LLM was asked).

    The rest is what it cost, None where it was not measured: the seconds from the request to its first token,
    the positions of its prompt, the bytes kept for its user between requests (history or its vectors, persona,
    summary, adapter), and the seconds of training spent on that user alone.
    """

    id: str
    user_id: str
    gold: str
    text: str
    logprob: float | None = None
    tokens: int = 0
    first_token_seconds: float | None = None
    prompt_tokens: int | None = None
    bytes_per_user: int | None = None
    training_seconds: float | None = None


@dataclass(frozen=True)
class Metric:
    """``contributions`` gives (questions, m); ``value`` takes sums of it, shape (..., m), to shape (...)."""

    name: str
    higher_is_better: bool
    contributions: Callable[[Sequence[Prediction]], Array]
    value: Callable[[Array], Array]
    needs_logprob: bool = False

    def __call__(self, predictions: Sequence[Prediction]) -> float:
        """The metric over all predictions; NaN over none."""
        return float(self.value(self.contributions(predictions).sum(axis=0))) if predictions else math.nan


def metrics_of(kind: Kind, labels: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of a kind of task, the most telling one first."""
    likelihood = (nll_per_token, nll)
    if kind == "label":
        return accuracy, macro_f1(labels), *likelihood
    if kind == "rating":
        return mae(labels), rmse(labels), accuracy, *likelihood
    if kind == "continuation":
        return likelihood
    return rouge("rougeL"), rouge("rouge1"), *likelihood


def rating(text: str, gold: float, lowest: float, highest: float) -> float:
    """LaMP's reading of a rating: what Python's float() reads, else the further end of the scale, the upper one from
    its middle. So "4.", " 4", "4e0" and digits of any script are numbers, also beyond the scale; "four" is none.

    Deviation: "nan" and "inf", which float() takes and on which LaMP's evaluation breaks off, are no numbers here.
    """
    text = text.strip()  # as str does, which knows more white space than float() takes
    if is_number(text):
        return float(text)
    return lowest if abs(lowest - gold) > abs(highest - gold) else highest


def _mean(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1], dtype=np.float64)


def _pairs(numerators: Sequence[float], denominators: Sequence[float] | None = None) -> Array:
    ones = np.ones(len(numerators)) if denominators is None else np.asarray(denominators, dtype=np.float64)
    return np.stack([np.asarray(numerators, dtype=np.float64), ones], axis=1)


def _hits(predictions: Sequence[Prediction]) -> Array:
    return _pairs([float(p.text.strip() == p.gold.strip()) for p in predictions])


accuracy = Metric("accuracy", True, _hits, _mean)
"""Share of answers equal to the gold one after stripping white space; case and a trailing period count, as in LaMP.

LaMP compares places in its list of labels and takes what is not in it for one and the same: an answer that is no label
would be right for a gold one that is none. Here it is not; LaMP's own files have no such gold answer.
"""


def macro_f1(labels: Sequence[str]) -> Metric:
    """Mean F1 over all labels of the task, also those never seen (F1 0), as LaMP passes all of them to its F1.

    An answer that is no label counts against its gold label only.
    """
    index = {label.strip(): position for position, label in enumerate(labels)}
    count = len(labels)

    def contributions(predictions: Sequence[Prediction]) -> Array:
        table = np.zeros((len(predictions), 3, count))  # true positives, false positives, false negatives
        for row, prediction in zip(table, predictions, strict=True):
            answer, gold = index.get(prediction.text.strip()), index.get(prediction.gold.strip())
            if answer is not None and answer == gold:
                row[0, answer] = 1
                continue
            if answer is not None:
                row[1, answer] = 1
            if gold is not None:
                row[2, gold] = 1
        return table.reshape(len(predictions), 3 * count)

    def value(sums: Array) -> Array:
        hits, false, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, count), -2, 0)
        whole = 2 * hits + false + missed
        return np.asarray((2 * hits / np.where(whole == 0, 1, whole)).mean(axis=-1), dtype=np.float64)

    return Metric("macro_f1", True, contributions, value)


def _errors(predictions: Sequence[Prediction], labels: Sequence[str]) -> Array:
    scale = [float(label) for label in labels]
    golds = [float(p.gold.strip()) for p in predictions]
    return np.array([rating(p.text, g, min(scale), max(scale)) - g for p, g in zip(predictions, golds, strict=True)])


def mae(labels: Sequence[str]) -> Metric:
    """Mean absolute error of a rating."""
    return Metric("mae", False, lambda p: _pairs(np.abs(_errors(p, labels)).tolist()), _mean)


def rmse(labels: Sequence[str]) -> Metric:
    """Root of the mean squared error of a rating."""
    return Metric("rmse", False, lambda p: _pairs((_errors(p, labels) ** 2).tolist()), lambda s: np.sqrt(_mean(s)))


def rouge(kind: str) -> Metric:
    """Mean F-measure of ROUGE ("rouge1", "rougeL") without stemming, computed by the rouge-score package, which LaMP
    uses with these settings. LaMP prints the median of 1,000 unseeded resamples' means in place of the mean: it differs
    from one run to the next, from this by about 1e-4 on 1,500 questions.
    """

    def contributions(predictions: Sequence[Prediction]) -> Array:
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise MissingExtraError("ROUGE needs rouge-score: pip install 'personaplug-edge[eval]'") from error
        scorer = RougeScorer([kind], use_stemmer=False)
        return _pairs([scorer.score(p.gold.strip(), p.text.strip())[kind].fmeasure for p in predictions])

    return Metric(kind, True, contributions, _mean)


def _loss(predictions: Sequence[Prediction]) -> list[float]:
    return [math.nan if p.logprob is None else -p.logprob for p in predictions]


nll = Metric("nll", False, lambda p: _pairs(_loss(p)), _mean, needs_logprob=True)
"""Negative log-likelihood of the gold answer in nats, mean over answers."""

nll_per_token = Metric(
    "nll_per_token", False, lambda p: _pairs(_loss(p), [q.tokens for q in p]), _mean, needs_logprob=True
)
"""Negative log-likelihood of the gold answers in nats, over all their tokens."""
