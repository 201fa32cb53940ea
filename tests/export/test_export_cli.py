from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from personaplug_edge.errors import MissingExtraError
from personaplug_export import cli, errors


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\nsys.argv = ['personaplug-export', '--help']\nfrom personaplug_export import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'transformers', 'optimum', 'onnx', 'onnxruntime', 'llama_cpp'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "COLUMNS": "120"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    for command in ("train", "adapt", "onnx", "gguf", "bundle", "parity", "tiny"):
        assert f" {command} " in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["onnx", "nowhere", "out"],
        ["gguf", "nowhere", "out.gguf"],
        ["bundle", "nowhere", "nowhere", "nowhere.gguf", "out", "--name", "a", "--license", "MIT"],
        ["parity", "nowhere", "--llm", "nowhere", "--plug", "nowhere", "--encoder", "nowhere"],
        ["train", "data", "--llm", "nowhere", "--encoder", ".", "--out", "out"],
        ["train", "data", "--llm", ".", "--encoder", "nowhere", "--out", "out"],
        ["train", "data", "--llm", ".", "--encoder", ".", "--out", "out", "--fold-llm", "nowhere"],
        ["adapt", ".", "data", "--from-llm", "nowhere", "--llm", ".", "--encoder", ".", "--out", "out"],
        ["adapt", ".", "data", "--from-llm", ".", "--llm", "nowhere", "--encoder", ".", "--out", "out"],
        ["ablate", "data", "--llm", "nowhere", "--encoder", ".", "--out", "out"],
        ["ablate", "data", "--llm", ".", "--encoder", ".", "--out", "out", "--fold-llm", "nowhere"],
    ],
)
def test_a_bad_path_is_named(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "nowhere" in result.output and "does not exist" in result.output.replace("\n", " ")


def test_an_error_is_one_message_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["personaplug-export", "gguf", str(tmp_path), str(tmp_path / "out.gguf")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("personaplug-export: error: no config.json in") and "Traceback" not in said


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"torch, transformers.*pip install 'personaplug-edge\[export\]'"):
        errors.require("torch", "transformers")


@pytest.mark.parametrize(
    ("command", "option"), [("train", "--persona-tokens"), ("adapt", "--from-llm"), ("tiny", "--raw-tokens")]
)
def test_options_of_a_command_with_torch_are_shown_through_it(command: str, option: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert option in result.output
