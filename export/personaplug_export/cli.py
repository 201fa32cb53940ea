"""``personaplug-export``: train a plug, export its parts, make a bundle, and hold the bundle against PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from personaplug_edge.errors import PersonaPlugError

app = typer.Typer(
    name="personaplug-export",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False)]


@app.command(context_settings=PASS_ON)
def train(context: typer.Context) -> None:
    """Train a plug for a frozen causal LM. Options: personaplug-export train --help."""
    _require_torch()
    from personaplug_export.train_command import train_command

    _delegate(train_command, context)


@app.command(context_settings=PASS_ON)
def ablate(context: typer.Context) -> None:
    """Train variants of a plug, each for as long, and compare them. Options: personaplug-export ablate --help."""
    _require_torch()
    from personaplug_export.ablate import ablate_command

    _delegate(ablate_command, context)


@app.command(context_settings=PASS_ON)
def adapt(context: typer.Context) -> None:
    """Adapt a plug to another LLM with few examples. Options: personaplug-export adapt --help."""
    _require_torch()
    from personaplug_export.adapt_command import adapt_command

    _delegate(adapt_command, context)


@app.command(context_settings=PASS_ON)
def lora(context: typer.Context) -> None:
    """Train one adapter per user (LoRA or prompt tuning). Options: personaplug-export lora --help."""
    _require_torch()
    from personaplug_export.lora_command import lora_command

    _delegate(lora_command, context)


@app.command(context_settings=PASS_ON)
def tiny(context: typer.Context) -> None:
    """Build the reference bundle "tiny" from nothing. Options: personaplug-export tiny --help."""
    _require_torch()
    from personaplug_export.tiny.build import tiny_command

    _delegate(tiny_command, context)


@app.command()
def onnx(
    encoder: Annotated[
        Path, typer.Argument(help="Folder of a BERT-like Hugging Face encoder.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Argument(help="Folder for encoder.onnx, encoder_tokenizer.json and encoder.json.")],
    pooling: Annotated[str, typer.Option(help="mean or cls; by default what 1_Pooling/config.json says.")] = "",
    precision: Annotated[
        str, typer.Option(help="f32, f16 (stored so, computed in f32), int8 (in blocks), int8-static, int8-dynamic.")
    ] = "f32",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Texts like those to be encoded, one a line, for int8-static.", exists=True, dir_okay=False),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Text in front of every input.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longer inputs are cut.")] = 128,
    normalize: Annotated[bool, typer.Option(help="L2-normalise in the graph.")] = True,
) -> None:
    """Export a sentence encoder to one ONNX graph, pooling included, and compare it with PyTorch."""
    _require_torch()
    from personaplug_export.onnx_encoder import EncoderOptions, describe, export_encoder

    texts = [line.strip() for line in calibrate.read_text(encoding="utf-8").splitlines()] if calibrate else []
    options = EncoderOptions(
        pooling=pooling,
        precision=precision,
        prefix=prefix,
        max_tokens=max_tokens,
        normalize=normalize,
        calibration=tuple(text for text in texts if text),
    )
    _print_json(describe(export_encoder(encoder, out, options)))


@app.command()
def gguf(
    model: Annotated[Path, typer.Argument(help="Folder of a Hugging Face causal LM.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Argument(help="The GGUF file to write.")],
    kind: Annotated[
        str, typer.Option(help="f32, f16, bf16, or a quantisation of llama.cpp: q8_0, q6_k, q4_k_m, ...")
    ] = "q8_0",
    tokenizer_model: Annotated[
        Path | None, typer.Option(help="SentencePiece model to put beside a checkpoint without one.")
    ] = None,
    llama_cpp: Annotated[
        Path | None, typer.Option(help="A llama.cpp checkout; by default the sdist's, fetched once.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the quantiser.")] = 1,
) -> None:
    """Convert a causal LM to GGUF with llama.cpp's own converter and quantiser, and load the result."""
    _require_torch()
    from personaplug_export.gguf_export import export_gguf

    summary = export_gguf(model, out, kind=kind, tokenizer_model=tokenizer_model, llama_cpp=llama_cpp, threads=threads)
    _print_json({**summary.__dict__, "path": str(summary.path)})


@app.command()
def bundle(
    plug: Annotated[Path, typer.Argument(help="Folder that train wrote.", exists=True, file_okay=False)],
    encoder: Annotated[Path, typer.Argument(help="Folder that onnx wrote.", exists=True, file_okay=False)],
    llm: Annotated[Path, typer.Argument(help="GGUF file of the LLM.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")],
    license: Annotated[str, typer.Option(help="License of the weights.")],
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    input_encoder: Annotated[
        Path | None, typer.Option(help="Folder that onnx wrote, for a trained input encoder.", exists=True)
    ] = None,
    details: Annotated[
        Path | None,
        typer.Option(
            help="JSON: context, prompt_template, max_input_tokens, max_prompt_tokens, max_items, input_prefix, "
            "sampling, measured, card."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Put plug, encoder and LLM into a bundle."""
    _require_torch()
    from personaplug_export.bundle_export import BundleOptions, export_bundle
    from personaplug_export.errors import ExportError
    from personaplug_export.model_card import ModelCard

    try:
        given: dict[str, Any] = json.loads(details.read_text(encoding="utf-8")) if details else {}
        given["card"] = ModelCard(**given.get("card", {}))
        options = BundleOptions(**given, name=name, version=version, license=license)
    except (OSError, TypeError, ValueError) as error:
        raise ExportError(f"--details {details}: {error}") from error
    made = export_bundle(plug, encoder, llm, out, options, input_encoder_folder=input_encoder, force=force)
    files = {file: part.bytes for file, part in made.manifest.files.items()}
    _print_json({"bundle": str(made.folder), "megabytes": round(sum(files.values()) / 1e6, 2), "files": files})


@app.command()
def parity(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.", exists=True, file_okay=False)],
    llm: Annotated[Path, typer.Option(help="Hugging Face folder of the LLM.", exists=True, file_okay=False)],
    plug: Annotated[Path, typer.Option(help="Folder that train wrote.", exists=True, file_okay=False)],
    encoder: Annotated[Path, typer.Option(help="Hugging Face folder of the encoder.", exists=True, file_okay=False)],
    gguf: Annotated[
        Path | None, typer.Option(help="A float32 GGUF file of the LLM; by default converted now.", exists=True)
    ] = None,
    llama_cpp: Annotated[Path | None, typer.Option(help="A llama.cpp checkout, for the conversion.")] = None,
    pooling: Annotated[str, typer.Option(help="Pooling of the encoder, as given to onnx.")] = "",
    prompts: Annotated[int, typer.Option(min=1, max=392, help="Prompts continued greedily.")] = 200,
    tokens: Annotated[int, typer.Option(min=1, help="Greedy tokens a prompt.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file; - for stdout.")] = None,
) -> None:
    """Compare a bundle in the runtime with PyTorch; exit status 1 when they differ."""
    _require_torch()
    from personaplug_export.checks import show, to_json
    from personaplug_export.parity import ParityOptions, check_bundle

    options = ParityOptions(prompts=prompts, tokens=tokens, threads=threads, pooling=pooling)
    checks = check_bundle(bundle, llm, plug, encoder, options, gguf=gguf, llama_cpp=llama_cpp)
    if output is not None and str(output) != "-":
        output.write_text(to_json(checks), encoding="utf-8")
    print(to_json(checks), end="") if str(output) == "-" else show(checks)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; an error that was foreseen is one message and exit status 1, without a traceback."""
    try:
        app()
    except PersonaPlugError as error:
        print(f"personaplug-export: error: {error}", file=sys.stderr)
        sys.exit(1)


def _delegate(command: Callable[..., None], context: typer.Context) -> None:
    """Runs a command whose options are only known once torch is imported."""
    inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    inner.command()(command)
    inner(args=context.args, prog_name=context.command_path)


def _require_torch() -> None:
    from personaplug_export.errors import require

    require("torch", "transformers")


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, indent=2))


if __name__ == "__main__":
    main()
