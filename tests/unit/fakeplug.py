"""A stand-in for PersonaPlug: answers are a function of the request, and every encoding is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FakeEmbedder:
    """Bag-of-letters vectors."""

    def __init__(self) -> None:
        self.encoded: Counter[str] = Counter()
        self.queried: Counter[str] = Counter()
        self.projected = 0

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.bincount(np.frombuffer(text.encode(), np.uint8) % 16, minlength=16) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 16)

    def behavior(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded.update(texts)
        return self._vectors(texts)

    def query(self, text: str) -> NDArray[np.float32]:
        self.queried[text] += 1
        return self._vectors([text])[0]

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.projected += len(vectors)
        return np.repeat(vectors[:, None, :], 2, axis=1)

    def item_text(self, text: str, output: str) -> str:
        return f"{output}: {text}"


class FakeLLM:
    """Keeps (kind, text) of every answer asked for; ``fail_after`` so many it is interrupted."""

    context = 512

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail_after = -1

    def tokenize(self, text: str) -> list[str]:
        return text.split()

    def generate(self, prompt: Any, sampling: Any, options: Any = None) -> Any:
        assert sampling.stop == ("\n",)
        if sampling.max_tokens == 1:  # to see how long the first token takes
            return SimpleNamespace(text="x", timings=SimpleNamespace(first_token_seconds=0.5))
        assert sampling.max_tokens == 8
        text = self.answer("generate", prompt) or "a headline"
        return SimpleNamespace(text=text, timings=SimpleNamespace(first_token_seconds=0.25))

    def answer(self, kind: str, prompt: Any) -> str:
        if len(self.calls) == self.fail_after:
            raise KeyboardInterrupt
        self.calls.append((kind, prompt[0]))
        return str(prompt[1])


def fake_bundle() -> Any:
    prompt = SimpleNamespace(template="{input}\nanswer:", max_input_tokens=64, max_prompt_tokens=256)
    manifest = SimpleNamespace(prompt=prompt, name="fake", version="1", files={})
    return SimpleNamespace(manifest=manifest, sampling_options={"max_tokens": 8, "stop": ("\n",)})


class FakePlug:
    """Chooses the commonest output of the history given, the first label without one."""

    def __init__(
        self, bundle: Any = None, llm: Any = None, embedder: Any = None, store: Any = None, adapters: Any = None
    ) -> None:
        self.adapters = adapters
        self.embedder, self.store = embedder or FakeEmbedder(), store
        self.bundle, self.llm = bundle or fake_bundle(), llm or FakeLLM()
        cut = SimpleNamespace(cut=lambda text, tokens: " ".join(text.split()[:tokens]))
        self.personalizer = SimpleNamespace(services=cut)

    def __enter__(self) -> FakePlug:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def personalize(self, text: str, *, user: str, history: Any, method: str, cut: bool) -> Any:
        assert cut and user
        if "query" in method or "static" in method or "pplug" in method:
            self.embedder.query(text)
            self.embedder.project(self.embedder.behavior([self.embedder.item_text(i.text, i.output) for i in history]))
        outputs = Counter(item.output for item in history)
        personal = method not in ("none", "instruction") and not method.startswith("bm25")
        votes = dict(outputs) if method in ("majority", "vote") else None
        return SimpleNamespace(
            prompt=(text, outputs.most_common(1)[0][0] if outputs and personal else "") if votes is None else (),
            method=method,
            votes=votes,
            kept=SimpleNamespace(bytes=lambda: 7 * len(history)),
            training_seconds=None,
            options=SimpleNamespace(adapter=""),
            sampling=lambda usual: usual,
        )

    def choose(self, text: str, labels: Sequence[str], *, request: Any) -> Any:
        if request.votes is not None:
            return SimpleNamespace(label=max(labels, key=lambda label: request.votes.get(label, 0)))
        return SimpleNamespace(label=self.llm.answer("choose", request.prompt) or labels[0])

    def score(self, text: str, answer: str, *, request: Any) -> Any:
        tokens = list(range(max(1, len(answer.split()))))
        return SimpleNamespace(logprob=-1.0 * len(tokens) - (request.method in ("none", "instruction")), tokens=tokens)
