"""What 50 new items change: held-out questions asked without a user's latest items, with them, and once forgotten.

``python benchmarks/remember_forget.py --data DATA --task news_category --json out.json``. Of every user with a question
of the dev split, the store holds what comes before the user's first one, but for the last ``--items`` (users with fewer
are left out). The questions are answered; the items are remembered; they are answered again; the items are forgotten;
they are answered a third time, and every answer and log-probability must be the first one's, to the last bit. It ends
with status 1 where one is not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import finish, parser, table

from personaplug_edge import PersonaPlug
from personaplug_edge.evaluate.bootstrap import UserBootstrap
from personaplug_edge.evaluate.data import Example, Task
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_edge.evaluate.metrics import Prediction, metrics_of

Answers = dict[str, tuple[str, float]]
"""By question: the answer, and the log-probability of the user's own answer."""


def ask(plug: PersonaPlug, task: Task, questions: list[Example], persona: str) -> Answers:
    answers = {}
    for question in questions:
        user = question.user_id
        gold = plug.score(question.input, question.gold, user=user, persona=persona).logprob
        text = plug.choose(question.input, task.labels, user=user, persona=persona).label if task.labels else ""
        answers[question.id] = (text, gold)
    return answers


def measure(plug: PersonaPlug, task: Task, options: argparse.Namespace) -> dict[str, Any]:
    asked: dict[str, list[Example]] = defaultdict(list)
    for question in task.examples:
        asked[question.user_id].append(question)
    former: Answers = {}
    later: Answers = {}
    again: Answers = {}
    questions: list[Example] = []
    for user_id, theirs in asked.items():
        history = min((tuple(q.history) for q in theirs), key=len)
        if len(history) <= options.items:
            continue
        user = plug.user(user_id)
        pairs = [(item.text, item.output) for item in history]
        user.remember_all(pairs[: -options.items])
        former |= ask(plug, task, theirs, options.persona)
        added = user.remember_all(pairs[-options.items :])
        later |= ask(plug, task, theirs, options.persona)
        for item, new in zip(added.ids, added.new, strict=True):
            if new:
                user.forget(item)
        again |= ask(plug, task, theirs, options.persona)
        user.erase()
        questions += theirs
    if not questions:
        raise SystemExit(f"no user of {task.name} has more than {options.items} items; ask for fewer with --items")
    return {"task": task.name, "users": len({q.user_id for q in questions}), "questions": len(questions)} | {
        "changed_back": sum(former[q.id] != again[q.id] for q in questions),
        "changed": sum(former[q.id] != later[q.id] for q in questions),
        "metrics": compare(task, questions, former, later),
    }


def compare(task: Task, questions: list[Example], former: Answers, later: Answers) -> dict[str, Any]:
    bootstrap = UserBootstrap([q.user_id for q in questions])

    def predictions(answers: Answers) -> list[Prediction]:
        return [
            Prediction(
                id=q.id, user_id=q.user_id, gold=q.gold, text=answers[q.id][0], logprob=answers[q.id][1], tokens=1
            )
            for q in questions
        ]

    kinds = [metrics_of("text", ())[-1], *(metrics_of(task.kind, task.labels)[:1] if task.labels else ())]
    return {
        metric.name: {
            "before": metric(predictions(former)),
            "after": metric(predictions(later)),
            "difference": asdict(bootstrap.difference(metric, predictions(later), predictions(former))),
        }
        for metric in kinds
    }


def tables(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    changes = [[r["task"], r["users"], r["questions"], r["changed"], r["changed_back"]] for r in rows]
    metrics = [
        [
            r["task"],
            name,
            f["before"],
            f["after"],
            f["difference"]["value"],
            f["difference"]["low"],
            f["difference"]["high"],
        ]
        for r in rows
        for name, f in r["metrics"].items()
    ]
    return [
        table(
            "Questions", ["task", "users", "questions", "changed by the items", "not as before once forgotten"], changes
        ),
        table("Metrics", ["task", "metric", "before", "after", "difference", "95 % from", "to"], metrics),
    ]


def main() -> int:
    arguments = parser(__doc__ or "", rounds=1)
    arguments.add_argument("--data", type=Path, required=True, help="Folder of tasks, as for personaplug eval.")
    arguments.add_argument("--task", action="append", default=[], help="A task, more than once for more.")
    arguments.add_argument("--bundle", default="tiny")
    arguments.add_argument("--items", type=int, default=50)
    arguments.add_argument("--persona", default="query", choices=("query", "static"))
    options = arguments.parse_args()
    rows = []
    for task in read_tasks(options.data, options.task or ["news_category"]):
        with (
            tempfile.TemporaryDirectory() as folder,
            PersonaPlug.load(options.bundle, store=Path(folder) / "h.db", threads=options.threads) as plug,
        ):
            rows.append(measure(plug, task, options))
    finish(
        {
            "benchmark": "remember_forget",
            "threads": options.threads,
            "items": options.items,
            "tasks": rows,
            "tables": tables(rows),
        },
        options.json,
    )
    return int(any(row["changed_back"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
