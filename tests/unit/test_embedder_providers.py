"""Which execution providers are asked for."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from personaplug_edge.embedder.providers import choose_providers, warn_of_fallback
from personaplug_edge.errors import EncoderError

CUDA, COREML, CPU = "CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        ([CPU], [CPU]),
        (["TensorrtExecutionProvider", CUDA, CPU], [CUDA, CPU]),
        ([COREML, "AzureExecutionProvider", CPU], [COREML, CPU]),
        ([CPU, COREML, CUDA], [CUDA, COREML, CPU]),
    ],
)
def test_the_best_of_what_is_there(available: list[str], chosen: list[str]) -> None:
    assert choose_providers(None, available) == chosen


def test_asked_ones_are_taken_in_their_order_and_the_cpu_is_last() -> None:
    assert choose_providers(["coreml", CUDA], [CPU, CUDA, COREML]) == [COREML, CUDA, CPU]
    assert choose_providers(["cpu"], [CUDA, CPU]) == [CPU]
    assert choose_providers("CUDA", [CUDA, CPU]) == [CUDA, CPU]


def test_a_missing_one_is_left_out_with_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="has no CUDAExecutionProvider .it has CPUExecutionProvider."):
        assert choose_providers(["cuda", "cpu"], [CPU]) == [CPU]


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(EncoderError, match="unknown execution provider 'gpu'; expected some of cuda, coreml, cpu"):
        choose_providers(["gpu"], [CPU])


def test_a_provider_that_did_not_start_is_told() -> None:
    with pytest.warns(RuntimeWarning, match="CUDAExecutionProvider could not be started for e.onnx; it runs on CPU"):
        warn_of_fallback([CUDA, CPU], [CPU], Path("e.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_fallback([CPU], [CPU], Path("e.onnx"))
