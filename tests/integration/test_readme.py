"""The README's examples run as they stand there, one by one, each in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from personaplug_edge.bundle import known_bundles

pytestmark = pytest.mark.skipif("tiny" not in known_bundles(), reason="the package has no bundle 'tiny'")

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_runs_by_itself(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {})
    assert "politics" in capsys.readouterr().out
