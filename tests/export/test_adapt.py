"""A plug of one LLM serves another: carried over as it is, better after a few steps, with the rest of it unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the [export] extra")

from adapt_models import (  # noqa: E402
    NEW_WIDTH,
    OLD_WIDTH,
    random_llama,
    same_llama_in_another_space,
    save_encoder,
    words,
    write_colors,
)
from typer.testing import CliRunner  # noqa: E402

from personaplug_export import cli  # noqa: E402
from personaplug_export.adapt import Adaptation  # noqa: E402
from personaplug_export.adapt_options import AdaptOptions  # noqa: E402
from personaplug_export.adapt_report import AdaptReport  # noqa: E402
from personaplug_export.errors import ExportError  # noqa: E402
from personaplug_export.few_examples import few_examples  # noqa: E402
from personaplug_export.reference import Plug  # noqa: E402
from personaplug_export.train import Trainer, TrainOptions  # noqa: E402
from personaplug_export.vectors import EncoderOptions  # noqa: E402

OPTIONS = AdaptOptions(examples=24, dev_examples=24, steps=40, batch=8, lr=1e-2, bf16=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three Llamas, an encoder, a task, and a plug trained for the first Llama."""
    root = tmp_path_factory.mktemp("adapt")
    old = random_llama(root / "old", words("f", "g"), OLD_WIDTH, seed=0)
    found = {
        "old": old,
        "same": same_llama_in_another_space(root / "same", old, NEW_WIDTH),
        "other": random_llama(root / "other", words("h", "g"), NEW_WIDTH, seed=1),
        "encoder": save_encoder(root / "encoder"),
        "colors": write_colors(root / "colors"),
        "plug": root / "plug",
    }
    found["plug"].mkdir()
    options = TrainOptions(steps=120, batch=8, lr=1e-2, bf16=False, template="{input} answer:", persona_tokens=2)
    trainer = Trainer(old, found["encoder"], EncoderOptions(pooling="mean"), options, found["plug"])
    trainer.run(trainer.examples([found["colors"]], "train"), {})
    losses = trainer.evaluate(trainer.examples([found["colors"]], "dev")["colors"])
    (found["plug"] / "dev_loss.json").write_text(json.dumps(losses))
    return found


def adaptation(folders: dict[str, Path], llm: str, out: Path, options: AdaptOptions = OPTIONS) -> Adaptation:
    return Adaptation(folders["plug"], folders["old"], folders[llm], folders["encoder"], options, out)


def run(found: Adaptation, folders: dict[str, Path]) -> AdaptReport:
    options = found.options
    counts = {"train": options.examples, "dev": options.dev_examples}
    drawn = {s: few_examples([folders["colors"]], {}, s, count, options.seed) for s, count in counts.items()}
    return found.run(found.examples(drawn["train"], "train"), found.examples(drawn["dev"], "dev"), {})


def test_in_the_same_llm_of_another_space_nothing_is_lost(folders: dict[str, Path], tmp_path: Path) -> None:
    found = adaptation(folders, "same", tmp_path, replace(OPTIONS, steps=0))
    assert found.carried.shared == len(words("f", "g")) and found.carried.cosine > 0.999
    report = run(found, folders)
    before = json.loads((folders["plug"] / "dev_loss.json").read_text())
    assert report.mean("carried over, not trained") == pytest.approx(before, abs=5e-3)
    assert report.mean("adapted") == report.mean("carried over, not trained")
    assert report.mean("adapted") < report.mean("adapted, no history") - 0.3 < report.mean("no persona")


def test_few_steps_teach_it_another_llm(folders: dict[str, Path], tmp_path: Path) -> None:
    found = adaptation(folders, "other", tmp_path, replace(OPTIONS, compare=True, steps=80))
    shared = len(words("g"))
    assert found.carried.shared == shared
    report = run(found, folders)
    for way in ("carried over, not trained", "no persona", "instruction only, trained alone", "adapted, no history"):
        assert report.difference(way).high < -0.2, way
    assert report.mean("from nothing") < report.mean("no persona")
    plug, old = Plug.load(tmp_path), Plug.load(folders["plug"])
    assert plug.config.embedding_width == NEW_WIDTH and plug.config.inner_width == OLD_WIDTH
    for name in ("projector.mean", "input_head.linear.weight", "aggregator.log_temperature"):
        assert torch.equal(plug.state_dict()[name], old.state_dict()[name]), name
    facts = json.loads((tmp_path / "adapt.json").read_text())
    assert facts["shared_tokens"] == shared and facts["train_questions"] == {"colors": 24}
    assert facts["dev_loss"]["adapted"]["colors"] == pytest.approx(report.mean("adapted"))
    trained = json.loads((tmp_path / "train.json").read_text())
    assert trained["template"] == "{input} answer:" and trained["encoder"]["pooling"] == "mean"
    assert trained["steps"] == 80 and trained["subtract_mean"] is True


def test_the_query_is_trained_if_asked(folders: dict[str, Path], tmp_path: Path) -> None:
    run(adaptation(folders, "other", tmp_path, replace(OPTIONS, steps=3, train_query=True)), folders)
    plug, old = Plug.load(tmp_path).state_dict(), Plug.load(folders["plug"]).state_dict()
    for name in ("input_head.linear.weight", "aggregator.log_temperature"):
        assert not torch.equal(plug[name], old[name]), name


def test_where_the_new_llm_knows_the_answers_those_of_the_folds_teach(folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = (folders["plug"], folders["old"], folders["other"], folders["encoder"])
    folds = [folders["other"], folders["same"]]
    found = Adaptation(*arguments, replace(OPTIONS, steps=2), tmp_path, folds)
    asked: list[int] = []
    for number, llm in enumerate(found.scratch.fold_llms):
        llm.base_model.register_forward_hook(lambda *_, number=number: asked.append(number))
    run(found, folders)
    assert len(asked) == 2, "one batch a step, and none of the evaluation"
    assert json.loads((tmp_path / "adapt.json").read_text())["fold_llms"] == [str(path) for path in folds]


def test_a_cut_run_goes_on_to_the_same_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    options = replace(OPTIONS, steps=10)
    run(adaptation(folders, "other", tmp_path / "whole", options), folders)
    cut = adaptation(folders, "other", tmp_path / "cut", options)
    carried = cut._carried()

    def failing(*args: object, **kwargs: object) -> object:
        if len(calls) == 4:
            carried._save(4)
            raise KeyboardInterrupt
        calls.append(1)
        return loss(*args, **kwargs)

    calls: list[int] = []
    loss, carried.loss = carried.loss, failing
    drawn = few_examples([folders["colors"]], {}, "train", options.examples, 0)
    with pytest.raises(KeyboardInterrupt):
        carried.run(cut.examples(drawn, "train"), {})
    run(adaptation(folders, "other", tmp_path / "cut", options), folders)
    for (name, a), b in zip(
        Plug.load(tmp_path / "whole").state_dict().items(),
        Plug.load(tmp_path / "cut").state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(a, b, msg=name)


def test_what_does_not_fit_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no plug\.json in .*old: expected the folder of a plug"):
        adaptation({**folders, "plug": folders["old"]}, "other", tmp_path / "a")
    wide = save_encoder(tmp_path / "wide", width=24)
    with pytest.raises(ExportError, match=r"takes vectors of width 16, .*wide gives 24: adapt it with the encoder"):
        adaptation({**folders, "encoder": wide}, "other", tmp_path / "b")
    with pytest.raises(ExportError, match=r"makes rows of width 32, .*other has 48: --from-llm is"):
        adaptation({**folders, "old": folders["other"]}, "other", tmp_path / "c")
    with pytest.raises(ExportError, match=r"no config\.json in .*colors"):
        adaptation({**folders, "old": folders["colors"]}, "other", tmp_path / "d")
    with pytest.raises(ExportError, match=r"plug holds a plug that was not adapted; give another --out"):
        adaptation(folders, "other", folders["plug"])
    assert not (tmp_path / "b").exists()


def test_another_run_does_not_go_on_in_the_same_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    adaptation(folders, "other", tmp_path / "out")
    adaptation(folders, "other", tmp_path / "out", replace(OPTIONS, dev_examples=5))
    with pytest.raises(ExportError, match=r"out holds an adaptation with steps 40, not 41; give another --out"):
        adaptation(folders, "other", tmp_path / "out", replace(OPTIONS, steps=41))


def test_by_the_command_line_without_shared_tokens(folders: dict[str, Path], tmp_path: Path) -> None:
    few = random_llama(tmp_path / "few", words(), NEW_WIDTH, seed=2)
    arguments = [
        "adapt", folders["plug"], folders["colors"], "--from-llm", folders["old"], "--llm", few, "--encoder",
        folders["encoder"], "--out", tmp_path / "out", "--examples", 24, "--steps", 40, "--batch", 8, "--lr", 0.01,
        "--no-bf16",
    ]  # fmt: skip
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "150"})
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "14 tokens are in both vocabularies, too few" in result.output
    assert "carried over, not trained" in result.output and str(tmp_path / "out") in result.output
    facts = json.loads((tmp_path / "out" / "adapt.json").read_text())
    assert facts["adapted_minus"]["adapted, no history"]["high"] < -0.2
