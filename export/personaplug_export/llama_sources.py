"""The sources of the llama.cpp that is installed: its converter is in the sdist of llama-cpp-python, not in its wheel.

The sdist is fetched once by pip, held against a hash, and only the converter and the ``gguf`` package beside it are
kept (2 MB of 400). Converter, libllama and file format are then of one version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from personaplug_edge.bundle.files import cache_folder
from personaplug_export.errors import ExportError

VERSION = "0.3.36"
"""The llama-cpp-python that the runtime is pinned to."""
SDIST = f"llama_cpp_python-{VERSION}.tar.gz"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
"""Of the file that PyPI serves."""
CONVERTER = "convert_hf_to_gguf.py"
WANTED = (CONVERTER, "conversion", "gguf-py", "LICENSE")
"""What is taken out of the sdist's vendor/llama.cpp."""


def cached_sources() -> Path:
    """Where the extracted sources are kept; the folder exists only once they are whole."""
    return cache_folder() / f"llama.cpp-{SDIST_SHA256[:16]}"


def llama_cpp_sources(folder: Path | None = None) -> Path:
    """The folder of a llama.cpp source tree that holds the converter.

    ``folder`` names a tree of one's own; without it the cached one is used, and fetched if it is not there. Raises
    ExportError when the tree has no converter, or pip cannot fetch it.
    """
    if folder is not None:
        if not (folder / CONVERTER).is_file():
            raise ExportError(f"no {CONVERTER} in {folder}: --llama-cpp expects a checkout of llama.cpp")
        return folder
    cache = cached_sources()
    if (cache / CONVERTER).is_file():
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as workplace:
        extracted = extract(fetch_sdist(Path(workplace)), Path(workplace) / "llama.cpp")
        if cache.exists():  # another process was quicker, or the cache is damaged
            shutil.rmtree(cache)
        extracted.rename(cache)
    return cache


def fetch_sdist(target: Path) -> Path:
    """Downloads the sdist into a folder by pip, so that its index and proxy settings hold; nothing is built."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    if importlib.util.find_spec("scikit_build_core"):
        command.append("--no-build-isolation")  # pip asks the build backend for metadata; a minute less
    run = subprocess.run(
        [*command, "--dest", str(target), f"llama-cpp-python=={VERSION}"], capture_output=True, text=True, check=False
    )
    if not (target / SDIST).is_file():
        raise ExportError(
            f"pip could not fetch {SDIST} (exit status {run.returncode}), which holds the converter of llama.cpp; "
            f"give a checkout of llama.cpp by --llama-cpp.\n{run.stdout}{run.stderr}"
        )
    return target / SDIST


def extract(sdist: Path, target: Path) -> Path:
    """Takes the converter out of an sdist; raises ExportError when the file is not the one that is expected."""
    found = _sha256(sdist)
    if found != SDIST_SHA256:
        raise ExportError(f"{sdist}: expected SHA-256 {SDIST_SHA256}, found {found}; nothing was extracted")
    prefix = PurePosixPath(SDIST.removesuffix(".tar.gz"), "vendor", "llama.cpp")
    with tarfile.open(sdist) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if not member.isfile() or ".." in path.parts or not path.is_relative_to(prefix):
                continue
            inside = path.relative_to(prefix)
            if inside.parts[0] not in WANTED:
                continue
            destination = target.joinpath(*inside.parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None  # a regular file
            destination.write_bytes(content.read())
    return target


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
