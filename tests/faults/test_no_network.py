"""Nothing is reported to anybody, and a forked child that loaded nothing of its own can end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.onnx_models import make_bundle

SCRIPT = """
import os, sys, time
from personaplug_edge import PersonaPlug

with PersonaPlug.load(sys.argv[1], threads=1) as plug:
    plug.user("anna").remember("a good film")
    plug.generate("hello there", user="anna")
    if hasattr(os, "fork"):
        if os.fork() == 0:
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
time.sleep(0.5)
print("ended")
"""


@pytest.mark.skipif(os.name != "posix", reason="HOME")
def test_onnxruntime_keeps_and_sends_no_telemetry(tiny_gguf: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "random", llm_file=tiny_gguf, name="random", tokens=2)
    home = tmp_path / "home"
    home.mkdir()
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    clean |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        clean.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(bundle)], env=clean, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    assert list(home.rglob("*")) == []
