"""PersonaPlug: the one class an app developer meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from personaplug_edge.adapters import AdapterFolder
from personaplug_edge.answers import Answers
from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.engine import LLM
from personaplug_edge.histories import Histories
from personaplug_edge.personalize.summarize import LATEST, STALE_SHARE, stored_summary
from personaplug_edge.personalizer import Personalizer
from personaplug_edge.prefixes import Prefixes
from personaplug_edge.request import RequestText
from personaplug_edge.results import Attribution
from personaplug_edge.sampling import Sampling
from personaplug_edge.store import HistoryStore, NewItem, Summary
from personaplug_edge.store.checks import check_user
from personaplug_edge.user import User


class PersonaPlug(Answers):
    """A bundle, loaded: the frozen LLM, the user embedder, and the store of histories.

    Safe to call from several threads. Close it, or use it in a ``with`` block, to free the LLM.
    """

    def __init__(
        self,
        bundle: Bundle,
        llm: LLM,
        embedder: UserEmbedder,
        store: HistoryStore,
        *,
        save_prefixes: bool = False,
        adapters: AdapterFolder | None = None,
    ) -> None:
        self.bundle, self.llm, self.embedder, self.store = bundle, llm, embedder, store
        self.adapters = adapters
        self._request = RequestText(bundle.manifest.prompt, llm)
        self.histories = Histories(bundle, embedder, store)
        self.personalizer = Personalizer(bundle, embedder, store, self._request, self.histories.reembed, adapters)
        self.prefixes = Prefixes(llm, bundle, store, save=save_prefixes)
        self.histories.on_change += [self.personalizer.cache.drop, self.prefixes.forget]
        self._sampling = Sampling(**bundle.sampling_options)

    @classmethod
    def load(
        cls,
        bundle: str | Path = "tiny",
        *,
        store: str | Path | HistoryStore | None = None,
        threads: int = 0,
        gpu_layers: int = 0,
        context: int = 0,
        sequences: int = 1,
        mmap: bool | None = None,
        save_prefixes: bool = False,
        adapters: str | Path | None = None,
        progress: Callable[[float], bool | None] | None = None,
    ) -> PersonaPlug:
        """Loads a bundle.

        Args:
            bundle: a folder, or the name of a bundle inside the package.
            store: file of the history store, made if it is not there; None keeps histories in memory alone. An open
                HistoryStore, such as one with ``read_only=True``, is used as it is, and closed by :meth:`close`.
            threads: of the LLM and the encoder; 0 takes the physical cores.
            gpu_layers: layers of the LLM on the GPU; -1 all.
            context: positions of one request, prompt and answer; 0 takes the bundle's.
            sequences: requests that run together; others wait. Memory grows with context * sequences.
            mmap: see :meth:`LLM.load`; True where many processes on one machine are to share one copy of the LLM.
            save_prefixes: keep in the store what the LLM computes of a user's static persona, so that it is not
                computed again after a restart. It goes with any change to the history.
            adapters: a folder that ``personaplug-export lora`` wrote, for the methods "lora" and "prompt-tuning".
            progress: called with the loaded share of the LLM, 0 to 1; returning False stops.

        Raises:
            BundleError, ModelError, EncoderError, StoreError, AdapterError: what is wrong with which file, and what to
                do.
            CancelledError: ``progress`` returned False.
        """
        from personaplug_edge._native import core

        loaded = Bundle.load(bundle)
        trained = AdapterFolder(adapters) if adapters is not None else None
        if trained is not None:
            trained.check(loaded)
        llm = LLM.load(
            loaded.llm_path,
            threads=threads,
            gpu_layers=gpu_layers,
            context=context or loaded.manifest.llm.context,
            sequences=sequences,
            mmap=mmap,
            progress=progress,
        )
        loaded.check_llm(llm.model)
        embedder = UserEmbedder.from_bundle(loaded, threads=threads)
        core.return_free_memory()  # of what loading freed the C library keeps some megabytes
        if not isinstance(store, HistoryStore):
            store = HistoryStore(":memory:" if store is None else store)
        return cls(loaded, llm, embedder, store, save_prefixes=save_prefixes, adapters=trained)

    def __enter__(self) -> PersonaPlug:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the LLM and closes the store; later calls fail."""
        self.llm.close()
        self.store.close()

    def user(self, user_id: str) -> User:
        """The user of an id; nothing is stored until something is remembered. Raises TextError for what is no id."""
        return User(self, check_user(user_id))

    def explain(
        self, text: str, user: User | str, *, history: Sequence[NewItem] | None = None
    ) -> tuple[Attribution, ...]:
        """Which history items weigh how much for a request, by falling weight; the LLM is not run."""
        return self.personalize(text, user=user, history=history).attribution

    def weights(
        self, text: str, user: User | str, *, history: Sequence[NewItem] | None = None
    ) -> tuple[Attribution, ...]:
        """The weight of every history item for a request, oldest first: when, not only what; the LLM is not run.

        At most the bundle's ``max_items`` latest items; none for a user without a history.
        """
        return self.personalizer.weights(text, user.id if isinstance(user, User) else user, history)

    def summarize(
        self,
        user: User | str,
        *,
        share: float = STALE_SHARE,
        latest: int = LATEST,
        progress: Callable[[int], None] | None = None,
    ) -> Summary:
        """What the LLM writes of a user's history, for the method "summary"; kept in the store.

        Made anew where none is kept or more than ``share`` of the history is newer. The ``latest`` items are read, 0
        for all; ``progress`` gets the number read so far. Raises StoreError; PromptError for a context too small.
        """
        user_id = user.id if isinstance(user, User) else user
        services = self.personalizer.services
        return stored_summary(services, user_id, share=share, latest=latest, progress=progress)

    def reembed(self, user: User | str | None = None, progress: Callable[[int], None] | None = None) -> int:
        """Makes the vectors and projections that items of another bundle lack for this one; returns how many.

        Of one user or of all; ``progress`` gets the number done so far. A killed run goes on where it was. A request
        does it for its own user when it finds some missing.

        Raises:
            StoreError: the store cannot be written, or some are missing and it was opened with ``read_only=True``.
        """
        return self.histories.reembed(user.id if isinstance(user, User) else user, progress)
