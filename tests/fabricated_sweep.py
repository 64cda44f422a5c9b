"""What the runs of a sweep leave behind, without any training; as a program, a `fit` that takes no time.

    python fabricated_sweep.py --beta=0.1 --run_dir=DIR [--hang=FILE]

The larger beta, the less rate and leakage and the more error. A beta that is no number is refused as `fit` would refuse
it, 13 ends the program by a signal, and with --hang it stops where it is once FILE is there, until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml


def write_run(
    folder: Path,
    parameters: dict[str, Any],
    rate: float,
    error: float,
    leakage: float,
    weight: float = 1.0,
    is_finished: bool = True,
    stage: str = "stage1",
    monitor: str = "dev/tradeoff",
) -> None:
    """A run whose second of three epochs was the best, and whose test figures are a tenth worse than dev's."""
    watch = {"class_path": "somewhere.LeakageMonitor", "init_args": {"labels": ["speaker", "style"], "weight": weight}}
    config = {"model": {"init_args": parameters}, "trainer": {"callbacks": [watch]}, "run_dir": str(folder)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"checkpoint": {"monitor": monitor}}))
    own = ("dev/wer", error) if stage == "stage1" else ("dev/accuracy", 1 - error)
    rows = [f"dev/leakage_speaker,dev/leakage_style,dev/rate_bits_per_second,dev/tradeoff,{own[0]},epoch,step"]
    for epoch, worse in enumerate((2.0, 0.0, 1.0)):
        tradeoff = error + weight * leakage + worse
        rows.append(f"{2 * leakage},{-0.5},{rate + worse},{tradeoff},{own[1]},{epoch},{epoch}")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    if is_finished:
        tested = {"weight": weight, "test": {"speaker": 2.2 * leakage, "style": -0.1}}
        (folder / "leakage.json").write_text(json.dumps(tested))
        on_test = {"stage1.wer": 1.1 * error} if stage == "stage1" else {f"{stage}.accuracy": 1 - 1.1 * error}
        summary = on_test | {f"{stage}.rate_bits_per_second": 1.1 * rate}
        (folder / "summary.json").write_text(json.dumps(summary))


def main(arguments: list[str]) -> int:
    settings = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    folder = Path(settings["run_dir"])
    with (folder.parent / "started.txt").open("a") as file:
        file.write(f"{folder.name} {settings['beta']}\n")
    print("training ...")
    try:
        beta = float(settings["beta"])
    except ValueError:
        print(f"error: beta is '{settings['beta']}', which is no number\n", file=sys.stderr)
        return 2
    if beta == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    write_run(folder, {"beta": beta}, 10 / beta, beta / 2, 0.02 / beta, is_finished=False)
    if "hang" in settings and Path(settings["hang"]).exists():
        Path(settings["hang"]).write_text(str(os.getpid()))
        time.sleep(300)
    write_run(folder, {"beta": beta}, 10 / beta, beta / 2, 0.02 / beta)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
