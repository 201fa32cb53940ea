"""Hugging Face causal LM to GGUF: llama.cpp's own converter, then the quantiser of the installed libllama."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from personaplug_export.errors import ExportError, require
from personaplug_export.hf_llama import load_sentencepiece, read_config, write_tokenizer
from personaplug_export.llama_sources import CONVERTER, llama_cpp_sources

CONVERTED = ("f32", "f16", "bf16")
"""Kinds that the converter itself writes; any other is quantised from f32."""
PROBE_TEXTS = (
    "Hello world", " two  spaces ", "line one\nline two\n\n", "tab\there", "12345 67,890.12", "naïve café – “quoted”",
    "emoji 😀👍🏽 and ✨", "日本語 текст", "UPPER lower_CASE-mix", "http://example.org/a?b=c&d=1#e",
    "a\r\nb", "...!!!???",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GgufSummary:
    """What a GGUF file says of itself once llama.cpp has loaded it."""

    path: Path
    architecture: str
    embedding_width: int
    vocabulary_size: int
    context: int
    kind: str
    size_bytes: int


def export_gguf(
    model: Path,
    target: Path,
    *,
    kind: str = "q8_0",
    tokenizer_model: Path | None = None,
    llama_cpp: Path | None = None,
    threads: int = 1,
) -> GgufSummary:
    """Converts the folder of a causal LM to ``target`` and checks what came out.

    ``kind``: f32, f16, bf16, or a quantisation by its llama.cpp name (q8_0, q6_k, q4_k_m, ...). ``tokenizer_model``: a
    SentencePiece model to put beside a checkpoint that has none. Raises ExportError with the converter's own words.
    """
    kind = kind.lower()
    config = read_config(model)
    if kind not in CONVERTED:
        file_type(kind)
    if tokenizer_model is not None:
        write_tokenizer(model, tokenizer_model)
    sources = llama_cpp_sources(llama_cpp)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as workplace:
        converted = Path(workplace) / "converted.gguf"
        convert(model, converted, kind if kind in CONVERTED else "f32", sources)
        if kind not in CONVERTED:
            quantized = Path(workplace) / "quantized.gguf"
            quantize(converted, quantized, kind, threads=threads)
            converted = quantized
        summary = summarize(converted, kind)
        _compare(summary, config, model)
        if (model / "tokenizer.model").is_file():
            compare_tokenizers(converted, model / "tokenizer.model", PROBE_TEXTS)
        converted.replace(target)
    return GgufSummary(**{**summary.__dict__, "path": target})


def convert(model: Path, target: Path, kind: str, sources: Path) -> None:
    """Runs the converter as its own process, with the ``gguf`` package of the same tree."""
    environment = {**os.environ, "PYTHONPATH": str(sources / "gguf-py"), "PYTHONUTF8": "1"}
    environment.pop("NO_LOCAL_GGUF", None)
    command = [sys.executable, str(sources / CONVERTER), str(model), "--outtype", kind, "--outfile", str(target)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if run.returncode != 0 or not target.is_file():
        raise ExportError(
            f"{CONVERTER} failed on {model} (exit status {run.returncode}); a tokenizer that it does not know needs a "
            f"tokenizer.model (--tokenizer-model). It wrote:\n{run.stdout}{run.stderr}"
        )


def file_type(kind: str) -> int:
    """llama.cpp's number of a quantisation named as ``q4_k_m``; raises ExportError for a name that it does not know."""
    require("llama_cpp")
    from llama_cpp import llama_cpp as library

    number = getattr(library, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}", None)
    if number is None:
        prefix = "LLAMA_FTYPE_MOSTLY_"
        known = sorted(n.removeprefix(prefix).lower() for n in dir(library) if n.startswith(prefix))
        raise ExportError(f"{kind!r} is no quantisation of llama.cpp; it knows f32, {', '.join(known)}")
    return int(number)


def quantize(source: Path, target: Path, kind: str, *, threads: int = 1) -> None:
    """Quantises a GGUF file by libllama's llama_model_quantize."""
    from llama_cpp import llama_cpp as library

    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = file_type(kind)
    parameters.nthread = threads
    with _Log() as log:
        status = library.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    if status != 0 or not target.is_file():
        raise ExportError(f"llama_model_quantize to {kind} failed with status {status} on {source}:\n{log.text}")


def summarize(path: Path, kind: str = "") -> GgufSummary:
    """Loads a GGUF file with libllama and returns what it is; raises ExportError when it does not load."""
    from llama_cpp import llama_cpp as library

    parameters = library.llama_model_default_params()
    parameters.n_gpu_layers = 0
    with _Log() as log:
        model = library.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise ExportError(f"llama.cpp cannot load {path}:\n{log.text}")
    try:
        buffer = ctypes.create_string_buffer(256)
        library.llama_model_meta_val_str(model, b"general.architecture", buffer, 256)
        return GgufSummary(
            path=path,
            architecture=buffer.value.decode(),
            embedding_width=library.llama_model_n_embd(model),
            vocabulary_size=library.llama_vocab_n_tokens(library.llama_model_get_vocab(model)),
            context=library.llama_model_n_ctx_train(model),
            kind=kind,
            size_bytes=path.stat().st_size,
        )
    finally:
        library.llama_model_free(model)


def tokenize_all(path: Path, texts: tuple[str, ...] | list[str]) -> list[list[int]]:
    """Token ids of texts by llama.cpp's tokenizer of a GGUF file, without special tokens."""
    from llama_cpp import llama_cpp as library

    parameters = library.llama_model_default_params()
    parameters.vocab_only = True
    with _Log() as log:
        model = library.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise ExportError(f"llama.cpp cannot load the vocabulary of {path}:\n{log.text}")
    try:
        vocabulary = library.llama_model_get_vocab(model)
        tokens = []
        for text in texts:
            encoded = text.encode("utf-8")
            buffer = (library.llama_token * (len(encoded) + 8))()
            count = library.llama_tokenize(vocabulary, encoded, len(encoded), buffer, len(buffer), False, False)
            tokens.append(list(buffer[:count]))
        return tokens
    finally:
        library.llama_model_free(model)


def compare_tokenizers(path: Path, tokenizer_model: Path, texts: tuple[str, ...] | list[str]) -> None:
    """Raises ExportError unless llama.cpp tokenises every text as SentencePiece does."""
    processor = load_sentencepiece(tokenizer_model)
    for text, found in zip(texts, tokenize_all(path, texts), strict=True):
        expected = processor.encode(text)
        if found != expected:
            raise ExportError(f"{path.name} tokenises {text!r} as {found}, SentencePiece as {expected}")


def _compare(summary: GgufSummary, config: dict[str, object], model: Path) -> None:
    text: object = config.get("text_config") or config
    assert isinstance(text, dict)
    for key, found in (("hidden_size", summary.embedding_width), ("vocab_size", summary.vocabulary_size)):
        if key in text and text[key] != found:
            raise ExportError(f"the GGUF file of {model} has {key} {found}, config.json says {text[key]}")


class _Log:
    """Collects what llama.cpp logs while it is entered, and gives the callback back that was there before."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def __enter__(self) -> _Log:
        from llama_cpp import llama_cpp as library

        self._before = (library.llama_log_callback(), ctypes.c_void_p())
        library.llama_log_get(ctypes.byref(self._before[0]), ctypes.byref(self._before[1]))
        self._callback = library.llama_log_callback(
            lambda _, text, __: self.parts.append(text.decode("utf-8", "replace"))
        )
        library.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self

    def __exit__(self, *_: object) -> None:
        from llama_cpp import llama_cpp as library

        library.llama_log_set(*self._before)
