"""Attackers find a leak that was planted and none in noise; what the page says is no more than was tested."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from tiny_pipeline import command, finished_run

from disentangle_lightning.analysis.privacy.detection import Trials, detection_figures, one_against_rest
from disentangle_lightning.analysis.privacy.exposure import (
    Exposure,
    sentences_heard,
    speakers_heard,
    what_was_tested,
)
from disentangle_lightning.analysis.privacy.labels import attack_figures, held_out_scores, linear, mlp
from disentangle_lightning.analysis.privacy.verification import (
    ROUNDS,
    ask,
    cosine,
    held_out_groups,
    make_pairs,
    plda,
    trainable,
)
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.report.analysis_result import read_result

SPEAKERS, UTTERANCES, DIM = 12, 12, 8
NAMES = [f"s{i % SPEAKERS}" for i in range(SPEAKERS * UTTERANCES)]
NUMBERS = np.unique(np.array(NAMES), return_inverse=True)[1]


def trials(scores: list[float], targets: list[int]) -> Trials:
    """All of one speaker each."""
    numbers = np.arange(len(scores))
    return Trials(np.array(scores, float), np.array(targets, bool), numbers, numbers)


@pytest.mark.parametrize(
    ("scores", "targets", "eer", "found"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 0.0, 1.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 1.0, 0.0),
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.5, 0.5),
        ([5, 5, 5, 5], [1, 1, 0, 0], 0.5, 0.0),  # all tied: accepted together, so nothing can be found
        ([3, 2, 2, 1], [1, 1, 0, 0], 0.25, 0.5),  # the line from (0, 0.5) to (0.5, 1) meets fpr = fnr at 0.25
        ([9, 3, 2, 1, 0], [1, 0, 0, 1, 0], 0.5, 0.5),
    ],
)
def test_error_rates_of_a_few_scores_are_those_worked_out_by_hand(
    scores: list[float], targets: list[int], eer: float, found: float
) -> None:
    figures = detection_figures("x", trials(scores, targets))
    assert figures["x.eer"] == pytest.approx(eer)
    assert figures["x.tpr_at_1_fpr"] == pytest.approx(found)


def test_error_rates_of_two_gaussians_are_those_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(10_000) % 2 == 0
    scores = rng.normal(size=10_000) + 2.0 * targets
    figures = detection_figures("x", trials(list(scores), list(targets)))
    assert figures["x.eer"] == pytest.approx(NormalDist().cdf(-1.0), abs=0.01)
    assert figures["x.tpr_at_1_fpr"] == pytest.approx(1 - NormalDist(2.0).cdf(NormalDist().inv_cdf(0.99)), abs=0.04)
    assert figures["x.eer.ci_low"] < NormalDist().cdf(-1.0) < figures["x.eer.ci_high"]


def test_the_interval_is_that_of_few_speakers_not_of_many_trials() -> None:
    rng = np.random.default_rng(1)
    speaker_effect = rng.normal(size=SPEAKERS)
    whose = np.repeat(np.arange(SPEAKERS), 200)
    targets = np.arange(len(whose)) % 2 == 0
    scores = rng.normal(size=len(whose)) * 0.1 + targets * speaker_effect[whose]
    of_speakers = detection_figures("x", Trials(scores, targets, whose, whose))
    alone = np.arange(len(whose))
    of_trials = detection_figures("x", Trials(scores, targets, alone, alone))
    assert of_speakers["x.eer"] == of_trials["x.eer"]

    def width(figures: dict[str, float]) -> float:
        return figures["x.eer.ci_high"] - figures["x.eer.ci_low"]

    assert width(of_speakers) > 3 * width(of_trials)


def test_one_against_the_rest_is_one_where_the_class_is_known_and_a_hundredth_in_noise() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(6000) % 3
    speakers = np.arange(6000) % 50
    known, _ = one_against_rest(np.eye(3)[classes], classes, speakers)
    guessed, drawn = one_against_rest(rng.normal(size=(6000, 3)), classes, speakers)
    assert known == 1.0
    assert guessed == pytest.approx(0.01, abs=0.005)
    assert drawn.min() < guessed < drawn.max()


def vectors(leak: float, seed: int) -> np.ndarray:
    """[U, DIM] noise, and in it a mean for each speaker, the same for every seed."""
    means = np.random.default_rng(9).normal(size=(SPEAKERS, DIM))
    return np.random.default_rng(seed).normal(size=(len(NAMES), DIM)) + leak * means[NUMBERS]


def verify(leak: float) -> dict[str, float]:
    groups = held_out_groups(NAMES, NAMES, ROUNDS)
    pairs = make_pairs(NAMES, [None] * len(NAMES), groups, 10_000)
    probe, test = vectors(leak, 1), vectors(leak, 2)
    new = (plda(probe[[n not in p.held_out for n in NAMES]], [n for n in NAMES if n not in p.held_out]) for p in pairs)
    figures: dict[str, float] = {}
    for name, scorers in {"cosine": (cosine(probe) for _ in pairs), "new": new}.items():
        figures |= detection_figures(name, ask(pairs, scorers, test, NUMBERS))
    return figures


def test_a_planted_speaker_is_verified_and_noise_is_not() -> None:
    planted, noise = verify(10.0), verify(0.0)
    for scorer in ("cosine", "new"):
        assert planted[f"{scorer}.eer"] < 0.05
        assert planted[f"{scorer}.tpr_at_1_fpr"] > 0.8
        assert noise[f"{scorer}.eer.ci_low"] < 0.5 < noise[f"{scorer}.eer.ci_high"]
        assert noise[f"{scorer}.eer"] == pytest.approx(0.5, abs=0.05)
        assert noise[f"{scorer}.tpr_at_1_fpr"] < 0.05


def test_plda_gives_the_log_likelihood_ratio_of_the_model_that_made_the_vectors() -> None:
    rng = np.random.default_rng(0)
    between, within = np.diag([4.0, 0.5]), np.array([[1.0, 0.6], [0.6, 2.0]])
    of_speakers = rng.multivariate_normal([3, -1], between, size=4000)
    spoken = np.repeat(of_speakers, 5, axis=0) + rng.multivariate_normal([0, 0], within, size=20_000)
    asked = np.array([[3.0, -1.0], [5.0, 0.0], [4.5, -0.5], [-1.0, -3.0]])
    found = plda(spoken, [str(i) for i in range(4000) for _ in range(5)])(asked)

    def log_density(x: np.ndarray, covariance: np.ndarray) -> float:
        return float(-0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + x @ np.linalg.solve(covariance, x)))

    total, centred = between + within, asked - [3, -1]
    joint = np.block([[total, between], [between, total]])
    for i, a in enumerate(centred):
        for j, b in enumerate(centred):
            truth = log_density(np.append(a, b), joint) - log_density(a, total) - log_density(b, total)
            assert found[i, j] == pytest.approx(truth, abs=0.15)


def test_groups_share_out_all_speakers_in_every_round_and_are_one_where_none_was_heard() -> None:
    groups = held_out_groups(NAMES, ["s0"], ROUNDS)
    assert len(groups) == 3 * ROUNDS
    for start in range(0, len(groups), 3):
        assert sorted(name for group in groups[start : start + 3] for name in group) == sorted(set(NAMES))
    assert held_out_groups(NAMES, ["another"], ROUNDS) == [frozenset(NAMES)]
    assert held_out_groups(["a", "b", "c"], ["a"], ROUNDS) == [{"a", "b", "c"}]  # too few to share out


def test_pairs_say_different_things_unless_all_say_the_same() -> None:
    sentences: list[str | None] = [("ONE", "TWO")[i % 2] for i in range(len(NAMES))]
    group = [frozenset({"s0", "s1", "s2"})]
    for pair in make_pairs(NAMES, sentences, group, 10_000):
        assert all(sentences[a] != sentences[b] for a, b in zip(pair.first, pair.second, strict=True))
        assert {NAMES[i] for i in (*pair.first, *pair.second)} == {"s0", "s1", "s2"}
    same = make_pairs(NAMES, ["ONE"] * len(NAMES), group, 10_000)
    assert len(same[0].first) == 36 * 35 // 2
    few = make_pairs(NAMES, ["ONE"] * len(NAMES), group, 20)
    assert len(few[0].first) == 2 * 20


def test_who_can_train_a_scorer() -> None:
    assert trainable(["a", "a", "b"])
    assert not trainable(["a", "b"])
    assert not trainable(["a", "a"])


@pytest.mark.parametrize("attacker", [linear, mlp])
def test_an_attacker_finds_a_planted_label_and_none_in_noise(attacker: object) -> None:
    classes = NUMBERS % 2
    counts = np.bincount(classes)
    for leak, is_found in ((6.0, True), (0.0, False)):
        probe, test = (np.random.default_rng(seed).normal(size=(len(NAMES), DIM)) for seed in (1, 2))
        probe[:, 0] += leak * classes
        test[:, 0] += leak * classes
        figures = attack_figures("x", attacker(probe, classes, 2)(test), classes, NUMBERS, counts)  # type: ignore[operator]
        assert figures["x.chance"] == 0.5
        if is_found:
            assert figures["x.leakage.ci_low"] > 0.9
            assert figures["x.tpr_at_1_fpr"] > 0.8
        else:
            assert figures["x.leakage.ci_low"] < 0 < figures["x.leakage.ci_high"] + 0.05
            assert abs(figures["x.leakage"]) < 0.25


def test_a_label_that_is_known_by_its_speakers_alone_is_not_found_for_new_ones() -> None:
    classes = NUMBERS // 2 % 2  # what only those who know the speaker can know
    probe, test = (np.eye(SPEAKERS)[NUMBERS] * 5 + vectors(0.0, seed)[:, :1] for seed in (1, 2))
    counts = np.bincount(classes)
    known = attack_figures("x", linear(probe, classes, 2)(test), classes, NUMBERS, counts)
    groups = held_out_groups(NAMES, NAMES, 1)
    scores = held_out_scores(linear, probe, classes, NAMES, test, NAMES, 2, groups)
    new = attack_figures("x", scores, classes, NUMBERS, counts)
    assert known["x.accuracy"] > 0.95
    assert new["x.accuracy"] < 0.75
    assert new["x.leakage.ci_low"] < 0 or new["x.leakage"] < 0.5


def utterance(id: str, split: str, speaker: str | None, text: str | None = None) -> Utterance:
    return Utterance(id, Path(f"{id}.wav"), transcription=text, speaker=speaker, split=split)


def test_who_was_heard_is_counted_over_the_splits() -> None:
    spoken = [
        utterance("1", "train", "ann", "Yes!"),
        utterance("2", "probe", "bob", "no"),
        utterance("3", "dev", "cid", "so"),
        utterance("4", "test", "ann", "no"),
        utterance("5", "test", "bob", "YES"),
        utterance("6", "test", "dora", "never"),
    ]
    assert speakers_heard(spoken) == Exposure(tested=3, by_stages=1, by_attackers=1)
    assert sentences_heard(spoken) == Exposure(tested=3, by_stages=1, by_attackers=1)


def test_words_claim_unheard_speakers_only_where_they_were_unheard() -> None:
    closed = " ".join(what_was_tested(Exposure(12, 12, 12), Exposure(30, 0, 0), stage1_given=False))
    assert "12 speakers: the stages were trained or selected on all of them" in closed
    assert "Speakers that no stage heard were not tested" in closed
    assert "30 sentences: the stages were trained or selected on none of them" in closed
    opened = " ".join(what_was_tested(Exposure(40, 0, 0), Exposure(0, 0, 0), stage1_given=False))
    assert "No stage heard the speakers of the test" in opened
    assert "were not tested" not in opened
    given = " ".join(what_was_tested(Exposure(40, 0, 0), Exposure(0, 0, 0), stage1_given=True))
    assert "Stage 1 was trained elsewhere; whom it heard there is not counted" in given
    assert "verification was not tried" in " ".join(
        what_was_tested(Exposure(0, 0, 0), Exposure(0, 0, 0), stage1_given=False)
    )


def test_the_analysis_of_a_run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run(tmp_path_factory), run, symlinks=True)
    status, errors = command("analyze", "privacy", run)
    assert status == 0, errors
    result = read_result(run / "analysis" / "privacy")
    for representation in ("hidden", "textual", "acoustic_emotion"):
        for scorer in ("cosine", "plda"):
            eer = result.measurements[f"privacy.{representation}.verification.{scorer}.eer"]
            assert 0 <= eer.value <= 1
        for label in ("emotion", "speaker"):
            assert f"privacy.{representation}.{label}.mlp.tpr_at_1_fpr" in result.measurements
    # Two speakers are too few to train a scorer without those it is asked about.
    assert not any("_new" in name for name in result.figures)
    assert result.figures["privacy.hidden.speaker.linear.accuracy"] > 0.8  # two pitches: easily heard
    assert "Speakers that no stage heard were not tested" in " ".join(result.notes)
    assert result.drawings
