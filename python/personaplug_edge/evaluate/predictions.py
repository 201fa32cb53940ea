"""Predictions on disk: a JSON line a question, so that a run that was killed goes on where it stopped; and in LaMP's
own format, for its evaluator.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import PersonaPlugError
from .data import read_rows
from .metrics import Prediction

FORMAT = 2


class PredictionLog:
    """Predictions of one task and method; ``path`` None keeps them in memory only.

    The first line holds ``settings`` (bundle, split, ...): a file made with others is refused with PersonaPlugError,
    and so is an answer to a question of the same id that read otherwise. A last line cut short by a kill is dropped.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.done: dict[str, Prediction] = {}
        self._path, self._asked = path, dict[str, str]()
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"format": FORMAT, **settings}
        if _drop_torn_line(path):
            self._read(path, header)
        self._file = path.open("a", encoding="utf-8")
        if not self._file.tell():
            self._write(header)

    def has(self, id: str, asked: str) -> bool:
        """Whether the question of an id is answered; ``asked`` is the digest of all that it says.

        Raises PersonaPlugError where the answer is there and the question was another one.
        """
        if id in self.done and self._asked.get(id) != asked:
            raise PersonaPlugError(
                f"{self._path}: question {id!r} was asked with another input, answer or history;"
                " take a new predictions folder for other data"
            )
        return id in self.done

    def add(self, prediction: Prediction, asked: str = "") -> None:
        """Keeps a prediction; the operating system has it when this returns, so a kill loses nothing."""
        self.done[prediction.id], self._asked[prediction.id] = prediction, asked
        self._write({**asdict(prediction), "asked": asked})

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        if self._file:
            self._file.close()

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, path: Path, header: dict[str, Any]) -> None:
        rows = read_rows(path)
        found = next(rows, {})
        if found != json.loads(json.dumps(header)):
            changed = sorted(key for key in header | found if header.get(key) != found.get(key))
            raise PersonaPlugError(f"{path} was made with another {', '.join(changed)}; take a new predictions folder")
        for number, row in enumerate(rows, 2):
            try:
                asked = str(row.pop("asked"))
                prediction = Prediction(**row)
            except (KeyError, TypeError) as error:
                raise PersonaPlugError(
                    f"{path}:{number}: not a prediction as this version writes them ({error}); take a new folder"
                ) from None
            self.done[prediction.id], self._asked[prediction.id] = prediction, asked

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._file.flush()


def write_official(folder: Path, task: str, method: str, predictions: Iterable[Prediction]) -> Path:
    """Writes a method's answers as LaMP's evaluator reads them, to ``method``.json; gives the path.

    ``task`` is the name that the task's outputs file gives it ("LaMP_4"): the evaluator compares both, and the ids.
    """
    path = folder / f"{file_name(method)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    golds = [{"id": prediction.id, "output": prediction.text} for prediction in predictions]
    path.write_text(json.dumps({"task": task, "golds": golds}, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def file_name(method: str) -> str:
    """A method's name as part of a file name: "pplug+bm25:1" is pplug+bm25-1."""
    return re.sub(r"[^\w.+-]", "-", method)


def _drop_torn_line(path: Path) -> bool:
    """Cuts what follows the last line end; returns whether anything is left to read."""
    if not path.exists():
        return False
    whole = path.read_bytes()
    kept = whole.rfind(b"\n") + 1
    if kept < len(whole):
        os.truncate(path, kept)
    return kept > 0
