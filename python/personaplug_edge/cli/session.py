"""Opening what a command works on: the plug (LLM and encoders), or the store alone where that is enough."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from .settings import Settings, settings
from .terminal import err, notice, progress_bar

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..embedder import UserEmbedder
    from ..plug import PersonaPlug
    from ..store import HistoryStore


def load_plug(chosen: Settings, store: Path | None) -> PersonaPlug:
    """Loads the bundle; ``store`` None keeps the histories in memory."""
    from ..plug import PersonaPlug

    return PersonaPlug.load(chosen.bundle, store=store, threads=chosen.threads, adapters=chosen.adapters)


@contextmanager
def open_plug(*, in_memory: bool = False) -> Iterator[PersonaPlug]:
    """The plug of the settings, with a spinner while it loads, closed at the end."""
    chosen = settings()
    store = None if in_memory else chosen.store_path
    if store is not None and chosen.store is None:
        store.parent.mkdir(parents=True, exist_ok=True)  # the data folder is ours; a folder that was named is not
    if sys.stderr.isatty():
        with err().status(f"loading {chosen.bundle}"):
            plug = load_plug(chosen, store)
    else:
        plug = load_plug(chosen, store)
    with plug:
        yield plug


@contextmanager
def open_store(*, read_only: bool = True) -> Iterator[HistoryStore]:
    """The store of the settings. Never makes one: a mistyped path must not look like an empty history."""
    from ..store import HistoryStore

    path = settings().store_path
    if not path.exists():
        raise StoreError(f"no history store at {path}: `personaplug remember` makes one, --store names another")
    with HistoryStore(path, read_only=read_only) as store:
        yield store


@contextmanager
def open_embedder() -> Iterator[tuple[Bundle, UserEmbedder]]:
    """The bundle of the settings and its encoders, where no LLM is needed."""
    from ..bundle import Bundle
    from ..embedder import UserEmbedder

    chosen = settings()
    bundle = Bundle.load(chosen.bundle)
    yield bundle, UserEmbedder.from_bundle(bundle, threads=chosen.threads)


def ready_user(plug: PersonaPlug, user: str | None, persona: str) -> None:
    """Says that the cold-start persona will speak, when the user has no history: most often a mistyped id.

    A history that was stored with another bundle is embedded for this one first, under a progress bar.
    """
    if user is None or persona == "off":
        return
    count = plug.store.count(user)
    if not count:
        return notice(f"user {user!r} has no history in this store; the cold-start persona is used")
    with progress_bar("embedding for this bundle", count) as progress:
        made = plug.reembed(user, lambda done: progress(done, None))
    if made:
        notice(f"embedded {made} items of {user!r} for the bundle {plug.bundle.manifest.name!r}")
