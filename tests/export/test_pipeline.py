"""The whole way by the command line: train, onnx, gguf, bundle, parity; then an answer from the runtime alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from personaplug_export import cli
from personaplug_export.parity_llm import probe_prompts


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Four users with three items each, and two questions a user."""
    folder = tmp_path / "news_category"
    folder.mkdir()
    texts = probe_prompts(40)
    users, questions = [], []
    for user in range(4):
        history = [{"text": texts[3 * user + i], "category": ("sport", "art")[user % 2]} for i in range(3)]
        users.append({"user_id": f"u{user}", "history": history})
        for split in ("train", "dev"):
            question = {"id": f"{split}{user}", "user_id": f"u{user}", "split": split, "n_history": 3 * (user > 0)}
            text = texts[20 + user]
            questions.append({**question, "input": text, "short_input": text, "output": ("sport", "art")[user % 2]})
    for name, rows in (("users", users), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "150"})
    assert result.exit_code == 0, f"{arguments}: {result.output}\n{result.exception!r}"
    return result.output


def test_from_histories_to_an_answer(
    task: Path, llm_folder: Path, encoder_folder: Path, llama_cpp: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(
        "train", task, "--llm", llm_folder, "--encoder", encoder_folder, "--out", out / "plug", "--pooling", "mean",
        "--max-tokens", 40, "--steps", 3, "--batch", 4, "--no-bf16",
    )  # fmt: skip
    run("onnx", encoder_folder, out / "onnx", "--pooling", "mean", "--max-tokens", 40, "--precision", "int8")
    run("gguf", llm_folder, out / "llm.gguf", "--kind", "q8_0", "--llama-cpp", llama_cpp)
    details = out / "details.json"
    details.write_text(json.dumps({"context": 128, "sampling": {"max_tokens": 4}, "card": {"data": "Invented."}}))
    run(
        "bundle", out / "plug", out / "onnx", out / "llm.gguf", out / "bundle", "--name", "invented",
        "--license", "MIT", "--details", details,
    )  # fmt: skip
    table = run(
        "parity", out / "bundle", "--llm", llm_folder, "--plug", out / "plug", "--encoder", encoder_folder, "--pooling",
        "mean", "--prompts", 5, "--tokens", 4, "--llama-cpp", llama_cpp,
    )  # fmt: skip
    assert "greedy tokens equal" in table and "FAIL" not in table

    from personaplug_edge import PersonaPlug

    with PersonaPlug.load(out / "bundle", threads=1) as plug:
        user = plug.user("anna")
        user.remember("rain in the mountains", output="sport")
        reply = plug.generate("12 new rules", user=user)
        assert 0 < len(reply.tokens) <= 4 and reply.attribution[0].weight == pytest.approx(1)
        assert "Invented." in plug.bundle.path("MODEL_CARD.md").read_text()


def test_details_that_are_not_understood_are_named(
    llm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    details, gguf = tmp_path / "details.json", tmp_path / "llm.gguf"
    details.write_text(json.dumps({"contxt": 128}))
    gguf.touch()
    arguments = ["bundle", llm_folder, llm_folder, gguf, tmp_path / "b", "--name", "a", "--license", "b"]
    result = CliRunner().invoke(cli.app, [*map(str, arguments), "--details", str(details)])
    assert result.exit_code == 1 and "contxt" in str(result.exception)
