"""The benchmarks run and compare like with like. Nothing here looks at a time."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


def run(script: str, out: Path, *arguments: object) -> dict[str, Any]:
    """A benchmark as a user runs it: its report, which has tables, goals, and the machine."""
    line = [sys.executable, str(FOLDER / script), *map(str, arguments), "--threads", "1", "--json", str(out)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    assert report["benchmark"] == script.removesuffix(".py")
    assert report["command"].startswith(f"python benchmarks/{script} ")
    assert report["machine"]["cores"] == os.cpu_count()
    for table in report["tables"]:
        assert table["rows"] and all(len(row) == len(table["columns"]) for row in table["rows"])
        assert all(row[0] in done.stdout for row in table["rows"] if len(row[0]) < 20)
    assert all(set(goal) == {"what", "goal", "figure", "met"} for goal in report["goals"])
    return report


def test_contenders_take_turns(benchmarks: Any) -> None:
    common, order = benchmarks("common"), []
    contenders = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    figures = common.interleaved(contenders, 3)
    assert "".join(order) == "baabbaab"
    assert figures == {"a": [3, 6, 7], "b": [4, 5, 8]}  # the first round warms up
    assert common.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])["median"] == 2
    assert common.interleaved(contenders, 1, warm=False) == {"a": [9], "b": [10]}


def test_goals_are_met_or_missed(benchmarks: Any) -> None:
    common, report = benchmarks("common"), benchmarks("report")
    assert common.goal("x", 0.98, least=0.98)["met"]
    assert common.goal("x", 0.4, most=0.4)["met"]
    assert report.verdict(common.goal("x", 0.49, least=0.98)) == "**missed by 50.0%**"
    assert report.verdict(common.goal("x", 1.1, most=1.0)) == "**missed by 10.0%**"


def test_decode_makes_the_tokens_of_its_peer(benchmarks: Any, folder: Path, tmp_path: Path) -> None:
    random_llama = benchmarks("random_llama")
    path = random_llama.model_file("tiny", folder)
    assert random_llama.model_file("tiny", folder) == path  # kept
    sizes = ("--prompt", 8, "--tokens", 6, "--rounds", 1, "--folder", folder)
    report = run("decode.py", tmp_path / "out.json", "--model", "tiny", *sizes)
    result = report["models"]["tiny"]
    assert result["same_tokens"]
    assert {"personaplug stream", "llama_cpp generate", "llama_cpp create_completion"} <= set(
        result["tokens_per_second"]
    )
    pairs = {f"{one} / llama_cpp generate" for one in ("personaplug stream", "personaplug stream, file mapped")}
    assert pairs <= set(result["ratio"])
    to_peers = [pair for pair in result["ratio"] if pair.startswith("personaplug stream / ") and "mapped" not in pair]
    assert len(to_peers) == len(report["goals"]) >= 2


def test_first_token_of_every_way(folder: Path, tmp_path: Path) -> None:
    sizes = ("--lengths", 7, "--range", 6, 8, 2, "--rounds", 2, "--items", 3, "--item-tokens", 5, "--folder", folder)
    report = run("time_to_first_token.py", tmp_path / "out.json", "--model", "tiny", *sizes)
    parts = report["models"]["tiny"]
    assert set(parts) == {"6 to 8", "7"}
    assert len(parts["6 to 8"]["milliseconds"]["query + encoder"]["rounds"]) == 4
    assert {"query / plain", "query + encoder / plain", "query + encoder / top-4 text"} <= set(parts["7"]["ratio"])


def test_many_users_share_batches(folder: Path, tmp_path: Path) -> None:
    sizes = ("--sequences", 1, 2, "--users", 3, "--prompt", 6, "--tokens", 3, "--rounds", 1, "--folder", folder)
    report = run("many_users.py", tmp_path / "out.json", "--model", "tiny", *sizes)
    result = report["models"]["tiny"]
    assert {"ours, 1", "ours, 2", "llama_cpp.Llama in turn", "LoRA of each user in turn"} <= set(
        result["tokens_per_second"]
    )
    assert "ours, 2 / llama_cpp.Llama in turn" in result["ratio"]


def test_adapters_are_swapped(folder: Path, tmp_path: Path) -> None:
    sizes = ("--prompt", 6, "--rounds", 1, "--folder", folder)
    report = run("adapter_swap.py", tmp_path / "out.json", "--model", "tiny", *sizes)
    found = report["models"]["tiny"]["milliseconds"]
    assert len(found) == 6 and all(figures["median"] > 0 for figures in found.values())


def test_an_adapter_changes_the_answer(benchmarks: Any, folder: Path, tmp_path: Path) -> None:
    many_users, random_llama = benchmarks("many_users"), benchmarks("random_llama")
    job = many_users.Job(
        model=random_llama.model_file("tiny", folder), shape=random_llama.SHAPES["tiny"], threads=1, prompt=6, tokens=3
    )
    peer = many_users.InTurn(job, 1, tmp_path)
    ids = many_users.user_ids(0, 6, 8192)
    logits = []
    for adapter in (None, peer._adapters[0]):
        peer._set(adapter)
        peer._llama.reset()
        peer._llama.eval(ids)
        logits.append(peer._llama._scores[-1].copy() if peer._llama._logits_all else _last(peer._llama))
    assert abs(logits[0] - logits[1]).max() > 1e-4


def _last(llama: Any) -> Any:
    import llama_cpp
    import numpy as np

    found = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
    return np.ctypeslib.as_array(found, shape=(llama.n_vocab(),)).copy()


def test_users_in_a_store(tmp_path: Path) -> None:
    sizes = ("--part", "stores", "--rows", 4, "--tokens", 2, "--users", 2, 5, "--rounds", 1)
    report = run("scale.py", tmp_path / "out.json", *sizes)
    assert [store["users"] for store in report["stores"]] == [2, 5]
    assert all(store["bytes_a_user"] > 1000 and store["rows_per_second"] > 0 for store in report["stores"])
    if Path("/proc/self/status").exists():
        assert all(store["peak_resident_mb"] > 10 for store in report["stores"])


def test_memory_of_each_process(folder: Path, tmp_path: Path) -> None:
    report = run("memory.py", tmp_path / "out.json", "--model", "tiny", "--rounds", 1, "--folder", folder)
    contenders = report["models"]["tiny"]["contenders"]
    assert {"ours", "ours, LLM alone", "llama_cpp.Llama"} <= set(contenders)
    if Path("/proc/self/status").exists():
        ours = [contenders["ours"][f"{name}_bytes"]["median"] for name in ("peak", "steady", "private")]
        assert ours == sorted(ours, reverse=True) and ours[-1] > 10e6
    assert report["import_seconds"]["personaplug_edge"]["rounds"]


def test_long_histories(tmp_path: Path) -> None:
    report = run("history_growth.py", tmp_path / "out.json", "--items", 5, 20, "--users", 3, "--rounds", 1)
    assert [row["items"] for row in report["rows"]] == [5, 20]
    assert report["bytes_an_item"] > 0


def test_personal_embedding_equals_numpy(tmp_path: Path) -> None:
    sizes = ("--items", 5, "--shapes", "2x8", "--width", 16, "--rounds", 1)
    report = run("personal_embedding.py", tmp_path / "out.json", *sizes)
    assert report["rows"][0]["largest_difference"] < 1e-5


def test_the_page_of_results(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = ("--prompt", 8, "--tokens", 4, "--rounds", 1, "--folder", folder)
    run("decode.py", tmp_path / "decode.json", "--model", "tiny", *sizes)
    (tmp_path / "notes.md").write_text("# Notes\n\n## decode\n\nWhy it is so.\n")
    line = [sys.executable, str(FOLDER / "report.py"), str(tmp_path), "--out", str(tmp_path / "page.md")]
    subprocess.run([*line, "--notes", str(tmp_path / "notes.md")], check=True, timeout=120)
    page = (tmp_path / "page.md").read_text()
    assert "## One sequence" in page and "Why it is so." in page
    assert "--json out.json" in page and str(tmp_path) not in page
    assert (tmp_path / "benchmarks-decode.png").stat().st_size > 1000


def test_every_benchmark_is_run_with_all_others(benchmarks: Any) -> None:
    run_all, report = benchmarks("run_all"), benchmarks("report")
    assert set(run_all.RUNS) <= set(report.PARTS)
    helpers = {"apart", "common", "pictures", "random_bundle", "random_llama", "random_lora", "report", "run_all"}
    helpers |= {"memory_child", "remember_forget"}  # the one is run by memory, the other needs real histories
    assert {path.stem for path in FOLDER.glob("*.py")} - helpers <= set(run_all.RUNS)
