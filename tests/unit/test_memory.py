"""What keeps a process small: files mapped once, and no module that nothing needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from models import gguf_llama
from models.gguf_llama import Shape
from personaplug_edge import _native
from personaplug_edge.engine import LLM
from personaplug_edge.errors import ModelError


def test_the_model_file_is_mapped_once(tiny_gguf: Path) -> None:
    """Pages in two mappings would count twice; rows of the token table are read instead."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    before = maps.read_text().count(str(tiny_gguf))
    with LLM.load(tiny_gguf, threads=1, mmap=True) as llm:
        assert llm.embedding_rows([1, 2, 3]).any()
        assert maps.read_text().count(str(tiny_gguf)) == before + 1


def anonymous_huge_pages() -> bool:
    choices = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return choices.exists() and "[never]" not in choices.read_text()


def test_weights_are_read_where_that_is_faster(model_folder: Path, tiny_gguf: Path) -> None:
    large = gguf_llama.write(model_folder / "large.gguf", Shape(width=512, ffn=6144))
    assert large.path.stat().st_size > 32 << 20
    with LLM.load(large.path, threads=1) as llm:
        assert llm.model.is_mapped != anonymous_huge_pages()
    large.path.unlink()
    with LLM.load(tiny_gguf, threads=1) as llm:
        assert llm.model.is_mapped
    for mmap in (True, False):
        with LLM.load(tiny_gguf, threads=1, mmap=mmap) as llm:
            assert llm.model.is_mapped is mmap


def test_weights_that_are_read_may_lie_in_huge_pages(model_folder: Path) -> None:
    """In a process of its own: other tests leave memory of their own."""
    if not anonymous_huge_pages():
        pytest.skip("needs transparent huge pages")
    model = gguf_llama.write(model_folder / "wide.gguf", Shape(width=512, ffn=2048))
    code = (
        "import re, sys; from personaplug_edge.engine import LLM\n"
        "def asked():\n"
        "    blocks = re.findall(r'Size: +(\\d+) kB\\n(?:.+\\n)*?VmFlags: (.*)', open('/proc/self/smaps').read())\n"
        "    return sum(int(size) for size, flags in blocks if 'hg' in flags.split())\n"
        "before = asked(); llm = LLM.load(sys.argv[1], threads=1, mmap=sys.argv[2] == 'map'); print(asked() - before)"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    kilobytes = {
        mode: int(subprocess.check_output([sys.executable, "-c", code, model.path, mode], text=True, env=paths))
        for mode in ("map", "read")
    }
    size = model.path.stat().st_size / 1024
    assert size > 4096
    assert kilobytes["map"] == 0
    assert kilobytes["read"] > size - 2 * 2048  # whole pages of 2 MB of what the weights take


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
