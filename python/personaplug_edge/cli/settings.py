"""What every command shares: bundle, store, threads; given before the command, after it, or by the environment."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import StoreError
from .expand import expand_options
from .failures import guarded

BUNDLE_VARIABLE = "PERSONAPLUG_BUNDLE"
STORE_VARIABLE = "PERSONAPLUG_STORE"

_PANEL = "Shared options"
Bundle = Annotated[
    str | None, typer.Option(help="Bundle: `tiny`, or a folder with a bundle.json.", rich_help_panel=_PANEL)
]
Store = Annotated[Path | None, typer.Option(help="File of the history store.", rich_help_panel=_PANEL)]
Threads = Annotated[
    int | None, typer.Option(min=0, max=512, help="CPU threads; 0: physical cores.", rich_help_panel=_PANEL)
]
Adapters = Annotated[
    Path | None,
    typer.Option(
        help="Folder that personaplug-export lora wrote, for the methods lora and prompt-tuning.",
        rich_help_panel=_PANEL,
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_PANEL)]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The shared options as typed after the command; None where they were not."""

    bundle: Bundle = None
    store: Store = None
    threads: Threads = None
    adapters: Adapters = None
    debug: Debug = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The shared options with their defaults filled in."""

    bundle: str = "tiny"
    store: Path | None = None
    threads: int = 0
    adapters: Path | None = None
    debug: bool = False

    @property
    def store_path(self) -> Path:
        """The store's file: as given, or in the user's data folder."""
        if self.store is not None:
            if str(self.store) == ":memory:":
                raise StoreError("--store :memory: would be gone with this command; give the path of a file")
            return self.store
        from platformdirs import user_data_path

        return user_data_path("personaplug-edge", appauthor=False) / "history.sqlite3"

    def with_(self, shared: Shared) -> Settings:
        """These settings, with what was typed after the command put over them."""
        given = {field.name: getattr(shared, field.name) for field in fields(shared)}
        return replace(
            self, **{name: value for name, value in given.items() if value is not None and value is not False}
        )


_current: ContextVar[Settings] = ContextVar("personaplug_settings")


def settings() -> Settings:
    """The settings of the command that runs."""
    return _current.get(Settings())


def set_settings(value: Settings) -> None:
    """Called once by the application with the options that stand before the command."""
    _current.set(value)


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command that also takes the shared options and turns errors into exit codes."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def with_shared(*, shared: Shared, **arguments: Any) -> None:
            set_settings(settings().with_(shared))
            with guarded(debug=settings().debug):
                function(**arguments)

        app.command(name)(expand_options(with_shared, function, shared=Shared))
        return function

    return register
