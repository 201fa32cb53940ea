"""The command line against a plug without an LLM: what is printed, where, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_cli_plug import FakePlug

from personaplug_edge import cli
from personaplug_edge.cli import session
from personaplug_edge.errors import BundleError
from personaplug_edge.store import HistoryStore


class Terminal:
    """Runs commands as the script does, with the fake plug in the place of the real one."""

    def __init__(self, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.patch, self.capsys = store, monkeypatch, capsys
        self.plugs: list[FakePlug] = []
        self.chunks: list[str | BaseException] = []
        self.settings: Any = None
        monkeypatch.setattr(session, "load_plug", self._load)
        monkeypatch.setenv("PERSONAPLUG_STORE", str(store))
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.delenv("PERSONAPLUG_BUNDLE", raising=False)

    def _load(self, settings: Any, store: Path | None) -> FakePlug:
        self.settings = settings
        self.plugs.append(FakePlug(store, self.chunks))
        return self.plugs[-1]

    def __call__(self, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
        if stdin is not None:
            self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        code = cli.main(arguments)
        output = self.capsys.readouterr()
        return code, output.out, output.err


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path / "history.sqlite3", monkeypatch, capsys)


def test_remember_reports_new_items_and_duplicates(run: Terminal) -> None:
    assert run("remember", "anna", "A goal in extra time", "--output", "sports")[1] == "stored 1 new for anna\n"
    code, out, _ = run("remember", "anna", "A goal in extra time", "--output", "sports")
    assert code == 0 and "stored 0 new" in out and "1 already there" in out


def test_remember_reads_a_file_and_standard_input(run: Terminal, tmp_path: Path) -> None:
    lines = '{"text": "one", "output": "a", "time": "2026-01-31T12:00Z"}\n\n"two"\n{"text": "one", "output": "a"}\n'
    (tmp_path / "items.jsonl").write_text(lines, encoding="utf-8")
    report = json.loads(run("remember", "anna", "--file", str(tmp_path / "items.jsonl"), "--json")[1])
    assert (report["stored"], report["duplicates"], len(report["ids"])) == (2, [3], 3)
    run("remember", "ben", "--file", "-", "--source", "mail", stdin='"three"\n')
    assert json.loads(run("history", "list", "ben", "--json")[1])[0]["source"] == "mail"
    first = json.loads(run("history", "list", "anna", "--oldest-first", "--json")[1])[0]
    assert first["time"] == 1769860800


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"text": ""}', "the text of a history item is empty"),
        ('{"text": "x", "titel": "y"}', "titel"),
        ('{"text": "x", "output": 3}', "the output of a history item"),
        ('{"text": "x", "time": "soon"}', "time: expected 2026-01-31T12:00"),
        ("[1]", "got list"),
        ("{", "line 2"),
        ('{"text": "\\ud800"}', "surrogate"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(run: Terminal, line: str, complaint: str) -> None:
    code, out, err = run("remember", "anna", "--file", "-", stdin=f'"fine"\n{line}\n')
    assert (code, out) == (1, "")
    assert err.startswith("personaplug: error: standard input, line 2") and complaint in err and err.count("\n") == 1
    assert not run.store.exists()


def test_wrong_usage_is_exit_code_2(run: Terminal) -> None:
    assert run("remember", "anna")[0] == 2
    assert run("remember", "anna", "text", "--file", "-")[0] == 2
    assert run("forget", "anna")[0] == 2
    assert run("history", "edit", "anna", "1")[0] == 2
    assert run("generate", "x", "--persona", "loud")[0] == 2
    assert run("generate", "x", "--labels", "one")[0] == 2
    assert "each once" in run("generate", "x", "--labels", "a,a")[2] and run("generate", "x", "--labels", "a,a")[0] == 2
    assert run("generate", "x", "--method", "no-such")[0] == 2
    assert run("chat", "--user", "anna", "--method", "vote")[0] == 2
    code, _, err = run("generate", "x", "--method", "vote")
    assert code == 2 and "give --labels" in " ".join(err.replace("\u2502", " ").split())
    assert run("batch", "rows.jsonl", "--output", "answers.csv")[0] == 2
    assert run("--threads", "600", "users")[0] == 2
    assert run("demo", "--persona", "off")[0] == 2 and "off" not in run("demo", "--help")[1]
    assert run("nonsense")[0] == 2


def test_history_lists_searches_edits_and_travels(run: Terminal, tmp_path: Path) -> None:
    for text in ("the Cup final", "a quiet garden"):
        run("remember", "anna", text, "--output", "note")
    assert "`personaplug history list` gives the whole history" in run("history", "search", "anna", "")[2]
    code, out, _ = run("history", "list", "anna", "--limit", "1")
    assert code == 0 and "a quiet garden" in out and "Cup" not in out and "1 of 2 items" in out
    found = json.loads(run("history", "search", "anna", "cup", "--json")[1])
    assert [item["text"] for item in found] == ["the Cup final"]
    assert run("history", "edit", "anna", str(found[0]["id"]), "--output", "sports")[0] == 0
    assert run("history", "export", "anna", str(tmp_path / "anna.jsonl"))[1].startswith("wrote 2 items")
    assert "stored 2 new for ben" in run("history", "import", "ben", str(tmp_path / "anna.jsonl"))[1]
    piped = run("history", "export", "anna")[1]
    assert "stored 2 new for cleo" in run("history", "import", "cleo", "-", stdin=piped)[1]
    outputs = [item["output"] for item in json.loads(run("history", "list", "cleo", "--json")[1])]
    assert sorted(outputs) == ["note", "sports"]
    assert json.loads(run("users", "--json")[1])[0] == {"user": "anna", "items": 2}


def test_users_who_differ_in_white_space_are_told_apart(run: Terminal) -> None:
    for user in ("anna", " anna", "anna\n"):
        run("remember", user, "a text")
    shown = run("users")[1].splitlines()
    assert sorted(row.split("  ")[0] for row in shown[1:]) == ["' anna'", "'anna\\n'", "anna"]


def test_forget_asks_and_erases(run: Terminal) -> None:
    for text in ("one", "two", "three"):
        run("remember", "anna", text)
    ids = [item["id"] for item in json.loads(run("history", "list", "anna", "--json")[1])]
    assert run("forget", "anna", "--all", stdin="n\n")[0] == 1
    assert len(json.loads(run("history", "list", "anna", "--json")[1])) == 3
    code, _, err = run("forget", "anna", "--item", str(ids[0]), "--item", "999", "--yes")
    assert code == 1 and "999" in err
    assert len(json.loads(run("history", "list", "anna", "--json")[1])) == 3
    assert run("forget", "anna", "--item", str(ids[0]), "--yes")[0] == 0
    assert run("forget", "anna", "--all", stdin="y\n")[0] == 0
    assert run("history", "list", "anna")[0] == 1
    assert run("forget", "anna", "--all", "--yes")[0] == 1


def test_a_missing_store_is_not_an_empty_one(run: Terminal) -> None:
    code, _, err = run("users")
    assert code == 1 and "no history store at" in err and not run.store.exists()


def test_generate_streams_with_the_bundles_sampling_and_what_was_given(run: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("personaplug_edge.sampling")
    (tmp_path / "yes.gbnf").write_text('root ::= "yes"', encoding="utf-8")
    run("remember", "anna", "a text")
    options = ["--persona", "static", "--top-p", "0.9", "--seed", "7", "--grammar", str(tmp_path / "yes.gbnf")]
    code, out, err = run("generate", "Hello", "--user", "anna", *options)
    assert (code, out, err) == (0, "anna (static): Hello\n", "")
    sampling = run.plugs[-1].samplings[-1]
    assert (sampling.max_tokens, sampling.stop, sampling.top_p, sampling.seed) == (48, ("\n",), 0.9, 7)
    assert sampling.grammar == 'root ::= "yes"'


def test_generate_reads_stdin_and_prints_json(run: Terminal) -> None:
    pytest.importorskip("personaplug_edge.sampling")
    run("remember", "anna", "a text", "--output", "x")
    reply = json.loads(run("generate", "-", "--user", "anna", "--json", stdin="Hello\n")[1])
    assert reply["prompt"] == "Hello" and reply["text"].endswith("Hello") and reply["persona"] == "query"
    assert reply["attribution"] == [{"item": 1, "weight": 1.0, "text": "a text", "output": "x", "time": None}]
    assert reply["timings"]["embed_seconds"] == 0.001


def test_generate_chooses_among_labels(run: Terminal) -> None:
    run("remember", "anna", "a goal", "--output", "sports")
    chosen = json.loads(run("generate", "a goal", "--user", "anna", "--labels", "politics, sports", "--json")[1])
    assert chosen["label"] == "sports"
    assert sum(label["probability"] for label in chosen["labels"].values()) == pytest.approx(1)
    out = run("generate", "a goal", "--user", "anna", "--labels", "politics,sports")[1]
    assert out.index("sports") < out.index("politics") and "73.1%" in out


def test_options_that_a_choice_or_a_search_would_drop_are_refused(run: Terminal, tmp_path: Path) -> None:
    (tmp_path / "yes.gbnf").write_text('root ::= "yes"', encoding="utf-8")
    code, out, err = run("generate", "x", "--beams", "2", "--grammar", str(tmp_path / "yes.gbnf"), "--top-p", "0.5")
    told = " ".join(err.replace("\u2502", " ").split())
    assert (code, out) == (2, "") and "beams take only --max-tokens and --stop; leave --top-p, --grammar out" in told
    assert run("generate", "x", "--beams", "2", "--ignore-end")[0] == 2
    for dropped in (["--temperature", "0"], ["--max-tokens", "4"], ["--stop", "a"], ["--seed", "0"]):
        code, _, err = run("generate", "x", "--labels", "a,b", *dropped)
        assert code == 2 and f"leave {dropped[0]} out" in " ".join(err.replace("\u2502", " ").split())
    assert not run.plugs


def test_a_user_without_history_is_told(run: Terminal) -> None:
    HistoryStore(run.store).close()
    code, _, err = run("generate", "x", "--user", "nobody-here", "--labels", "a,b")
    assert code == 0 and "'nobody-here' has no history in this store; the cold-start persona is used" in err
    code, _, err = run("generate", "x", "--user", "nobody-here", "--method", "bm25:2")
    assert code == 0 and err == "personaplug: user 'nobody-here' has no history in this store\n"
    assert "no history" not in run("generate", "x", "--user", "nobody-here", "--labels", "a,b", "--persona", "off")[2]


def test_explain_draws_bars(run: Terminal, tmp_path: Path) -> None:
    for text in ("goals and goals", "soup for two", "goals again"):
        run("remember", "anna", text, "--output", "note")
    code, out, _ = run("explain", "goals again", "--user", "anna", "--top", "2", "--png", str(tmp_path / "why.png"))
    assert code == 0 and out.index("goals again") < out.index("goals and goals")
    assert "█" * 12 in out and "and 1 more items with" in out and "soup" not in out
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(run("explain", "goals", "--user", "anna", "--json")[1])["attribution"]) == 3


def test_explain_draws_weights_over_time(run: Terminal, tmp_path: Path) -> None:
    for day, text in enumerate(("goals and goals", "soup for two", "goals again"), 1):
        run("remember", "anna", text, "--output", "note", "--time", f"2026-01-0{day}")
    picture = tmp_path / "when.png"
    code, out, err = run("explain", "goals again", "--user", "anna", "--timeline", str(picture), "--json")
    assert code == 0 and picture.read_bytes().startswith(b"\x89PNG")
    assert "half of the weight lies in the newest 1 of 3 items" in err
    assert {row["time"] for row in json.loads(out)["attribution"]} == {1767225600, 1767312000, 1767398400}
    same = str(picture.parent / "." / picture.name)
    assert run("explain", "goals", "--user", "anna", "--timeline", str(picture), "--png", same)[0] == 2
    run.patch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run("explain", "goals again", "--user", "anna", "--timeline", str(picture))
    assert code == 1 and "[plot]" in err


def test_stored_text_cannot_steer_the_terminal(run: Terminal) -> None:
    run("remember", "anna", "red \x1b[31m text [bold]kept[/bold]")
    out = run("history", "list", "anna")[1]
    assert "\x1b" not in out and "[bold]kept[/bold]" in out


def test_errors_are_one_line_and_debug_shows_the_traceback(run: Terminal) -> None:
    HistoryStore(run.store).close()

    def broken(settings: Any, store: Path | None) -> FakePlug:
        raise BundleError("no bundle 'x':\nexpected a folder")

    run.patch.setattr(session, "load_plug", broken)
    assert run("generate", "x") == (1, "", "personaplug: error: no bundle 'x': expected a folder\n")
    with pytest.raises(BundleError):
        run("--debug", "generate", "x")
    with pytest.raises(BundleError):
        run("generate", "x", "--debug")

    def bug(settings: Any, store: Path | None) -> FakePlug:
        raise ZeroDivisionError("oops")

    run.patch.setattr(session, "load_plug", bug)
    code, _, err = run("generate", "x")
    assert code == 1 and "unexpected ZeroDivisionError: oops" in err and "Traceback" not in err


def test_interruption_is_130_and_closes_the_stream(run: Terminal) -> None:
    HistoryStore(run.store).close()
    pytest.importorskip("personaplug_edge.sampling")
    run.chunks = ["half an ", KeyboardInterrupt()]
    code, out, err = run("generate", "x")
    assert (code, out) == (130, "half an ") and "interrupted" in err and "Traceback" not in err
    assert run.plugs[-1].closed_streams == 1


def test_a_broken_pipe_is_quiet(run: Terminal, tmp_path: Path) -> None:
    run("remember", "anna", "a text")
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w", encoding="utf-8") as pipe:
        run.patch.setattr(sys, "stdout", pipe)
        assert cli.main(["history", "export", "anna"]) in (0, 1)
        run.patch.undo()
    assert "Traceback" not in run.capsys.readouterr().err


def test_shared_options_stand_before_or_after_the_command(run: Terminal, tmp_path: Path) -> None:
    run("--threads", "3", "--bundle", "other", "remember", "anna", "a text")
    assert (run.settings.threads, run.settings.bundle) == (3, "other")
    run("remember", "anna", "a text", "--bundle", "third", "--store", str(tmp_path / "elsewhere.db"))
    assert run.settings.bundle == "third" and (tmp_path / "elsewhere.db").exists()
    run.patch.setenv("PERSONAPLUG_BUNDLE", "from-environment")
    run("remember", "anna", "a text")
    assert (run.settings.bundle, run.settings.store_path) == ("from-environment", run.store)


def test_info_tells_what_is_missing(run: Terminal) -> None:
    code, out, _ = run("info", "--json", "--bundle", "no-such-bundle")
    facts = json.loads(out)
    assert code == 0 and "no-such-bundle" in facts["bundle"]["error"] and facts["onnxruntime"]
    assert "no-such-bundle" in run("info", "--bundle", "no-such-bundle")[1].replace("\n", "")
    assert run("--version")[1].startswith("personaplug ")


def test_help_imports_nothing_heavy(run: Terminal) -> None:
    import subprocess

    heavy = "numpy onnxruntime matplotlib llama_cpp tokenizers"
    check = f"assert not [name for name in '{heavy}'.split() if name in sys.modules]"
    code = f"import sys\nfrom personaplug_edge import cli\ncli.main(['--help'])\n{check}"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=paths)
    assert done.returncode == 0, done.stderr.decode()
