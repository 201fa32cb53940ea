"""The files of a bundle: safe names, sizes, digests, and the memory of what was verified before."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from ..errors import BundleError
from .digest import sha256_of
from .manifest import FilePart

ALWAYS_HASHED = 64 << 20
"""Files under this many bytes are hashed at every load (25 MB take 20 ms); larger ones once."""

_UNSAFE = re.compile(
    r'[\x00-\x1f\ud800-\udfff\\:*?"<>|]'
)  # backslash and colon are separators on Windows, the rest is refused there


def safe_path(folder: Path, name: str) -> Path:
    """The path of file ``name`` of the bundle in ``folder``.

    Raises BundleError when ``name`` is absolute, climbs out by ``..``, or is a link to a place outside of the folder.
    """
    parts = name.split("/")
    if not name or _UNSAFE.search(name) or any(part in ("", ".", "..") for part in parts):
        raise BundleError(
            f"{folder}: file name {name!r} is refused; expected a name inside the bundle, such as 'encoder.onnx'"
        )
    path = folder.joinpath(*parts)
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a loop of links
        raise BundleError(f"{path} cannot be followed ({error}); copy the bundle again") from error
    if not inside:
        raise BundleError(
            f"{path} links to {path.resolve()}, outside of the bundle; copy the file into the bundle instead"
        )
    return path


def check_files(folder: Path, files: Mapping[str, FilePart], *, verify: bool | Literal["full"] = True) -> None:
    """Raise BundleError, naming the file, unless every file is there with its size and SHA-256.

    ``True`` hashes files under 64 MiB always. A larger one, as the GGUF of an LLM of billions of parameters, is
    hashed once: a stamp in the user's cache folder remembers path, device, inode, size, time of change and digest,
    and a file that was written to, copied or replaced since has another stamp. The stamp guards against accidents,
    not against somebody who writes to your cache folder: ``"full"`` hashes everything and looks at no stamp.
    ``False`` looks at sizes alone.
    """
    for name, part in files.items():
        path = safe_path(folder, name)
        _check_size(path, part)
        if verify is False or (verify is True and _is_stamped(path, part)):
            continue
        try:
            actual = sha256_of(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}; copy the bundle again") from error
        if actual != part.sha256:
            raise BundleError(
                f"{path} was changed or damaged: expected SHA-256 {part.sha256}, got {actual}; "
                "copy or export the bundle again"
            )
        if part.bytes >= ALWAYS_HASHED:
            _put_stamp(path, part)


def files_of(folder: Path, names: Iterable[str]) -> dict[str, FilePart]:
    """Size and digest of each of ``names`` in ``folder``: what export puts under ``files`` in the manifest."""
    paths = {name: safe_path(folder, name) for name in names}
    return {name: FilePart(sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in paths.items()}


def cache_folder() -> Path:
    """Folder of the stamps: PERSONAPLUG_CACHE, or ``personaplug-edge`` in the user's cache folder of this system."""
    if named := os.environ.get("PERSONAPLUG_CACHE"):
        return Path(named)
    import platformdirs  # with what it imports 1 MB, and most bundles have no file so large

    return platformdirs.user_cache_path("personaplug-edge", appauthor=False)


def _check_size(path: Path, part: FilePart) -> None:
    if not path.is_file():
        raise BundleError(f"{path} is missing; copy or export the bundle again")
    size = path.stat().st_size
    if size != part.bytes:
        raise BundleError(
            f"{path}: expected {part.bytes} bytes, got {size}; the file is cut off or changed, copy it again"
        )


def _stamp(path: Path, part: FilePart) -> Path:
    found = path.stat()
    state = (
        path.resolve(),
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        part.sha256,
    )
    return cache_folder() / "verified" / hashlib.sha256(repr(state).encode("utf-8", "surrogatepass")).hexdigest()


def _is_stamped(path: Path, part: FilePart) -> bool:
    if part.bytes < ALWAYS_HASHED:
        return False
    try:
        return _stamp(path, part).is_file()
    except (OSError, RuntimeError):  # no home folder, or none that can be read: hash again
        return False


def _put_stamp(path: Path, part: FilePart) -> None:
    try:
        stamp = _stamp(path, part)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except (OSError, RuntimeError):  # a read-only device has no cache: the next start hashes again, nothing is wrong
        pass
