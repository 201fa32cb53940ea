"""Files, prompts and options that cannot work: a typed error each, where llama.cpp would abort the process."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from models import gguf_llama
from models.gguf_llama import Shape, TinyModel
from personaplug_edge.engine import LLM
from personaplug_edge.errors import (
    CancelledError,
    EngineError,
    ModelError,
    PersonaPlugError,
    VersionMismatchError,
)
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling

ALIVE = Sampling(max_tokens=2, ignore_end=True)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        LLM.load(tmp_path / "none.gguf")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="folder"):
        LLM.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"GG", b"GGUF", b"not a model" * 100, b"GGUF" + b"\xff" * 500, b"GGUF" + bytes(500)]
)
def test_not_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        LLM.load(path)


def test_truncated_anywhere(tiny_gguf: Path, tmp_path: Path) -> None:
    """A mapping of a truncated file would end the process with SIGBUS at the first page that is not there."""
    whole = tiny_gguf.read_bytes()
    places = random.Random(0).sample(range(len(whole)), 60) + [len(whole) - 1, len(whole) // 2]
    for place in places:
        path = tmp_path / "cut.gguf"
        path.write_bytes(whole[:place])
        with pytest.raises(ModelError):
            LLM.load(path, threads=1)


def test_flipped_bits_in_the_header(tiny_gguf: Path, tmp_path: Path) -> None:
    """In a process of its own: it may load or be refused, but not die."""
    script = f"""
import random, sys
from personaplug_edge.engine import LLM
from personaplug_edge.errors import PersonaPlugError
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling
whole = open({str(tiny_gguf)!r}, "rb").read()
order = random.Random(1)
for i in range(40):
    broken = bytearray(whole)
    broken[order.randrange(4, 1200)] ^= 1 << order.randrange(8)
    path = {str(tmp_path / "flip.gguf")!r}
    open(path, "wb").write(broken)
    try:
        LLM.load(path, threads=1, context=32).generate(Prompt.tokens([1, 300]), Sampling(max_tokens=2))
    except PersonaPlugError:
        pass
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.stdout == "alive\n", done.stderr[-2000:]


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def file_of(path: Path, architecture: str, fill: Callable[[gguf.GGUFWriter], None] = lambda _: None) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    gguf_llama.add_tokenizer(writer, 512)
    fill(writer)
    writer.add_tensor("token_embd.weight", np.zeros((512, 64), np.float32))
    gguf_llama.finish(writer)
    return path


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ("bert", "encoder-only"),
        ("nomic-bert", "encoder-only"),
        ("t5", "encoder-decoder"),
        ("t5encoder", "encoder-only"),
        ("clip", "image encoder"),
        ("martian", "martian"),
    ],
)
def test_other_architectures(tmp_path: Path, architecture: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        LLM.load(file_of(tmp_path / "other.gguf", architecture))


def test_embedding_model(tmp_path: Path) -> None:
    path = file_of(tmp_path / "pooled.gguf", "qwen3", lambda writer: writer.add_pooling_type(gguf.PoolingType.LAST))
    with pytest.raises(ModelError, match="embedding model"):
        LLM.load(path)


def test_not_causal(tmp_path: Path) -> None:
    path = file_of(tmp_path / "both.gguf", "llama", lambda writer: writer.add_causal_attention(False))
    with pytest.raises(ModelError, match="encoder-only"):
        LLM.load(path)


def test_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        LLM.load(file_of(tmp_path / "vocabulary.gguf", "llama"))


def test_without_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "mute.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((512, 64), np.float32))
    gguf_llama.finish(writer)
    with pytest.raises(ModelError, match="tokenizer"):
        LLM.load(path)


def test_a_token_that_is_there_twice(tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes().replace(b"<0x41>", b"<0x42>", 1)
    path = tmp_path / "twice.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="twice"):
        LLM.load(path)


def test_a_recurrent_model_has_no_heads(tiny_mamba: TinyModel) -> None:
    """The converter writes attention.head_count = 0 for every Mamba."""
    with LLM.load(tiny_mamba.path, threads=1, context=256) as llm:
        answer = llm.generate(Prompt.tokens([1, 300, 301]), Sampling(max_tokens=5, ignore_end=True))
    assert len(answer.tokens) == 5


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count", "context_length"])
def test_sizes_of_zero(tiny_gguf: Path, tmp_path: Path, key: str) -> None:
    content = bytearray(tiny_gguf.read_bytes())
    name = f"llama.{key}".encode()
    place = content.index(name) + len(name) + 4  # the value follows the key and its type
    content[place : place + 4] = bytes(4)
    path = tmp_path / "zero.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=key):
        LLM.load(path)


def test_progress_can_cancel_and_raise(tiny_gguf: Path) -> None:
    with pytest.raises(CancelledError):
        LLM.load(tiny_gguf, progress=lambda _: False)

    def fail(_: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        LLM.load(tiny_gguf, progress=fail)
    seen: list[float] = []
    LLM.load(tiny_gguf, threads=1, progress=lambda value: seen.append(value)).close()
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context": -1}, "context"),
        ({"context": 10**9}, "context must be .* to 16777216"),
        ({"context": 2**30, "sequences": 2}, "context"),
        ({"threads": -1}, "threads"),
        ({"threads": 10_000}, "threads"),
        ({"threads_batch": -1}, "threads_batch"),
        ({"sequences": 0}, "sequences"),
        ({"sequences": 129}, "sequences"),
        ({"batch": 0}, "batch"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"cache_type": "f8"}, "cache_type"),
        ({"flash_attention": "maybe"}, "flash_attention"),
        ({"cache_type": "q8_0"}, "block size|flash_attn|K cache|head"),
    ],
)
def test_engine_options(tiny_gguf: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(EngineError, match=says):
        LLM.load(tiny_gguf, **options)  # type: ignore[arg-type]


def test_fewer_gpu_layers_than_none(tiny_gguf: Path) -> None:
    with pytest.raises(ModelError, match="gpu_layers must be -1"):
        LLM.load(tiny_gguf, gpu_layers=-7)


@pytest.mark.parametrize(
    "options",
    [
        {"context": 1},
        {"batch": 1},
        {"sequences": 128, "context": 4, "batch": 1},
        {"micro_batch": 1},
        {"context": 3, "sequences": 2},
    ],
)
def test_smallest_engines_work(tiny_gguf: Path, options: dict[str, int]) -> None:
    with LLM.load(tiny_gguf, threads=1, **options) as llm:
        rows = np.ones((1, 64), np.float32)
        assert len(llm.generate(Prompt.rows(rows), Sampling(max_tokens=1, ignore_end=True)).tokens) == 1
        assert llm.logits(Prompt.tokens([5])).shape == (1, 512)
        assert len(llm.score(Prompt.rows(rows), [[3]])[0]) == 1


def test_logits_that_are_not_numbers_do_not_stay(model_folder: Path) -> None:
    """A token whose row is NaN: attention multiplies even masked cells, so the cache must be wiped after it."""
    model = gguf_llama.write(model_folder / "hole.gguf", Shape(seed=4))
    content = bytearray(model.path.read_bytes())
    row = model.weights["token_embd.weight"][77].tobytes()
    place = bytes(content).index(row)
    content[place : place + len(row)] = np.full(64, np.nan, np.float32).tobytes()
    model.path.write_bytes(content)
    with LLM.load(model.path, threads=1, sequences=2, cache_type="f32", flash_attention="off") as llm:
        good, bad = Prompt.tokens([1, 300]), Prompt.tokens([77, 5])
        expected = llm.generate(good, Sampling(max_tokens=8, ignore_end=True)).tokens
        running = llm.stream(good, Sampling(max_tokens=50, ignore_end=True))
        next(running)
        for call in (
            lambda: llm.generate(bad, ALIVE),
            lambda: llm.generate(bad, Sampling(temperature=1.0, top_k=4)),
            lambda: llm.generate(bad, Sampling(logprobs=2)),
            lambda: llm.score(bad, [[3, 4]]),
            lambda: llm.logits(bad),
        ):
            with pytest.raises(EngineError, match="not finite"):
                call()
            assert llm.generate(good, Sampling(max_tokens=8, ignore_end=True)).tokens == expected
        with pytest.raises(EngineError, match="not finite|dropped"):
            list(running)


def test_a_model_whose_weights_are_not_numbers(model_folder: Path) -> None:
    model = gguf_llama.write(model_folder / "nan.gguf", Shape(seed=9))
    content = bytearray(model.path.read_bytes())
    weight = model.weights["output.weight"].tobytes()
    place = bytes(content).index(weight)
    content[place : place + len(weight)] = np.full(len(weight) // 4, np.nan, np.float32).tobytes()
    model.path.write_bytes(content)
    with LLM.load(model.path, threads=1) as llm:
        for sampling in (ALIVE, Sampling(temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.2)):
            with pytest.raises(EngineError, match="not finite"):
                llm.generate(Prompt.tokens([1]), sampling)


def test_ctrl_c_leaves_the_engine_usable(tiny_gguf: Path) -> None:
    script = f"""
import _thread, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
from personaplug_edge.engine import LLM
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling
llm = LLM.load({str(tiny_gguf)!r}, threads=1, sequences=2)
def endless():
    while True:
        llm.generate(Prompt.tokens([1] * 200), Sampling(max_tokens=50, ignore_end=True))
def scores():
    while True:
        llm.score(Prompt.tokens([1] * 100), [[3] * 20] * 200)
for call in (endless, scores):
    threading.Timer(0.3, _thread.interrupt_main).start()
    try:
        call()
    except KeyboardInterrupt:
        print("stopped", llm.engine.live)
print(len(llm.generate(Prompt.tokens([1, 5]), Sampling(max_tokens=3, ignore_end=True)).tokens))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.stdout.split() == ["stopped", "0", "stopped", "0", "3"], done.stderr[-2000:]


def test_another_llama_cpp_is_refused() -> None:
    from personaplug_edge._native import check_versions

    check_versions("0.3.36", "0.3.36")
    with pytest.raises(VersionMismatchError, match=r"pip install 'llama-cpp-python==0.3.36'"):
        check_versions("0.3.36", "0.3.35")


def test_one_libllama_is_mapped() -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    script = "from pathlib import Path\n{}\nprint(Path('/proc/self/maps').read_text(), 'llama_cpp' in sys.modules)"
    for imports in ("import sys, personaplug_edge._native", "import sys, personaplug_edge._native, llama_cpp"):
        line = [sys.executable, "-c", script.format(imports)]
        found = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=60, check=True).stdout
        assert len({line.split()[-1] for line in found.splitlines() if "libllama.so" in line}) == 1
        assert found.endswith(f"{'llama_cpp' in imports}\n")


def test_every_error_is_a_personaplug_error(tmp_path: Path) -> None:
    with pytest.raises(PersonaPlugError):
        LLM.load(tmp_path / "none.gguf")
    with pytest.raises(OSError, match="no such file"):
        LLM.load(tmp_path / "none.gguf")
