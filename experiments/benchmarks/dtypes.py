"""What a smaller dtype of the stored features costs in words and in what a probe finds, and what it saves.

    python experiments/benchmarks/dtypes.py [FSDD WHISPER]

FSDD and WHISPER are the folders that `make real-speech` takes; without them a small synthetic corpus and the embedded
encoder stand in. For each dtype the pipeline trains a Stage 1, and a speaker probe on the hidden states, with one seed
and the settings of experiments/real_speech.yaml (or demo.yaml).

    dtype.NAME.wer        word error rate of Stage 1
    dtype.NAME.accuracy   of the speaker probe
    dtype.NAME.bytes      of the store, over those of float32
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import record

EXPERIMENTS = Path(__file__).parents[1]
DTYPES = ("float32", "float16", "bfloat16", "int8")
PROTOCOL = ["--seeds", "[0]", "--tasks", "[]", "--labels", "[speaker]"]


def run(arguments: list[str], dtype: str, run_dir: Path) -> tuple[float, float, int]:
    """Word error rate of Stage 1, accuracy of the speaker probe, and bytes of the store."""
    command = [sys.executable, "-m", "disentangle_lightning", "pipeline", *arguments, *PROTOCOL]
    subprocess.run([*command, "--encode.dtype", dtype, "--run_dir", str(run_dir)], check=True)
    figures = json.loads((run_dir / "summary.json").read_text())
    size = sum(file.stat().st_size for file in run_dir.glob("features/shards/*.safetensors"))
    return figures["stage1.wer"], figures["probe.hidden.speaker.accuracy"], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FSDD WHISPER")
    folders = parser.parse_args().folders
    if len(folders) not in (0, 2):
        parser.error("give both folders, FSDD and WHISPER, or none")
    with tempfile.TemporaryDirectory() as name:
        if folders:
            arguments = ["--config", str(EXPERIMENTS / "real_speech.yaml")]
            arguments += ["--corpus.init_args.folder", folders[0], "--encode.encoder", folders[1]]
        else:
            arguments = ["--config", str(EXPERIMENTS / "demo.yaml"), "--corpus.init_args.folder", f"{name}/speech"]
            arguments += ["--corpus.init_args.sentences", "60", "--corpus.init_args.speakers", "4"]
        found = {dtype: run(arguments, dtype, Path(name, dtype)) for dtype in DTYPES}
    exact_errors, exact_accuracy, most_bytes = found["float32"]
    for dtype, (errors, accuracy, size) in found.items():
        record(f"dtype.{dtype}.wer", errors, "as float32", float32=f"{exact_errors:.4f}")
        record(f"dtype.{dtype}.accuracy", accuracy, "as float32", float32=f"{exact_accuracy:.4f}")
        record(f"dtype.{dtype}.bytes", size / most_bytes, "small", ours=f"{size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
