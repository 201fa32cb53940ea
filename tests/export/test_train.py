"""Training a plug on a random LLM: it learns what only the history says, resumes exactly, and reads what it should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [export] extra")

from personaplug_edge.evaluate.data import Example  # noqa: E402
from personaplug_export.ablate import BARE, Setting, run_bare, run_variant, table  # noqa: E402
from personaplug_export.examples import Examples  # noqa: E402
from personaplug_export.folds import fold_of  # noqa: E402
from personaplug_export.label_choice import choose_label  # noqa: E402
from personaplug_export.train import Trainer, TrainOptions  # noqa: E402
from personaplug_export.vectors import EncoderOptions  # noqa: E402

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "<s>",
    "</s>",
    "question",
    "answer",
    ":",
    "red",
    "blue",
    "sky",
    "sea",
    "fox",
]
OPTIONS = TrainOptions(steps=200, batch=8, lr=1e-2, bf16=False, template="{input} answer:", drop_all=0.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random LLM, a random encoder, and users of whom half always answer red, half always blue."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("train")
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="[PAD]")
    fast.save_pretrained(root / "llm")
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.4,  # random, but with opinions: at the usual 0.02 every answer is as likely as any other
    )
    LlamaForCausalLM(config).save_pretrained(root / "llm")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(root / "encoder")
    shape = {
        "initializer_range": 0.4,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    BertModel(BertConfig(vocab_size=len(WORDS), **shape), add_pooling_layer=False).save_pretrained(root / "encoder")
    write_task(root / "news_category")
    return {name: root / name for name in ("llm", "encoder", "news_category")}


def write_task(folder: Path) -> None:
    folder.mkdir()
    users, questions = [], []
    for number in range(16):
        color = ("red", "blue")[number % 2]
        history = [{"id": str(i), "text": word, "category": color} for i, word in enumerate(("sky", "sea", "fox"))]
        users.append({"user_id": f"u{number}", "history": history})
        for n, word in enumerate(("sky", "sea", "fox")):
            split = "dev" if number >= 12 else "train"
            facts = {"id": f"q{number}-{n}", "user_id": f"u{number}", "split": split, "n_history": 3}
            questions.append({**facts, "input": word, "short_input": f"question {word}", "output": color})
    for name, rows in (("users", users), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "labels.json").write_text(json.dumps(["red", "blue"]))


def trainer(folders: dict[str, Path], out: Path, options: TrainOptions = OPTIONS) -> Trainer:
    out.mkdir(parents=True, exist_ok=True)
    return Trainer(folders["llm"], folders["encoder"], EncoderOptions(pooling="mean"), options, out)


def test_learns_for_unseen_users_what_only_their_history_says(folders: dict[str, Path], tmp_path: Path) -> None:
    run = trainer(folders, tmp_path / "plug")
    dev = run.examples([folders["news_category"]], "dev")["news_category"]
    before = run.evaluate(dev)
    run.run(run.examples([folders["news_category"]], "train"), {})
    after = run.evaluate(dev)
    other = {"red": "blue", "blue": "red"}
    dev.questions = [replace(question, gold=other[question.gold]) for question in dev.questions]
    swapped = run.evaluate(dev)
    assert after < before - 0.5
    # The same requests with the answer of the other half of the users: only the persona can tell them apart.
    assert swapped > after + 1.0


@pytest.mark.parametrize("steps", [0, 60])
def test_a_warm_start_is_at_words_of_the_items(folders: dict[str, Path], tmp_path: Path, steps: int) -> None:
    """And the first row stays there, if it is held, whatever else is learned."""
    options = replace(OPTIONS, steps=steps, persona_tokens=2, warm_start=True, hold=100.0)
    run = trainer(folders, tmp_path / "warm", options)
    examples = run.examples([folders["news_category"]], "train")
    run.run(examples, {})
    table = run.llm.get_input_embeddings().weight
    with torch.no_grad():
        for color in ("red", "blue"):
            rows = run.plug.projector(examples["news_category"].vectors[f"{color}: sky"])[: 1 if steps else 2]
            near = torch.cosine_similarity(rows[:, None], table[None], dim=-1).max(-1)
            assert [WORDS[i] for i in near.indices.tolist()] == [color] * len(rows)
            assert near.values.min() > 0.98


def test_the_contrast_is_to_the_history_of_another_user(folders: dict[str, Path], tmp_path: Path) -> None:
    options = replace(OPTIONS, steps=40, drop=0.0, contrast=1.0, margin=3.0)
    run = trainer(folders, tmp_path / "contrast", options)
    examples = run.examples([folders["news_category"]], "train")["news_category"]
    first = examples.questions[0]
    questions = [first, next(q for q in examples.questions if q.gold != first.gold)]
    order = np.random.default_rng(0)
    with torch.no_grad():
        right = run.loss(examples, questions, order, each=True)
        wrong = run.loss(examples, questions, order, each=True, owners=questions[::-1])
        expected = torch.relu(3.0 - (wrong - right)).mean()
        torch.testing.assert_close(run.contrast_loss(examples, questions, order), expected)
        assert run.contrast_loss(examples, questions[:1] * 2, order).item() == 0
    run.run({"news_category": examples}, {})
    with torch.no_grad():
        assert run.contrast_loss(examples, questions, order).item() < expected.item() - 1


def test_a_cut_run_goes_on_to_the_same_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    options = TrainOptions(steps=12, batch=4, bf16=False, template="{input} answer:")
    whole = trainer(folders, tmp_path / "whole", options)
    whole.run(whole.examples([folders["news_category"]], "train"), {})

    cut = trainer(folders, tmp_path / "cut", options)
    examples = cut.examples([folders["news_category"]], "train")
    loss, calls = cut.loss, []

    def failing(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            cut._save(5)
            raise KeyboardInterrupt
        return loss(*args, **kwargs)

    cut.loss = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cut.run(examples, {})

    resumed = trainer(folders, tmp_path / "cut", options)
    resumed.run(resumed.examples([folders["news_category"]], "train"), {})
    for (name, a), b in zip(whole.plug.state_dict().items(), resumed.plug.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_the_llm_and_the_behavior_encoder_stay_as_they_are(folders: dict[str, Path], tmp_path: Path) -> None:
    options = TrainOptions(steps=3, batch=4, bf16=False, template="{input} answer:", input_encoder="full")
    run = trainer(folders, tmp_path / "full", options)
    frozen = {n: p.clone() for m in (run.llm, run.encoder.model) for n, p in m.state_dict().items()}
    query_before = next(run.input_encoder.model.parameters()).clone()
    run.run(run.examples([folders["news_category"]], "train"), {})
    for model in (run.llm, run.encoder.model):
        for name, value in model.state_dict().items():
            assert torch.equal(value, frozen[name]), name
    assert not torch.equal(next(run.input_encoder.model.parameters()), query_before)
    assert (tmp_path / "full" / "input_encoder" / "config.json").exists()


def test_each_fold_of_users_learns_from_the_llm_that_has_not_read_it(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, steps=12)
    (tmp_path / "folds").mkdir()
    folds = (folders["llm"], folders["llm"])
    run = Trainer(
        folders["llm"], folders["encoder"], EncoderOptions(pooling="mean"), options, tmp_path / "folds", folds
    )
    taught: list[tuple[int, set[int]]] = []
    original = run.loss

    def watched(examples: Examples, questions: list[Example], order: object, **rest: object) -> torch.Tensor:
        llm = run._llm_of(examples, questions, np.random.default_rng(0))
        taught.append((run.fold_llms.index(llm), {fold_of(q.user_id) for q in questions}))
        return original(examples, questions, order, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "loss", watched)
    run.run(run.examples([folders["news_category"]], "train"), {})
    assert len(taught) == 12 and all(folds == {llm} for llm, folds in taught)
    assert {llm for llm, _ in taught} == {0, 1}
    dev = run.examples([folders["news_category"]], "dev")["news_category"]
    assert run._llm_of(dev, dev.questions, None) is run.llm
    dev.labels = ()
    assert run._llm_of(dev, dev.questions, np.random.default_rng(0)) is run.llm
    without = replace(options, cross_fit="none")
    encoder = EncoderOptions(pooling="mean")
    assert not Trainer(folders["llm"], folders["encoder"], encoder, without, tmp_path, folds).fold_llms
    with pytest.raises(ValueError, match="got 'some'"):
        replace(options, cross_fit="some")


def test_variants_are_trained_once_and_compared_by_user(folders: dict[str, Path], tmp_path: Path) -> None:
    setting = Setting(
        folders=[folders["news_category"]],
        shares={},
        llm=folders["llm"],
        fold_llms=(),
        encoder=folders["encoder"],
        encoder_options=EncoderOptions(pooling="mean"),
        options=OPTIONS,
    )
    results = {
        name: run_variant(setting, changes, tmp_path / name)
        for name, changes in {"base": {}, "blind": {"history_template": "{text}"}, "none": {"drop_all": 1.0}}.items()
    }
    assert run_variant(setting, {}, tmp_path / "base") == results["base"]
    rows = {name: tasks["news_category"] for name, tasks in results.items()}
    # Without what the users answered nothing tells them apart: another's history is as good.
    assert all(row["wrong_nll"] > row["nll"] + 0.5 for row in rows["base"])
    assert all(abs(row["wrong_nll"] - row["nll"]) < 1e-4 for row in rows["blind"])
    # Rows that were trained without histories are asked without them, too.
    assert all(row["wrong_nll"] == row["nll"] for row in rows["none"])
    assert sum(row["nll"] for row in rows["none"]) > sum(row["nll"] for row in rows["base"])
    results[BARE] = run_bare(setting, tmp_path / "bare")
    bare = results[BARE]["news_category"]
    assert all(row["wrong_nll"] == row["nll"] for row in bare)
    assert sum(row["nll"] for row in bare) > sum(row["nll"] for row in rows["base"])
    text = table(results)
    assert "| base |" in text and "+0.000 [+0.000, +0.000]" in text and "| blind |" in text
    assert [line.count("|") for line in text.splitlines() if line.startswith("|")] == [7] * 6


def test_the_chosen_label_is_the_likeliest(folders: dict[str, Path], tmp_path: Path) -> None:
    run = trainer(folders, tmp_path / "plug")
    examples = run.examples([folders["news_category"]], "dev")["news_category"]
    labels = ["red", "blue", "sky sea", "fox"]
    for question in examples.questions[:6]:
        with torch.no_grad():
            losses = [run.loss(examples, [replace(question, gold=label)], None, each=True).item() for label in labels]
        assert choose_label(run, examples, question, labels) == labels[int(np.argmin(losses))]


def test_lamp_files_are_read_as_they_are(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "LaMP_4"
    folder.mkdir()
    question = {
        "id": "40",
        "input": "headline of the following article: sky",
        "profile": [{"id": "1", "text": "sea", "title": "red"}],
    }
    (folder / "train_questions.json").write_text(json.dumps([question]))
    (folder / "train_outputs.json").write_text(
        json.dumps({"task": "LaMP_4", "golds": [{"id": "40", "output": "blue"}]})
    )
    run = trainer(folders, tmp_path / "plug")
    examples = run.examples([folder], "train")["LaMP_4"]
    (example,) = examples.questions
    assert example.gold == "blue" and set(examples.vectors) == {question["input"], "red: sea"}
    assert run.loss(examples, [example], None).item() > 0
