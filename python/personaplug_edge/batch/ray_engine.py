"""The same batch on Ray: groups of rows, mapped over actors that hold the bundle.

A task a file reads groups of rows, exactly those that a local run makes; each goes to an actor whole, so that its rows
have the same company and get the same text. An actor that dies is started again by Ray and its groups are given out
again. The driver writes what comes back into the ledger, in order or as it comes: killed itself, it goes on from there.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BatchError, MissingExtraError, PersonaPlugError
from .groups import Head
from .ledger import is_done
from .options import BatchOptions, RayOptions
from .outcomes import Outcome
from .ray_worker import Actor, Attempts
from .readers import FileSource, Source
from .remote import import_pyarrow, is_address

if TYPE_CHECKING:
    from types import ModuleType

    from ..bundle import Bundle

READER_CPUS = 0.5
"""Of a task that reads. It must be left over by the actors: Ray waits for it in silence otherwise."""

LEAST_SHARE = 0.1
"""CPUs that an actor books at least, whatever it uses: so many that a machine's share is still in proportion."""

PATIENCE = 20.0
"""Seconds to wait for CPUs that others hold."""

Done = Mapping[tuple[int, int], str]


def answered_by_ray(
    bundle: Bundle, source: Source, options: BatchOptions, ray_options: RayOptions, done: Done
) -> Generator[tuple[Head, list[Outcome]], None, None]:
    """Each group that is not done with its outcomes, in the order of the input if ``options.ordered``.

    Raises BatchError: too few CPUs, or an input that workers cannot read; MissingExtraError; what ends a local run.
    """
    ray_options.check()
    if not isinstance(source, FileSource) or any(file.kind == "stdin" for file in source.files):
        raise BatchError("Ray reads files: write the rows to a .jsonl or .parquet file first")
    ray = import_ray()
    with _session(ray, ray_options), _context(ray, options.ordered):
        workers, share = _fit_soon(ray, ray_options)
        files = FileSource([replace(file, path=_everywhere(file.path)) for file in source.files])
        dataset = _dataset(ray, files, bundle, options, ray_options, done, workers, share)
        try:
            for row in dataset.iter_rows():
                head, outcomes = pickle.loads(row["answered"])
                yield head, outcomes
        except ray.exceptions.RayError as error:
            raise _cause(error) from error


def import_ray() -> ModuleType:
    """Ray, with its telemetry off. Raises MissingExtraError that names the extra."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else every actor is announced on stderr as an error
    try:
        ray, _ = import_module("ray"), import_module("ray.data")
    except ImportError as error:
        raise MissingExtraError(
            f"--engine ray needs Ray Data, which cannot be imported ({error}); run: pip install 'personaplug-edge[ray]'"
        ) from error
    return ray


def fit(options: RayOptions, nodes: Sequence[float], free: float) -> tuple[int, float]:
    """How many workers, and how many CPUs each books so that the reading tasks keep some.

    ``nodes``: CPUs of each machine; ``free``: of all machines, not booked by others. Raises BatchError when they do not
    fit: Ray would wait without a word.
    """
    threads, total = options.threads, sum(nodes)
    workers = options.workers or max(1, int(min(free, total) // threads))
    if workers * threads > max(total, 1):
        raise BatchError(
            f"{workers} workers of {threads} threads want {workers * threads} CPUs, Ray has {total:g}; "
            f"give --workers {max(1, int(total // threads))} or fewer threads a worker"
        )
    for step in range(10, 0, -1):
        share = max(LEAST_SHARE, threads * step / 10)
        places = sum(int(cpus / share + 1e-6) for cpus in nodes)
        if places >= workers and free - workers * share >= READER_CPUS - 1e-6:
            return workers, round(share, 4)
    raise BatchError(
        f"{workers} workers do not fit: {free:g} of Ray's {total:g} CPUs are free, and reading needs {READER_CPUS}; "
        "give fewer --workers, or wait for the other work there"
    )


def _fit_soon(ray: ModuleType, options: RayOptions) -> tuple[int, float]:
    """As :func:`fit`, waiting a little for what other work gives back: the actors of a run just ended, say."""
    nodes = [float(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"]]
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fit(options, nodes, float(ray.available_resources().get("CPU", 0.0)))
        except BatchError:
            if time.monotonic() > until or options.workers * options.threads > max(sum(nodes), 1):
                raise
        time.sleep(0.5)


@contextmanager
def _context(ray: ModuleType, ordered: bool) -> Generator[None, None, None]:
    """Ray Data's settings for this run; the caller's afterwards."""
    context = ray.data.DataContext.get_current()
    ours: dict[str, Any] = {
        "enable_progress_bars": False,
        "target_max_block_size": 1,  # every group a block of its own, for the next actor that is free
        "max_consecutive_actor_init_deaths": 3,
    }
    former = {name: getattr(context, name) for name in ours}
    order = context.execution_options.preserve_order
    try:
        for name, value in ours.items():
            setattr(context, name, value)
        context.execution_options.preserve_order = ordered
        yield
    finally:
        for name, value in former.items():
            setattr(context, name, value)
        context.execution_options.preserve_order = order


def _dataset(
    ray: ModuleType,
    source: FileSource,
    bundle: Bundle,
    options: BatchOptions,
    ray_options: RayOptions,
    done: Done,
    workers: int,
    share: float,
) -> Any:
    groups = ray.data.read_datasource(
        _group_source(source, options.group, done),
        num_cpus=READER_CPUS,
        override_num_blocks=len(source.files),
    )
    pool = ray.data.ActorPoolStrategy(size=workers, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True)
    store = _everywhere(ray_options.store) if ray_options.store else None
    adapters = _everywhere(ray_options.adapters) if ray_options.adapters else None
    histories = _everywhere(options.histories) if options.histories else None
    attempts = ray.remote(Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    own = replace(options, threads=ray_options.threads, histories=histories)
    return groups.map_batches(
        Actor,
        batch_size=1,
        compute=pool,
        num_cpus=share,
        fn_constructor_args=(str(bundle.folder), store, own, attempts, adapters),
    )


def _group_source(source: FileSource, size: int, done: Done) -> Any:
    """A Ray datasource of groups, a read task a file."""
    arrow, block = import_pyarrow("lib", "Ray"), import_module("ray.data.block")
    datasource = import_module("ray.data.datasource")

    done_of: dict[int, dict[tuple[int, int], str]] = {}
    for key, digest in done.items():  # a task gets its own file's alone: of a large run there are many
        done_of.setdefault(key[0], {})[key] = digest

    def read(number: int, done_here: Done) -> Iterator[Any]:
        for group in source.file_groups(number, size):
            if not is_done(group, done_here):
                yield arrow.table({"group": arrow.array([pickle.dumps(group)], type=arrow.large_binary())})

    def read_tasks(*_: Any, **__: Any) -> list[Any]:
        facts = [
            block.BlockMetadata(num_rows=None, size_bytes=file.size, input_files=None, exec_stats=None)
            for file in source.files
        ]
        reads = [partial(read, number, done_of.get(number, {})) for number in range(len(facts))]
        return [datasource.ReadTask(each, fact) for each, fact in zip(reads, facts, strict=True)]

    methods = {
        "get_name": lambda _: "Groups",
        "estimate_inmemory_data_size": lambda _: sum(file.size for file in source.files),
        "get_read_tasks": lambda _, *given, **named: read_tasks(*given, **named),
    }
    return type("Groups", (datasource.Datasource,), methods)()  # made here, as Ray is imported late


@contextmanager
def _session(ray: ModuleType, options: RayOptions) -> Generator[None, None, None]:
    """Ray, connected or started here; what was started here ends here."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    try:
        if options.address:
            ray.init(address=options.address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BatchError(f"Ray at {options.address or 'this machine'} cannot be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _everywhere(path: str | Path) -> str:
    """The path as it is from any folder: workers have one of their own."""
    return str(path) if is_address(path) else str(Path(path).absolute())


def _cause(error: BaseException) -> Exception:
    """The error of this package inside one of Ray's, or Ray's own in a sentence."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, PersonaPlugError) and not type(inner).__name__.startswith("RayTaskError"):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return BatchError(f"a worker of Ray failed: {last[0]}; what is done is kept")
