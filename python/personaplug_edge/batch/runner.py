"""generate_batch: from rows to answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ..adapters import AdapterFolder
from ..bundle import Bundle
from ..errors import BatchError
from .ahead import ahead
from .decode import Decoder
from .embed import Personalizer
from .groups import Group, Head
from .job import Job, open_job, written_by
from .meter import Meter, OnProgress
from .needs import needs_of
from .options import BatchOptions, RayOptions
from .outcomes import BatchSummary, Outcome
from .paths import check_apart
from .readers import FileSource, RowSource, Source

if TYPE_CHECKING:
    from ..plug import PersonaPlug

Rows = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[Mapping[str, Any]]
"""Path or paths of files and folders, or rows."""


Answered = Generator[tuple[Head, list[Outcome]], None, None]


@overload
def generate_batch(
    plug: PersonaPlug | str | Path,
    rows: Rows,
    output: None = None,
    *,
    options: BatchOptions | None = None,
    ray: RayOptions | None = None,
    progress: OnProgress | None = None,
) -> Iterator[Outcome]: ...
@overload
def generate_batch(
    plug: PersonaPlug | str | Path,
    rows: Rows,
    output: str | os.PathLike[str],
    *,
    options: BatchOptions | None = None,
    ray: RayOptions | None = None,
    bad: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> BatchSummary: ...
def generate_batch(
    plug: PersonaPlug | str | Path,
    rows: Rows,
    output: str | os.PathLike[str] | None = None,
    *,
    options: BatchOptions | None = None,
    ray: RayOptions | None = None,
    bad: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Iterator[Outcome] | BatchSummary:
    """Answers every row; see docs/batch.md for the fields of a row.

    Args:
        plug: a loaded PersonaPlug, whose store has the histories of the rows' users; or a bundle, loaded for this call
            with no store.
        rows: paths of JSONL or Parquet files or folders, "-" for standard input, or the rows themselves.
        output: a .jsonl or .parquet file; None gives the outcomes one by one instead. A run that was killed goes on
            where it was when it is called again with the same rows, options and bundle.
        options: how rows are answered.
        ray: run on Ray in the place of this process; the rows must be files, and the plug's store a file.
        bad: the file of rows without an answer; by default ``<output>.bad.jsonl``.
        overwrite: begin anew, whatever is there.
        progress: called after each answer.

    Returns:
        With an output a BatchSummary; without one an iterator of BatchResult and BadRow. A bad row never ends the run.

    Raises:
        BatchError: input, output or options cannot be used, or differ from those of the run to go on with.
        MissingExtraError: Parquet without pyarrow, Ray that is not installed, or what a method needs.
        MethodError: the run's method is not known.
        EncoderError, EngineError, StoreError: the run ended; what was done is kept, and a further call goes on.
    """
    options = options or BatchOptions()
    options.check()
    source = as_source(rows)
    bundle = Bundle.load(plug) if isinstance(plug, (str, Path)) else plug.bundle
    trained = _trained(plug, bundle, ray)
    if trained is None and options.method and needs_of(options.method).adapters:
        raise BatchError(
            f"method {options.method!r} needs what was trained for each user: load the plug with adapters=, or give "
            "--adapters, a folder that personaplug-export lora wrote"
        )
    if output is None:
        return _outcomes(plug, bundle, source, options, ray, Meter(progress))
    bad = Path(bad) if bad is not None else Path(f"{Path(output)}.bad.jsonl")
    check_apart(written_by(Path(output), bad), _read_by(plug, source, options, ray))
    with open_job(
        bundle, source, output, options, adapters=trained, bad=bad, overwrite=overwrite, told=progress
    ) as run:
        if isinstance(run, BatchSummary):
            return run
        with closing(_answered(plug, bundle, source, options, ray, run.meter, run)) as groups:
            for group, outcomes in groups:
                run.add(group, outcomes)
        return run.finish()


def _read_by(
    plug: PersonaPlug | str | Path, source: Source, options: BatchOptions, ray: RayOptions | None
) -> dict[str, list[str | os.PathLike[str]]]:
    """The files that a run reads, by what they are to it."""
    store = ray.store if ray and ray.store else None if isinstance(plug, (str, Path)) else store_file(plug)
    inputs = [file.path for file in source.files if file.kind != "stdin"] if isinstance(source, FileSource) else []
    return {
        "its input": [*inputs],
        "its file of histories": [options.histories] if options.histories else [],
        "the history store": [f"{store}{end}" for end in ("", "-wal", "-shm")] if store else [],
    }


def _answered(
    plug: PersonaPlug | str | Path,
    bundle: Bundle,
    source: Source,
    options: BatchOptions,
    ray: RayOptions | None,
    meter: Meter,
    run: Job | None,
) -> Answered:
    """By Ray or here; of a run with an output the groups that are not done yet."""
    if ray is None:
        with _opened(plug, options.threads) as loaded:
            yield from answered(loaded, run.todo() if run else source.groups(options.group), options, meter.seen)
    else:
        from .ray_engine import answered_by_ray

        if not isinstance(plug, (str, Path)):
            folder = plug.adapters.folder if plug.adapters else None
            ray = replace(ray, store=ray.store or store_file(plug), adapters=ray.adapters or folder)
        done = run.ledger.done if run else {}
        for group, outcomes in answered_by_ray(bundle, source, options, ray, done):
            for outcome in outcomes:
                meter.seen(group, outcome)
            yield group, outcomes


def _trained(plug: PersonaPlug | str | Path, bundle: Bundle, ray: RayOptions | None) -> AdapterFolder | None:
    """What was trained for single users: the folder that Ray's workers will open, or the plug's."""
    if ray is not None and ray.adapters is not None:
        folder = AdapterFolder(ray.adapters)
        folder.check(bundle)
        return folder
    return None if isinstance(plug, (str, Path)) else plug.adapters


def as_source(rows: Rows) -> Source:
    """What ``rows`` means."""
    if isinstance(rows, (str, os.PathLike)):
        return FileSource.find([rows])
    if isinstance(rows, Sequence) and rows and isinstance(rows[0], (str, os.PathLike)):
        return FileSource.find(rows)
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise BatchError(f"expected rows or the path of a file, got {type(rows).__name__}; put one row into a list")
    return RowSource(rows)  # type: ignore[arg-type]


def answered(
    plug: PersonaPlug, groups: Iterable[Group], options: BatchOptions, seen: Callable[[Head, Outcome], object]
) -> Answered:
    """Each group with its outcomes; ``seen`` is called with each as it comes about."""
    decoder = Decoder(plug, options)
    with closing(Personalizer(plug, options)) as personalizer, closing(ahead(personalizer.ready, groups)) as prepared:
        for group, rows in prepared:
            head, outcomes = group.head, []
            for outcome in decoder.answers(group, rows):
                seen(head, outcome)
                outcomes.append(outcome)
            yield head, in_order(outcomes) if options.ordered else outcomes


def in_order(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """As the rows stand in the input."""
    return sorted(outcomes, key=lambda outcome: outcome.number)


def _outcomes(
    plug: PersonaPlug | str | Path,
    bundle: Bundle,
    source: Source,
    options: BatchOptions,
    ray: RayOptions | None,
    meter: Meter,
) -> Iterator[Outcome]:
    with closing(_answered(plug, bundle, source, options, ray, meter, None)) as made:
        for _, outcomes in made:
            yield from outcomes


def store_file(plug: PersonaPlug) -> str | None:
    """The file of a plug's store, for other processes; None where it is empty. Raises BatchError for one in memory."""
    if plug.store.path != ":memory:":
        return os.path.abspath(plug.store.path)
    if plug.store.users():
        raise BatchError("a store in memory cannot be read by Ray's workers; load the plug with store=FILE")
    return None


@contextmanager
def _opened(plug: PersonaPlug | str | Path, threads: int) -> Iterator[PersonaPlug]:
    if isinstance(plug, (str, Path)):
        from ..plug import PersonaPlug  # here, because it imports the engine

        with PersonaPlug.load(plug, threads=threads) as loaded:
            yield loaded
    else:
        yield plug
