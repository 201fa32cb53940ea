"""Requests on the engine's thread: Running, callbacks, asyncio, closing, fork, the end of the interpreter."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models import gguf_lora
from models.gguf_llama import TinyModel
from personaplug_edge._native import core
from personaplug_edge.beams import Beams
from personaplug_edge.engine import LLM, Running
from personaplug_edge.errors import (
    AdapterError,
    ContextFullError,
    EngineError,
    GrammarError,
    QueueFullError,
    SamplingError,
)
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.sampling import Sampling

IDS = [1, 300, 270, 264, 401, 333]
PROMPT = Prompt.tokens(IDS)
SHORT = Sampling(max_tokens=20, ignore_end=True)
LONG = Sampling(max_tokens=200, ignore_end=True)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true; the engine thread needs a moment."""
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


@pytest.fixture
def own(tiny: TinyModel) -> Iterator[LLM]:
    """An LLM of the test's own, which it leaves without a request."""
    with LLM.load(tiny.path, threads=1, sequences=2, cache_type="f32", flash_attention="off") as llm:
        yield llm
        assert eventually(lambda: llm.thread.unfinished == 0 and llm.thread.mailboxes == 0)
        assert llm.engine.live == 0


def test_reading_in_every_way_gives_the_same(own: LLM) -> None:
    expected = own.generate(PROMPT, SHORT)
    running = own.submit(PROMPT, SHORT)
    first = next(running)
    assert first.tokens == expected.tokens[: len(first.tokens)]
    assert running.result().tokens == expected.tokens
    assert running.result().text == expected.text
    assert list(running) == [] and running.done
    assert running.timings.generated_tokens == 20
    assert running.timings.prompt_tokens == len(IDS)


def test_samples_have_seeds_of_their_own(own: LLM) -> None:
    sampling = Sampling(max_tokens=8, temperature=1.5, seed=7, ignore_end=True)
    samples = [running.result().tokens for running in own.submit_samples(PROMPT, sampling, 3)]
    for i, tokens in enumerate(samples):
        alone = Sampling(max_tokens=8, temperature=1.5, seed=7 + i, ignore_end=True)
        assert tokens == own.generate(PROMPT, alone).tokens


def test_what_is_refused_is_raised_by_submit(own: LLM) -> None:
    with pytest.raises(ContextFullError):
        own.submit(Prompt.tokens([1] * 300))
    with pytest.raises(GrammarError):
        own.submit(PROMPT, Sampling(grammar="root ::= ("))
    with pytest.raises(SamplingError):
        own.submit(PROMPT, Sampling(max_tokens=0))


def test_result_times_out_and_goes_on(own: LLM) -> None:
    expected = own.generate(PROMPT, LONG).tokens
    running = own.submit(PROMPT, LONG)
    with pytest.raises(TimeoutError, match="still being made"):
        running.result(timeout=0.0005)
    assert running.result(timeout=60).tokens == expected


def test_cancelled_ends_with_what_it_had(own: LLM) -> None:
    expected = own.generate(PROMPT, LONG).tokens
    running = own.submit(PROMPT, LONG)
    running.cancel()
    answer = running.result()
    assert answer.finish_reason == "cancelled"
    assert answer.tokens == expected[: len(answer.tokens)]
    running.cancel()  # no error


def test_a_queued_request_is_cancelled(own: LLM) -> None:
    running = [own.submit(PROMPT, LONG) for _ in range(6)]
    running[5].cancel()
    assert running[5].result().finish_reason == "cancelled"
    assert running[5].result().tokens == []
    for other in running:
        other.cancel()


def test_handles_that_are_dropped_as_their_requests_end_leave_nothing(own: LLM) -> None:
    for tokens in range(60):
        running = own.submit(PROMPT, Sampling(max_tokens=1 + tokens % 3, ignore_end=True))
        time.sleep(0.00002 * tokens)
        del running
        assert eventually(lambda: own.thread.mailboxes == 0)


def test_leaving_a_block_and_dropping_the_handle_cancel(own: LLM) -> None:
    with own.submit(PROMPT, LONG) as running:
        next(running)
    assert running.result().finish_reason == "cancelled"
    dropped = own.submit(PROMPT, LONG)
    assert own.thread.mailboxes == 2
    del dropped
    gc.collect()
    assert eventually(lambda: own.engine.live == 0 and own.thread.mailboxes == 1)


def test_callbacks(own: LLM, caplog: pytest.LogCaptureFixture) -> None:
    called: list[tuple[Running, str]] = []
    done = threading.Event()

    def note(running: Running) -> None:
        assert running.done
        called.append((running, threading.current_thread().name))
        running.result()
        if len(called) == 3:
            done.set()

    def fail(_: Running) -> None:
        raise ValueError("logged")

    first = own.submit(PROMPT, SHORT)
    first.add_done_callback(fail)
    first.add_done_callback(note)
    second = own.submit(PROMPT, LONG)
    second.add_done_callback(note)
    second.cancel()
    second.result()
    second.add_done_callback(note)  # it has ended
    assert done.wait(20)
    assert {running for running, _ in called} == {first, second}
    assert all(name == "personaplug notices" for _, name in called)
    called.clear()
    assert "ValueError: logged" in caplog.text
    caplog.clear()  # its tracebacks hold requests


def test_asyncio_generates_and_streams_together(own: LLM) -> None:
    expected = own.generate(PROMPT, SHORT).tokens

    async def stream() -> list[int]:
        return [token async for chunk in own.astream(PROMPT, SHORT) for token in chunk.tokens]

    async def main() -> None:
        streams = [stream() for _ in range(5)]
        whole = [own.agenerate(PROMPT, SHORT) for _ in range(5)]
        assert await asyncio.gather(*streams) == [expected] * 5
        assert [answer.tokens for answer in await asyncio.gather(*whole)] == [expected] * 5
        with pytest.raises(ContextFullError):
            await own.agenerate(Prompt.tokens([1] * 300))
        with pytest.raises(GrammarError):
            async for _ in own.astream(PROMPT, Sampling(grammar="root ::= (")):
                pass

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(main())


def test_cancelling_a_task_cancels_the_request(own: LLM) -> None:
    async def main() -> None:
        tasks = [asyncio.ensure_future(own.agenerate(PROMPT, LONG)) for _ in range(4)]
        await asyncio.sleep(0.003)
        for task in tasks:
            task.cancel()
        assert {type(got) for got in await asyncio.gather(*tasks, return_exceptions=True)} <= {asyncio.CancelledError}
        stream = own.astream(PROMPT, LONG)
        await stream.__anext__()
        await stream.aclose()
        await asyncio.to_thread(eventually, lambda: own.engine.live == 0)
        assert own.engine.live == 0

    asyncio.run(main())


def test_score_takes_turns_with_streams(own: LLM) -> None:
    expected = own.score(PROMPT, [[300, 301], [302]])
    tokens = own.generate(PROMPT, LONG).tokens
    running = own.submit(PROMPT, LONG)
    for _ in range(3):
        assert own.score(PROMPT, [[300, 301], [302]]) == expected
    assert running.result().tokens == tokens


def test_more_requests_than_wait_at_once(own: LLM) -> None:
    answers = own.generate_all([PROMPT] * 100, Sampling(max_tokens=2, ignore_end=True))
    assert [answer.tokens for answer in answers] == [answers[0].tokens] * 100
    with pytest.raises(ContextFullError):
        own.generate_all([PROMPT, Prompt.tokens([1] * 300), PROMPT], LONG)


def test_close_wakes_every_waiter(tiny: TinyModel) -> None:
    llm = LLM.load(tiny.path, threads=1, sequences=1)
    errors: list[BaseException] = []
    started = threading.Barrier(5)

    def wait(call: Callable[[], object]) -> None:
        started.wait()
        try:
            while True:
                call()
        except EngineError as error:
            errors.append(error)

    calls: list[Callable[[], object]] = [
        lambda: llm.generate(PROMPT, LONG),
        lambda: list(llm.stream(PROMPT, LONG)),
        lambda: llm.score(PROMPT, [[3] * 20] * 50),
        lambda: asyncio.run(llm.agenerate(PROMPT, LONG)),
    ]
    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    left = llm.submit(PROMPT, LONG)
    left.add_done_callback(lambda running: None)
    started.wait()
    time.sleep(0.02)
    llm.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert [str(error) for error in errors] == ["this LLM is closed; expected an open one: load it again"] * 4
    with pytest.raises(EngineError, match="closed"):
        left.result()


def run_script(body: str, model: Path) -> subprocess.CompletedProcess[str]:
    script = f"""
import asyncio, os, sys, threading, time
from personaplug_edge.beams import Beams
from personaplug_edge.engine import LLM
from personaplug_edge.errors import EngineError
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.sampling import Sampling
llm = LLM.load({str(model)!r}, threads=1, sequences=2)
PROMPT, LONG = Prompt.tokens([1, 5]), Sampling(max_tokens=200, ignore_end=True)
{body}
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_forked_child_is_told_to_load_its_own(tiny_gguf: Path) -> None:
    body = f"""
running = llm.submit(PROMPT, LONG)
blocked = threading.Thread(target=lambda: [llm.generate(PROMPT, LONG) for _ in range(20)])
blocked.start()
child = os.fork()
if child == 0:
    calls = [lambda: llm.generate(PROMPT), lambda: llm.score(PROMPT, [[3]]), lambda: llm.engine.live,
             running.result, lambda: running.done, lambda: asyncio.run(llm.agenerate(PROMPT))]
    for call in calls:
        try:
            call()
        except EngineError as error:
            assert "fork" in str(error) and "spawn" in str(error)
            print("refused", flush=True)
    running.cancel()
    with LLM.load({str(tiny_gguf)!r}, threads=1) as own:
        print(len(own.generate(PROMPT, LONG).tokens), flush=True)
    llm.close()
    del llm, running
    sys.exit(0)
print(os.waitpid(child, 0)[1])
blocked.join()
print(len(running.result().tokens))
"""
    done = run_script(body, tiny_gguf)
    assert done.stdout.split() == ["refused"] * 6 + ["200", "0", "200"], done.stderr[-3000:]
    assert done.returncode == 0


INTERRUPTED = {
    "generate": "llm.generate(PROMPT, LONG)",
    "result": "llm.submit(PROMPT, LONG).result()",
    "stream": "list(llm.stream(PROMPT, LONG))",
    "score": "llm.score(PROMPT, [[3]])",
    "asyncio": "asyncio.run(llm.agenerate(PROMPT, LONG))",
}


@pytest.mark.parametrize("call", INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_ctrl_c_does_not_wait_for_others(call: str, tiny_gguf: Path) -> None:
    """Another thread scores for a minute meanwhile; in the end that is broken off, too."""
    body = f"""
import _thread, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
over = []
def others():
    try:
        llm.score(Prompt.tokens([1] * 100), [[3] * 20] * 200_000)
    except EngineError:
        over.append("broken off")
thread = threading.Thread(target=others)
thread.start()
try:
    while True:  # until it has its turn
        llm.submit(PROMPT, LONG).result(timeout=0.5)
except TimeoutError:
    pass
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {call}
except KeyboardInterrupt:
    print("stopped", over)
llm.close()
thread.join()
print(over)
"""
    done = run_script(body, tiny_gguf)
    assert done.stdout.splitlines() == ["stopped []", "['broken off']"], done.stderr[-3000:]


def test_the_first_waits_of_many_threads_at_once(tiny_gguf: Path) -> None:
    """With threads that change places all the time: what the first wait asked of Python could let another thread in."""
    body = """
sys.setswitchinterval(1e-6)
tickets = [llm.thread.submit(PROMPT, LONG)[0] for _ in range(8)]
barrier = threading.Barrier(8)
def wait(ticket):
    barrier.wait()
    ticket.next(10.0, True)
threads = [threading.Thread(target=wait, args=(ticket,), daemon=True) for ticket in tickets]
[thread.start() for thread in threads]
[thread.join(20) for thread in threads]
print(any(thread.is_alive() for thread in threads), flush=True)
os._exit(0)
"""
    for _ in range(5):
        assert run_script(body, tiny_gguf).stdout == "False\n"


EXITS = {
    "a request runs": "running = llm.submit(PROMPT, LONG)",
    "a stream is open": "stream = llm.stream(PROMPT, LONG); next(stream)",
    "a callback waits": "llm.submit(PROMPT, LONG).add_done_callback(lambda running: time.sleep(0.01))",
    "a daemon generates": """
def work():
    while True:
        llm.generate(PROMPT, LONG)
threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
[thread.start() for thread in threads]
time.sleep(0.05)""",
    "a daemon's loop streams": """
async def work():
    while True:
        async for chunk in llm.astream(PROMPT, LONG):
            pass
threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
time.sleep(0.05)""",
    "a loop was closed": """
async def work():
    task = asyncio.ensure_future(llm.agenerate(PROMPT, LONG))
    await asyncio.sleep(0.001)
asyncio.run(work())""",
}


@pytest.mark.parametrize("body", EXITS.values(), ids=EXITS.keys())
def test_the_interpreter_ends(body: str, tiny_gguf: Path) -> None:
    done = run_script(body + "\nprint('over')", tiny_gguf)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr[-3000:]


@pytest.mark.parametrize("how", ["cancelled", "deadline", "dropped"])
def test_more_requests_end_in_one_step_than_the_engine_remembers(own: LLM, how: str) -> None:
    options = RequestOptions(deadline=0.05 if how == "deadline" else None)
    hold = own.thread.hold()
    running = [own.submit(PROMPT, LONG, options) for _ in range(300)]
    if how == "deadline":
        time.sleep(0.06)
    elif how == "cancelled":
        for one in running:
            one.cancel()
    else:
        del running[1:]
        gc.collect()
    del hold
    if how == "dropped":
        assert running[0].result().finish_reason == "length"
    else:
        results = [one.result() for one in running]
        assert {result.finish_reason for result in results} == {how}
        assert {result.timings.prompt_tokens for result in results} == {len(IDS)}
    assert eventually(lambda: own.thread.unfinished == 0 and own.engine.live == 0)


def test_scoring_by_the_engine_itself_beside_requests_that_bring_no_events(own: LLM) -> None:
    """Three threads: one scores and asks for the GIL between batches, one holds it and asks what runs, one steps."""
    done = threading.Event()

    def score() -> None:
        while not done.is_set():
            own.engine.score(PROMPT, [[270, 264]])

    searches = [own.thread.submit_beams(PROMPT, Beams(beams=4, max_tokens=150), None) for _ in range(4)]
    scorer = threading.Thread(target=score, daemon=True)
    scorer.start()
    end = time.monotonic() + 60
    while own.thread.unfinished and time.monotonic() < end:
        pass
    done.set()
    scorer.join(20)
    assert not scorer.is_alive() and all(search.ended for search in searches)


def test_an_engine_outlives_its_thread(tiny: TinyModel) -> None:
    llm = LLM.load(tiny.path, threads=1)
    engine = llm.engine
    llm.close()
    found: list[object] = []

    def score() -> None:
        found.append(engine.score(PROMPT, [[270]]))

    for _ in range(20):  # the system gives a new thread the number of the one that ended
        thread = threading.Thread(target=score)
        thread.start()
        thread.join()
    assert len(found) == 20


def test_a_grammar_that_reads_a_text_in_too_many_ways_stops_nobody_else(own: LLM) -> None:
    grammar = "root ::= (" + '"a" | ' * 400 + '"b")*'
    other = own.submit(PROMPT, LONG)
    with pytest.raises(GrammarError, match="too many ways"):
        own.generate(PROMPT, Sampling(grammar=grammar, max_tokens=5))
    assert other.result().finish_reason == "length"
    assert own.generate(PROMPT, Sampling(grammar='root ::= ("a" | "b")*', max_tokens=5)).tokens


def test_more_samples_than_any_queue_holds_are_refused_at_once(own: LLM) -> None:
    with pytest.raises(QueueFullError, match="2000000000 came together"):
        own.submit_samples(PROMPT, SHORT, 2_000_000_000)


def test_a_reader_gets_what_is_there_while_no_step_begins(own: LLM) -> None:
    """The news of a request alone wait for the next frame, or for its next step, which may be far away."""
    for _ in range(3):
        (ticket,) = own.thread.submit(PROMPT, Sampling(max_tokens=240, ignore_end=True))
        assert ticket.next(5.0) is not None
        reader = threading.Thread(target=read_all, args=(ticket,))
        reader.start()
        time.sleep(0.01)
        hold = own.thread.hold()
        time.sleep(0.1)
        lay_there = ticket.next(0.0) if reader.is_alive() else None
        del hold
        reader.join(20)
        assert lay_there is None


def read_all(ticket: core.Ticket) -> None:
    while (event := ticket.next(None)) is not None and not event.finish:
        pass


def test_an_error_is_not_told_to_those_who_came_to_no_harm(tiny: TinyModel, tmp_path: Path) -> None:
    """A request that a reset drops later hears of the reset, not of a file that another had missed."""
    file = gguf_lora.write_lora(tmp_path / "gone.gguf", gguf_lora.random_lora(tiny.shape, seed=0))
    with LLM.load(tiny.path, threads=1, sequences=2) as llm:
        other = llm.submit(PROMPT, Sampling(max_tokens=10**6, ignore_end=True), RequestOptions(slide=True))
        llm.add_adapter("gone", str(file))
        hold = llm.thread.hold()
        failing = llm.submit(PROMPT, SHORT, RequestOptions(adapter="gone"))
        file.unlink()
        del hold
        with pytest.raises(AdapterError):
            failing.result(timeout=20)
        time.sleep(0.2)
        llm.engine.reset()
        with pytest.raises(EngineError, match="dropped by a reset"):
            other.result(timeout=20)
