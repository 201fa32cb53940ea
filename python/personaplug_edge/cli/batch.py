"""``personaplug batch``: files of rows in, files of answers out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import StoreError
from . import session
from .generate import Persona
from .labels import labels_of
from .method import MethodOption
from .sampling import SamplingOptions
from .settings import settings
from .terminal import err, json_text, notice, out

if TYPE_CHECKING:
    from ..batch import BatchProgress, BatchSummary, RayOptions
    from ..batch.outcomes import Outcome
    from ..plug import PersonaPlug

OUTPUTS = (".jsonl", ".ndjson", ".json", ".parquet")

SOME_BAD = 3
"""Exit code: the run was finished, and some rows have no answer."""


class Engine(str, Enum):
    """What runs the rows."""

    local = "local"
    ray = "ray"


InputArgument = Annotated[list[str], typer.Argument(help="JSONL (also .gz) or Parquet files or folders; - is stdin.")]


def _known_ending(output: str) -> str:
    if output != "-" and Path(output).suffix not in OUTPUTS:
        raise typer.BadParameter(f"expected a name ending in .jsonl or .parquet, or -, got {output!r}")
    return output


OutputOption = Annotated[
    str,
    typer.Option("--output", "-o", callback=_known_ending, help="A .jsonl or .parquet file; - is stdout, as JSONL."),
]


def batch(
    inputs: InputArgument,
    output: OutputOption,
    sampling: SamplingOptions,
    bad: Annotated[Path | None, typer.Option(help="Rows without an answer; by default OUTPUT.bad.jsonl.")] = None,
    persona: Annotated[Persona, typer.Option(help="Of rows that name none.")] = Persona.query,
    method: MethodOption = None,
    labels: Annotated[
        str | None, typer.Option(help="Choose among these, separated by commas, where a row has no labels.")
    ] = None,
    histories: Annotated[
        Path | None,
        typer.Option(help="JSONL of histories by user; a user there has that one, whatever the store holds."),
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Copy this field of the rows to the output; repeat.")] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Cut requests to the bundle's max_input_tokens.")] = False,
    require_history: Annotated[
        bool, typer.Option("--require-history", help="A row whose user has no history is bad.")
    ] = False,
    unordered: Annotated[bool, typer.Option("--unordered", help="Write answers as they are finished.")] = False,
    group: Annotated[int, typer.Option(min=1, help="Rows embedded, decoded and written together.")] = 256,
    sequences: Annotated[int, typer.Option(min=1, max=128, help="Rows decoded at the same time.")] = 16,
    engine: Annotated[Engine, typer.Option(help="local: this process; ray: workers of Ray.")] = Engine.local,
    address: Annotated[str | None, typer.Option(help="Ray: of a cluster, or auto; by default one is started.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray: processes with the bundle; 0: what the CPUs feed.")] = 0,
    threads_per_worker: Annotated[int, typer.Option(min=1, help="Ray: CPU threads of each.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; on stderr with --output -.")] = False,
) -> None:
    """Answer a file of rows. Killed or stopped, the same command goes on where it was.

    A row: prompt, and perhaps id, user, history, persona or method, options, labels. Bad rows never end the run; the
    exit code is 3 when there are any.
    """
    from ..batch import BatchOptions, RayOptions, generate_batch

    names = tuple(labels_of(labels))
    if engine is Engine.local and (address is not None or workers):
        raise typer.BadParameter("--address and --workers belong to --engine ray")
    ray = RayOptions(address=address, workers=workers, threads=threads_per_worker) if engine is Engine.ray else None
    with _work(ray) as (plug, ray):
        options = BatchOptions(
            persona=persona.mode,
            method=method,
            sampling=replace(sampling.over(plug), seed=None),
            labels=names,
            histories=histories,
            keep=tuple(keep or ()),
            cut=cut,
            require_history=require_history,
            seed=sampling.seed or 0,
            ordered=not unordered,
            group=group,
            sequences=sequences,
            threads=settings().threads,
        )
        source = plug if ray is None else plug.bundle.folder
        with _shown(quiet) as progress, _going_on(quiet or output == "-"):
            if output == "-":
                summary = _to_stdout(generate_batch(source, inputs, options=options, ray=ray, progress=progress), bad)
            else:
                summary = generate_batch(
                    source, inputs, output, options=options, ray=ray, bad=bad, overwrite=overwrite, progress=progress
                )
    if not quiet:
        console = out() if output != "-" else err()
        text = json_text(_as_json(summary), indent=2) if json else _told(summary)
        console.print(text, soft_wrap=True)
    if summary.bad:
        raise typer.Exit(SOME_BAD)


@contextmanager
def _work(ray: RayOptions | None) -> Iterator[tuple[PersonaPlug, RayOptions | None]]:
    """The plug with the store, where there is one; for Ray its bundle alone, and the store for the workers to open.

    Never makes a store: a mistyped path must not look like no history.
    """
    from ..bundle import Bundle

    chosen = settings()
    if chosen.store is not None and not chosen.store.exists():
        raise StoreError(f"no history store at {chosen.store}: leave --store out where the rows bring their histories")
    path = chosen.store_path if chosen.store_path.exists() else None
    if ray is not None:
        bundle = Bundle.load(chosen.bundle)
        yield cast("PersonaPlug", SimpleNamespace(bundle=bundle)), replace(ray, store=path, adapters=chosen.adapters)
    else:
        with ExitStack() as opened:
            store = session.usable_store(path, "use", opened) if path is not None else None
            yield opened.enter_context(session.load_plug(chosen, store)), None


@contextmanager
def _going_on(quiet: bool) -> Iterator[None]:
    """Says what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        if not quiet:
            notice("stopped; what is done is kept, and the same command goes on from there")
        raise


def _to_stdout(outcomes: Iterator[Outcome], bad: Path | None) -> BatchSummary:
    """Answers as JSON lines on stdout, bad rows to their file or as notices; what was done."""
    from ..batch import BadRow, BatchSummary
    from ..batch.outcomes import to_line

    counts: Counter[str] = Counter()
    started = perf_counter()
    with open(bad, "wb") if bad is not None else nullcontext() as refused:
        for outcome in outcomes:
            if not isinstance(outcome, BadRow):
                sys.stdout.write(to_line(outcome.record()).decode())
                counts += Counter(rows=1, cold_starts=int(outcome.cold_start))
                counts += Counter(prompt_tokens=outcome.prompt_tokens, generated_tokens=outcome.generated_tokens)
                continue
            counts["bad"] += 1
            if refused is not None:
                refused.write(to_line(outcome.record()))
            else:
                notice(f"{outcome.file}, row {outcome.number}: {outcome.reason}")
    names = ("rows", "bad", "cold_starts", "prompt_tokens", "generated_tokens")
    return BatchSummary(
        output=Path("-"),
        bad_path=bad or Path("-"),
        resumed=0,
        seconds=perf_counter() - started,
        **{name: counts[name] for name in names},
    )


@contextmanager
def _shown(quiet: bool) -> Iterator[Callable[[BatchProgress], None]]:
    """A bar on stderr with rows/s, tokens/s and the time left; on a terminal only."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=err(), transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("starting", total=None)
        first: float | None = None

        def show(now: BatchProgress) -> None:
            nonlocal first
            first = now.share or 0.0 if first is None else first
            bar.update(task, description=_line(now, first), completed=now.share or 0.0, total=_total(now))

        yield show


def _total(now: BatchProgress) -> float | None:
    return None if now.share is None else 1.0


def _line(now: BatchProgress, first: float) -> str:
    """``first``: the share that was done when this run began."""
    seconds = max(now.seconds, 1e-9)
    parts = [f"{now.rows + now.bad} rows" + (f" ({now.bad} bad)" if now.bad else "")]
    parts += [f"{now.fresh / seconds:.1f} rows/s", f"{now.tokens / seconds:.0f} tokens/s"]
    if now.share is not None and now.share > first:
        parts.append(f"{_clock(seconds * (1 - now.share) / (now.share - first))} left")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _told(summary: BatchSummary) -> str:
    fresh = summary.rows + summary.bad - summary.resumed
    where = f" in {summary.output}" if str(summary.output) != "-" else ""
    parts = [f"{summary.rows} rows answered{where}", f"{summary.generated_tokens} tokens"]
    parts.append(f"{summary.seconds:.1f} s" + (f" ({fresh / summary.seconds:.1f} rows/s)" if summary.seconds else ""))
    if summary.resumed:
        parts.append(f"{summary.resumed} rows were done before")
    if summary.cold_starts:
        parts.append(f"{summary.cold_starts} without a history (cold-start persona)")
    if summary.bad:
        where = f" in {summary.bad_path}" if str(summary.bad_path) != "-" else ""
        parts.append(f"{summary.bad} bad rows{where}")
    return "; ".join(parts)


def _as_json(summary: BatchSummary) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(summary).items()}
