"""The run in one paragraph that needs none of the field's words."""

from __future__ import annotations

from disentangle_lightning.report.findings import (
    LEAKAGE_LIMIT,
    WER_CANNOT_TRANSCRIBE,
    WER_NOTHING_READ,
    Finding,
    Severity,
    without_bottleneck,
)
from disentangle_lightning.report.run_directory import RunDirectory
from disentangle_lightning.report.wording import listing, percent


def verdict(run: RunDirectory, findings: list[Finding]) -> str:
    """What the run shows, for a reader who knows neither probes nor bottlenecks."""
    return " ".join(s for s in (_outcome(run, findings), _words(run), _textual(run), _acoustic(run)) if s)


def _outcome(run: RunDirectory, findings: list[Finding]) -> str:
    alarms = sum(f.severity is Severity.ALARM for f in findings)
    warnings = sum(f.severity is Severity.WARNING for f in findings)
    if alarms:
        problems = _count(alarms, "problem")
        return f"This run did not work: {problems} below must be solved before its figures are used."
    if run.missing and any("has not finished" in m or "no Stage 2" in m for m in run.missing):
        return "This run has not finished, so what follows is not the last word."
    if run.stage1_alone:
        return "This run made z_textual alone, the part meant to hold what was said."
    if without_bottleneck(run):
        return "This is a control run, in which nothing was done to separate words from voice."
    if warnings:
        return (
            "What was said and how it was said were separated in part: "
            f"{_count(warnings, 'reservation')} below belong{'s' if warnings == 1 else ''} to any conclusion."
        )
    return "What was said and how it was said were separated."


def _words(run: RunDirectory) -> str:
    wer = run.value("stage1.wer")
    if wer is None:
        return ""
    return (
        "Reading the test speech back from z_textual, the part meant to hold the words, gets "
        f"{percent(wer)} of the words wrong" + (", too many to be of use." if wer > WER_CANNOT_TRANSCRIBE else ".")
    )


def _textual(run: RunDirectory) -> str:
    """Splits the labels into those that z_textual hides and those that it gives away."""
    hidden: list[str] = []
    shown: list[str] = []
    for target in run.targets:
        leakage = run.value(f"probe.textual.{target}.leakage")
        accuracy, chance = run.value(f"probe.textual.{target}.accuracy"), run.chance(target)
        if leakage is None or accuracy is None or chance is None:
            continue
        facts = f"the {target} ({percent(accuracy)} right, where guessing gives {percent(chance)})"
        (shown if leakage > LEAKAGE_LIMIT else hidden).append(facts)
    sentences = []
    if hidden:
        lost = (run.value("stage1.wer") or 0.0) > WER_CANNOT_TRANSCRIBE
        merit = ", which is no merit where the words are lost too" if lost else ""
        sentences.append(f"The same part tells next to nothing about {listing(hidden)}{merit}.")
    if shown:
        sentences.append(f"It {'does, however, give' if hidden else 'gives'} away {listing(shown)}.")
    return " ".join(sentences)


def _acoustic(run: RunDirectory) -> str:
    kept = [
        f"the {task} {percent(accuracy)} of the time (guessing: {percent(run.chance(task))})"
        for task in run.tasks
        if (accuracy := run.value(f"probe.acoustic_{task}.{task}.accuracy")) is not None
    ]
    wers = [run.value(f"probe.acoustic_{task}.ctc.wer") for task in run.tasks]
    known = [wer for wer in wers if wer is not None]
    sentences = []
    if kept:
        sentences.append(
            f"z_acoustic, the other part, asked for what it was made for, correctly names {listing(kept)}."
        )
    if known:
        left = "next to none are left in it" if min(known) >= WER_NOTHING_READ else "some are left in it"
        least = "at least " if len(known) > 1 else ""
        sentences.append(f"Reading words from it gets {least}{percent(min(known))} of them wrong: {left}.")
    return " ".join(sentences)


def _count(n: int, noun: str) -> str:
    return f"{('one', 'two', 'three', 'four', 'five')[n - 1] if n <= 5 else n} {noun}{'' if n == 1 else 's'}"
