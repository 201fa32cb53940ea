"""What several of these tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.onnx_models import make_bundle
from personaplug_edge.bundle import PromptPart


@pytest.fixture(scope="session")
def random_bundle(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random bundle of two persona tokens; nobody writes into its folder."""
    prompt = PromptPart(template="{input}\nanswer:", max_input_tokens=64)
    where = tmp_path_factory.mktemp("bundle") / "random"
    return make_bundle(where, llm_file=tiny_gguf, name="random", tokens=2, prompt=prompt)
