"""A known user's static persona is computed once: kept by the engine, and in the store over a restart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.onnx_models import edit_manifest, make_bundle
from personaplug_edge import PersonaPlug, Sampling

SPORT = [("a goal in extra time", "sports"), ("the coach left the club", "sports")]
SHORT = Sampling(max_tokens=6, ignore_end=True)


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("saved") / "random", llm_file=tiny_gguf, name="random", tokens=2)


def reused(plug: PersonaPlug, text: str, **options: object) -> tuple[int, str]:
    reply = plug.generate(text, sampling=SHORT, **{"user": "anna", "persona": "static", **options})  # type: ignore[arg-type]
    return reply.timings.reused_tokens, reply.text


def test_the_second_request_of_a_user_reads_the_request_alone(folder: Path) -> None:
    with PersonaPlug.load(folder, threads=1) as plug:
        plug.user("anna").remember_all(SPORT)
        plug.user("ben").remember_all(SPORT)
        head = plug.personalize("x", user="anna", persona="static").head
        taken, answer = reused(plug, "hello there")
        assert taken == 0
        assert reused(plug, "hello there") == (head, answer)
        assert reused(plug, "something else")[0] == head
        assert reused(plug, "hello there", user="ben") == (0, answer)  # the same history, another user
        assert reused(plug, "hello there", persona="query")[0] == 0
        plug.user("anna").remember("the vote was late")
        assert reused(plug, "hello there")[0] == 0
        plug.user("anna").erase()
        assert reused(plug, "hello there")[0] == 0


def test_saved_and_found_again_after_a_restart(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "h.db"
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True) as plug:
        plug.user("anna").remember_all(SPORT)
        head = plug.personalize("x", user="anna", persona="static").head
        _, answer = reused(plug, "hello there")
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True) as plug:
        assert reused(plug, "hello there") == (head, answer)
        plug.user("anna").remember("the vote was late")
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True) as plug:
        assert reused(plug, "hello there")[0] == 0  # gone with the change
    with PersonaPlug.load(folder, threads=1, store=store) as plug:
        assert reused(plug, "hello there")[0] == 0  # not asked for


def test_nothing_stays_of_who_was_erased_while_a_request_was_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "h.db"
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True) as plug:
        plug.user("anna").remember_all(SPORT)
        reused(plug, "hello there")
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True) as plug:
        read = plug.store.prefix

        def read_and_erase(user: str, key: str) -> bytes | None:
            found = read(user, key)
            plug.user("anna").erase()  # by another thread, between reading and use
            return found

        monkeypatch.setattr(plug.store, "prefix", read_and_erase)
        assert reused(plug, "hello there")[0] > 0
        assert plug.llm.engine.export_prefix("user:anna") == b"" and plug.llm.engine.prefix_stats()["count"] == 0
    with PersonaPlug.load(folder, threads=1) as plug:  # the same where nothing is saved
        ways = {
            "generate": lambda: reused(plug, "hello there"),
            "submit_samples": lambda: plug.samples("hello there", 2, user="anna", persona="static", sampling=SHORT),
        }
        for name, ask in ways.items():
            run = getattr(plug.llm, name)

            def erase_and_run(*arguments: object, run: Callable[..., object] = run) -> object:
                plug.user("anna").erase()
                return run(*arguments)

            plug.user("anna").remember_all(SPORT)
            with monkeypatch.context() as patched:
                patched.setattr(plug.llm, name, erase_and_run)
                ask()
            assert plug.llm.engine.prefix_stats()["count"] == 0


def test_another_bundle_does_not_take_it(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "h.db"
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True) as plug:
        plug.user("anna").remember_all(SPORT)
        reused(plug, "hello there")
        key = plug.prefixes._key(plug.personalize("x", user="anna", persona="static"))
        assert plug.store.prefix("anna", key)
    with PersonaPlug.load(folder, threads=1, store=store, save_prefixes=True, context=128) as plug:
        # Damaged on disk: refused by the engine, computed anew, saved anew.
        revision = plug.store.revision("anna")
        data = bytearray(plug.store.prefix("anna", key) or b"")
        data[len(data) // 2] ^= 1
        plug.store.put_prefix("anna", key, bytes(data), revision=revision)
        assert reused(plug, "hello there")[0] == 0
        assert bytes(data) != plug.store.prefix("anna", key)


def test_a_long_system_prompt_is_computed_once_for_all(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    edit_manifest(
        own,
        {
            "prompt.system": "You are a helpful assistant who answers in one line and never makes anything up.",
            "prompt.layout": ["bos", "system", "instruction", "persona", "prompt"],
        },
    )
    with PersonaPlug.load(own, threads=1) as plug:
        plug.user("anna").remember_all(SPORT)
        common = plug.personalize("x").options.common
        assert common >= 16 and plug.personalize("x").options.keep == (common,)
        assert reused(plug, "hello there", persona="query")[0] == 0
        assert reused(plug, "hello there", persona="query", user="ben")[0] == common
        with plug.chat(user="ben", sampling=SHORT) as talk:
            talk.say("hello there")
