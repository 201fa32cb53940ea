"""Opening what a command works on: the plug (LLM and encoders), or the store alone where that is enough."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import StoreError
from .method import has_persona
from .settings import Settings, settings
from .terminal import err, notice, progress_bar

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..embedder import UserEmbedder
    from ..plug import PersonaPlug
    from ..store import HistoryStore

Access = Literal["read", "use", "write", "make"]
"""read: nothing is written. use: what is made on the way (vectors, summaries) is kept, where the file can be written.
write: the store is changed. make: changed, and made where it is not there. Whatever else was named must be there: a
mistyped path must not look like an empty history."""


def load_plug(chosen: Settings, store: Path | HistoryStore | None) -> PersonaPlug:
    """Loads the bundle; ``store`` None keeps the histories in memory."""
    from ..plug import PersonaPlug

    return PersonaPlug.load(chosen.bundle, store=store, threads=chosen.threads, adapters=chosen.adapters)


@contextmanager
def open_plug(access: Access = "use", *, in_memory: bool = False) -> Iterator[PersonaPlug]:
    """The plug of the settings, with a spinner while it loads, closed at the end.

    The default store that is not there yet is an empty one to ``use``, and nothing is written.
    """
    chosen = settings()
    with ExitStack() as opened:
        store = None if in_memory else _plugs_store(chosen, access, opened)
        if sys.stderr.isatty():
            with err().status(f"loading {chosen.bundle}"):
                plug = load_plug(chosen, store)
        else:
            plug = load_plug(chosen, store)
        with plug:
            yield plug


def _plugs_store(chosen: Settings, access: Access, opened: ExitStack) -> Path | HistoryStore | None:
    path = chosen.store_path
    if access == "make":
        if chosen.store is None:
            path.parent.mkdir(parents=True, exist_ok=True)  # the data folder is ours; a folder that was named is not
        return path
    if access == "use" and chosen.store is None and not path.exists():
        return None
    return usable_store(path, access, opened)


def usable_store(path: Path, access: Access, opened: ExitStack) -> Path | HistoryStore:
    """A store that is there, for :func:`load_plug`: opened for reading alone where no more is asked for or possible."""
    from ..store import HistoryStore

    if _read_only(_there(path), access):
        return opened.enter_context(HistoryStore(path, read_only=True))
    return path


@contextmanager
def open_store(access: Access = "read") -> Iterator[HistoryStore]:
    """The store of the settings. Never makes one."""
    from ..store import HistoryStore

    path = _there(settings().store_path)
    with HistoryStore(path, read_only=_read_only(path, access)) as store:
        yield store


def _there(path: Path) -> Path:
    if not path.exists():
        raise StoreError(f"no history store at {path}: `personaplug remember` makes one, --store names another")
    return path


def _read_only(path: Path, access: Access) -> bool:
    from ..store.paths import may_write

    return access == "read" or (access == "use" and not may_write(path))


@contextmanager
def open_embedder() -> Iterator[tuple[Bundle, UserEmbedder]]:
    """The bundle of the settings and its encoders, where no LLM is needed."""
    from ..bundle import Bundle
    from ..embedder import UserEmbedder

    chosen = settings()
    bundle = Bundle.load(chosen.bundle)
    yield bundle, UserEmbedder.from_bundle(bundle, threads=chosen.threads)


def ready_user(plug: PersonaPlug, user: str | None, method: str) -> None:
    """Says when the user has no history: most often a mistyped id. ``method`` may be a persona's name.

    A history that was stored with another bundle is embedded for this one first, under a progress bar.
    """
    if user is None or method == "off":
        return
    count = plug.store.count(user)
    if not count:
        cold = "; the cold-start persona is used" if has_persona(method) else ""
        return notice(f"user {user!r} has no history in this store{cold}")
    with progress_bar("embedding for this bundle", count) as progress:
        made = plug.reembed(user, lambda done: progress(done, None))
    if made:
        notice(f"embedded {made} items of {user!r} for the bundle {plug.bundle.manifest.name!r}")
