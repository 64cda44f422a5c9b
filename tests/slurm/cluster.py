"""A SLURM of one node with two CPUs, on this machine alone: munged, slurmctld and slurmd under one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
INSTALL = "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
SCRIPTS = Path(__file__).parents[2] / "experiments" / "slurm"

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=10
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no SLURM can be started here, or None where one can."""
    if os.geteuid() != 0:
        return "only root can start a SLURM of one node"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(absent)} are not installed: {INSTALL}" if absent else None


class Cluster:
    """Jobs on a cluster that runs, in a working directory of theirs."""

    def __init__(self, work: Path, environment: Mapping[str, str]) -> None:
        self.work = work
        self._environment = dict(environment)

    def submit(self, *options: str, script: str, arguments: list[str], **variables: str) -> str:
        """`sbatch OPTIONS experiments/slurm/SCRIPT ARGUMENTS`, with further environment variables; the job's id."""
        output = self.work / "jobs-%j.out"
        command = ["sbatch", "--parsable", "--cpus-per-task=1", f"--output={output}", *options]
        return self._ask(*command, str(SCRIPTS / script), *arguments, **variables).strip()

    def signal(self, job: str) -> None:
        """What SLURM does 90 seconds before the time of a job is over."""
        self._ask("scancel", "--signal=USR1", job)

    def requeue(self, job: str) -> None:
        """What an administrator does, or a job that is more urgent."""
        self._ask("scontrol", "requeue", job)

    def restarts(self, job: str) -> int:
        """How often a job was started again."""
        return int(self._tasks(job)[0]["Restarts"])

    def ended(self, *jobs: str) -> bool:
        """Whether all have ended well; one that has not is an error, and one that waits to start again is hurried."""
        tasks = [task for job in jobs for task in self._tasks(job)]
        states = [task["JobState"] for task in tasks]
        assert not {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"} & set(states), f"{states}\n{self.output()}"
        for task in tasks:
            if task["JobState"] == "PENDING" and task["Reason"] == "BeginTime":
                self._hurry(task)
        return set(states) == {"COMPLETED"}

    def finish(self, *jobs: str, seconds: float = 240) -> None:
        """Wait until all have ended well."""
        deadline = time.monotonic() + seconds
        while not self.ended(*jobs):
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.3)

    def _hurry(self, task: dict[str, str]) -> None:
        """SLURM starts a job again after two minutes; three seconds are enough.

        Less is not: the node refuses a job of which it heard in the same second that it is to end.
        """
        if datetime.fromisoformat(task["EligibleTime"]) > datetime.now() + timedelta(seconds=10):
            self._ask("scontrol", "update", f"jobid={task['JobId']}", "StartTime=now+3")

    def end_all(self) -> None:
        """Cancel what has not ended."""
        self._ask("scancel", "--user=root")
        deadline = time.monotonic() + 20
        while self._ask("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.2)

    def output(self) -> str:
        """What all jobs so far have said."""
        return "\n".join(file.read_text() for file in sorted(self.work.glob("jobs-*.out")))

    def _tasks(self, job: str) -> list[dict[str, str]]:
        """What SLURM says of the tasks of a job, or of the job alone."""
        lines = self._ask("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(field.partition("=")[::2] for field in line.split()) for line in lines]

    def _ask(self, *command: str, **variables: str) -> str:
        environment = self._environment | variables
        answer = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        assert answer.returncode == 0, f"{' '.join(command)}: {answer.stderr}"
        return answer.stdout


@contextmanager
def started(work: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster whose jobs start in `work` with this environment; all its processes end with it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # short, and open to all: munge asks for both
    folder.chmod(0o755)
    for name in ("munge", "run", "state", "spool"):
        (folder / name).mkdir(mode=0o700 if name == "munge" else 0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, ports=_free_ports()))
    cluster = Cluster(work, {**environment, "SLURM_CONF": str(configuration)})
    try:
        munge = [f"--{name}={file}" for name, file in _munge_files(folder).items()]
        for daemon in (
            ["munged", "--force", *munge],
            ["slurmctld", "-f", str(configuration)],
            ["slurmd", "-f", str(configuration), "-N", "localhost"],
        ):
            subprocess.run(daemon, check=True, capture_output=True)
        yield cluster
        cluster.end_all()
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            _end(folder / "run" / f"{name}.pid")
        shutil.rmtree(folder, ignore_errors=True)


def _munge_files(folder: Path) -> dict[str, Path]:
    run = folder / "run"
    files = {"socket": run / "munge.socket", "pid-file": run / "munged.pid", "key-file": folder / "munge" / "key"}
    return files | {"log-file": folder / "munge" / "log", "seed-file": folder / "munge" / "seed"}


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


def _end(pid_file: Path) -> None:
    if not pid_file.is_file():
        return
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
