"""What a method of another package returned, checked before anything is made of it.

Behind this only the engine would see a fault, without knowing whose it is, or nobody would. The methods of this package
are not asked: their tests are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from math import inf
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np

from personaplug_edge.errors import AdapterError, MethodError, PromptError, TextError
from personaplug_edge.personalize.hint_check import hint_fault
from personaplug_edge.personalize.method import Contribution, Kind, Request
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.texts import check_text, check_unicode


def check_contribution(name: str, made: Contribution, request: Request) -> None:
    """Raises MethodError that names the method, the field, what was expected and what came."""
    for field, fault_of in _FAULTS.items():
        value = getattr(made, field)
        if value is not None and (fault := fault_of(value, request)):
            raise MethodError(f"method {name!r}: {field}: {fault}")
    # Of the text in front alone, too: a method cannot know how it is joined to the request.
    added = request.added(made)
    if made.text is None:
        added = min(added, request.length(made.front))
    if added > max(0, request.room):
        raise MethodError(
            f"method {name!r}: {'front' if made.text is None else 'text'}: expected at most {request.room} more tokens "
            f"in front of the request, got {added}; ask request.length(text), and stay within request.room"
        )


def _rows(rows: Any, request: Request) -> str:
    width = request.services.llm.model.embedding_width
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != width or rows.dtype != np.float32:
        got = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else f"{rows!r:.80}"
        return f"expected float32 rows (k, {width}), got {got}"
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        return f"expected finite numbers, got NaN or infinity in row {int(np.argmin(finite))}"
    return "" if rows.flags.c_contiguous else "expected a contiguous array, got a view; use numpy.ascontiguousarray"


def _text_fault(check: Callable[[object, str], str], text: object) -> str:
    try:
        check(text, "the text")
    except TextError as error:
        return str(error)
    return ""


def _prompt(prompt: Any, request: Request) -> str:
    if not isinstance(prompt, Prompt) or not len(prompt):
        return f"expected a Prompt of one or more positions, got {prompt!r:.80}"
    most = request.services.llm.model.vocabulary_size
    for span in prompt.spans:
        if isinstance(span, np.ndarray):
            if fault := _rows(span, request):
                return fault
        else:
            bad = [token for token in span if not isinstance(token, Integral) or not 0 <= token < most]
            if bad:
                return f"expected token ids from 0 to {most - 1}, got {bad[0]!r:.80}"
    return ""


def _adapter(adapter: Any, request: Request) -> str:
    if not isinstance(adapter, str) or not adapter:
        return f"expected a path, or a name that was given to LLM.add_adapter, as a str, got {adapter!r:.80}"
    if fault := _text_fault(check_unicode, adapter):
        return fault
    try:
        # Only the engine knows the names. It looks for the adapter, then refuses the empty continuation, at once: it
        # waits for no decode.
        request.services.llm.engine.score(Prompt.tokens([0]), [[]], RequestOptions(adapter=adapter))
    except AdapterError as error:
        return str(error)
    except PromptError:
        pass
    return ""


def _sampling(hints: Any, request: Request) -> str:
    if not isinstance(hints, Mapping):
        return f"expected fields of Sampling with their values, got {hints!r:.80}"
    return next((fault for name, value in hints.items() if (fault := hint_fault(name, value))), "")


def _votes(votes: Any, request: Request) -> str:
    if not isinstance(votes, Mapping):
        return f"expected labels with their weights, got {votes!r:.80}"
    for label, weight in votes.items():
        if not isinstance(label, str):
            return f"expected a str as a label, got {label!r:.80}"
        if not isinstance(weight, Real) or not 0 <= float(weight) < inf:
            return f"expected a finite number, 0 or more, as the weight of {label!r:.80}, got {weight!r:.80}"
    return ""


def _keeps(keeps: Any, request: Request) -> str:
    known = get_args(Kind)
    if not isinstance(keeps, Set):
        return f"expected a frozenset of {', '.join(known)}, got {keeps!r:.80}"
    unknown = [kind for kind in keeps if kind not in known]
    return f"expected some of {', '.join(known)}, got {unknown[0]!r:.80}" if unknown else ""


def _amount(amount: Any, request: Request) -> str:
    good = isinstance(amount, Real) and 0 <= float(amount) < inf
    return "" if good else f"expected a finite number, 0 or more, got {amount!r:.80}"


_FAULTS: dict[str, Callable[[Any, Request], str]] = {
    "persona": _rows,
    "front": lambda front, request: _text_fault(check_unicode, front),
    "text": lambda text, request: _text_fault(check_text, text),
    "prompt": _prompt,
    "adapter": _adapter,
    "sampling": _sampling,
    "votes": _votes,
    "keeps": _keeps,
    "bytes_kept": _amount,
    "training_seconds": _amount,
}
"""By field, what tells a fault of its value; "" for none."""
