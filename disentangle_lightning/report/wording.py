"""How the report writes names and numbers, in the terminal and on the page alike."""

from __future__ import annotations

import math

from disentangle_lightning.report.run_directory import Measurement

ABSENT = "—"


def representation_name(representation: str) -> str:
    """'acoustic_speaker' -> 'z_acoustic (speaker)'."""
    if representation.startswith("acoustic_"):
        return f"z_acoustic ({representation.removeprefix('acoustic_')})"
    return {
        "hidden": "hidden states",
        "textual": "z_textual",
        "duration": "length and rate alone",
    }.get(representation, representation)


def step_name(step: str) -> str:
    """'stage2_speaker' -> 'Stage 2 (speaker)'; 'probe_textual' -> 'probe on z_textual'."""
    if step == "stage1":
        return "Stage 1"
    if step.startswith("stage2_"):
        return f"Stage 2 ({step.removeprefix('stage2_')})"
    return f"probe on {representation_name(step.removeprefix('probe_'))}"


def percent(value: float | None) -> str:
    """0.1234 -> '12.3%'."""
    if value is None:
        return ABSENT
    return f"{100 * value:.1f}%" if math.isfinite(value) else "not a number"


def number(value: float | None, digits: int = 2) -> str:
    """1.234 -> '1.23'; whole numbers of thousands and up lose their decimals."""
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return "not a number"
    rounded = f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return rounded.removeprefix("-") if float(rounded.replace(",", "")) == 0 else rounded


def percent_with_spread(m: Measurement | None) -> str:
    """'12.3% ± 0.4': mean and standard deviation over seeds."""
    if m is None:
        return ABSENT
    spread = m.std is not None and math.isfinite(m.std)
    return f"{percent(m.value)} ± {100 * (m.std or 0.0):.1f}" if spread else percent(m.value)


def number_with_spread(m: Measurement | None, digits: int = 2) -> str:
    """'0.04 ± 0.01': mean and standard deviation over seeds."""
    if m is None:
        return ABSENT
    spread = m.std is not None and math.isfinite(m.std)
    return f"{number(m.value, digits)} ± {number(m.std, digits)}" if spread else number(m.value, digits)


def interval(m: Measurement | None, scale: float = 1.0, digits: int = 2) -> str:
    """'[0.01, 0.07]', the 95 % bootstrap interval; empty where there is none."""
    if m is None or m.ci_low is None or m.ci_high is None:
        return ""
    return f"[{number(scale * m.ci_low, digits)}, {number(scale * m.ci_high, digits)}]"


def listing(words: list[str]) -> str:
    """['a', 'b', 'c'] -> 'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
