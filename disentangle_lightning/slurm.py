"""SLURM jobs that are stopped before their time is over, and started again: what SIGUSR1 means to a command.

`#SBATCH --signal=SIGUSR1@90` makes SLURM send it 90 seconds before the time limit. Every command goes on where it was
interrupted, so starting the job again is always right; a training makes a checkpoint first, so that nothing is lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 45.0
"""How long a checkpoint may take to come. The job is started again without one where it does not, as in a long test;
the rest of the 90 seconds is for SLURM."""

STATUS = 128 + signal.SIGUSR1
"""The exit status of a command that was stopped, as a shell gives it for the signal."""

_asked = _requeued = False
_lock = threading.Lock()


def requeue_on_signal() -> None:
    """From now on, SIGUSR1 asks this process to stop and SLURM to start its job again.

    Lightning leaves a signal alone that has a handler, so it makes no checkpoint of its own (hpc_ckpt_*.ckpt).
    """
    signal.signal(signal.SIGUSR1, _ask)


def asked() -> bool:
    """Whether to stop as soon as there is a checkpoint, by raising `StoppedBySignal`."""
    return _asked


def requeue() -> int:
    """Have SLURM start this job again, after this process has ended or been ended.

    Only the first process of the job does; the others succeed, so that SLURM does not end the first on their account.

    Returns:
        the exit status for this process.
    """
    if any(os.environ.get(rank, "0") != "0" for rank in ("SLURM_PROCID", "LOCAL_RANK")):
        return 0
    global _requeued
    with _lock:
        if _requeued:
            return STATUS
        _requeued = True
    # Not SLURM_JOB_ID alone: of an array's last task, that is the id of the whole array too.
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    print(f"stopped by SIGUSR1; SLURM starts job {job} again, which goes on from here", file=sys.stderr, flush=True)
    answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    if answer.returncode:
        print(
            f"error: job {job} is not started again ({answer.stderr.strip()}); submit it once more to go on",
            file=sys.stderr,
            flush=True,
        )
    return STATUS


def _ask(*_: object) -> None:
    global _asked
    if not _asked:
        _asked = True
        timer = threading.Timer(GRACE_SECONDS, requeue)
        timer.daemon = True  # what has ended by then needs no other start
        timer.start()
