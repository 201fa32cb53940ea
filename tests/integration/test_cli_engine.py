"""The command line with the real engine, encoders and store, on a tiny random bundle."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cli_run import Run
from models.onnx_models import make_bundle


@pytest.fixture(scope="module")
def bundle(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random")


@pytest.fixture
def run(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(bundle, tmp_path / "history.sqlite3", capsys)


def test_remember_then_generate_choose_explain_edit_forget(run: Run) -> None:
    assert run("remember", "anna", "a goal in extra time", "--output", "sports")[1] == "stored 1 new for anna\n"
    assert "1 already there" in run("remember", "anna", "a goal in extra time", "--output", "sports")[1]
    assert run("remember", "anna", "the vote was late", "--output", "politics")[0] == 0
    reply = json.loads(run("generate", "hello", "--user", "anna", "--json", "--max-tokens", "4", "--ignore-end")[1])
    assert (len(reply["tokens"]), reply["finish_reason"], len(reply["attribution"])) == (4, "length", 2)
    assert sum(row["weight"] for row in reply["attribution"]) == pytest.approx(1, abs=1e-3)
    streamed = run("generate", "hello", "--user", "anna", "--max-tokens", "4", "--ignore-end")
    assert streamed == (0, reply["text"] + "\n", "")
    chosen = json.loads(run("generate", "hello", "--user", "anna", "--labels", "sports,politics", "--json")[1])
    assert set(chosen["labels"]) == {"sports", "politics"} and chosen["label"] in chosen["labels"]
    why = json.loads(run("explain", "hello", "--user", "anna", "--json")[1])["attribution"]
    assert [row["item"] for row in why] == [row["item"] for row in reply["attribution"]]
    assert run("history", "edit", "anna", str(why[0]["item"]), "--text", "another text")[0] == 0
    assert "another text" in run("history", "list", "anna")[1]
    assert run("forget", "anna", "--item", str(why[0]["item"]), "--yes")[0] == 0
    assert json.loads(run("users", "--json")[1]) == [{"user": "anna", "items": 1}]


def test_personas_differ_and_a_seed_repeats(run: Run) -> None:
    run("remember", "anna", "a goal in extra time", "--output", "sports")
    run("remember", "anna", "the vote was late", "--output", "politics")
    scored = [
        json.loads(run("generate", "hello", "--user", "anna", "--persona", mode, "--labels", "a,b", "--json")[1])[
            "labels"
        ]
        for mode in ("query", "static", "off")
    ]
    assert scored[0] != scored[1] and scored[1] != scored[2] and scored[0] != scored[2]
    drawn = ["generate", "hello", "--temperature", "1", "--seed", "5", "--max-tokens", "6", "--ignore-end"]
    assert run(*drawn)[1] == run(*drawn)[1]


def test_another_bundle_embeds_the_history_and_says_so(run: Run, tiny_gguf: Path, tmp_path: Path) -> None:
    run("remember", "anna", "a goal in extra time", "--output", "sports")
    run("remember", "ben", "the vote was late")
    other = make_bundle(tmp_path / "other", llm_file=tiny_gguf, name="other", width=8)
    ask = ("generate", "hello", "--user", "anna", "--max-tokens", "2", "--bundle", str(other))
    assert run(*ask, "--persona", "off")[2] == ""
    assert run(*ask, "--persona", "static")[2] == "personaplug: embedded 1 items of 'anna' for the bundle 'other'\n"
    assert run(*ask)[2] == "" and run(*ask[:-2])[2] == ""


def test_a_grammar_file_is_followed(run: Run, tmp_path: Path) -> None:
    run.with_empty_store()
    (tmp_path / "answer.gbnf").write_text('root ::= "yes" | "no"', encoding="utf-8")
    assert run("generate", "hello", "--grammar", str(tmp_path / "answer.gbnf"))[1] in ("yes\n", "no\n")
    (tmp_path / "broken.gbnf").write_text('root ::= "yes', encoding="utf-8")
    code, out, err = run("generate", "hello", "--grammar", str(tmp_path / "broken.gbnf"))
    assert code == 1 and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("wrong", [["--top-p", "7"], ["--temperature", "-1"], ["--seed", "-5"]])
def test_wrong_sampling_is_wrong_usage(run: Run, wrong: list[str]) -> None:
    code, _, err = run("generate", "hello", *wrong)
    assert code == 2 and wrong[0] in err and "Traceback" not in err


def test_what_the_engine_refuses_of_the_options_is_wrong_usage(run: Run) -> None:
    code, _, err = run.with_empty_store()("generate", "hello", "--top-p", "0")
    assert code == 2 and err.startswith("personaplug: error: ") and err.count("\n") == 1


def test_a_prompt_that_does_not_fit_is_one_line(run: Run) -> None:
    run.with_empty_store()
    code, _, err = run("generate", "word " * 2000)
    assert code == 1 and err.startswith("personaplug: error: ") and err.count("\n") == 1


def test_chat_learns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nhello again\n/why\n"))
    code, out, err = run("chat", "--user", "anna", "--learn", "--max-tokens", "4")
    assert code == 0 and "hello" in out and "chat model" not in err
    assert json.loads(run("users", "--json")[1]) == [{"user": "anna", "items": 2}]


def test_demo_runs_on_any_bundle(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("demo", "--json", "--png", str(tmp_path / "demo.png"))
    report = json.loads(out)
    assert code == 0 and report["bundle"] == "random" and (tmp_path / "demo.png").exists()
    assert all(len(row["ruth"]["weighed"]) == 3 for row in report["answers"])
    assert report["first_token_with"] > 0
    assert not (tmp_path / "history.sqlite3").exists()


def test_info_names_the_bundle(run: Run, bundle: Path) -> None:
    facts = json.loads(run("info", "--json")[1])
    assert facts["bundle"]["name"] == "random" and facts["bundle"]["folder"] == str(bundle)
    assert facts["llama_cpp"]["devices"] and facts["onnxruntime"]["execution_providers"]
