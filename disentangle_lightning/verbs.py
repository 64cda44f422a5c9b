"""What each verb takes and does, the training verbs apart: LightningCLI knows theirs.

What a verb needs is imported where it runs, as in `cli`.
"""

from __future__ import annotations

import argparse
import sys

from disentangle_lightning.errors import UserError

TYPE_CHECKING = False
"""Type checkers take it for typing's, which costs an import."""

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _pipeline_parser(program: str) -> argparse.ArgumentParser:
    from disentangle_lightning.settings import PipelineSettings

    parser = plain_parser(
        program,
        "The whole protocol: corpus, features, both stages, probes of every representation, report.",
        _fields(PipelineSettings) + "\n"
        "Nested fields take dots: --splits.disjoint sentence, --stage1.set.model.init_args.beta 0.05.\n"
        "Started again after an interruption, it goes on where it stopped.",
    )
    parser.usage = f"{program} --config FILE [--config FILE ...] [--FIELD VALUE ...]"
    parser.add_argument(
        "--config",
        required=True,
        action="append",
        metavar="FILE",
        help="pipeline settings, such as experiments/demo.yaml; of several files the later goes before the earlier",
    )
    return parser


def _pipeline(parsed: argparse.Namespace, overrides: list[str]) -> None:
    from disentangle_lightning.settings import PipelineSettings
    from disentangle_lightning.settings_files import read_settings

    settings = read_settings(PipelineSettings, parsed.config, overrides)
    from disentangle_lightning.pipeline import run_pipeline

    page = run_pipeline(settings)
    print(f"\nReport: {page}")


class _CorpusHelp(argparse.Action):
    """--help that explains the reader whose name comes before it."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        from disentangle_lightning.corpus.readers import reader_help, reader_name, reader_names

        if namespace.name is None:
            parser.epilog = f"readers: {', '.join(reader_names())}\n`{parser.prog} NAME --help` explains one."
        elif (name := reader_name(namespace.name)) in reader_names():
            parser.epilog = f"{name}\n\n{reader_help(name)}"
        parser.print_help()
        parser.exit()


def _corpus_parser(program: str) -> argparse.ArgumentParser:
    from pathlib import Path

    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} NAME PATH --out FILE [--OPTION VALUE ...] [--splits.FIELD VALUE ...]",
        description="A corpus on disk becomes a manifest; its splits, labels and letters are printed, and what was\n"
        "skipped and why. Splits are those of the corpus, unless --splits.disjoint speaker and the like are given,\n"
        "as for the pipeline: then those that the corpus lacks are made.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("name", metavar="NAME", help="of a corpus reader, in any spelling")
    parser.add_argument("path", metavar="PATH", help="the reader's folder or file")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the manifest, such as manifest.jsonl")
    parser.add_argument("-h", "--help", action=_CorpusHelp, nargs=0, help="show this, or NAME's options, and exit")
    return parser


def _corpus(parsed: argparse.Namespace, overrides: list[str]) -> None:
    from disentangle_lightning.corpus.job import run_corpus, skipped_file

    corpus, tokenizer = run_corpus(parsed.name, parsed.path, parsed.out, overrides)
    from rich.console import Console

    from disentangle_lightning.corpus.overview import print_overview

    print_overview(corpus, tokenizer, Console())
    print(f"\nManifest: {parsed.out}")
    if corpus.skipped:
        print(f"Skipped:  {skipped_file(parsed.out)}")


def _encode_parser(program: str) -> argparse.ArgumentParser:
    from disentangle_lightning.settings import EncodeSettings

    parser = plain_parser(
        program,
        "Run a frozen encoder over a manifest, once, and keep its frames.",
        _fields(EncodeSettings) + "\nStarted again after an interruption, it goes on where it stopped.",
    )
    parser.usage = f"{program} [--config FILE ...] [--FIELD VALUE ...]"
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="encode settings, such as experiments/encode/embedded.yaml; of several files the later goes before the "
        "earlier",
    )
    return parser


def _encode(parsed: argparse.Namespace, overrides: list[str]) -> None:
    from disentangle_lightning.settings import EncodeSettings
    from disentangle_lightning.settings_files import read_settings

    settings = read_settings(EncodeSettings, parsed.config, overrides)
    from disentangle_lightning.features.job import run_encode

    summary = run_encode(settings)
    speed = "" if summary.speed is None else f", {summary.speed:.0f} hours of audio an hour"
    print(f"{summary.encoded} utterances in {summary.path}, {len(summary.skipped)} skipped{speed}")
    for skip in summary.skipped:
        print(f"  skipped {skip.id}: {skip.reason}")


def _sweep_parser(program: str) -> argparse.ArgumentParser:
    from pathlib import Path

    parser = plain_parser(
        program,
        "Every run of a W&B sweep file (grid or random) on this machine, one after the other, without a server.",
        "Started again, it leaves out the runs that are done, goes on with the one that was interrupted, and tries\n"
        "again those that failed. The same file on a server: wandb sweep FILE, wandb agent ID; then report\n"
        "runs/sweeps/ID.",
    )
    parser.add_argument("file", metavar="FILE", help="sweep file, such as experiments/sweeps/beta_grid.yaml")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the runs go; runs/sweeps/NAME of the file if not given"
    )
    parser.add_argument("--count", type=int, metavar="N", help="at most so many runs; run_cap of the file if not given")
    return parser


def _sweep(parsed: argparse.Namespace, _: list[str]) -> None:
    from disentangle_lightning.sweep_file import read_sweep

    if parsed.count is not None and parsed.count < 1:
        raise UserError(f"--count is {parsed.count}; it must be 1 or more")
    sweep = read_sweep(parsed.file)
    from pathlib import Path

    from rich.console import Console

    from disentangle_lightning.report.sweep_page import print_sweep, write_sweep_report
    from disentangle_lightning.sweep import run_sweep

    folder = parsed.out or Path("runs", "sweeps", sweep.path.stem)
    failed = run_sweep(sweep, folder, parsed.count)
    if any(folder.glob("*/summary.json")):
        page = write_sweep_report(folder)
        print_sweep(folder, Console())
        print(f"\nReport: {page}")
    if failed:
        print(
            f"error: {len(failed)} of the runs failed: {', '.join(failed)}; see {folder}/NAME/log.txt", file=sys.stderr
        )
        raise SystemExit(1)


def _analyze_parser(program: str) -> argparse.ArgumentParser:
    from pathlib import Path

    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} NAME RUN_DIR [--config FILE ...] [--jobs N] [--FIELD VALUE ...]",
        description="A question asked of a finished run of the pipeline; the answer goes into its report page.\n"
        "NAME is `all` for one after the other, whose fields are then --NAME.FIELD.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("name", metavar="NAME", help="of an analysis, or all")
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="a run directory, such as runs/demo")
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="settings of the analysis, such as experiments/analysis/NAME.yaml; of several files the later goes before "
        "the earlier",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="of all, make N at a time, each in a process with its own memory (default: 1)",
    )
    parser.add_argument("-h", "--help", action=_AnalyzeHelp, nargs=0, help="show this, or NAME's fields, and exit")
    return parser


class _AnalyzeHelp(argparse.Action):
    """--help that explains the analysis whose name comes before it."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        from disentangle_lightning.analysis.settings import ANALYSES

        if namespace.name in ANALYSES:
            settings = ANALYSES[namespace.name]
            parser.epilog = f"{namespace.name}: {(settings.__doc__ or '').splitlines()[0]}\n\n{_fields(settings)}"
        else:
            lines = [f"  {name:<12} {(s.__doc__ or '').splitlines()[0]}" for name, s in ANALYSES.items()]
            parser.epilog = "\n".join(["analyses:", *lines, f"`{parser.prog} NAME --help` explains one."])
        parser.print_help()
        parser.exit()


def _analyze(parsed: argparse.Namespace, overrides: list[str]) -> None:
    from disentangle_lightning.analysis.job import run_analyses

    page = run_analyses(parsed.name, parsed.run_dir, parsed.config, overrides, parsed.jobs)
    print(f"\nReport: {page}")


def _report_parser(program: str) -> argparse.ArgumentParser:
    from pathlib import Path

    parser = plain_parser(program, "Tables here and one HTML page from a run directory; several are compared.")
    parser.add_argument("run_dir", nargs="+", type=Path, help="run directory of a pipeline, or the folder of a sweep")
    return parser


def _report(parsed: argparse.Namespace, _: list[str]) -> None:
    from rich.console import Console

    from disentangle_lightning.report.compare import print_comparison
    from disentangle_lightning.report.page import write_report
    from disentangle_lightning.report.sweep_directory import is_sweep
    from disentangle_lightning.report.sweep_page import print_sweep, write_sweep_report
    from disentangle_lightning.report.tables import print_report

    if len(parsed.run_dir) > 1:
        print_comparison(parsed.run_dir, Console())
        return
    if is_sweep(parsed.run_dir[0]):
        page = write_sweep_report(parsed.run_dir[0])
        print_sweep(parsed.run_dir[0], Console())
        print(f"\nReport: {page}")
        return
    page = write_report(parsed.run_dir[0])
    print_report(parsed.run_dir[0], Console())
    print(f"\nReport: {page}")


def _disentangle_parser(program: str) -> argparse.ArgumentParser:
    from pathlib import Path

    parser = plain_parser(
        program,
        "z_textual, z_acoustic, transcript, predictions and attention of each sound file.",
        "Writes OUT/NAME.safetensors for each file and one line for each in OUT/index.jsonl.",
    )
    parser.add_argument("model", help="folder or hub id of a DisentangledEncoder, such as runs/demo/model")
    parser.add_argument("audio", nargs="+", type=Path, help="sound files, or folders of them")
    parser.add_argument("--out", type=Path, default=Path("disentangled"), help="folder to write to")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--upstream", help="folder of the speech encoder, where it has moved since training")
    return parser


def _disentangle(parsed: argparse.Namespace, _: list[str]) -> None:
    from disentangle_lightning.encoder import disentangle

    summary = disentangle(parsed.model, parsed.audio, parsed.out, parsed.device, upstream=parsed.upstream)
    print(summary)


VERBS: dict[str, tuple[Callable[[str], argparse.ArgumentParser], Callable[[argparse.Namespace, list[str]], None]]] = {
    "pipeline": (_pipeline_parser, _pipeline),
    "corpus": (_corpus_parser, _corpus),
    "encode": (_encode_parser, _encode),
    "sweep": (_sweep_parser, _sweep),
    "analyze": (_analyze_parser, _analyze),
    "report": (_report_parser, _report),
    "disentangle": (_disentangle_parser, _disentangle),
}
"""How the arguments of a verb are parsed, and what is then done with them and with the overrides left over."""

TAKES_OVERRIDES = ("pipeline", "corpus", "encode", "analyze")


def plain_parser(program: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _fields(settings: type[Any]) -> str:
    """The fields of a settings class with the explanations of its docstring, as --field lines."""
    import dataclasses

    explanations = (settings.__doc__ or "").split("Attributes:\n", 1)[-1].rstrip()
    lines = ["fields, in the file or as --FIELD VALUE:"]
    for line in explanations.splitlines():
        lines.append(line[4:] if line.startswith(" " * 8) else line)
    known = {field.name for field in dataclasses.fields(settings)}
    return "\n".join(f"  --{line.strip()}" if line.strip().split(":")[0] in known else line for line in lines)
