"""The command line: one verb, one function. Help costs no heavy import.

What a verb needs is imported where it runs, the standard library's dataclasses, pathlib and typing too: together they
would cost as much as the rest of a bare `--help`.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys

from disentangle_lightning import __version__
from disentangle_lightning.errors import LostProcess, StoppedBySignal, UserError
from disentangle_lightning.verbs import TAKES_OVERRIDES, VERBS, plain_parser

TYPE_CHECKING = False
"""Type checkers take it for typing's, which costs an import."""

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "disentangle_lightning"
TRAINING = ("fit", "validate", "test", "predict")

_NO_BUG = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST)
"""Errors that say that a file cannot be written where it was asked for."""

DESCRIPTION = """\
Separate what was said from how it was said in frozen speech encoders.

  the whole protocol
    pipeline     corpus -> features -> Stage 1 -> Stage 2 -> probes -> report, resumable

  its parts
    corpus       a published corpus, or any folder -> manifest, with its facts and faults
    encode       manifest -> frame-feature store, once per encoder
    fit          train Stage1VIB, Stage2ConditionalVIB or Probe from a settings file
    validate, test, predict
                 the same module on dev or test, or written out frame by frame
    sweep        a W&B sweep file run here, without a server -> its frontier and its best run
    analyze      questions asked of a finished run: what leaks, whence, how much, and what it cost
    report       run directory, or folder of a sweep -> a table here and one HTML page

  its result
    disentangle  audio in, z_textual, z_acoustic, transcript and attention out
"""

EPILOG = """\
`disentangle_lightning VERB --help` explains a verb. Start with:
  python -m disentangle_lightning pipeline --config experiments/demo.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done, 1 another process was lost or a run of a sweep failed, 2 bad input, 130 interrupted, 138 stopped by SLURM's
    signal and started again.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if "SLURM_JOB_ID" in os.environ:
            from disentangle_lightning.slurm import requeue_on_signal

            requeue_on_signal()
        if arguments and arguments[0] in TRAINING:
            from disentangle_lightning.failures import noted_in_sweep

            with noted_in_sweep(arguments):
                from disentangle_lightning.tasks.training import train

                train(arguments)
        else:
            _dispatch(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except LostProcess as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _NO_BUG:
            raise
        print(f"error: {error.filename or 'a file'} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    except StoppedBySignal:
        from disentangle_lightning.slurm import requeue

        return requeue()
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as end:
        # Lightning turns an interrupt into an exit with status 1, once it has put its trainer in order.
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        return _interrupted()
    return 0


def _interrupted() -> int:
    print("interrupted; the same command goes on where it stopped", file=sys.stderr)
    return 130


def _dispatch(arguments: list[str]) -> None:
    """Run the verb that was asked for; only its parser is made."""
    verb = arguments[0] if arguments else ""
    if verb in VERBS:
        make_parser, run = VERBS[verb]
        parser = make_parser(f"{PROGRAM} {verb}")
        parsed, rest = parser.parse_known_args(arguments[1:])
        if rest and verb not in TAKES_OVERRIDES:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        run(parsed, rest)
        return
    if verb and not verb.startswith("-"):
        raise UserError(f"there is no verb '{verb}'; expected one of {', '.join([*VERBS, *TRAINING])}")
    parser = plain_parser(PROGRAM, DESCRIPTION, EPILOG)
    parser.usage = f"{PROGRAM} VERB ..."
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("verb", metavar="VERB", help=argparse.SUPPRESS)
    parser.parse_args(arguments)
    parser.error("VERB comes first")
