"""The core's own tests, built and run under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="the sanitizers are those of GCC and Clang")
def test_core_under_sanitizers(tiny_gguf: Path) -> None:
    """The build stays in build/sanitize, so that a second run compiles what changed."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("needs cmake")
    build = ROOT / "build" / "sanitize"
    configure = [cmake, "--preset", "sanitize", f"-DPython_EXECUTABLE={sys.executable}"]
    if shutil.which("ninja") and not (build / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    for command in (configure, [cmake, "--build", "--preset", "sanitize", "--parallel", "2"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=1",
        "UBSAN_OPTIONS": "halt_on_error=1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [build / "cpp" / "tests" / "personaplug_tests", tiny_gguf], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "0 failures" in done.stdout
