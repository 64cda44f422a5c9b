"""`python -m disentangle_lightning`, which notes each batch of a training in RUN_DIR.RANK.jsonl, slowly if told to.

What a job script starts in place of Python; STEP_SECONDS is how long a training step takes at least.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from killed import patch

from disentangle_lightning import cli
from disentangle_lightning.tasks import checkpoints
from disentangle_lightning.tasks.training import TrainingCLI


def note_batches(step_seconds: float = 0.0) -> None:
    """Let every training of this process do so."""
    instantiate_classes = TrainingCLI.instantiate_classes
    checkpoints._LOOK_SECONDS = 0.0  # at every step, or the second process would not hear of a signal in time

    def instantiate(self: TrainingCLI) -> None:
        instantiate_classes(self)
        rank = os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", "0"))
        patch(self.model, Path(f"{self.run_dir}.{rank}.jsonl"), "never", [])
        step = self.model.training_step

        def slow_step(*arguments: Any) -> Any:
            time.sleep(step_seconds)
            return step(*arguments)

        self.model.training_step = slow_step

    TrainingCLI.instantiate_classes = instantiate  # type: ignore[method-assign]


if __name__ == "__main__":
    assert sys.argv[1:3] == ["-m", "disentangle_lightning"]
    sys.argv[1:3] = []
    torch.set_num_threads(1)
    note_batches(float(os.environ.get("STEP_SECONDS", "0")))
    sys.exit(cli.main())
