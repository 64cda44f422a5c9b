from __future__ import annotations

import pytest

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.beta import BetaSchedule, beta_at


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("fixed", 0.0, 2.0),
        ("fixed", 1.0, 2.0),
        ("incremental", 0.0, 0.1),
        ("incremental", 0.45, 1.05),
        ("incremental", 0.9, 2.0),
        ("incremental", 1.0, 2.0),
        ("warmup", 0.0, 0.0),
        ("warmup", 0.45, 1.0),
        ("warmup", 1.0, 2.0),
    ],
)
def test_beta_follows_its_schedule_to_two(schedule: BetaSchedule, progress: float, expected: float) -> None:
    assert beta_at(progress, beta=2.0, schedule=schedule) == pytest.approx(expected)


def test_the_papers_schedule_runs_from_a_tenth_to_one_over_nine_tenths() -> None:
    assert [beta_at(p / 10, 1.0, "incremental") for p in range(11)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0]
    )


def test_start_and_ramp_move_the_line() -> None:
    assert beta_at(0.25, beta=1.0, schedule="incremental", start=0.5, ramp=0.5) == pytest.approx(0.75)
    assert beta_at(0.25, beta=1.0, schedule="warmup", ramp=0.5) == pytest.approx(0.5)
    assert beta_at(0.0, beta=1.0, schedule="warmup", ramp=0.0) == 1.0


def test_unknown_schedule_is_refused() -> None:
    with pytest.raises(UserError, match="expected fixed, incremental or warmup"):
        beta_at(0.5, 1.0, "cosine")  # type: ignore[arg-type]
