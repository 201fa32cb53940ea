"""Fixtures: tiny models, made once a session."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

# The tree is tested when the extension was built in place, or nothing is installed; else the installed package.
_ROOT = Path(__file__).parents[1]
if any((_ROOT / "python" / "personaplug_edge").glob("_core*.so")) or not importlib.util.find_spec("personaplug_edge"):
    _TREE = [str(_ROOT / "python"), str(_ROOT / "export")]
    sys.path[:0] = _TREE
    # For the processes that tests start.
    os.environ["PYTHONPATH"] = os.pathsep.join([*_TREE, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two busy teams of threads on two cores nearly stop both

from models import gguf_llama, gguf_mamba  # noqa: E402
from models.gguf_llama import Shape, TinyModel  # noqa: E402
from personaplug_edge.engine import LLM  # noqa: E402


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(model_folder: Path) -> TinyModel:
    """Llama shape, float32: width 64, 2 layers, 512 tokens, context 256; and its weights."""
    return gguf_llama.write(model_folder / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_gguf(tiny: TinyModel) -> Path:
    """The file of ``tiny``."""
    return tiny.path


@pytest.fixture(scope="session")
def quantized(model_folder: Path) -> TinyModel:
    """As ``tiny``, matrices in Q8_0."""
    return gguf_llama.write(model_folder / "tiny-q8_0.gguf", quantize=gguf.GGMLQuantizationType.Q8_0)


@pytest.fixture(scope="session")
def tiny_qwen2(model_folder: Path) -> TinyModel:
    return gguf_llama.write(model_folder / "qwen2.gguf", Shape(architecture="qwen2", seed=1))


@pytest.fixture(scope="session")
def tiny_gemma(model_folder: Path) -> TinyModel:
    """Gemma 3 scales token embeddings by sqrt(width), and rows not: no single pass."""
    return gguf_llama.write(model_folder / "gemma.gguf", Shape(architecture="gemma3", seed=2))


@pytest.fixture(scope="session")
def tiny_window(model_folder: Path) -> TinyModel:
    """Gemma 3 with a window of 24 positions in five of its six layers, which have a cache of their own."""
    shape = Shape(architecture="gemma3", context=1024, window=24, layers=6, seed=2)
    return gguf_llama.write(model_folder / "window.gguf", shape)


@pytest.fixture(scope="session")
def tiny_mamba(model_folder: Path) -> TinyModel:
    """A recurrent model: no heads, a state instead of cells."""
    return gguf_mamba.write(model_folder / "mamba.gguf")


@pytest.fixture(scope="session")
def tiny_mrope(model_folder: Path) -> TinyModel:
    """Qwen2-VL's language model: llama.cpp reads four positions a row."""
    return gguf_llama.write(model_folder / "qwen2vl.gguf", Shape(architecture="qwen2vl", seed=3))


@pytest.fixture(scope="session")
def exact_llm(tiny: TinyModel) -> Iterator[LLM]:
    """``tiny`` computed as exactly as llama.cpp can: float32 cache, no flash attention, one thread."""
    with LLM.load(tiny.path, threads=1, cache_type="f32", flash_attention="off") as llm:
        yield llm


@pytest.fixture(scope="session")
def llm(tiny: TinyModel) -> Iterator[LLM]:
    """``tiny``, four sequences, float32 cache, one thread."""
    with LLM.load(tiny.path, threads=1, sequences=4, cache_type="f32", flash_attention="off") as llm:
        yield llm
