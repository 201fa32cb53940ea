"""PersonaPlug with the real engine, encoders and store, on a tiny random bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.onnx_models import make_bundle
from personaplug_edge import Beams, NewItem, PersonaPlug, Sampling
from personaplug_edge.errors import ContextFullError, PromptError, StoreError, TextError, UnknownItemError

REQUEST = "hello there"
SPORT = [("a goal in extra time", "sports"), ("the coach left the club", "sports")]
NEWS = [("the vote was late", "politics"), ("the senate met again", "politics")]
SHORT = Sampling(max_tokens=6, ignore_end=True)


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random", tokens=2)


@pytest.fixture
def plug(folder: Path) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(folder, threads=1) as plug:
        yield plug


def test_layout_is_start_instruction_persona_request(plug: PersonaPlug) -> None:
    plug.user("anna").remember_all(SPORT)
    made = plug.personalize(REQUEST, user="anna")
    start, instruction, persona, request = made.prompt.spans
    assert start == [plug.llm.model.bos]
    np.testing.assert_array_equal(instruction, plug.embedder.instruction)
    np.testing.assert_array_equal(persona, made.persona)
    assert persona.shape == (2, 64)
    assert (
        plug.llm.detokenize(request).strip() == plug.bundle.manifest.prompt.template.replace("{input}", REQUEST).strip()
    )


def test_persona_is_attention_over_what_was_remembered(plug: PersonaPlug) -> None:
    plug.user("anna").remember_all(SPORT + NEWS)
    made = plug.personalize(REQUEST, user="anna")
    vectors = plug.embedder.behavior([plug.embedder.item_text(t, o) for t, o in SPORT + NEWS]).astype(np.float16)
    projections = plug.embedder.project(
        plug.embedder.behavior([plug.embedder.item_text(t, o) for t, o in SPORT + NEWS])
    )
    expected = plug.embedder.aggregate(
        plug.embedder.query(REQUEST), vectors.astype(np.float32), projections.astype(np.float16).astype(np.float32)
    )
    np.testing.assert_allclose(made.persona, expected.persona, rtol=1e-5)
    by_text = {a.item.text: a.weight for a in made.attribution}
    assert [by_text[t] for t, _ in SPORT + NEWS] == pytest.approx(expected.weights.tolist(), rel=1e-5)
    assert sum(by_text.values()) == pytest.approx(1.0, abs=1e-5)
    every = plug.weights(REQUEST, "anna")  # the same, oldest first
    assert [a.item.text for a in every] == [text for text, _ in SPORT + NEWS]
    assert [a.weight for a in every] == pytest.approx(expected.weights.tolist(), rel=1e-5)
    inline = plug.weights(REQUEST, "nobody", history=[NewItem(*pair) for pair in SPORT + NEWS])
    assert [a.item.text for a in inline] == [a.item.text for a in every]
    assert plug.weights(REQUEST, "nobody") == ()


def test_static_is_the_mean_and_the_same_for_every_request(plug: PersonaPlug) -> None:
    anna = plug.user("anna")
    anna.remember_all(SPORT + NEWS)
    one = plug.personalize("hello", user=anna, persona="static")
    two = plug.personalize("something else", user=anna, persona="static")
    np.testing.assert_array_equal(one.persona, two.persona)
    np.testing.assert_array_equal(one.persona, anna.persona())
    items = [NewItem(*pair) for pair in SPORT + NEWS]
    inline = plug.personalize("hello", history=items, persona="static")
    np.testing.assert_allclose(one.persona, inline.persona, rtol=2e-3, atol=1e-4)  # inline is not rounded to float16


def test_users_differ_and_nobody_else_reads_a_history(plug: PersonaPlug) -> None:
    plug.user("anna").remember_all(SPORT)
    plug.user("ben").remember_all(NEWS)
    personas = [plug.personalize(REQUEST, user=user).persona for user in ("anna", "ben", "nobody")]
    assert not np.allclose(personas[0], personas[1])
    np.testing.assert_array_equal(personas[2], plug.embedder.cold_start)
    seen = {a.item.text for a in plug.explain(REQUEST, "ben")}
    assert seen == {text for text, _ in NEWS}


def test_off_and_cold_start(plug: PersonaPlug) -> None:
    off = plug.personalize(REQUEST, user="anna", persona="off")
    assert off.persona is None and len(off.prompt.spans) == 3
    bare = plug.personalize(REQUEST, persona="off", instruction=False)
    assert all(isinstance(span, list) for span in bare.prompt.spans)
    for mode in ("query", "static"):
        cold = plug.personalize(REQUEST, user="unknown", persona=mode)
        assert cold.cold_start and cold.attribution == ()
        np.testing.assert_array_equal(cold.persona, plug.embedder.cold_start)
    assert plug.personalize(REQUEST).cold_start


def test_generate_stream_score_and_choose_agree(plug: PersonaPlug) -> None:
    plug.user("anna").remember_all(SPORT)
    reply = plug.generate(REQUEST, user="anna", sampling=SHORT)
    assert len(reply.tokens) == 6 and reply.finish_reason == "length" and reply.attribution
    assert "".join(chunk.text for chunk in plug.stream(REQUEST, user="anna", sampling=SHORT)) == reply.text
    choice = plug.choose(REQUEST, ["yes", "no", "maybe"], user="anna")
    scores = [plug.score(REQUEST, label, user="anna").logprob for label in choice.labels]
    assert choice.logprobs == pytest.approx(scores, abs=1e-3)
    assert choice.label == choice.labels[int(np.argmax(scores))]
    assert sum(choice.probabilities) == pytest.approx(1.0)


def test_a_reply_has_the_log_probabilities_that_were_asked_for(plug: PersonaPlug) -> None:
    reply = plug.generate(REQUEST, sampling=Sampling(max_tokens=4, ignore_end=True, logprobs=3))
    assert len(reply.logprobs) == len(reply.top) == len(reply.tokens) == 4
    for token, logprob, top in zip(reply.tokens, reply.logprobs, reply.top, strict=True):
        assert len(top) == 3 and [value for _, value in top] == sorted((value for _, value in top), reverse=True)
        assert dict(top).get(token, logprob) == pytest.approx(logprob) and logprob <= top[0][1]
    plain = plug.generate(REQUEST, sampling=SHORT)
    assert plain.logprobs == () and plain.top == ()


def test_an_answer_follows_a_grammar_and_ends_before_a_stop_string(plug: PersonaPlug) -> None:
    grammar = 'root ::= "yes" | "no"'
    assert plug.generate(REQUEST, sampling=Sampling(max_tokens=8, grammar=grammar)).text in ("yes", "no")
    whole = plug.generate(REQUEST, sampling=Sampling(max_tokens=8, grammar='root ::= "one two three"'))
    cut = plug.generate(REQUEST, sampling=Sampling(max_tokens=8, grammar='root ::= "one two three"', stop=("e tw",)))
    assert whole.text.startswith("one") and (cut.text, cut.finish_reason) == ("on", "stop")


def test_answers_are_scored_with_their_end(plug: PersonaPlug) -> None:
    score = plug.score(REQUEST, "yes")
    assert score.tokens[-1] == plug.llm.model.eos
    assert plug.llm.detokenize(score.tokens[:-1]).strip() == "yes"
    assert score.logprob == pytest.approx(sum(score.token_logprobs))


def test_forgetting_brings_back_the_former_answer_exactly(plug: PersonaPlug) -> None:
    anna = plug.user("anna")
    anna.remember_all(SPORT)
    before = {mode: plug.personalize(REQUEST, user=anna, persona=mode).persona for mode in ("query", "static")}
    added = anna.remember_all(NEWS)
    assert not np.array_equal(before["query"], plug.personalize(REQUEST, user=anna).persona)
    for item_id in added.ids:
        anna.forget(item_id)
    for mode, rows in before.items():
        np.testing.assert_array_equal(rows, plug.personalize(REQUEST, user=anna, persona=mode).persona)
    with pytest.raises(UnknownItemError):
        anna.forget(added.ids[0])


def test_editing_gives_what_remembering_the_new_text_gives(plug: PersonaPlug) -> None:
    anna, ben = plug.user("anna"), plug.user("ben")
    item = anna.remember("the vote was late", output="politics")
    anna.edit(item, text="a goal in extra time", output="sports")
    ben.remember("a goal in extra time", output="sports")
    np.testing.assert_array_equal(anna.persona(REQUEST), ben.persona(REQUEST))
    np.testing.assert_array_equal(anna.persona(), ben.persona())


def test_an_edit_does_not_bring_back_what_another_removed(plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = plug.user("anna")
    item = anna.remember("old secret", output="politics")
    encode, edits = plug.embedder.behavior, ["new text"]

    def encode_slowly(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = encode(texts)
        if edits:
            anna.edit(item, text=edits.pop())  # by another thread, while this one encodes
        return vectors

    monkeypatch.setattr(plug.embedder, "behavior", encode_slowly)
    anna.edit(item, output="sports")
    (found,) = anna.history()
    assert (found.text, found.output) == ("new text", "sports")


def test_erase_leaves_a_stranger(plug: PersonaPlug) -> None:
    anna = plug.user("anna")
    anna.remember_all(SPORT)
    anna.persona(REQUEST)
    anna.erase()
    assert len(anna) == 0
    np.testing.assert_array_equal(anna.persona(REQUEST), plug.embedder.cold_start)


def test_duplicates_keep_their_id_and_are_not_encoded_again(plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = plug.user("anna")
    first = anna.remember_all(SPORT)
    encoded: list[str] = []
    behavior = plug.embedder.behavior
    monkeypatch.setattr(plug.embedder, "behavior", lambda texts: (encoded.extend(texts), behavior(texts))[1])
    again = anna.remember_all([SPORT[0], NEWS[0], SPORT[1]])
    assert again.new == [False, True, False]
    assert (again.ids[0], again.ids[2]) == tuple(first.ids)
    assert encoded == [plug.embedder.item_text(*NEWS[0])]
    assert anna.remember_all(SPORT).ids == first.ids


def test_a_store_outlives_the_process_and_serves_another_bundle(folder: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    store = tmp_path / "history.db"
    with PersonaPlug.load(folder, store=store, threads=1) as plug:
        plug.user("anna").remember_all(SPORT)
        before = plug.user("anna").persona(REQUEST)
    with PersonaPlug.load(folder, store=store, threads=1) as plug:
        np.testing.assert_array_equal(before, plug.user("anna").persona(REQUEST))
    other = make_bundle(tmp_path / "other", llm_file=tiny_gguf, name="other", tokens=1, width=8)
    with PersonaPlug.load(other, store=store, threads=1) as plug:
        assert plug.user("anna").persona(REQUEST).shape == (1, 64)  # embedded anew on the way
        assert plug.reembed() == 0
        assert len(plug.explain(REQUEST, "anna")) == 2
    with PersonaPlug.load(folder, store=store, threads=1) as plug:
        np.testing.assert_array_equal(before, plug.user("anna").persona(REQUEST))


def test_reembedding_reports_progress(folder: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    store = tmp_path / "history.db"
    with PersonaPlug.load(folder, store=store, threads=1) as plug:
        plug.user("anna").remember_all([f"text number {i}" for i in range(70)])
    other = make_bundle(tmp_path / "other", llm_file=tiny_gguf, name="other", width=8)
    with PersonaPlug.load(other, store=store, threads=1) as plug:
        done: list[int] = []
        assert plug.reembed(progress=done.append) == 70
        assert done == [64, 70]


def test_bad_requests_are_named_and_change_nothing(plug: PersonaPlug) -> None:
    anna = plug.user("anna")
    for text in ("", "  \n", "a\x00b", "\ud800"):
        with pytest.raises(TextError):
            anna.remember(text)
        with pytest.raises(TextError):
            plug.generate(text or " ", sampling=SHORT)
    assert len(anna) == 0
    with pytest.raises(PromptError, match="persona"):
        plug.generate(REQUEST, persona="sometimes")  # type: ignore[arg-type]
    for labels in ([], ["a", "a"], None, 5, iter(["a", "b"])):
        with pytest.raises(PromptError, match="labels"):
            plug.choose(REQUEST, labels)
    with pytest.raises(TextError):
        plug.choose(REQUEST, ["yes", " "])
    for history in (5, iter([NewItem("a")]), {NewItem("a")}):
        with pytest.raises(TextError, match="a list of NewItem"):
            plug.generate(REQUEST, history=history)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="limit"):
        anna.history(limit=-1)
    with pytest.raises(TextError, match="seconds since 1970"):
        anna.remember("long ago", time=-(10**30))
    anna.remember("long ago", time=-(10**10))
    assert [item.time for item in anna.history(limit=1 << 70)] == [-1e10]
    with pytest.raises(ContextFullError):
        plug.generate("word " * 3000, sampling=SHORT)
    assert plug.personalize("word " * 3000, cut=True).prompt.spans[-1] is not None
    assert plug.generate(REQUEST, sampling=SHORT).finish_reason == "length"


def test_a_cut_request_keeps_the_template(plug: PersonaPlug) -> None:
    limit = plug.bundle.manifest.prompt.max_input_tokens
    ids = plug.personalize("word " * 3000, persona="off", cut=True).prompt.spans[-1]
    assert isinstance(ids, list) and limit // 2 < len(ids) <= limit
    tail = plug.bundle.manifest.prompt.template.partition("{input}")[2]
    assert plug.llm.detokenize(ids).endswith(tail)


def test_an_answer_begins_without_the_space_that_parts_it_from_the_request(plug: PersonaPlug) -> None:
    (space,) = plug.llm.tokenize("x ")[len(plug.llm.tokenize("x")) :]
    forced = Sampling(max_tokens=3, ignore_end=True, logit_bias={space: 1e4})
    assert plug.llm.generate(plug.personalize(REQUEST).prompt, forced).text == "   "
    assert plug.generate(REQUEST, sampling=forced).text == "  "
    assert "".join(chunk.text for chunk in plug.stream(REQUEST, sampling=forced)) == "  "


def test_beams_find_an_answer_at_least_as_likely_as_the_greedy_one(plug: PersonaPlug) -> None:
    plug.user("anna").remember_all(SPORT)
    found = plug.beam_search(REQUEST, Beams(beams=4, returned=4, max_tokens=6), user="anna")
    scores = [each.score for each in found]
    assert len(found) == 4 and scores == sorted(scores, reverse=True)
    request = plug.personalize(REQUEST, user="anna")
    greedy = plug.llm.generate(request.prompt, Sampling(max_tokens=6))
    (one,) = plug.beam_search(REQUEST, Beams(beams=1, max_tokens=6), user="anna")
    assert (
        one.tokens == greedy.tokens
        and one.text == plug.generate(REQUEST, user="anna", sampling=Sampling(max_tokens=6)).text
    )
    assert found[0].score >= one.score - 1e-3
