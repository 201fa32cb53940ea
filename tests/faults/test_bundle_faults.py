"""Bundles that are damaged, changed, of another format, or that reach outside of their folder."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.onnx_models import edit_manifest, make_bundle
from personaplug_edge.bundle import Bundle, files, files_of
from personaplug_edge.errors import BundleError


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "cache"))
    return make_bundle(tmp_path / "made", head=True)


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder, **options)


def test_missing_folder_and_missing_manifest(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no bundle .*nothing.*is not a folder")
    refused(tmp_path, "has no bundle.json")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"GGUF\x03", b"[" * 100_000], ids=range(5))
def test_a_manifest_that_is_not_json(made: Path, text: bytes) -> None:
    (made / "bundle.json").write_bytes(text)
    refused(made, "bundle.json is not JSON")


def test_a_manifest_of_endless_size(made: Path) -> None:
    (made / "bundle.json").write_bytes(b" " * (17 << 20))
    refused(made, "a manifest has 16777216 at most")


@pytest.mark.parametrize("text", [b"[]", b"3", b"null", b'"tiny"'])
def test_a_manifest_that_is_no_object(made: Path, text: bytes) -> None:
    (made / "bundle.json").write_bytes(text)
    refused(made, "expected an object, got (list|int|NoneType|str)")


def test_a_newer_format_asks_to_upgrade_before_anything_else(made: Path) -> None:
    edit_manifest(made, {"format": 2, "llm": ["whatever format 2 has"]})
    refused(made, "format 2, .* reads up to 1; upgrade: pip install --upgrade personaplug-edge")


@pytest.mark.parametrize("version", [..., None, "1", 0, -1, True, 1.0])
def test_a_format_that_is_none(made: Path, version: Any) -> None:
    edit_manifest(made, {"format": version})
    refused(made, "format: expected 1, got")


def every_required_key() -> list[str]:
    keys = [
        "name",
        "version",
        "license",
        "files",
        "llm",
        "behavior_encoder",
        "input_encoder",
        "projector",
        "aggregator",
    ]
    keys += [f"llm.{key}" for key in ("file", "architecture", "embedding_width", "vocabulary_size", "tokenizer_sha256")]
    keys += [f"behavior_encoder.{key}" for key in ("file", "tokenizer", "pooling", "width")]
    return [*keys, "persona", "persona.tokens", "persona.rows", "projector.file", "aggregator.file"]


@pytest.mark.parametrize("key", every_required_key())
def test_a_missing_key_is_named_by_its_path(made: Path, key: str) -> None:
    edit_manifest(made, {key: ...})
    refused(made, f"required key {key} is missing")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, r"name: expected a string, got 3 \(int\)"),
        ("llm", [], r"llm: expected an object, got \[\] \(list\)"),
        ("llm.embedding_width", "64", "llm.embedding_width: expected an integer, got '64'"),
        ("llm.embedding_width", True, "llm.embedding_width: expected an integer, got True"),
        ("llm.embedding_width", 0, "llm.embedding_width: expected 1 or more, got 0"),
        ("llm.context", -1, "llm.context: expected 0 or more, got -1"),
        ("llm.tokenizer_sha256", "abc", "llm.tokenizer_sha256: expected 64"),
        ("behavior_encoder.pooling", "max", "behavior_encoder.pooling: expected one of 'mean', 'cls', 'none'"),
        ("behavior_encoder.pooling", ["mean"], "behavior_encoder.pooling: expected one of"),
        ("behavior_encoder.normalize", 1, "behavior_encoder.normalize: expected true or false, got 1"),
        ("persona.tokens", 0, "persona.tokens: expected 1 or more, got 0"),
        ("persona.token_norm", float("nan"), "persona.token_norm: expected a finite number"),
        ("persona.token_norm", 0.0, "persona.token_norm: expected more than 0"),
        ("prompt.layout", "persona", "prompt.layout: expected a list"),
        ("prompt.layout", ["persona", "text"], r"prompt.layout\[1\]: expected one of"),
        ("prompt.layout", ["bos", "prompt"], "prompt.layout: expected each span once"),
        ("prompt.layout", ["persona", "persona", "prompt"], "prompt.layout: expected each span once"),
        ("prompt.template", "answer:", "prompt.template: expected the places {input}; got 'answer:'"),
        ("history.template", "{text} {txet}", "history.template: expected the places {text}, perhaps {output}"),
        ("files", [], "files: expected an object"),
        ("sampling", 3, "sampling: expected an object"),
        ("behavior_encoder.normalise", True, "unknown key behavior_encoder.normalise; did you mean 'normalize'"),
        ("projector.file", "other.onnx", "projector.file names 'other.onnx', which is not among files"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_by_its_path(made: Path, key: str, value: Any, message: str) -> None:
    edit_manifest(made, {key: value})
    refused(made, message)


def test_a_wrong_file_entry_is_named(made: Path) -> None:
    path = made / "bundle.json"
    data = json.loads(path.read_text())
    for entry, message in (
        ({"bytes": 1}, "sha256 is missing"),
        ({"sha256": "A" * 64, "bytes": 1}, "sha256: expected 64"),
    ):
        data["files"]["rows.npz"] = entry
        path.write_text(json.dumps(data))
        refused(made, f"files.rows.npz.{message}")


NAMES = ["llm.gguf", "encoder.onnx", "encoder_tokenizer.json", "projector.onnx", "aggregator.onnx", "rows.npz"]


@pytest.mark.parametrize("name", [*NAMES, "input_head.onnx", "MODEL_CARD.md"])
def test_one_changed_byte_a_cut_and_a_missing_file_are_named(made: Path, name: str) -> None:
    path = made / name
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    refused(made, rf"{name} was changed or damaged: expected SHA-256 [0-9a-f]+, got [0-9a-f]+; copy")
    assert Bundle.load(made, verify=False).path(name) == path.resolve()
    path.write_bytes(content[:middle])
    refused(made, f"{name}: expected {len(content)} bytes, got {middle}", verify=False)
    path.unlink()
    refused(made, f"{name} is missing", verify=False)
    path.mkdir()
    refused(made, f"{name} is missing")


OUTSIDE = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "",
    ".",
    "a//b",
    "C:\\x",
    "..\\secret",
    "x\0y",
    "\ud800",
    "a:b",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_folder_is_refused(made: Path, name: str) -> None:
    (made.parent / "secret").write_bytes(b"secret")
    data = json.loads((made / "bundle.json").read_text())
    data["files"][name] = data["files"]["rows.npz"]
    data["persona"]["rows"] = name
    (made / "bundle.json").write_text(json.dumps(data))
    refused(made, "file name .* is refused")


def link(made: Path, name: str, target: Path) -> None:
    (made / name).unlink()
    try:
        (made / name).symlink_to(target)
    except OSError:
        pytest.skip("this system makes no symbolic links")


def test_a_link_out_of_the_folder_is_refused_and_one_inside_followed(made: Path) -> None:
    content = (made / "rows.npz").read_bytes()
    outside = made.parent / "outside.npz"
    outside.write_bytes(content)
    link(made, "rows.npz", outside)
    refused(made, "links to .*outside.npz, outside of the bundle")
    (made / "inside.npz").write_bytes(content)
    link(made, "rows.npz", made / "inside.npz")
    assert Bundle.load(made).rows().cold_start.shape == (1, 64)


def test_a_loop_of_links_is_refused(made: Path) -> None:
    link(made, "rows.npz", made / "rows.npz")
    refused(made, "rows.npz")


def test_a_folder_reached_by_a_link_is_fine(made: Path) -> None:
    other = made.parent / "linked"
    try:
        other.symlink_to(made, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no symbolic links")
    assert Bundle.load(other).folder == made.resolve()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GOOD = np.ones((1, 64), dtype=np.float32)
ROWS = {
    "garbage": b"PK\x03\x04 not a zip",
    "empty": b"",
    "a pickle": npz(instruction=np.array([{}], dtype=object), cold_start=GOOD),
    "no cold start": npz(instruction=GOOD),
    "other width": npz(instruction=np.ones((1, 65), dtype=np.float32), cold_start=GOOD),
    "other tokens": npz(instruction=GOOD, cold_start=np.ones((2, 64), dtype=np.float32)),
    "a vector": npz(instruction=GOOD[0], cold_start=GOOD),
    "float64": npz(instruction=GOOD.astype(np.float64), cold_start=GOOD),
    "not finite": npz(instruction=GOOD * np.inf, cold_start=GOOD),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_do_not_fit(made: Path, case: str) -> None:
    (made / "rows.npz").write_bytes(ROWS[case])
    entry = files_of(made, ["rows.npz"])["rows.npz"]
    data = json.loads((made / "bundle.json").read_text())
    data["files"]["rows.npz"] = {"sha256": entry.sha256, "bytes": entry.bytes}
    (made / "bundle.json").write_text(json.dumps(data))
    bundle = Bundle.load(made)
    with pytest.raises(BundleError, match="rows.npz.*expected"):
        bundle.rows()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed, while every file counts as a large one."""
    seen: list[str] = []
    real = files.sha256_of
    monkeypatch.setattr(files, "ALWAYS_HASHED", 0)
    monkeypatch.setattr(files, "sha256_of", lambda path: seen.append(path.name) or real(path))
    return seen


def test_a_large_file_is_hashed_once_and_again_when_it_was_written(made: Path, hashed: list[str]) -> None:
    Bundle.load(made)
    assert sorted(hashed) == sorted([*NAMES, "input_head.onnx", "MODEL_CARD.md"])
    hashed.clear()
    Bundle.load(made)
    assert hashed == []
    Bundle.load(made, verify="full")
    assert len(hashed) == 8
    hashed.clear()
    path = made / "llm.gguf"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    state = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    refused(made, "llm.gguf was changed")
    refused(made, "llm.gguf was changed")  # a failure leaves no stamp


def test_a_cache_that_cannot_be_written_only_costs_time(
    made: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (made.parent / "a file").write_bytes(b"")
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(made.parent / "a file"))
    Bundle.load(made)
    Bundle.load(made)
    assert len(hashed) == 16


def test_an_unreadable_file_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "sha256_of", broken)
    refused(made, "llm.gguf cannot be read: Permission denied")


def test_a_file_that_the_manifest_does_not_list_has_no_path(made: Path) -> None:
    (made / "more.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="'more.onnx' is not among the files"):
        Bundle.load(made).path("more.onnx")


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """``content`` with one to four bytes changed, or a piece taken out, at seeded places."""
    rng = random.Random(0)
    for _ in range(count):
        changed = bytearray(content)
        if rng.random() < 0.2:
            start = rng.randrange(len(changed))
            del changed[start : start + rng.randrange(1, 40)]
        for _ in range(rng.randrange(1, 5)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield bytes(changed)


def test_a_damaged_manifest_or_rows_file_raises_nothing_else(made: Path) -> None:
    """Whatever happened to the bytes: the bundle loads, or a BundleError says why not."""
    manifest, rows = (made / "bundle.json").read_bytes(), (made / "rows.npz").read_bytes()
    refusals = 0
    for changed in mutations(manifest, 300):
        (made / "bundle.json").write_bytes(changed)
        try:
            Bundle.load(made)
        except BundleError:
            refusals += 1
    assert refusals > 150
    (made / "bundle.json").write_bytes(manifest)
    bundle, refusals = Bundle.load(made), 0
    for changed in mutations(rows, 300):
        (made / "rows.npz").write_bytes(changed)
        try:
            bundle.rows()
        except BundleError:
            refusals += 1
    assert refusals > 150


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-that-name/x", "a\0b", "no such", ""])
def test_names_that_are_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        Bundle.load(name)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"max_token": 3}, "sampling: unknown option 'max_token'; known are max_tokens"),
        ({"logit_bias": [1]}, "sampling.logit_bias: expected an object of token ids"),
        ({"logit_bias": {"a": 1}}, "sampling.logit_bias: expected an object of token ids"),
        ({"logit_bias": {"1": None}}, "sampling.logit_bias: expected an object of token ids"),
    ],
)
def test_sampling_options_that_are_none(made: Path, sampling: Any, message: str) -> None:
    edit_manifest(made, {"sampling": sampling})
    with pytest.raises(BundleError, match=message):
        Bundle.load(made)


def test_a_bias_has_token_ids_for_keys(made: Path) -> None:
    edit_manifest(made, {"sampling": {"logit_bias": {"5": -1}}})
    assert Bundle.load(made).sampling_options == {"logit_bias": {5: -1.0}}
