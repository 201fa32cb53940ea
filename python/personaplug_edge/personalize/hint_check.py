"""What a method may hint at for the sampling.

The ranges are the engine's (cpp/core/sampling_options.cc). It checks them again, but does not know whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from numbers import Integral, Real
from typing import Any

_MOST = 2**31 - 1
_LARGEST = 1e6
"""Of a bias or a penalty: sums of much more are infinite."""

_RANGES: dict[str, tuple[type | tuple[type, ...], Callable[[Any], bool], str]] = {
    "max_tokens": (Integral, lambda n: 1 <= n <= _MOST, "a whole number, 1 or more"),
    "temperature": (Real, lambda x: 0 <= x < inf, "a finite number, 0 or more"),
    "top_k": (Integral, lambda n: 0 <= n <= _MOST, "a whole number, 0 or more"),
    "top_p": (Real, lambda x: 0 < x <= 1, "a number more than 0 and at most 1"),
    "min_p": (Real, lambda x: 0 <= x < 1, "a number, 0 or more and less than 1"),
    "repetition_penalty": (Real, lambda x: 1 / _LARGEST <= x <= _LARGEST, "a number from 1e-6 to 1e6"),
    "presence_penalty": (Real, lambda x: abs(x) <= _LARGEST, "a number from -1e6 to 1e6"),
    "frequency_penalty": (Real, lambda x: abs(x) <= _LARGEST, "a number from -1e6 to 1e6"),
    "penalty_window": (Integral, lambda n: -1 <= n <= 1 << 20, "a whole number from -1 to 1048576"),
    "seed": ((Integral, type(None)), lambda n: n is None or 0 <= n < 2**32 - 1, "None or 0 to 4294967294"),
    "logit_bias": (
        Mapping,
        lambda bias: all(map(_biases, bias.items())),
        "token ids with -inf or -1e6 to 1e6",
    ),
    "grammar": (str, lambda text: "\0" not in text, "a str without NUL"),
    "stop": ((tuple, list), lambda texts: all(isinstance(t, str) and t for t in texts), "a tuple of str, none empty"),
    "logprobs": (Integral, lambda n: 0 <= n <= _MOST, "a whole number, 0 or more"),
    "ignore_end": (bool, lambda value: True, "True or False"),
}


def hint_fault(name: object, value: object) -> str:
    """What is wrong with a field of Sampling that a method hints at; "" for nothing."""
    if name not in _RANGES:
        return f"expected fields of Sampling ({', '.join(_RANGES)}), got {name!r:.80}"
    kind, good, expected = _RANGES[str(name)]
    return "" if isinstance(value, kind) and good(value) else f"{name}: expected {expected}, got {value!r:.80}"


def _biases(entry: tuple[Any, Any]) -> bool:
    token, bias = entry
    if not (isinstance(token, Integral) and int(token) >= 0 and isinstance(bias, Real)):
        return False
    return abs(float(bias)) <= _LARGEST or bias == -inf
