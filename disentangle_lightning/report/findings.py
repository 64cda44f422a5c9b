"""What is wrong with a run, in words: the reader must not have to notice it in a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from statistics import fmean

from disentangle_lightning.report.run_directory import RunDirectory, Seed, Step
from disentangle_lightning.report.wording import interval, listing, number, percent, step_name

_MIXING = "shares its "
"""So begins the reason of `corpus.splits` for leaving out what belongs to two splits: nothing is wrong with it."""

RATE_NEAR_ZERO = 1.0
"""Bits per second. The letters of fluent speech alone need tens; a collapsed stage measured 0.3."""

LEAKAGE_NEAR_CHANCE = 0.05
"""Of the way from guessing (0) to always right (1)."""

WER_CANNOT_TRANSCRIBE = 0.5
WER_NOTHING_READ = 0.9
"""From here on, what is read has next to no words of what was said."""

LEAKAGE_LIMIT = 0.08
LEAKAGE_SEVERE = 0.5
TASK_KEPT_SHARE = 0.9
"""Of the leakage measured on the hidden states, z_acoustic keeps at least this part for its own task."""

KL_NEAR_ZERO = 0.01
"""Nats per frame; at 50 frames a second, 0.7 bits per second."""

SKIPPED_SHARE = 0.05


class Severity(IntEnum):
    """How much a finding matters. The order is the order on the page."""

    ALARM = 0  # the run cannot be used as it is
    WARNING = 1  # separated in part: a conclusion has to mention it
    NOTE = 2  # good to know


@dataclass(frozen=True)
class Finding:
    """One thing to know before reading the tables."""

    severity: Severity
    title: str
    evidence: str
    advice: str


def find(run: RunDirectory) -> list[Finding]:
    """Every finding about a run, the gravest first."""
    checks: list[Callable[[RunDirectory], Iterator[Finding]]] = [
        _missing,
        _not_finite,
        _no_bottleneck,
        _taken_from,
        _stage1,
        _stage2,
        _collapse_before_warmup_ends,
        _no_positive_control,
        _textual_leakage,
        _acoustic_task,
        _acoustic_words,
        _infeasible,
        _skipped,
    ]
    return sorted((f for check in checks for f in check(run)), key=lambda f: f.severity)


def without_bottleneck(run: RunDirectory) -> list[str]:
    """The stages trained as the no-bottleneck control: only they report a rate of exactly zero."""
    stages = ["stage1", *(f"stage2_{task}" for task in run.tasks)]
    return [stage for stage in stages if run.value(f"{stage}.rate_bits_per_second") == 0.0]


def _missing(run: RunDirectory) -> Iterator[Finding]:
    if run.missing:
        steps = [m for m in run.missing if m.endswith("has not finished") or m.startswith("no Stage 2")]
        yield Finding(
            Severity.WARNING if steps else Severity.NOTE,
            "This run is not complete",
            f"{'; '.join(run.missing)}.",
            f"Run `{run.rerun_command}`: finished steps are kept, only the missing ones are done.",
        )


def _not_finite(run: RunDirectory) -> Iterator[Finding]:
    broken = [name for name, m in run.measurements.items() if not math.isfinite(m.value)]
    if broken:
        yield Finding(
            Severity.ALARM,
            "Some figures are not numbers",
            f"{listing(broken)} could not be computed, or training diverged.",
            "Look at the curves for the step where the loss jumps, and lower the learning rate of that stage.",
        )


def _no_bottleneck(run: RunDirectory) -> Iterator[Finding]:
    if stages := without_bottleneck(run):
        yield Finding(
            Severity.NOTE,
            "Control run without a bottleneck",
            f"{listing([step_name(s) for s in stages])} reports a rate of exactly zero, which only a "
            "deterministic bottleneck does: nothing was forced out of its latent.",
            "Compare with a run that has the bottleneck; on its own this run says nothing about separation.",
        )


def _taken_from(run: RunDirectory) -> Iterator[Finding]:
    given = {s.name: origin for s in run.seeds if "stage1" in s.steps and (origin := s.steps["stage1"].taken_from)}
    if not given:
        return
    beside = []
    for name, unit, show in (("wer", "of the words wrong", percent), ("rate_bits_per_second", "bits/s", number)):
        if (there := run.value(f"stage1.training_corpus.{name}")) is not None:
            beside.append(f"{show(there)} {unit} there, {show(run.value(f'stage1.{name}'))} here")
    known = all(origin["trained_on_known"] for origin in given.values())
    yield Finding(
        Severity.NOTE if known else Severity.WARNING,
        "Stage 1 was trained elsewhere and only tested here",
        f"It is {listing(sorted({str(origin['checkpoint']) for origin in given.values()}))}"
        + (f": {'; '.join(beside)}." if beside else ".")
        + ("" if known else " What it was trained on is not known any more: it may have heard the test speech."),
        "Where it fails on this corpus, train Stage 1 here: leave stage1.checkpoint out.",
    )


def _stage1(run: RunDirectory) -> Iterator[Finding]:
    failed = [s for s in run.seeds if s.values.get("stage1.wer", 0.0) > WER_CANNOT_TRANSCRIBE]
    dead = [s for s in _near_zero_rate(run, "stage1") if s.values.get("stage1.wer", 0.0) >= WER_NOTHING_READ]
    if dead:
        yield Finding(
            Severity.ALARM,
            f"Stage 1 has collapsed{_which(dead, run)}",
            f"It sends {number(_mean(dead, 'stage1.rate_bits_per_second'))} bits per second through its "
            f"bottleneck (below {RATE_NEAR_ZERO:g} is nothing) and gets "
            f"{percent(_mean(dead, 'stage1.wer'))} of the words wrong, so z_textual is empty and its low "
            "leakage means nothing.",
            "Lower beta of Stage 1 (0.01 is a safe start), or choose a rate in its place (schedule `rate`): under it "
            "no stage stays collapsed.",
        )
    elif failed:
        control = run.value("probe.hidden.ctc.wer")
        able = control is not None and control <= WER_CANNOT_TRANSCRIBE
        yield Finding(
            Severity.ALARM,
            f"Stage 1 cannot transcribe{_which(failed, run)}",
            f"It gets {percent(_mean(failed, 'stage1.wer'))} of the words of the test speech wrong, more "
            f"than {WER_CANNOT_TRANSCRIBE:.0%}, so z_textual does not hold what was said"
            + (
                "."
                if control is None
                else f"; a probe on the encoder's own hidden states gets {percent(control)} wrong."
            ),
            "The bottleneck is too tight: lower beta of Stage 1, or train it longer."
            if able
            else "Take an encoder fine-tuned for this language, give Stage 1 more speech or epochs, then lower beta.",
        )


def _stage2(run: RunDirectory) -> Iterator[Finding]:
    for task in run.tasks:
        stage = f"stage2_{task}"
        dead = _near_zero_rate(run, stage)
        if not dead:
            continue
        accuracy, chance = _mean(dead, f"{stage}.accuracy"), _mean(dead, f"{stage}.chance")
        guesses = accuracy is None or chance is None or _leakage(accuracy, chance) < LEAKAGE_NEAR_CHANCE
        yield Finding(
            Severity.ALARM,
            f"{step_name(stage)} {'has collapsed' if guesses else 'lives on z_textual alone'}{_which(dead, run)}",
            f"It sends {number(_mean(dead, f'{stage}.rate_bits_per_second'))} bits per second through its "
            f"bottleneck (below {RATE_NEAR_ZERO:g} is nothing) and names the {task} right "
            f"{percent(accuracy)} of the time; always giving the commonest answer is right {percent(chance)} "
            "of the time" + ("." if guesses else "; what it has above that comes from its condition, z_textual."),
            f"Lower beta of Stage 2 for {task} (0.01 is a safe start), keep it fixed instead of raising it "
            "to 1, or choose a rate in its place (schedule `rate`): under it no stage stays collapsed.",
        )


def _collapse_before_warmup_ends(run: RunDirectory) -> Iterator[Finding]:
    for stage in ["stage1", *(f"stage2_{task}" for task in run.tasks)]:
        died = [(seed, at) for seed in run.seeds if stage in seed.steps and (at := _death(seed.steps[stage]))]
        if not died:
            continue
        step, beta, final = min(at for _, at in died)
        yield Finding(
            Severity.WARNING,
            f"{step_name(stage)} collapsed before beta had risen{_which([seed for seed, _ in died], run)}",
            f"Its KL fell below {KL_NEAR_ZERO} nats per frame at training step {step:.0f}, when beta was "
            f"{number(beta)} on its way to {number(final)}, and never came back.",
            f"End the schedule well below {number(beta)}, or keep beta fixed there.",
        )


def _death(step: Step) -> tuple[float, float, float] | None:
    """(training step, beta then, final beta) from where KL stays near zero while beta is still rising."""
    kl = step.curves.get("train/kl_nats_per_frame", [])
    beta = dict(step.curves.get("train/beta", []))
    if not beta or all(value == 0.0 for _, value in kl):  # a deterministic bottleneck reports zeros
        return None
    died = None
    for at, value in reversed(kl):
        if not value < KL_NEAR_ZERO:
            break
        died = at
    final = max(beta.values())
    if died is None or beta.get(died, final) >= 0.95 * final:
        return None
    return died, beta[died], final


def _no_positive_control(run: RunDirectory) -> Iterator[Finding]:
    for target in run.targets:
        leakage = run.value(f"probe.hidden.{target}.leakage")
        if leakage is not None and leakage < LEAKAGE_NEAR_CHANCE:
            yield Finding(
                Severity.WARNING,
                f"Nothing to separate: the encoder does not show {target}",
                f"Even from its hidden states a probe names the {target} right "
                f"{percent(run.value(f'probe.hidden.{target}.accuracy'))} of the time (guessing: "
                f"{percent(run.chance(target))}), so that z_textual hides it proves nothing.",
                "Check this label, give the probes more utterances or epochs, or take another encoder.",
            )


def _how_to_hide(run: RunDirectory, target: str) -> str:
    if target in run.hidden:
        return "Raise hide_weight of Stage 1, or its beta"
    return f"Name {target} among what Stage 1 hides (hide), or raise its beta"


def _textual_leakage(run: RunDirectory) -> Iterator[Finding]:
    for target in run.targets:
        name = f"probe.textual.{target}.leakage"
        m = run.measurements.get(name)
        if m is None or not math.isfinite(m.value):
            continue
        facts = (
            f"From z_textual alone a probe names the {target} right "
            f"{percent(run.value(f'probe.textual.{target}.accuracy'))} of the time (guessing: "
            f"{percent(run.chance(target))}): leakage {number(m.value)} {interval(m)}".rstrip()
        )
        duration = run.value(f"probe.duration.{target}.leakage")
        if m.value > LEAKAGE_LIMIT:
            explained = duration is not None and duration >= m.value - LEAKAGE_NEAR_CHANCE
            timing = (
                ""
                if duration is None or duration < LEAKAGE_NEAR_CHANCE
                else f" Clip length and speaking rate alone give {number(duration)}: "
                + ("timing explains it." if explained else "timing explains a part.")
            )
            yield Finding(
                Severity.ALARM if m.value > LEAKAGE_SEVERE and not explained else Severity.WARNING,
                f"z_textual still tells the {target}",
                f"{facts}, above the limit of {LEAKAGE_LIMIT:g}.{timing}",
                "A frame-level transcript always shows timing; resample or pool z_textual if that must go too."
                if explained
                else f"{_how_to_hide(run, target)}, unless {target} is itself a matter of words.",
            )
        elif m.ci_high is not None and m.ci_high > LEAKAGE_LIMIT:
            yield Finding(
                Severity.NOTE,
                f"Too few test utterances to be sure that z_textual hides the {target}",
                f"{facts}; the interval reaches above the limit of {LEAKAGE_LIMIT:g}.",
                "Test on more utterances, or train more seeds.",
            )


def _acoustic_task(run: RunDirectory) -> Iterator[Finding]:
    for task in run.tasks:
        name = f"probe.acoustic_{task}.{task}"
        kept, known = run.value(f"{name}.leakage"), run.value(f"probe.hidden.{task}.leakage")
        # A collapsed stage has its own alarm; an encoder that knows nothing has nothing to lose.
        collapsed = bool(_near_zero_rate(run, f"stage2_{task}"))
        if kept is None or collapsed or (known is not None and known < LEAKAGE_NEAR_CHANCE):
            continue
        wanted = TASK_KEPT_SHARE * (1.0 if known is None else known)
        if kept >= wanted:
            continue
        before = (
            ""
            if known is None
            else (
                f", where a probe on the hidden states is right "
                f"{percent(run.value(f'probe.hidden.{task}.accuracy'))} of the time"
            )
        )
        yield Finding(
            Severity.ALARM if kept < LEAKAGE_NEAR_CHANCE else Severity.WARNING,
            f"z_acoustic has lost {'all' if kept < LEAKAGE_NEAR_CHANCE else 'part'} of its task, {task}",
            f"From z_acoustic a probe names the {task} right {percent(run.value(f'{name}.accuracy'))} of the "
            f"time (guessing: {percent(run.chance(task))}){before}.",
            f"Lower beta of Stage 2 for {task}, or train it longer.",
        )


def _acoustic_words(run: RunDirectory) -> Iterator[Finding]:
    for task in run.tasks:
        wer = run.value(f"probe.acoustic_{task}.ctc.wer")
        if wer is not None and wer < WER_NOTHING_READ:
            yield Finding(
                Severity.ALARM if wer < WER_CANNOT_TRANSCRIBE else Severity.WARNING,
                f"Words are left in z_acoustic ({task})",
                f"A probe on z_acoustic reads the test speech with {percent(wer)} of the words wrong; with "
                f"no words left it would be {WER_NOTHING_READ:.0%} or more.",
                f"Raise beta of Stage 2 for {task} or shrink its latent; check that Stage 1, its condition, "
                "transcribes.",
            )


def _infeasible(run: RunDirectory) -> Iterator[Finding]:
    count = run.value("stage1.infeasible")
    if count:
        yield Finding(
            Severity.NOTE,
            "Some clips are too short for their transcription",
            f"CTC needs a frame for each letter; {number(count, 0)} clips of the test split have fewer, so they "
            "cannot be read right, and such clips teach Stage 1 nothing.",
            "Check that these transcriptions belong to these clips.",
        )


def _skipped(run: RunDirectory) -> Iterator[Finding]:
    if run.corpus is None:
        return
    skipped = sum(not reason.startswith(_MIXING) for _, reason in run.corpus.skipped)
    kept = sum(int(facts.get("utterances", 0)) for facts in run.corpus.splits.values())
    if skipped:
        yield Finding(
            Severity.WARNING if skipped > SKIPPED_SHARE * (skipped + kept) else Severity.NOTE,
            f"{skipped} utterance{'s were' if skipped > 1 else ' was'} left out",
            f"That is {percent(skipped / (skipped + kept))} of the corpus; each is listed with its reason below.",
            "Mend or remove these files, then run again.",
        )
    if run.corpus.unknown_characters:
        letters = [f"{c!r} ({n})" for c, n in sorted(run.corpus.unknown_characters.items(), key=lambda i: -i[1])]
        shown = letters[:8] + ([f"{len(letters) - 8} others"] if len(letters) > 8 else [])
        yield Finding(
            Severity.NOTE,
            "Some characters of the transcriptions are not in the alphabet",
            f"{listing(shown)} were dropped.",
            "Spell them out (digits as words), or set an alphabet that has them.",
        )


def _near_zero_rate(run: RunDirectory, stage: str) -> list[Seed]:
    """The seeds whose stage sends nothing: a mean over seeds would hide the one that failed.

    Exactly zero is not meant: that is the deterministic bottleneck of a control run.
    """
    name = f"{stage}.rate_bits_per_second"
    return [s for s in run.seeds if 0.0 < s.values.get(name, math.inf) < RATE_NEAR_ZERO]


def _mean(seeds: list[Seed], name: str) -> float | None:
    values = [seed.values[name] for seed in seeds if name in seed.values]
    return fmean(values) if values else None


def _which(seeds: list[Seed], run: RunDirectory) -> str:
    return "" if len(seeds) == len(run.seeds) else f" in {listing([s.name for s in seeds])}"


def _leakage(accuracy: float, chance: float) -> float:
    return (accuracy - chance) / (1.0 - chance) if chance < 1.0 else 0.0
