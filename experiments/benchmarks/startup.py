"""How long the command line takes to say what it can do, beside the least that Python, and Lightning, need for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from harness import record, time_in_turn

BARE = ("-c", "import argparse; argparse.ArgumentParser().print_help()")
HELP = ("-m", "disentangle_lightning", "--help")
LIGHTNING = ("-c", "import lightning.pytorch")
FIT_HELP = ("-m", "disentangle_lightning", "fit", "--help")


def start(*arguments: str) -> Callable[[], object]:
    """A fresh interpreter, from start to end; its files are in the page cache after the first."""
    return lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    seconds = time_in_turn({"bare": start(*BARE), "help": start(*HELP)}, rounds=21)
    record(
        "startup.ratio",
        seconds["help"] / seconds["bare"],
        "at most 1.3",
        ours=f"--help {seconds['help'] * 1e3:.1f} ms",
        theirs=f"argparse alone {seconds['bare'] * 1e3:.1f} ms",
    )
    seconds = time_in_turn({"lightning": start(*LIGHTNING), "fit": start(*FIT_HELP)}, rounds=7)
    record(
        "startup.fit_help_ratio",
        seconds["fit"] / seconds["lightning"],
        "at most 1.2",
        ours=f"fit --help {seconds['fit']:.2f} s",
        theirs=f"import lightning.pytorch {seconds['lightning']:.2f} s",
    )


if __name__ == "__main__":
    main()
