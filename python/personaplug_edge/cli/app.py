"""The application: the options before the command, and the list of commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import batch, chat, demo, eval, explain, forget, generate, history, info, map, remember, summarize, users
from .settings import BUNDLE_VARIABLE, STORE_VARIABLE, Settings, command, set_settings

app = typer.Typer(
    name="personaplug",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from ..info import package_version

        print(f"personaplug {package_version()}")
        raise typer.Exit


@app.callback()
def shared(
    bundle: Annotated[
        str, typer.Option(envvar=BUNDLE_VARIABLE, help="Bundle: `tiny`, or a folder with a bundle.json.")
    ] = "tiny",
    store: Annotated[
        Path | None,
        typer.Option(envvar=STORE_VARIABLE, help="File of the history store; by default in your data folder."),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, max=512, help="CPU threads; 0: physical cores.")] = 0,
    adapters: Annotated[
        Path | None,
        typer.Option(help="Folder that personaplug-export lora wrote, for the methods lora and prompt-tuning."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Personal answers from a local LLM: a user's history of texts becomes a few rows in front of the prompt."""
    set_settings(Settings(bundle=bundle, store=store, threads=threads, adapters=adapters, debug=debug))


for _name, _function in (
    ("demo", demo.demo),
    ("generate", generate.generate),
    ("chat", chat.chat),
    ("explain", explain.explain),
    ("remember", remember.remember),
    ("forget", forget.forget),
    ("summarize", summarize.summarize),
    ("users", users.users),
    ("map", map.map_users),
    ("batch", batch.batch),
    ("eval", eval.evaluate),
    ("info", info.info),
):
    command(app, _name)(_function)
app.add_typer(history.app, name="history", help="See, search, correct, export and import a user's items.")


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="personaplug")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    return 0
