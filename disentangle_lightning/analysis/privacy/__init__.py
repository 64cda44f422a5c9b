"""What attackers learn about a speaker from representations that are released, beside what these are good for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.privacy import labels as label_attackers
from disentangle_lightning.analysis.privacy.detection import Indices, detection_figures
from disentangle_lightning.analysis.privacy.exposure import sentences_heard, speakers_heard, what_was_tested
from disentangle_lightning.analysis.privacy.page import eer_drawing, label_tables, notes_on_figures, speaker_table
from disentangle_lightning.analysis.privacy.verification import (
    ROUNDS,
    Pairs,
    Scorer,
    ask,
    cosine,
    held_out_groups,
    make_pairs,
    plda,
    trainable,
)
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import PrivacySettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.corpus.tokenizer import fold_text
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.summary import aggregate

_ATTACKERS = {"linear": label_attackers.linear, "mlp": label_attackers.mlp}


def analyze(run: TrainedRun, settings: PrivacySettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`.

    The attackers are retrained on each representation. They read the mean and deviation of its dimensions over an
    utterance, not its frames: verification needs such a vector anyhow, an attacker can then be trained anew for every
    group of speakers that is held out, and on a few hundred utterances these readers find more than the trained probes
    of the report.
    """
    speakers = speakers_heard(run.utterances.values())
    if not run.labels and speakers.tested < 2:
        raise DoesNotApply("the run has no label, and its test split less than two speakers: there is nothing to find")
    seeds = [_Seed(run, settings, seed).figures() for seed in track(run.seeds, "privacy")]
    figures = aggregate(seeds)
    result = AnalysisResult(
        "Privacy: what attackers find",
        "Attackers are trained on the released representation itself, on the speech of the split probe, and asked "
        "about the test split. Verification: are two utterances, which say different things, by one speaker? The "
        "equal error rate (EER) is 50% for a guess and 0% for an attacker who always knows; the true positives (TPR) "
        "are those found while at most 1% of the others are taken for positives, where a guess finds 1%. Hidden "
        "states are the control: attackers who find nothing there are too weak to prove anything. Intervals are over "
        "speakers.",
        figures,
    )
    representations = list(run.latents(run.seeds[0], "test").frames)
    measured = result.measurements
    exposure = what_was_tested(
        speakers, sentences_heard(run.utterances.values()), run.settings.stage1.checkpoint is not None
    )
    drawing = eer_drawing(measured, representations)
    return AnalysisResult(
        result.title,
        result.explanation,
        figures,
        [speaker_table(measured, representations, run.tasks), *label_tables(measured, representations, run.labels)],
        [drawing] if drawing else [],
        [*exposure, *notes_on_figures(measured, speakers, settings.trials)],
    )


class _Seed:
    """The attacks on the latents of one seed."""

    def __init__(self, run: TrainedRun, settings: PrivacySettings, seed: int) -> None:
        self._run, self._seed = run, seed
        self._probe, self._test = run.latents(seed, "probe"), run.latents(seed, "test")
        self._probe_speakers, self._speakers = self._names(self._probe), self._names(self._test)
        self._numbers: Indices = np.unique(np.array(self._speakers), return_inverse=True)[1]
        self._verified = np.flatnonzero([run.utterances[id].speaker is not None for id in self._test.ids])
        verified = _pick(self._speakers, self._verified)
        self._pairs = make_pairs(
            verified,
            [fold_text(text) if (text := self._test.transcriptions[i]) else None for i in self._verified],
            held_out_groups(verified, self._probe_speakers, ROUNDS),
            settings.trials,
        )

    def figures(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name in self._test.frames:
            found |= self._utility(name) | self._verification(name)
            for label in self._test.labels:
                found |= self._label(name, label)
        return found

    def _names(self, latents: SplitLatents) -> list[str]:
        """Who speaks; where that is not known, every utterance is a speaker of its own."""
        return [self._run.utterances[id].speaker or f"utterance {id}" for id in latents.ids]

    def _utility(self, name: str) -> dict[str, float]:
        """What the run's probes read that is wanted: words, and the labels of the tasks."""
        file = self._run.path / f"seed{self._seed}" / f"probe_{name}" / "summary.json"
        known: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        wanted = {"wer": "ctc.wer"} | {task: f"{task}.accuracy" for task in self._run.tasks}
        return {
            f"privacy.{name}.utility.{kind}{suffix}": known[figure]
            for kind, place in wanted.items()
            for suffix in ("", ".ci_low", ".ci_high")
            if (figure := f"probe.{name}.{place}{suffix}") in known
        }

    def _verification(self, name: str) -> dict[str, float]:
        """EER and TPR of cosine and of PLDA, which knows the speakers or, where it can be trained without, does not."""
        if len(np.unique(self._numbers[self._verified])) < 2:
            return {}
        probe, test = (label_attackers.statistics(latents, name) for latents in (self._probe, self._test))
        scorers: dict[str, Iterator[Scorer]] = {"cosine": (cosine(probe) for _ in self._pairs)}
        if trainable(self._probe_speakers):
            known = plda(probe, self._probe_speakers)
            scorers["plda"] = (known for _ in self._pairs)
        overlap = set(self._speakers) & set(self._probe_speakers)
        if overlap and all(trainable(self._without(group)) for group in self._pairs):
            scorers["plda_new"] = (plda(probe[self._rest(group)], self._without(group)) for group in self._pairs)
        figures: dict[str, float] = {}
        for kind, of_groups in scorers.items():
            trials = ask(self._pairs, of_groups, test[self._verified], self._numbers[self._verified])
            if trials.answerable:
                figures |= detection_figures(f"privacy.{name}.verification.{kind}", trials)
        return figures

    def _rest(self, group: Pairs) -> Indices:
        """The places of probe utterances by other speakers than the group's."""
        return np.flatnonzero([speaker not in group.held_out for speaker in self._probe_speakers])

    def _without(self, group: Pairs) -> list[str]:
        return [speaker for speaker in self._probe_speakers if speaker not in group.held_out]

    def _label(self, name: str, label: str) -> dict[str, float]:
        """Of each attacker, also without the test's speakers where it would otherwise know them."""
        classes = [latents.labels[label] for latents in (self._probe, self._test)]
        known, asked = (np.flatnonzero(places >= 0) for places in classes)
        probe_classes, test_classes = classes[0][known], classes[1][asked]
        if not len(asked) or len(np.unique(probe_classes)) < 2:
            return {}
        probe = label_attackers.statistics(self._probe, name)[known]
        test = label_attackers.statistics(self._test, name)[asked]
        probe_speakers, test_speakers = _pick(self._probe_speakers, known), _pick(self._speakers, asked)
        groups = held_out_groups(test_speakers, probe_speakers, rounds=1) if label != "speaker" else []
        count = len(self._test.label_names[label])
        counts = np.bincount(probe_classes, minlength=count)
        numbers: Indices = np.unique(np.array(test_speakers), return_inverse=True)[1]
        figures: dict[str, float] = {}
        for kind, attacker in _ATTACKERS.items():
            scores = attacker(probe, probe_classes, count)(test)
            figures |= label_attackers.attack_figures(
                f"privacy.{name}.{label}.{kind}", scores, test_classes, numbers, counts
            )
            if len(groups) > 1:
                scores = label_attackers.held_out_scores(
                    attacker, probe, probe_classes, probe_speakers, test, test_speakers, count, groups
                )
                figures |= label_attackers.attack_figures(
                    f"privacy.{name}.{label}.{kind}_new", scores, test_classes, numbers, counts
                )
        return figures


def _pick(names: Sequence[str], places: Indices) -> list[str]:
    return [names[i] for i in places]
