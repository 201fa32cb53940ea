"""The export side needs torch: without it every module here is skipped, with a reason, and none is imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

MISSING = [name for name in ("torch", "transformers", "optimum", "sentencepiece") if find_spec(name) is None]

if not MISSING:
    from export_models import (  # noqa: F401  # fixtures
        awkward_texts,
        encoder_folder,
        llama_cpp,
        llm_folder,
        make_plug,
        one_thread,
        teacher_folder,
        tokenizer_model,
    )


class SkippedModule(pytest.Module):
    """A test module that is not imported."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(
            f"{', '.join(MISSING)} not installed: pip install 'personaplug-edge[export]'", allow_module_level=True
        )


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None
