"""Every settings file of experiments/ is one that its verb takes, down to the last field; so is every command that the
READMEs and the files themselves show; and the paper's protocol goes through on miniatures of its corpora."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from tiny_pipeline import EXPERIMENTS, WORDS, command, corpus_rows, finished_run, tone, write_corpus, write_encoder

from disentangle_lightning import pipeline, verbs
from disentangle_lightning.analysis.job import analysis_settings
from disentangle_lightning.corpus import job as corpus_job
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError
from disentangle_lightning.features import job as encode_job
from disentangle_lightning.settings import EncodeSettings, PipelineSettings
from disentangle_lightning.settings_files import read_settings
from disentangle_lightning.tasks import training
from disentangle_lightning.tasks.training import train

ROOT = EXPERIMENTS.parent
TESTED_BY_THEMSELVES = ("sweeps", "slurm", "analysis", "frontier")
"""Folders of experiments/ whose files and commands have tests of their own."""
OVERLAYS = [EXPERIMENTS / "paper" / f"{name}.yaml" for name in ("default", "large", "layer")]
"""What is given over another pipeline file."""
STACKED = EXPERIMENTS / "ablations" / "stacked.yaml"
ABLATIONS = [file for file in sorted((EXPERIMENTS / "ablations").glob("*.yaml")) if file != STACKED]
"""What is given over any pipeline file."""
PIPELINES = [
    file
    for folder in ("", "paper", "tasks")
    for file in sorted((EXPERIMENTS / folder).glob("*.yaml"))
    if file not in OVERLAYS
]
CORPORA = sorted((EXPERIMENTS / "corpora").glob("*.yaml"))
ENCODERS = sorted((EXPERIMENTS / "encode").glob("*.yaml"))
STAGES = sorted(file for folder in ("stage1", "stage2", "probe") for file in (EXPERIMENTS / folder).glob("*.yaml"))
READMES = [
    ROOT / "README.md",
    *(file for file in sorted(EXPERIMENTS.rglob("README.md")) if file.parent.name not in TESTED_BY_THEMSELVES),
]

SMALL = [
    part
    for stage in ("stage1", "stage2", "probe")
    for part in (
        f"--{stage}.set.trainer.max_epochs",
        "1",
        f"--{stage}.set.trainer.accelerator",
        "cpu",
        f"--{stage}.set.trainer.enable_progress_bar",
        "false",
    )
]
"""What makes a run of any pipeline file short."""


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT if file.name == "README.md" else EXPERIMENTS))


def class_paths(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("class_path"), str):
            yield tree["class_path"]
        for value in tree.values():
            yield from class_paths(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from class_paths(value)


def filled(*files: Path) -> list[str]:
    """Overrides for every field that pipeline files leave open."""
    overrides: list[str] = []
    while True:
        try:
            settings = read_settings(PipelineSettings, files, overrides)
            return overrides if settings.tasks is not None else [*overrides, "--tasks", "[emotion]"]
        except UserError as error:
            field = re.search(r"field '([\w.]+)' is missing; give it", str(error))
            if field is None:
                raise
            overrides += [f"--{field[1]}", "[2]" if field[1].endswith("layers") else "/somewhere"]


def test_no_settings_file_is_left_out() -> None:
    checked = {*PIPELINES, *OVERLAYS, *ABLATIONS, *CORPORA, *ENCODERS, *STAGES, STACKED}
    checked.add(EXPERIMENTS / "embedded_encoder" / "config.yaml")
    shipped = set(EXPERIMENTS.rglob("*.yaml"))
    assert {file for file in shipped if file.parent.name not in TESTED_BY_THEMSELVES} == checked
    assert {name_of(file) for file in PIPELINES} >= {"demo.yaml", "own_data.yaml", "paper/emotion.yaml"}
    assert {"default.yaml", "paper.yaml"} <= {file.name for file in STAGES if file.parent.name == "stage1"}


@pytest.mark.parametrize("file", ENCODERS, ids=name_of)
def test_encode_takes_it_and_the_command_in_its_first_line_names_it(file: Path) -> None:
    settings = read_settings(EncodeSettings, file, ["--manifest", "m", "--store", "s"])
    assert settings.encoder
    assert settings.revision is None
    assert settings.precision in ("fp32", "bf16")
    assert settings.dtype in ("float16", "bfloat16", "float32")
    assert file.read_text().startswith(f"# encode --config experiments/encode/{file.name} ")


def test_the_seven_encoders_of_the_paper_are_there() -> None:
    encoders = {read_settings(EncodeSettings, file, []).encoder for file in ENCODERS}
    assert encoders == {"embedded"} | {
        f"facebook/{name}"
        for name in (
            "wav2vec2-base",
            "wav2vec2-base-960h",
            "wav2vec2-large",
            "wav2vec2-large-960h",
            "hubert-base-ls960",
            "hubert-large-ll60k",
            "hubert-large-ls960-ft",
        )
    }


@pytest.mark.parametrize("file", PIPELINES, ids=name_of)
def test_pipeline_takes_it(file: Path) -> None:
    settings = read_settings(PipelineSettings, file, filled(file))
    make_reader(settings.corpus)
    assert settings.tasks is not None
    for stage, kind in ((settings.stage1, "Stage1VIB"), (settings.stage2, "Stage2"), (settings.probe, "Probe")):
        if stage is not settings.stage2 or settings.tasks:
            assert kind in stage.set["model"]["class_path"]
            assert stage.set["trainer"]["logger"] is False, "a pipeline needs no account"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)
@pytest.mark.parametrize("name", ["textual", "emotion", "speaker"])
def test_what_goes_over_a_file_of_the_paper_changes_what_it_says(overlay: Path, name: str) -> None:
    file = EXPERIMENTS / "paper" / f"{name}.yaml"
    before = read_settings(PipelineSettings, file, filled(file))
    after = read_settings(PipelineSettings, [file, overlay], filled(file, overlay))
    stages = [stage for stage in ("stage1", "stage2", "probe") if stage != "stage2" or name != "textual"]
    for stage in stages:
        one, two = getattr(before, stage).set, getattr(after, stage).set
        assert one["model"]["init_args"]["learning_rate"] == 1e-3
        if overlay.stem == "large":
            assert two["model"]["init_args"].pop("learning_rate") == 1e-4
            one["model"]["init_args"].pop("learning_rate")
            assert one == two
        elif overlay.stem == "layer":
            assert two["data"].pop("layers") == [2]
            assert one == two
        else:
            default = yaml.safe_load((EXPERIMENTS / stage / "default.yaml").read_text())["model"]["init_args"]
            assert {name: default[name] for name in two["model"]["init_args"]} == two["model"]["init_args"]
            assert two["trainer"]["logger"] is False


@pytest.mark.parametrize("file", ABLATIONS, ids=name_of)
def test_an_ablation_changes_of_a_run_what_it_says_and_nothing_else(file: Path) -> None:
    demo = EXPERIMENTS / "demo.yaml"
    before, after = (read_settings(PipelineSettings, files, []) for files in ([demo], [demo, file]))
    changed = yaml.safe_load(file.read_text())
    for stage, content in changed.items():
        for section, arguments in content["set"].items():
            own = getattr(after, stage).set[section]
            trained, said = (own["init_args"], arguments["init_args"]) if section == "model" else (own, arguments)
            assert said.items() <= trained.items()
            for name in said:
                one = getattr(before, stage).set[section]
                one = one["init_args"] if section == "model" else one
                assert one.get(name) != trained[name], "says what is so without it"
                one[name] = trained[name]
    assert before == after


@pytest.mark.parametrize(
    ("stage", "tasks", "given"),
    [
        ("stage2", ["emotion"], []),
        ("stage1", ["ctc"], ["stage2_emotion"]),
        ("stage2", ["emotion", "speaker"], ["stage1"]),
        ("stage2", ["speaker"], ["stage1", "stage2_emotion"]),
    ],
    ids=["one stage", "other order", "several tasks", "third stage"],
)
def test_stages_are_stacked_with_the_settings_of_the_file_below(
    stage: str, tasks: list[str], given: list[str], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = finished_run(tmp_path_factory)
    below = EXPERIMENTS / stage / ("unlabelled.yaml" if stage == "stage1" else "default.yaml")
    checkpoints = [str(run / "seed0" / step / "checkpoints" / "best.ckpt") for step in given]
    labels = [task for task in tasks if task != "ctc"]
    data = ["--data.manifest", run / "manifest.jsonl", "--data.store", run / "features", f"--data.labels={labels}"]
    trainer = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    model = [f"--model.init_args.tasks={tasks}", f"--model.init_args.given={checkpoints}"]
    arguments = ["fit", "--config", below, "--config", STACKED, "--run_dir", tmp_path / "run", *data, *trainer, *model]
    cli = train([str(argument) for argument in arguments])
    for name, value in yaml.safe_load(below.read_text())["model"]["init_args"].items():
        if value != "???":
            assert cli.model.hparams[name] == value
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {f"stacked.{task}.{'wer' if task == 'ctc' else 'accuracy'}" for task in tasks} <= figures.keys()


@pytest.mark.parametrize("file", CORPORA, ids=name_of)
def test_a_pipeline_takes_the_corpus_and_its_reader_every_option(file: Path) -> None:
    base = EXPERIMENTS / "demo.yaml"
    overrides = ["--corpus", str(file)]
    for field in re.findall(r"^  (\w+): \?\?\?", file.read_text(), re.MULTILINE):
        overrides += [f"--corpus.init_args.{field}", "/somewhere"]
    for name in ("librispeech", "common_voice") if "corpora:" in file.read_text() else ():
        overrides += [f"--corpus.init_args.corpora.{name}.init_args.folder", "/somewhere"]
    make_reader(read_settings(PipelineSettings, base, overrides).corpus)


@pytest.mark.parametrize("file", STAGES, ids=name_of)
def test_fit_takes_it_and_every_field_is_one_that_the_class_has(
    file: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = finished_run(tmp_path_factory)
    stage1 = run / "seed0" / "stage1" / "checkpoints" / "best.ckpt"
    named_by_hand = {
        "stage1": [],
        "stage2": [
            "--data.labels",
            "[emotion]",
            "--model.init_args.task",
            "emotion",
            "--model.init_args.stage1",
            stage1,
        ],
        "probe": ["--data.labels", "[emotion]", "--model.init_args.targets", "[emotion, ctc]"],
    }[file.parent.name]
    data = ["--data.manifest", run / "manifest.jsonl", "--data.store", run / "features"]
    trainer = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    arguments = ["fit", "--config", file, "--run_dir", tmp_path / "run", *data, *named_by_hand, *trainer]
    cli = train([str(argument) for argument in arguments])
    assert (tmp_path / "run" / "summary.json").is_file()
    for name, value in yaml.safe_load(file.read_text())["model"]["init_args"].items():
        if value != "???":
            assert cli.model.hparams[name] == value


@pytest.mark.parametrize("file", [*PIPELINES, *STAGES], ids=name_of)
def test_every_class_it_names_can_be_imported(file: Path) -> None:
    for path in class_paths(yaml.safe_load(file.read_text())):
        module, _, name = path.rpartition(".")
        if module:
            assert isinstance(getattr(importlib.import_module(module), name), type), path


def blocks(readme: Path) -> list[str]:
    """The indented and fenced blocks of a README, without their indentation."""
    found, inside = [""], False
    for line in readme.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
            found.append("")
        elif inside or line.startswith("    "):
            found[-1] += (line if inside else line[4:]) + "\n"
        elif line.strip():
            found.append("")
    return [block for block in found if block]


def shell_blocks(readme: Path) -> list[str]:
    return [block for block in blocks(readme) if re.search(r"^\s*(python -m|make|wandb|sbatch) ", block, re.MULTILINE)]


def commands_of(block: str, folder: Path) -> list[list[str]]:
    """What a shell runs of a block, variables and loops and all: every call of python, make and the rest."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    log = folder / "commands.jsonl"
    log.unlink(missing_ok=True)
    for name in ("python", "make", "wandb", "sbatch", "pip"):
        (stubs / name).write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            f"open({str(log)!r}, 'a').write(json.dumps([{name!r}, *sys.argv[1:]]) + '\\n')\n"
        )
        (stubs / name).chmod(0o755)
    (folder / ".venv").mkdir(exist_ok=True)
    if not (folder / ".venv" / "bin").exists():
        (folder / ".venv" / "bin").symlink_to(stubs)
    script = ["/bin/bash", "-euc", block]
    done = subprocess.run(script, env={"PATH": str(stubs)}, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stderr}\n{block}"
    return [json.loads(line) for line in log.read_text().splitlines()]


class _Parsed(BaseException):
    """A command has been taken; BaseException, so that no program takes it for its own."""


@pytest.fixture
def takes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[str]], None]:
    """Give a command to the real command line, up to where the work would begin."""
    finished = finished_run(tmp_path_factory)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    made = corpus_job._make

    def stop(*_: Any, **__: Any) -> Any:
        raise _Parsed

    def make_and_stop(*arguments: Any) -> Any:
        made(*arguments)
        raise _Parsed

    def check_and_stop(self: training.TrainingCLI) -> None:
        training.check_complete(training._flatten(self.settings.as_dict()))
        raise _Parsed

    def read_corpus_and_stop(settings: PipelineSettings) -> Any:
        make_reader(settings.corpus)
        raise _Parsed

    monkeypatch.setattr(pipeline, "run_pipeline", read_corpus_and_stop)
    monkeypatch.setattr(encode_job, "run_encode", stop)
    monkeypatch.setattr(corpus_job, "_make", make_and_stop)
    monkeypatch.setattr(training.TrainingCLI, "before_instantiate_classes", check_and_stop)

    def take(arguments: Sequence[str]) -> None:
        verb = arguments[0]
        for flag, value in pairwise(arguments):
            config = tmp_path / value
            if flag == "--config" and value.startswith("runs/") and not config.exists():
                config.parent.mkdir(parents=True, exist_ok=True)
                step = re.sub("^stage2_.*", "stage2_emotion", config.parent.name)
                own = finished / "seed0" / step / "config.yaml"
                shutil.copyfile(own if own.is_file() else finished / "config.yaml", config)
        if verb == "analyze":
            parsed, rest = verbs.VERBS[verb][0](verb).parse_known_args(arguments[1:])
            analysis_settings(parsed.name, parsed.config, rest)
            return
        if verb in verbs.VERBS and verb not in ("pipeline", "encode", "corpus"):
            verbs.VERBS[verb][0](verb).parse_args(arguments[1:])  # exits where it does not take them
            return
        try:
            status, errors = command(*arguments)
        except _Parsed:
            return
        assert "--help" in arguments or verb == "--help", f"{shlex.join(arguments)}: {errors}"
        assert status == 0

    return take


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_every_command_of_a_readme_is_taken(
    readme: Path, takes: Callable[[Sequence[str]], None], tmp_path: Path
) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    taken = 0
    for block in shell_blocks(readme):
        for program, *arguments in commands_of(block, tmp_path):
            if program == "make":
                assert {word for word in arguments if "=" not in word} <= targets
            elif arguments[:2] == ["-m", "disentangle_lightning"]:
                takes(arguments[2:])
            elif program == "python":
                assert (ROOT / arguments[0]).is_file()
            taken += 1
    assert taken or readme.parent.name == "embedded_encoder"


@pytest.mark.parametrize("file", [*PIPELINES, *OVERLAYS, *ABLATIONS], ids=name_of)
def test_the_command_that_a_pipeline_file_shows_is_taken(file: Path, takes: Callable[[Sequence[str]], None]) -> None:
    text = "".join(line[1:] for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    shown = re.search(r"^   (pipeline --config (?:.*\\\n)*.*)", text, re.MULTILINE)
    if shown is None:
        assert file.name == "demo.yaml", "`make demo`"
        return
    arguments = shlex.split(shown[1].replace("\\\n", ""))
    assert f"experiments/{name_of(file)}" in arguments
    if arguments[-1] == "...":
        files = [ROOT / value for flag, value in pairwise(arguments) if flag == "--config"]
        arguments = [*arguments[:-1], *filled(*files)]
    takes(arguments)


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_every_file_that_a_readme_names_is_there(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:experiments/)?(?:paper|tasks|ablations|corpora|encode|stage\d|probe)/\w+\.yaml)`", text
    ):
        assert (EXPERIMENTS / name.removeprefix("experiments/")).is_file(), name
    for name in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
        assert (readme.parent / name).exists(), name


def test_flags_in_the_tables_of_the_experiments_are_fields(takes: Callable[[Sequence[str]], None]) -> None:
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    flags = [
        flag for row in re.findall(r"^\|.*\|$", text, re.MULTILINE) for flag in re.findall(r"`(--[^`]+ [^`]+)`", row)
    ]
    assert len(flags) > 5
    file = EXPERIMENTS / "paper" / "emotion.yaml"
    for flag in flags:
        takes(["pipeline", "--config", f"experiments/{name_of(file)}", *filled(file), *shlex.split(flag)])
        settings = read_settings(PipelineSettings, file, [*filled(file), *shlex.split(flag)])
        if field := re.match(r"--(stage1|probe)\.set\.model\.init_args\.(\w+)", flag):
            module, _, name = getattr(settings, field[1]).set["model"]["class_path"].rpartition(".")
            assert field[2] in getattr(importlib.import_module(module), name).__init__.__annotations__


def test_your_own_data_in_the_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "README.md").read_text().partition("## Your own data in ten lines")[2].partition("\n## ")[0]
    table, shown = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert len((table + shown).splitlines()) <= 10
    columns = table.split()[0].split(",")
    assert columns == list(corpus_rows()[0]), "the columns of the miniature"
    write_corpus(tmp_path / "my_audio")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    ((_, *arguments),) = commands_of(shown, tmp_path)
    small = ["--encode.encoder", "embedded", "--encode.device", "cpu", *SMALL]
    status, errors = command(*arguments[2:], *small)
    assert status == 0, errors
    page = (tmp_path / "runs" / "mine" / "report.html").read_text()
    for figure in ("stage2_emotion.accuracy", "probe.acoustic_emotion.speaker.leakage", "stage1.wer"):
        assert figure in page


def test_the_code_of_the_readme_runs(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    (code,) = (block for block in blocks(ROOT / "README.md") if "from_pretrained" in block)
    model = finished_run(tmp_path_factory) / "model"
    soundfile.write(tmp_path / "clip.wav", tone(0.5), 16_000)
    code = code.replace("runs/demo/model", str(model)).replace("clip.wav", str(tmp_path / "clip.wav"))
    code = code.replace('["speaker"]', '["emotion"]')
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["speech"].z_textual.shape == names["speech"].z_acoustic["emotion"].shape


def librispeech(folder: Path) -> None:
    for subset, clips in (("train-clean-100", 20), ("dev-clean", 4), ("test-clean", 6)):
        for i in range(clips):
            speaker = f"{len(subset)}{i % 2}"
            place = folder / subset / speaker / "7"
            place.mkdir(parents=True, exist_ok=True)
            name = f"{speaker}-7-{i:04d}"
            soundfile.write(place / f"{name}.flac", tone(0.3 + 0.05 * (i % 5), 200 + 100 * (i % 2)), 16_000)
            with (place / f"{speaker}-7.trans.txt").open("a") as file:
                file.write(f"{name} {WORDS[i % 5]} {WORDS[i % 3]}\n")
            with (folder / "SPEAKERS.TXT").open("a") as file:
                file.write(f"{speaker} | {'FM'[i % 2]} | {subset} | 1 | N\n")


def common_voice(folder: Path) -> None:
    (folder / "clips").mkdir(parents=True)
    rows = ["client_id\tpath\tsentence\tage\tgender\taccents\tlocale"]
    for i in range(26):
        soundfile.write(folder / "clips" / f"{i}.mp3", tone(0.4 + 0.05 * (i % 5), 250 + 100 * (i % 2)), 16_000)
        gender = ("female_feminine", "male_masculine")[i % 2]
        rows.append(f"s{i % 2}\t{i}.mp3\t{WORDS[i % 5]}, {WORDS[i % 4]}.\t\t{gender}\tUnited States English\ten")
    (folder / "train.tsv").write_text("\n".join(rows) + "\n")


def iemocap(folder: Path) -> None:
    emotions = ("ang", "hap", "neu", "sad")
    for number in (1, 5):
        session = folder / f"Session{number}"
        dialogue = f"Ses0{number}F_impro01"
        for part in ("dialog/EmoEvaluation", "dialog/transcriptions", f"sentences/wav/{dialogue}"):
            (session / part).mkdir(parents=True)
        evaluations, words = "", ""
        for i in range(32):
            turn = f"{dialogue}_{'FM'[i % 2]}{i:03d}"
            evaluations += f"[{i}.0 - {i}.9]\t{turn}\t{emotions[i // 2 % 4]}\t[2.5, 2.5, 2.5]\n"
            words += f"{turn} [{i:03d}.0-{i:03d}.9]: {WORDS[i % 5]} {WORDS[i % 3]}.\n"
            sound = session / "sentences" / "wav" / dialogue / f"{turn}.wav"
            soundfile.write(sound, tone(0.4, 200 + 100 * (i % 2), 3 + 3 * (i // 2 % 4)), 16_000)
        (session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt").write_text(evaluations)
        (session / "dialog" / "transcriptions" / f"{dialogue}.txt").write_text(words)


def ravdess(folder: Path) -> None:
    (folder / "Actor_01").mkdir(parents=True)
    for emotion in ("01", "03", "04", "05"):
        for sentence in ("01", "02"):
            for repetition in range(1, 10):
                name = f"03-01-{emotion}-01-{sentence}-01-{repetition:02d}.wav"
                soundfile.write(folder / "Actor_01" / name, tone(0.4, 200, 3 * int(emotion)), 16_000)


def test_the_papers_protocol_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words from LibriSpeech and Common Voice; with that Stage 1 emotion on IEMOCAP and the speakers of Common Voice;
    one layer by itself; the Stage 2 of IEMOCAP on RAVDESS: the commands of experiments/README.md, made small."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    write_encoder(tmp_path / "hubert", family="Hubert")
    for write, name in ((librispeech, "LibriSpeech"), (common_voice, "cv"), (iemocap, "IEMOCAP"), (ravdess, "RAVDESS")):
        write(tmp_path / name)
    encoder = [
        "--encode",
        "experiments/encode/hubert_base.yaml",
        "--encode.encoder",
        "hubert",
        "--encode.device",
        "cpu",
    ]
    small = [*encoder, *SMALL]
    corpora = "--corpus.init_args.corpora"

    def run(name: str, *overrides: str) -> dict[str, float]:
        status, errors = command("pipeline", "--config", f"experiments/paper/{name}.yaml", *overrides, *small)
        assert status == 0, errors
        where = overrides[overrides.index("--run_dir") + 1] if "--run_dir" in overrides else f"runs/paper/hubert/{name}"
        figures: dict[str, float] = json.loads((tmp_path / where / "summary.json").read_text())
        return figures

    textual = run(
        "textual", f"{corpora}.librispeech.init_args.folder", "LibriSpeech", f"{corpora}.librispeech.init_args.clips",
        "null", f"{corpora}.common_voice.init_args.folder", "cv", f"{corpora}.common_voice.init_args.speakers", "2",
        f"{corpora}.common_voice.init_args.clips_per_speaker", "13",
    )  # fmt: skip
    assert {"stage1.wer", "probe.hidden.ctc.wer", "probe.textual.corpus.leakage"} <= textual.keys()
    emotion = run("emotion", "--corpus.init_args.folder", "IEMOCAP")
    assert emotion["stage1.training_corpus.wer"] == textual["stage1.wer"]
    assert {
        "stage2_emotion.accuracy",
        "probe.hidden.emotion.accuracy",
        "probe.acoustic_emotion.ctc.wer",
    } <= emotion.keys()
    assert run("speaker")["stage2_speaker.chance"] == 0.5

    session = ["--corpus.init_args.test_session", "5", "--splits.disjoint", "auto", "--labels", "[gender]"]
    run("emotion", "--corpus.init_args.folder", "IEMOCAP", *session, "--run_dir", "unheard")
    facts = json.loads((tmp_path / "unheard" / "corpus.json").read_text())
    assert facts["shared"]["speakers"] == {"test": 2, "trained": 0, "probed": 0}

    here = "runs/paper/hubert"
    layer = ["--config", "experiments/paper/layer.yaml", "--stage1.set.data.layers", "[2]"]
    shared = [f"--corpus.init_args.path={here}/textual/manifest.jsonl", f"--encode.store={here}/textual/features"]
    run("textual", *layer, *shared, "--run_dir", f"{here}/textual_layer2")
    assert (tmp_path / here / "textual_layer2" / "features").is_symlink()
    stage1 = f"--stage1.checkpoint={here}/textual_layer2/seed{{seed}}/stage1/checkpoints/best.ckpt"
    shared = [f"--corpus.init_args.path={here}/emotion/manifest.jsonl", f"--encode.store={here}/emotion/features"]
    alone = run("emotion", *layer, *shared, stage1, "--run_dir", f"{here}/emotion_layer2")
    assert alone["probe.acoustic_emotion.emotion.accuracy"] > 0

    readme = (EXPERIMENTS / "README.md").read_text()
    block = next(block for block in shell_blocks(EXPERIMENTS / "README.md") if "corpus ravdess" in block)
    assert block.splitlines()[0].strip() in readme
    block = block.replace("/data/RAVDESS", "RAVDESS").replace("runs/paper/facebook/hubert-base-ls960", here)
    for _, _, _, verb, *arguments in commands_of(block, tmp_path):
        added = {"encode": [f.replace("encode.", "") for f in encoder[2:]], "corpus": [], "test": []}[verb]
        status, errors = command(verb, *arguments, *added)
        assert status == 0, errors
    figures = json.loads((tmp_path / "runs" / "ravdess" / "stage2" / "summary.json").read_text())
    assert figures["stage2_emotion.chance"] == pytest.approx(0.25, abs=0.02)
