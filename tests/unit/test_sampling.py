"""What each sampling option does, against numpy; and that wrong ones are refused with their name."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import numpy_llama
from models.gguf_llama import TinyModel
from personaplug_edge.engine import LLM
from personaplug_edge.errors import GrammarError, PromptError, SamplingError
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling

IDS = [1, 300, 270, 264, 401, 333]
PROMPT = Prompt.tokens(IDS)


@pytest.fixture(scope="module")
def last(tiny: TinyModel) -> np.ndarray:
    """Logits after the prompt."""
    return numpy_llama.logits(tiny, numpy_llama.rows(tiny, IDS))[-1]


def draws(llm: LLM, count: int = 300, **options: object) -> Counter[int]:
    sampling = [Sampling(max_tokens=1, temperature=1.0, seed=i, ignore_end=True, **options) for i in range(count)]  # type: ignore[arg-type]
    return Counter(answer.tokens[0] for answer in llm.generate_all([PROMPT] * count, sampling))


def test_a_seed_repeats_and_another_differs(llm: LLM) -> None:
    def answer(seed: int | None) -> list[int]:
        return llm.generate(PROMPT, Sampling(max_tokens=20, temperature=1.5, seed=seed, ignore_end=True)).tokens

    assert answer(5) == answer(5)
    assert answer(5) != answer(6)
    assert answer(None) != answer(None)


def test_draws_follow_the_softmax(llm: LLM, last: np.ndarray) -> None:
    found = draws(llm, 600)
    probabilities = numpy_llama.softmax(last)
    for token in np.argsort(-probabilities)[:3]:
        deviation = math.sqrt(probabilities[token] * (1 - probabilities[token]) / 600)
        assert abs(found[int(token)] / 600 - probabilities[token]) < 4 * deviation


def test_temperature_sharpens(llm: LLM, last: np.ndarray) -> None:
    assert set(draws(llm, 100, top_k=0)) != {int(last.argmax())}
    cold = [Sampling(max_tokens=1, temperature=0.01, seed=i) for i in range(50)]
    assert {a.tokens[0] for a in llm.generate_all([PROMPT] * 50, cold)} == {int(last.argmax())}


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-20, 1e-7, 1.1e-6, 1e-3])
@pytest.mark.parametrize("options", [{}, {"logit_bias": {7: 1e6}}, {"presence_penalty": -1e6}, {"top_p": 0.9}])
def test_tiny_temperatures_are_greedy(llm: LLM, temperature: float, options: dict[str, Any]) -> None:
    expected = llm.generate(PROMPT, Sampling(max_tokens=4, ignore_end=True, **options)).tokens
    cold = Sampling(max_tokens=4, temperature=temperature, seed=3, ignore_end=True, **options)
    assert llm.generate(PROMPT, cold).tokens == expected


def test_top_k(llm: LLM, last: np.ndarray) -> None:
    found = draws(llm, top_k=3)
    assert set(found) == set(np.argsort(-last)[:3].tolist())


def test_top_p(llm: LLM, last: np.ndarray) -> None:
    order = np.argsort(-last)
    kept = int(np.searchsorted(np.cumsum(numpy_llama.softmax(last)[order]), 0.4)) + 1
    assert set(draws(llm, top_p=0.4)) <= set(order[:kept].tolist())
    assert len(draws(llm, top_p=0.4)) > 1


def test_min_p(llm: LLM, last: np.ndarray) -> None:
    probabilities = numpy_llama.softmax(last)
    assert set(draws(llm, min_p=0.3)) <= set(np.flatnonzero(probabilities >= 0.3 * probabilities.max()).tolist())


def test_logit_bias(llm: LLM, last: np.ndarray) -> None:
    best, second = np.argsort(-last)[:2].tolist()
    assert llm.generate(PROMPT, Sampling(max_tokens=1, logit_bias={best: -math.inf})).tokens == [second]
    assert llm.generate(PROMPT, Sampling(max_tokens=1, logit_bias={7: 1e6})).tokens == [7]


def test_a_bias_against_everything_ends_the_answer(llm: LLM) -> None:
    answer = llm.generate(PROMPT, Sampling(max_tokens=3, logit_bias={i: -math.inf for i in range(512)}))
    assert (answer.tokens, answer.finish_reason) == ([], "end")


@pytest.mark.parametrize("option", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_penalties_see_prompt_and_answer(llm: LLM, tiny: TinyModel, option: str) -> None:
    """A large penalty: no token of the prompt, and none twice."""
    options = {option: 1e5}
    answer = llm.generate(PROMPT, Sampling(max_tokens=30, ignore_end=True, **options))  # type: ignore[arg-type]
    assert len(set(answer.tokens)) == 30
    assert not set(answer.tokens) & set(IDS)


def test_penalties_look_back_on_their_window(llm: LLM, last: np.ndarray) -> None:
    order = [int(i) for i in np.argsort(-last)]
    prompt = Prompt.tokens([order[0], *IDS])
    wide = llm.generate(
        prompt, Sampling(max_tokens=1, presence_penalty=1e5, penalty_window=7, logit_bias={order[0]: 1e3})
    )
    narrow = llm.generate(
        prompt, Sampling(max_tokens=1, presence_penalty=1e5, penalty_window=6, logit_bias={order[0]: 1e3})
    )
    assert wide.tokens != [order[0]]
    assert narrow.tokens == [order[0]]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_looking_back_on_everything_costs_no_more_than_everything(tiny: TinyModel) -> None:
    """Queued requests, too; a window of 2**20 tokens would be 4 MB for each."""
    sampling = Sampling(max_tokens=5, presence_penalty=0.1, penalty_window=-1)
    with LLM.load(tiny.path, threads=1, sequences=1) as llm:
        llm.generate(PROMPT, sampling)
        before = resident()
        hold = llm.thread.hold()
        running = llm.submit_samples(PROMPT, sampling, 100)
        assert resident() - before < 50 << 20
        del hold
        assert all(len(one.result().tokens) <= 5 for one in running)


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("window", [-1, 2**20])
def test_a_window_of_all_looks_back_on_all(llm: LLM, window: int) -> None:
    options = {"presence_penalty": 1e5, "ignore_end": True}
    answer = llm.generate(PROMPT, Sampling(max_tokens=200, penalty_window=window, **options))  # type: ignore[arg-type]
    assert len({*IDS, *answer.tokens}) == len(IDS) + 200


def test_logprobs_are_the_models_own(llm: LLM, last: np.ndarray) -> None:
    """Before temperature, bias and penalties."""
    sampling = Sampling(max_tokens=1, temperature=2.0, seed=1, logit_bias={9: 1e6}, logprobs=4)
    answer = llm.generate(PROMPT, sampling)
    logs = numpy_llama.log_softmax(last)
    assert answer.tokens == [9]
    np.testing.assert_allclose(answer.logprobs, [logs[9]], atol=1e-3)
    assert answer.top is not None
    best = np.argsort(-logs)[:4]
    assert [token for token, _ in answer.top[0]] == best.tolist()
    np.testing.assert_allclose([value for _, value in answer.top[0]], logs[best], atol=1e-3)


def test_logprobs_are_not_computed_unasked(llm: LLM) -> None:
    answer = llm.generate(PROMPT, Sampling(max_tokens=2))
    assert (answer.logprobs, answer.top) == ([], None)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_grammar(llm: LLM, temperature: float) -> None:
    grammar = 'root ::= ("yes" | "no") " " [0-9] [0-9]'
    for seed in range(10):
        answer = llm.generate(PROMPT, Sampling(grammar=grammar, temperature=temperature, seed=seed))
        word, number = answer.text.split(" ")
        assert word in ("yes", "no") and len(number) == 2 and number.isdigit()
        assert answer.finish_reason == "end"


def test_grammar_with_ignored_end_still_ends(llm: LLM) -> None:
    answer = llm.generate(PROMPT, Sampling(grammar='root ::= "ab"', ignore_end=True))
    assert (answer.text, answer.finish_reason) == ("ab", "end")


def test_a_grammar_that_no_token_can_follow(llm: LLM) -> None:
    bias = {i: -math.inf for i in range(3, 512)}
    answer = llm.generate(PROMPT, Sampling(grammar='root ::= "ab"', logit_bias=bias))
    assert (answer.text, answer.finish_reason) == ("", "end")


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= (",
        "root ::= undefined",
        'other ::= "a"',
        "root ::= root",
        'root ::= "a" {3,2',
        "\x01",
        "root ::= " + "(" * 100_000,
        "root ::= " + "x" * 300_000,
        'root ::= "\\x"',
        "root ::= [",
        'root ::= "a"{999999999}',
        'root ::= "\0"',
        'root ::= "a" # "\nx ::= ' + "(" * 200_000,
        "root ::= [#]\nx ::= " + "(" * 200_000,
        'root ::= "a"{3,2}',
        'root ::= ""*',
        "root ::= *",
        'root ::= "a" ) "b"',
    ],
    ids=lambda grammar: grammar[:30],
)
def test_grammars_that_do_not_parse(llm: LLM, grammar: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GrammarError):
        llm.generate(PROMPT, Sampling(grammar=grammar))
    assert llm.engine.live == 0
    assert "parsing grammar" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ('root ::= "secret"\nx ::= (', "line 2, column 8: expected a closing parenthesis"),
        ('root ::= "a"\n  | other', "line 2, column 3: expected the name"),
        ('root ::= "a" other', "line 1, column 14: there is no rule named other"),
        ('rot ::= "a"', "rule named root"),
        (r'root ::= "\d"', r"line 1, column 11: an escape"),
    ],
)
def test_where_a_grammar_is_wrong_is_said(llm: LLM, grammar: str, says: str) -> None:
    with pytest.raises(GrammarError, match=says):
        llm.generate(PROMPT, Sampling(grammar=grammar))


def test_comments_of_grammars_may_hold_anything(llm: LLM) -> None:
    grammar = '# "[(\nroot ::= # ' + "(" * 70 + '\n  "a" # ]"\n'
    assert llm.generate(PROMPT, Sampling(grammar=grammar)).text == "a"


@pytest.mark.parametrize("repeats", ["{1000}", "{0,1000}", "+{1000}", "{30}{30}"])
def test_a_grammar_that_would_be_unfolded_to_gigabytes_is_refused_at_once(llm: LLM, repeats: str) -> None:
    begun = time.monotonic()
    with pytest.raises(GrammarError, match="more than 1000000 characters"):
        llm.generate(PROMPT, Sampling(grammar='root ::= "' + "a" * 100_000 + '"' + repeats))
    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2**40),
        ("max_tokens", 1.5),
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", 1.0),
        ("min_p", math.nan),
        ("repetition_penalty", 0.0),
        ("presence_penalty", math.inf),
        ("frequency_penalty", math.nan),
        ("frequency_penalty", 1.1e6),
        ("presence_penalty", -1.1e6),
        ("repetition_penalty", 1.1e6),
        ("repetition_penalty", 1e-7),
        ("logit_bias", {3: 3e38}),
        ("logit_bias", {3: -1.1e6}),
        ("penalty_window", -2),
        ("logprobs", -1),
        ("logprobs", 513),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 2**32 - 1),
        ("logit_bias", {512: 1.0}),
        ("logit_bias", {3: math.nan}),
        ("logit_bias", {3: math.inf}),
        ("stop", ("",)),
        ("stop", "ab"),
        ("stop", ("\ud800",)),
        ("grammar", None),
    ],
)
def test_wrong_options_are_refused_by_name(llm: LLM, option: str, value: object) -> None:
    with pytest.raises(SamplingError, match=option.replace("stop", "stop").split("_")[0]):
        llm.generate(PROMPT, Sampling(**{option: value}))  # type: ignore[arg-type]
    assert llm.engine.live == 0


def test_a_bias_of_something_else_than_a_token(llm: LLM) -> None:
    with pytest.raises((PromptError, SamplingError)):
        llm.generate(PROMPT, Sampling(logit_bias={"a": 1.0}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "sampling", [{"max_tokens": 3}, 5, Sampling(logit_bias=[1]), Sampling(logit_bias={7: "x"}), Sampling(stop=None)]
)  # type: ignore[arg-type]
def test_what_is_no_sampling(llm: LLM, sampling: Any) -> None:
    with pytest.raises(SamplingError, match=r"Sampling|logit_bias|stop"):
        llm.generate(PROMPT, sampling)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_what_is_no_number_of_samples(llm: LLM, count: Any) -> None:
    with pytest.raises(SamplingError, match="number of samples"):
        llm.submit_samples(PROMPT, Sampling(max_tokens=1), count)


JSON = r"""
root   ::= object  # as llama.cpp's own example words it
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    "grammar",
    [
        JSON,
        'root ::= item+\nitem ::= "- " [^\\n]+ "\\n"',
        'root ::= ("a"? "b"? "c"?)*',
        'root ::= "x"{0,1500}',
        "root ::= (" + " | ".join(f'"name {i}"' for i in range(2000)) + ")",
        "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(3000)) + 'r3000 ::= "a"',
    ],
    ids=["json", "list", "options", "repeat", "names", "chain"],
)
def test_usual_grammars_are_not_too_ambiguous(llm: LLM, grammar: str) -> None:
    assert llm.generate(PROMPT, Sampling(grammar=grammar, max_tokens=4)).tokens


def nested(depth: int) -> str:
    rules = [f"a{i} ::= a{i + 1}? a{i + 1}?" for i in range(depth)]
    return "\n".join(["root ::= a0 a0", *rules, f'a{depth} ::= "x"?'])


@pytest.mark.parametrize(
    "grammar",
    [
        nested(8),
        nested(40),
        'root ::= a{100}\na ::= b{100}\nb ::= "x"?',
        'root ::= ((("x"?){2000}){2000}){2000}',
        'root ::= e e\ne ::= e e | "x"?',
        "root ::= (" + '"a" | ' * 20_000 + '"b")*',
    ],
    ids=["nested", "deep", "repeats", "thrice", "left", "alike"],
)
def test_grammars_that_would_take_hours_are_refused(llm: LLM, grammar: str) -> None:
    with pytest.raises(GrammarError, match="too many ways"):
        llm.generate(PROMPT, Sampling(grammar=grammar, max_tokens=4))
