"""The one exception that means "your input, not our bug"."""


class UserError(Exception):
    """Bad input. The message is one sentence that names the file, field or flag, and what to do about it.

    The command line prints the sentence and exits with status 2; a stack trace is kept for real bugs.
    """


class LostProcess(Exception):
    """Another process of the same run died or hangs. The command line prints the message and exits with status 1."""


class StoppedBySignal(Exception):
    """A SLURM job is about to reach its time limit; the checkpoint to go on from is made."""
