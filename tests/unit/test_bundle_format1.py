"""A manifest of format 1 as it was first written. It stays as it is: bundles out there have to load for ever."""

from __future__ import annotations

import json

from personaplug_edge.bundle import EncoderPart, HeadPart, Manifest

ZERO, ONE = "0" * 64, "1" * 64
FILES = {
    name: {"sha256": ZERO, "bytes": 1} for name in ("llm.gguf", "e.onnx", "t.json", "p.onnx", "a.onnx", "rows.npz")
}
ENCODER = {
    "file": "e.onnx",
    "tokenizer": "t.json",
    "pooling": "none",
    "normalize": True,
    "prefix": "",
    "max_tokens": 128,
    "width": 256,
}
FORMAT_1 = {
    "format": 1,
    "name": "tiny",
    "version": "1",
    "license": "CC0-1.0",
    "model_card": "MODEL_CARD.md",
    "files": FILES | {"MODEL_CARD.md": {"sha256": ONE, "bytes": 2}, "input_head.onnx": {"sha256": ONE, "bytes": 3}},
    "llm": {
        "file": "llm.gguf",
        "architecture": "llama",
        "embedding_width": 256,
        "vocabulary_size": 8192,
        "tokenizer_sha256": ONE,
        "context": 512,
    },
    "behavior_encoder": ENCODER,
    "input_encoder": {"head": "input_head.onnx", "prefix": "query: "},
    "projector": {"file": "p.onnx"},
    "aggregator": {"file": "a.onnx"},
    "persona": {"tokens": 4, "rows": "rows.npz", "token_norm": 1.25},
    "history": {"template": "{output}: {text}", "template_without_output": "{text}", "max_items": 0},
    "prompt": {
        "template": "{input}\nanswer:",
        "layout": ["bos", "instruction", "persona", "prompt"],
        "max_input_tokens": 256,
    },
    "sampling": {"max_tokens": 48, "stop": ["\n"]},
    "measured": {"anything": [1, {"at": "all"}]},
}


def test_format_1_with_a_head() -> None:
    manifest = Manifest.from_json(json.dumps(FORMAT_1))
    assert manifest.input_encoder == HeadPart(head="input_head.onnx", prefix="query: ")
    assert manifest.behavior_encoder.width == 256 and manifest.behavior_encoder.pooling == "none"
    assert manifest.files["MODEL_CARD.md"].bytes == 2
    assert (manifest.persona.tokens, manifest.persona.token_norm) == (4, 1.25)
    assert manifest.measured == {"anything": [1, {"at": "all"}]}
    written = json.loads(manifest.to_json())
    assert written["prompt"].pop("system") == ""  # came later, as the next: without them nothing changes
    assert written["prompt"].pop("max_prompt_tokens") == 512
    assert written == FORMAT_1


def test_format_1_with_two_encoders() -> None:
    manifest = Manifest.from_json(json.dumps(FORMAT_1 | {"input_encoder": ENCODER | {"prefix": "query: "}}))
    assert isinstance(manifest.input_encoder, EncoderPart) and manifest.input_encoder.prefix == "query: "
