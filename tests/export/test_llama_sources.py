from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from personaplug_export import llama_sources
from personaplug_export.errors import ExportError

TOP = llama_sources.SDIST.removesuffix(".tar.gz")


def write_sdist(path: Path, names: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{TOP}/vendor/llama.cpp/conversion/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_with_another_hash_is_not_opened(tmp_path: Path) -> None:
    write_sdist(tmp_path / "sdist", {f"{TOP}/vendor/llama.cpp/convert_hf_to_gguf.py": b"print('evil')"})
    with pytest.raises(ExportError, match="expected SHA-256 832db069"):
        llama_sources.extract(tmp_path / "sdist", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_the_converter_is_taken_out_and_nothing_leaves_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = f"{TOP}/vendor/llama.cpp"
    digest = write_sdist(
        tmp_path / "sdist",
        {
            f"{vendor}/convert_hf_to_gguf.py": b"a",
            f"{vendor}/conversion/base.py": b"b",
            f"{vendor}/gguf-py/gguf/gguf.py": b"c",
            f"{vendor}/src/llama.cpp": b"not wanted",
            f"{vendor}/conversion/../../../../../escaped.py": b"evil",
            "/absolute.py": b"evil",
        },
    )
    monkeypatch.setattr(llama_sources, "SDIST_SHA256", digest)
    out = llama_sources.extract(tmp_path / "sdist", tmp_path / "deep" / "out")
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir())
    assert found == ["conversion/base.py", "convert_hf_to_gguf.py", "gguf-py/gguf/gguf.py"]
    assert (out / "conversion/base.py").read_bytes() == b"b"
    assert not list(tmp_path.rglob("escaped.py"))


def test_a_folder_without_the_converter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no convert_hf_to_gguf.py"):
        llama_sources.llama_cpp_sources(tmp_path)


def test_what_pip_said_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **_: object) -> SimpleNamespace:
        assert command[-1] == f"llama-cpp-python=={llama_sources.VERSION}"
        return SimpleNamespace(returncode=1, stdout="", stderr="ERROR: no route to index")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(ExportError, match="(?s)--llama-cpp.*no route to index"):
        llama_sources.fetch_sdist(tmp_path)


def test_a_cache_that_was_cut_off_is_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "llama.cpp"
    (cache / "conversion").mkdir(parents=True)  # without the converter itself
    monkeypatch.setattr(llama_sources, "cached_sources", lambda: cache)

    def fetch(target: Path) -> Path:
        digest = write_sdist(target / "sdist", {f"{TOP}/vendor/llama.cpp/convert_hf_to_gguf.py": b"a"})
        monkeypatch.setattr(llama_sources, "SDIST_SHA256", digest)
        return target / "sdist"

    monkeypatch.setattr(llama_sources, "fetch_sdist", fetch)
    assert (llama_sources.llama_cpp_sources() / "convert_hf_to_gguf.py").read_bytes() == b"a"
    assert [path.name for path in cache.parent.iterdir()] == ["llama.cpp"]
