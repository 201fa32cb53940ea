"""What keeps a process small: files mapped once, and no module that nothing needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from personaplug_edge import _native
from personaplug_edge.engine import LLM
from personaplug_edge.errors import ModelError


def test_the_model_file_is_mapped_once(tiny_gguf: Path) -> None:
    """Pages in two mappings would count twice; rows of the token table are read instead."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    before = maps.read_text().count(str(tiny_gguf))
    with LLM.load(tiny_gguf, threads=1) as llm:
        assert llm.embedding_rows([1, 2, 3]).any()
        assert maps.read_text().count(str(tiny_gguf)) == before + 1


def test_rows_of_a_file_that_was_cut_short_since(tiny_gguf: Path, tmp_path: Path) -> None:
    path = Path(shutil.copyfile(tiny_gguf, tmp_path / "cut.gguf"))
    with LLM.load(path, threads=1, mmap=False) as llm:
        os.truncate(path, 1000)
        with pytest.raises(ModelError, match="cannot be read any more"):
            llm.embedding_rows([1])


def test_what_nothing_needs_is_not_imported() -> None:
    code = "import sys; from personaplug_edge import PersonaPlug; import personaplug_edge._native; print(*sys.modules)"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths, check=True)
    unwanted = {"asyncio", "email", "importlib.metadata", "platformdirs", "tempfile", "difflib", "socket", "llama_cpp"}
    assert not unwanted & set(done.stdout.split())


def test_the_installed_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _native.installed_version("llama_cpp", "llama-cpp-python") == version("llama-cpp-python")
    (tmp_path / "some_package.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("1.0", "2.0+local"):  # two: the older one is left of an update, say
        (tmp_path / f"some_name-{name}.dist-info").mkdir()
        (tmp_path / f"some_name-{name}.dist-info" / "METADATA").write_text(f"Name: some-name\nVersion: {name}\n")
        if name == "1.0":
            assert _native.installed_version("some_package", "some-name") == "1.0"
    assert _native.installed_version("some_package", "some-name") == version("some-name")
