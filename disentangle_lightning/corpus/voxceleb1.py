"""VoxCeleb1: celebrities in interviews, for who is speaking; nobody wrote down what was said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import check_limits, select, usable
from disentangle_lightning.errors import UserError

PROTOCOLS = ("identification", "verification")

_META_COLUMNS = ["VoxCeleb1 ID", "VGGFace1 ID", "Gender", "Nationality", "Set"]


class VoxCeleb1:
    """A corpus reader for VoxCeleb1: 153,516 clips of 1,251 speakers, with gender and nationality.

    `vox1_dev_wav.zip` and `vox1_test_wav.zip`, unpacked in one folder, give `wav/id10001/VIDEO/00001.wav`; beside
    `wav` belong the tables of the corpus' site, `vox1_meta.csv` (tab-separated) and `iden_split.txt`. There are no
    transcriptions. Labels, where `vox1_meta.csv` is there: gender, nationality.

    The protocols are the official ones:

    - `identification` (needs `iden_split.txt`): train, dev and test have the same speakers, in other videos.
    - `verification` (needs `vox1_meta.csv`): test has the 40 speakers of the `test` set and train the 1,211 of `dev`.
      A dev split is left to the pipeline's `splits`, which should then be `disjoint: speaker`.

    Args:
        folder: the folder that holds `wav`.
        protocol: `identification` or `verification`.
        max_seconds: leaves longer clips out; every header is then read.
        clips: at most so many clips of a split, such as `{train: 20000, dev: 2000, test: 2000}`.

    Raises:
        UserError: the folder lacks `wav` or the protocol's table, a table is not the published one, an option is out
            of range, or not one clip can be used.
    """

    def __init__(
        self,
        folder: str,
        protocol: str = "identification",
        max_seconds: float | None = None,
        clips: dict[str, int] | None = None,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise UserError(f"field 'protocol' is {protocol!r}; expected {' or '.join(PROTOCOLS)}")
        check_limits(max_seconds, clips)
        self.folder = Path(folder).absolute()
        self.protocol = protocol
        self.max_seconds = max_seconds
        self.clips = clips

    def read(self) -> Corpus:
        """Read the protocol's table; the sound files are only looked for."""
        if not (self.folder / "wav").is_dir():
            raise UserError(
                f"folder {self.folder} has no sub-folder wav; unpack vox1_dev_wav.zip and vox1_test_wav.zip in one "
                "folder and give that folder"
            )
        table = "iden_split.txt" if self.protocol == "identification" else "vox1_meta.csv"
        if not (self.folder / table).is_file():
            raise UserError(
                f"folder {self.folder} has no {table}, which the protocol '{self.protocol}' needs; put it beside wav, "
                "from www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/"
            )
        speakers = _read_meta(self.folder / "vox1_meta.csv")
        listed = self._identification() if self.protocol == "identification" else self._verification(speakers)
        found = Corpus([])
        for path, split in listed:
            id, audio = path.removesuffix(".wav"), self.folder / "wav" / path
            speaker = path.split("/")[0]
            if split is None:
                found.skipped.append(Skipped(id, f"its speaker is not in {self.folder / table}"))
            elif not audio.is_file():
                found.skipped.append(Skipped(id, f"audio file {audio} does not exist"))
            else:
                labels = {k: v for k, v in speakers.get(speaker, {}).items() if k != "set"}
                found.utterances.append(Utterance(id, audio, speaker=speaker, split=split, labels=labels))
        return select(usable(found, f"folder {self.folder}"), self.max_seconds, self.clips)

    def _identification(self) -> Iterator[tuple[str, str | None]]:
        """Every clip of iden_split.txt."""
        from torchaudio.datasets import VoxCeleb1Identification

        for split in ("train", "dev", "test"):
            try:
                published = VoxCeleb1Identification(self.folder, split)
                paths = [published.get_metadata(n)[0] for n in range(len(published))]
            except (ValueError, IndexError):
                raise UserError(
                    f"{self.folder / 'iden_split.txt'} is not the published table, whose lines look like "
                    "'1 id10001/1zcIwhmdeo4/00001.wav'"
                ) from None
            for path in paths:
                yield path, split

    def _verification(self, speakers: dict[str, dict[str, str]]) -> Iterator[tuple[str, str | None]]:
        """Every clip that is there; torchaudio lists only the clips of the trials, all of the test set."""
        splits = {"dev": "train", "test": "test"}
        for file in sorted((self.folder / "wav").glob("*/*/*.wav")):
            if not file.name.startswith("."):
                path = file.relative_to(self.folder / "wav").as_posix()
                yield path, splits.get(speakers.get(path.split("/")[0], {}).get("set", ""))


def _read_meta(file: Path) -> dict[str, dict[str, str]]:
    """{speaker: gender, nationality, set}; empty where the file does not exist."""
    if not file.is_file():
        return {}
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if [cell.strip() for cell in lines[0]] != _META_COLUMNS or {len(line) for line in lines} != {len(_META_COLUMNS)}:
        raise UserError(
            f"{file} is not the published table, whose tab-separated columns are {', '.join(_META_COLUMNS)}"
        )
    speakers: dict[str, dict[str, str]] = {}
    for speaker, _, gender, nationality, subset in lines[1:]:
        known = {"gender": gender_word(gender), "nationality": nationality.strip(), "set": subset.strip()}
        speakers[speaker.strip()] = {name: value for name, value in known.items() if value}
    return speakers
