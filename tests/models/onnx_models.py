"""Tiny ONNX graphs, tokenizers and whole bundles, made by the tests: seeded, a few kilobytes, no file from outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from personaplug_edge.bundle import (
    MANIFEST_NAME,
    EncoderPart,
    GraphPart,
    HeadPart,
    HistoryPart,
    LLMPart,
    Manifest,
    PersonaPart,
    PromptPart,
    files_of,
    tokenizer_digest,
)

OPSET, IR_VERSION = 17, 9  # read by every onnxruntime since 1.15
WORDS = "the a film was good bad long news sport music i like this story end very science fiction love it".split()
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
Array = NDArray[np.float32]


class FakeLLM:
    """What a bundle asks of a loaded LLM; for tests that need no LLM."""

    architecture = "llama"

    def __init__(self, width: int = 64, vocabulary: int = 32, mark: str = "token") -> None:
        self.embedding_width, self.vocabulary_size, self.mark = width, vocabulary, mark

    def piece(self, id: int, /) -> bytes:
        return f"{self.mark}{id}".encode()


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    constants: dict[str, NDArray[Any]],
) -> Path:
    """Save a checked graph; inputs and outputs are name: (type, shape)."""
    infos = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in group.items()]
        for group in (inputs, outputs)
    ]
    values = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "test", infos[0], infos[1], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_tokenizer(path: Path, words: Sequence[str] = WORDS) -> Path:
    """A lower-casing WordLevel tokenizer: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, then ``words``; [CLS] text [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(path))
    return path


def write_encoder(
    path: Path,
    *,
    width: int = 16,
    vocabulary: int = 4 + len(WORDS),
    pooled: bool = False,
    types: bool = True,
    seed: int = 0,
) -> Array:
    """A token table in a graph; returns the table (vocabulary, width).

    ``pooled``: masked mean inside, output ``embedding`` (batch, width). Otherwise output ``last_hidden_state``
    (batch, tokens, width), in which every token also holds a tenth of the sequence's sum over all positions that the
    mask lets through.
    """
    table = np.random.default_rng(seed).standard_normal((vocabulary, width)).astype(np.float32)
    integer = (INT, ["batch", "tokens"])
    inputs = {"input_ids": integer, "attention_mask": integer} | ({"token_type_ids": integer} if types else {})
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["looked_up", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens_axis"], ["sum"], keepdims=0 if pooled else 1),
    ]
    constants: dict[str, NDArray[Any]] = {"table": table, "last": np.array([2]), "tokens_axis": np.array([1])}
    if types:  # read, without an effect: real graphs add the row of type 0 to every token
        constants["zero"] = np.zeros((), dtype=np.float32)
        nodes.append(helper.make_node("Cast", ["token_type_ids"], ["types"], to=FLOAT))
        nodes.append(helper.make_node("Unsqueeze", ["types", "last"], ["types3"]))
        nodes.append(helper.make_node("Mul", ["types3", "zero"], ["nothing3"]))
    if pooled:
        nodes.append(helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=1))
        nodes.append(helper.make_node("Div", ["sum", "count"], ["embedding"]))
        if types:
            nodes[-1].output[0] = "mean"
            nodes.append(helper.make_node("ReduceSum", ["nothing3", "tokens_axis"], ["nothing"], keepdims=0))
            nodes.append(helper.make_node("Add", ["mean", "nothing"], ["embedding"]))
        outputs = {"embedding": (FLOAT, ["batch", width])}
    else:
        constants["tenth"] = np.array(0.1, dtype=np.float32)
        nodes.append(helper.make_node("Mul", ["sum", "tenth"], ["shared"]))
        nodes.append(helper.make_node("Add", ["looked_up", "shared"], ["last_hidden_state"]))
        if types:
            nodes[-1].output[0] = "mixed"
            nodes.append(helper.make_node("Add", ["mixed", "nothing3"], ["last_hidden_state"]))
        outputs = {"last_hidden_state": (FLOAT, ["batch", "tokens", width])}
    write_graph(path, nodes, inputs, outputs, constants)
    return table


def write_projector(
    path: Path, *, width: int = 16, tokens: int = 1, width_llm: int = 64, seed: int = 1
) -> tuple[Array, Array]:
    """Linear(d, H) - GELU - Linear(H, kH), as in PPlug (arXiv 2409.11901, section 3); returns both matrices."""
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((width, width_llm)).astype(np.float32)
    outer = (rng.standard_normal((width_llm, tokens * width_llm)) / np.sqrt(width_llm)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["vectors", "inner"], ["x"]),
        helper.make_node("Div", ["x", "root2"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["erf1"]),
        helper.make_node("Mul", ["x", "erf1"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], ["gelu"]),
        helper.make_node("Gemm", ["gelu", "outer"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["rows"]),
    ]
    scalars = {"root2": 2**0.5, "one": 1.0, "half": 0.5}
    constants: dict[str, NDArray[Any]] = {name: np.array(value, dtype=np.float32) for name, value in scalars.items()}
    constants |= {"inner": inner, "outer": outer, "shape": np.array([-1, tokens, width_llm])}
    outputs = {"rows": (FLOAT, ["items", tokens, width_llm])}
    write_graph(path, nodes, {"vectors": (FLOAT, ["items", width])}, outputs, constants)
    return inner, outer


def write_aggregator(
    path: Path, *, width: int = 16, tokens: int = 1, width_llm: int = 64, temperature: float = 10.0
) -> Path:
    """Softmax over temperature * q.h_i, then the weighted sum of the projections (PPlug, eqs. 4 and 5).

    The query is a column: onnxruntime 1.31 takes 40 times as long for MatMul with a query of one dimension (measured).
    """
    nodes = [
        helper.make_node("Mul", ["query", "temperature"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "axis1"], ["column"]),
        helper.make_node("MatMul", ["vectors", "column"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=0),
        helper.make_node("Squeeze", ["shares", "axis1"], ["weights"]),
        helper.make_node("Reshape", ["projections", "flat_shape"], ["flat"]),
        helper.make_node("Unsqueeze", ["weights", "axis0"], ["row"]),
        helper.make_node("Gemm", ["row", "flat"], ["sum"]),
        helper.make_node("Reshape", ["sum", "persona_shape"], ["persona"]),
    ]
    constants: dict[str, NDArray[Any]] = {"axis0": np.array([0]), "axis1": np.array([1])}
    constants["temperature"] = np.array(temperature, dtype=np.float32)
    constants |= {"flat_shape": np.array([-1, tokens * width_llm]), "persona_shape": np.array([tokens, width_llm])}
    inputs = {"query": (FLOAT, [width]), "vectors": (FLOAT, ["items", width])}
    inputs["projections"] = (FLOAT, ["items", tokens, width_llm])
    outputs = {"persona": (FLOAT, [tokens, width_llm]), "weights": (FLOAT, ["items"])}
    return write_graph(path, nodes, inputs, outputs, constants)


def write_head(path: Path, *, width: int = 16, seed: int = 2) -> Array:
    """A linear head (n, d) to (n, d); returns its matrix."""
    matrix = np.random.default_rng(seed).standard_normal((width, width)).astype(np.float32)
    shape = {"vectors": (FLOAT, ["items", width])}, {"output": (FLOAT, ["items", width])}
    write_graph(path, [helper.make_node("Gemm", ["vectors", "matrix"], ["output"])], *shape, {"matrix": matrix})
    return matrix


def make_bundle(
    folder: Path,
    *,
    llm_file: Path | None = None,
    width_llm: int = 64,
    tokens: int = 1,
    width: int = 16,
    instruction_rows: int = 1,
    head: bool = False,
    pooling: str = "mean",
    temperature: float = 10.0,
    name: str = "test",
    scale: float = 1.0,
    **manifest: Any,
) -> Path:
    """A whole bundle in ``folder`` (made when missing); returns ``folder``.

    ``llm_file``: a GGUF file, copied to ``llm.gguf`` and asked for its architecture, width and tokenizer through the
    extension; None: a dummy that fits :class:`FakeLLM` of ``width_llm``. ``scale``: length of the instruction and
    cold-start rows. ``manifest``: further fields of :class:`Manifest`, such as ``sampling``, ``prompt`` or
    ``history``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    llm = _put_llm(folder, llm_file, width_llm)
    width_llm = llm.embedding_width
    write_tokenizer(folder / "encoder_tokenizer.json")
    write_encoder(folder / "encoder.onnx", width=width, pooled=pooling == "none")
    write_projector(folder / "projector.onnx", width=width, tokens=tokens, width_llm=width_llm)
    write_aggregator(
        folder / "aggregator.onnx", width=width, tokens=tokens, width_llm=width_llm, temperature=temperature
    )
    _write_rows(folder / "rows.npz", instruction_rows, tokens, width_llm, scale)
    (folder / "MODEL_CARD.md").write_text("# A bundle of the tests\n", encoding="utf-8")
    encoder: dict[str, Any] = {"file": "encoder.onnx", "tokenizer": "encoder_tokenizer.json", "pooling": pooling}
    behavior = EncoderPart(**encoder, width=width, max_tokens=32)
    input_encoder: EncoderPart | HeadPart = behavior
    names = ["llm.gguf", "encoder.onnx", "encoder_tokenizer.json", "projector.onnx", "aggregator.onnx", "rows.npz"]
    names.append("MODEL_CARD.md")
    if head:
        write_head(folder / "input_head.onnx", width=width)
        input_encoder = HeadPart(head="input_head.onnx")
        names.append("input_head.onnx")
    fields: dict[str, Any] = {
        "version": "1",
        "license": "CC0-1.0",
        "model_card": "MODEL_CARD.md",
        "history": HistoryPart(),
        "prompt": PromptPart(template="{input}\nanswer:"),
        "sampling": {"max_tokens": 8, "stop": ["\n"]},
    }
    made = Manifest(
        name=name,
        files=files_of(folder, names),
        llm=llm,
        behavior_encoder=behavior,
        input_encoder=input_encoder,
        projector=GraphPart(file="projector.onnx"),
        aggregator=GraphPart(file="aggregator.onnx"),
        persona=PersonaPart(tokens=tokens, rows="rows.npz", token_norm=scale),
        **(fields | manifest),
    )
    (folder / MANIFEST_NAME).write_text(made.to_json(), encoding="utf-8")
    return folder


def edit_manifest(folder: Path, changes: dict[str, Any]) -> None:
    """Set keys of ``bundle.json`` by key path (``llm.file``); the value ... deletes the key."""
    path = folder / MANIFEST_NAME
    data = json.loads(path.read_text(encoding="utf-8"))
    for at, value in changes.items():
        *parents, last = at.split(".")
        place = data
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    path.write_text(json.dumps(data), encoding="utf-8")


def _write_rows(path: Path, instruction_rows: int, tokens: int, width: int, scale: float) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((instruction_rows + tokens, width)).astype(np.float32)
    rows *= scale / np.linalg.norm(rows, axis=1, keepdims=True)
    np.savez(path, instruction=rows[:instruction_rows], cold_start=rows[instruction_rows:])


def _put_llm(folder: Path, llm_file: Path | None, width: int) -> LLMPart:
    target = folder / "llm.gguf"
    model: Any = FakeLLM(width)
    if llm_file is None:
        target.write_bytes(b"GGUF, but a dummy")
    else:
        from personaplug_edge._native import core

        shutil.copyfile(llm_file, target)  # no link: fault tests change bytes of what they are given
        model = core.Model(str(target))
    return LLMPart(
        file="llm.gguf",
        architecture=model.architecture,
        embedding_width=model.embedding_width,
        vocabulary_size=model.vocabulary_size,
        tokenizer_sha256=tokenizer_digest(model),
    )
