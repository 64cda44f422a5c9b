"""A stacked bottleneck is Stage 1 or Stage 2 where it can be, and does what neither can."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import Planted, run_fit, weights_of

from disentangle_lightning.corpus.manifest import read_manifest, write_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stacked import StackedVIB
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.vib_stage import VIBStage


def figures_after(
    module: VIBStage | Probe, planted: Planted, folder: Path, epochs: int, **data: Any
) -> dict[str, float]:
    own = planted.data(["emotion", "speaker"], **data)
    trainer = run_fit(module, own, folder, epochs)
    trainer.test(module, datamodule=own, verbose=False)
    figures: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return figures


def same_weights(one: VIBStage, other: VIBStage) -> bool:
    """In the order in which they were made: names differ."""
    first, second = ([v for v in weights_of(m).values() if v.dim()] for m in (one, other))
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("units", ["nats", "paper"])
def test_for_a_label_given_a_stage_1_it_is_stage_2(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path, units: str
) -> None:
    inputs = planted.data(["emotion", "speaker"]).inputs
    arguments: dict[str, Any] = {"units": units, "latent_dim": 4, "beta": 1e-3, "learning_rate": 0.01}
    torch.manual_seed(1)
    stage2 = Stage2ConditionalVIB(inputs, "emotion", stage1_checkpoint, **arguments)
    torch.manual_seed(1)
    stacked = StackedVIB(inputs, ["emotion"], [stage1_checkpoint], **arguments)
    torch.manual_seed(2)
    expected = figures_after(stage2, planted, tmp_path / "stage2", 3)
    torch.manual_seed(2)
    found = figures_after(stacked, planted, tmp_path / "stacked", 3)
    assert {name.removeprefix("stage2_emotion."): value for name, value in expected.items()} == {
        name.removeprefix("stacked.").removeprefix("emotion."): value for name, value in found.items()
    }
    assert same_weights(stage2, stacked)


@pytest.mark.parametrize("units", ["nats", "paper"])
def test_for_transcription_given_nothing_it_is_stage_1(planted: Planted, tmp_path: Path, units: str) -> None:
    inputs = planted.data(["emotion", "speaker"]).inputs
    arguments: dict[str, Any] = {"units": units, "latent_dim": 6, "beta": 1e-3, "learning_rate": 0.02}
    stages: list[VIBStage] = []
    for kind, own in ((Stage1VIB, {}), (StackedVIB, {"tasks": ["ctc"], "given": []})):
        torch.manual_seed(1)
        stages.append(kind(inputs, **own, **arguments))
        torch.manual_seed(2)
        run_fit(stages[-1], planted.data(["emotion", "speaker"]), tmp_path / kind.__name__, 2)
    assert same_weights(*stages)


def test_one_stage_alone_learns_several_tasks(planted: Planted, tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = planted.data(["emotion", "speaker"]).inputs
    stage = StackedVIB(inputs, ["emotion", "speaker"], [], latent_dim=4, beta=1e-4, learning_rate=0.01)
    figures = figures_after(stage, planted, tmp_path, 10)
    assert figures["stacked.emotion.accuracy"] > 0.95
    assert figures["stacked.speaker.accuracy"] > 0.95
    assert figures["stacked.rate_bits_per_second"] > 0


def test_the_other_order_transcribes_given_the_task(planted: Planted, tmp_path: Path) -> None:
    """And its checkpoint needs no other file, nor do its probes."""
    torch.manual_seed(0)
    inputs = planted.data(["emotion", "speaker"]).inputs
    first = StackedVIB(inputs, ["emotion"], [], latent_dim=4, beta=1e-3, learning_rate=0.01)
    run_fit(first, planted.data(["emotion", "speaker"]), tmp_path / "first", 6)
    second = StackedVIB(
        inputs, ["ctc"], [str(tmp_path / "first" / "last.ckpt")], latent_dim=6, beta=1e-3, learning_rate=0.02
    )
    figures = figures_after(second, planted, tmp_path / "second", 25)
    assert figures["stacked.ctc.wer"] < 0.2
    assert not any(p.requires_grad for p in second.given.parameters())
    shutil.rmtree(tmp_path / "first")
    loaded = load_task(tmp_path / "second" / "last.ckpt", StackedVIB)
    assert same_weights(second, loaded)

    probe = Probe(inputs, ["emotion", "ctc"], "latent", str(tmp_path / "second" / "last.ckpt"), learning_rate=0.02)
    read = figures_after(probe, planted, tmp_path / "probe", 15, train_split="probe")
    assert read["probe.latent.ctc.wer"] < 0.5
    assert read["probe.latent.emotion.leakage"] < 0.5
    (tmp_path / "second" / "last.ckpt").unlink()
    assert load_task(tmp_path / "probe" / "last.ckpt", Probe).name == "latent"


def test_a_third_stage_has_the_latents_of_two(
    planted: Planted, stage1_checkpoint: str, stage2_checkpoint: str, tmp_path: Path
) -> None:
    inputs = planted.data(["emotion", "speaker"]).inputs
    stage = StackedVIB(inputs, ["speaker"], [stage1_checkpoint, stage2_checkpoint], latent_dim=5)
    (head,) = stage.each_head()
    assert head.classifier.in_features == 6 + 4 + 5
    run_fit(stage, planted.data(["emotion", "speaker"]), tmp_path, 1)
    batch = next(iter(planted.data(["emotion", "speaker"]).test_dataloader()))
    stage2 = load_task(stage2_checkpoint, Stage2ConditionalVIB)
    with torch.no_grad():
        frames = [stage2.condition(batch), stage2.latent_encoder(batch.features).mean]
        torch.testing.assert_close([condition(batch) for condition in stage._conditions], frames)
    assert stage.predict_step(batch, 0)["frames"]["z"].shape[1] == 5


def words_matter(planted: Planted) -> Planted:
    """The same features; the label `word` says whether the letter A was spoken more than once."""
    utterances = [
        replace(u, labels=u.labels | {"word": str((u.transcription or "").count("A") > 1)})
        for u in read_manifest(planted.manifest)
    ]
    manifest = Path(planted.manifest).with_name("words_matter.jsonl")
    write_manifest(manifest, utterances)
    return Planted(str(manifest), planted.store)


@pytest.mark.parametrize(("task", "depends_on_text"), [("word", True), ("emotion", False)])
def test_a_condition_that_knows_nothing_costs_only_where_the_task_depends_on_text(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path, task: str, depends_on_text: bool
) -> None:
    corpus = words_matter(planted)
    data = corpus.data([task])
    torch.manual_seed(3)
    knows_nothing = Stage1VIB(data.inputs, latent_dim=6)
    run_fit(knows_nothing, data, tmp_path / "random", 0)
    objectives = []
    for condition in (stage1_checkpoint, str(tmp_path / "random" / "last.ckpt")):
        torch.manual_seed(0)
        stage = StackedVIB(data.inputs, [task], [condition], latent_dim=4, beta=0.02, learning_rate=0.02)
        trainer = run_fit(stage, data, tmp_path / str(len(objectives)), 15)
        objectives.append(float(trainer.callback_metrics["dev/objective"]))
    real, random = objectives
    if depends_on_text:
        assert random > 1.3 * real
    else:
        assert random == pytest.approx(real, rel=0.15)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [([], "StackedVIB.tasks is []"), (["ctc", "ctc"], "different"), (["age"], "label 'age' is not among")],
)
def test_tasks_that_make_no_sense_are_refused(planted: Planted, tasks: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        StackedVIB(planted.data().inputs, tasks, [])
    assert words in str(error.value)


def test_what_is_no_stage_cannot_be_given(planted: Planted, tmp_path: Path) -> None:
    data = planted.data()
    run_fit(Probe(data.inputs, ["emotion"]), planted.data(train_split="probe"), tmp_path, 0)
    with pytest.raises(UserError, match="holds a Probe; a Stage1VIB is needed"):
        StackedVIB(data.inputs, ["emotion"], [str(tmp_path / "last.ckpt")])
