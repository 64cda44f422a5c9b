"""Parts of a store, encoded by several jobs, become one store.

Their shards move, and nothing is copied. A shard of part i of n is called i-of-n.NAME in the store, so that a merge
that was killed finds each either where it was or where it belongs, and goes on. A part stays complete by its own mark
until all of them are in the store and that is complete; only then the folder of the parts goes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disentangle_lightning.corpus.manifest import Skipped, Utterance
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import EncodeSummary, SpeechEncoder, corpus_and_header, longest_first
from disentangle_lightning.features.layout import (
    COMPLETE,
    HEADER,
    SHARDS,
    Sidecar,
    check_header,
    read_json,
    read_skipped,
    sidecar_path,
)
from disentangle_lightning.features.parts import PARTS, Part, parts_of
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.writer import StoreWriter


def merge(
    manifest_path: str | Path,
    encoder: SpeechEncoder,
    store_path: str | Path,
    dtype: str = "float16",
    layers: Sequence[int] | None = None,
) -> EncodeSummary:
    """Put the parts of a store together; the settings are those that the parts were encoded with.

    The store holds the features that `encode` would have given it as a whole. They are the same bit for bit where an
    encoder gives a clip the same features in every batch: most differ in the last bits, since a matrix product may
    add up in another order for another number of rows, and a part's batches of equally long clips are not the whole's.

    Killed at any instant and started again, it goes on; over a store that is merged already it does nothing.

    Raises:
        UserError: a part is missing, incomplete, damaged, or was made of other audio, by another encoder or in
            another form; or the parts do not hold every utterance of the manifest exactly once.
    """
    utterances, header = corpus_and_header(manifest_path, encoder, dtype, layers)
    store = Path(store_path)
    if not _merged(store, header):
        contents = _checked_parts(store, header, utterances)
        with StoreWriter(store, header, 0):
            for content in contents:
                for shard in content.shards:
                    shard.move()
        with StoreWriter(store, header, 0) as writer:  # it reads again what lies there
            writer.finish([skip for content in contents for skip in content.skipped])
    if (store / PARTS).is_dir():
        shutil.rmtree(store / PARTS)
    opened = FeatureStore.open(store, verify=False)
    return EncodeSummary(store, len(opened), opened.skipped)


@dataclass(frozen=True)
class _Shard:
    """A shard of a part: where it was encoded, and where it belongs; its sidecar goes with it, and after it."""

    source: Path
    target: Path

    def move(self) -> None:
        if self.source.is_file():
            sidecar_path(self.target).unlink(missing_ok=True)  # of an older one, of a merge that never ended
            self.source.replace(self.target)
        if sidecar_path(self.source).is_file():
            sidecar_path(self.source).replace(sidecar_path(self.target))

    def sidecar(self, part: Part) -> Sidecar:
        """Read wherever it lies now.

        Raises:
            UserError: shard or sidecar are missing, or the shard has another size than its sidecar says.
        """
        shard, sidecar_file = (
            next((file for file in places if file.is_file()), None)
            for places in (
                (self.source, self.target),
                (sidecar_path(self.source), sidecar_path(self.target)),
            )
        )
        if shard is None or sidecar_file is None:
            raise UserError(
                f"feature shard {self.source} is missing; run encode with --shard {part}, which makes it anew"
            )
        sidecar = Sidecar.read(sidecar_file)
        if (size := shard.stat().st_size) != sidecar.bytes:
            raise UserError(
                f"feature shard {shard} is damaged ({size} bytes instead of {sidecar.bytes}); delete it and run "
                f"encode with --shard {part}, which makes it anew"
            )
        return sidecar


@dataclass(frozen=True)
class _Content:
    """What a part holds: the utterances that it encoded and those that it skipped."""

    part: Part
    shards: list[_Shard]
    ids: list[str]
    skipped: list[Skipped]


def _merged(store: Path, header: dict[str, Any]) -> bool:
    """Whether the store is complete already."""
    if not (store / COMPLETE).is_file():
        return False
    with StoreWriter(store, header, 0) as writer:
        return writer.complete


def _checked_parts(store: Path, header: dict[str, Any], utterances: Sequence[Utterance]) -> list[_Content]:
    begun = parts_of(store)
    if not begun:
        raise UserError(f"feature store {store} has no parts to merge; encode them with --shard 1/n to --shard n/n")
    count, *others = sorted({part.count for part in begun})
    if others:
        raise UserError(
            f"{store / PARTS} holds parts of {count} and parts of {others[0]}; delete those that are not wanted"
        )
    parts = [Part(number, count) for number in range(1, count + 1)]
    unfinished = [part for part in parts if not (part.folder(store) / COMPLETE).is_file()]
    if unfinished:
        states = (f"{part} is {'incomplete' if part in begun else 'missing'}" for part in unfinished)
        commands = (f"encode --shard {part}" for part in unfinished)
        raise UserError(f"part {', '.join(states)} in {store / PARTS}; run {', '.join(commands)}, then merge again")
    contents = [_read_part(part, store, header) for part in parts]
    _check_once(contents, store, utterances)
    return contents


def _read_part(part: Part, store: Path, header: dict[str, Any]) -> _Content:
    folder = part.folder(store)
    found = read_json(folder / HEADER)
    check_header(folder, found, header)
    if found.get("part") != str(part):
        raise UserError(f"{folder} holds part {found.get('part')}, not {part}; give it its name back")
    names = read_json(folder / COMPLETE)["shards"]
    shards = [_Shard(folder / SHARDS / name, store / SHARDS / f"{folder.name}.{name}") for name in names]
    ids = [entry["id"] for shard in shards for entry in shard.sidecar(part).utterances]
    return _Content(part, shards, ids, read_skipped(folder))


def _check_once(contents: list[_Content], store: Path, utterances: Sequence[Utterance]) -> None:
    """Every utterance of the manifest is in exactly one part, and the store holds nothing else.

    Raises:
        UserError: that is not so.
    """
    known = {sidecar_path(shard.target).name for content in contents for shard in content.shards}
    if strays := sorted({file.name for file in (store / SHARDS).glob("*.json")} - known):
        raise UserError(f"{store / SHARDS} holds {strays[0]}, which is of no part; delete it and its shard")
    held = {content.part: content.ids + [skip.id for skip in content.skipped] for content in contents}
    times = Counter(id for ids in held.values() for id in ids)
    odd = [u.id for u in utterances if times[u.id] != 1]
    if odd:
        ordered = longest_first(utterances)
        wrong = [part for part, ids in held.items() if set(ids) != {u.id for u, _ in part.share(ordered)}]
        raise UserError(
            f"utterance '{odd[0]}' is in {times[odd[0]]} parts of feature store {store}: sound files were missing or "
            f"changed between the jobs; delete {', '.join(str(part.folder(store)) for part in wrong)} and encode "
            f"--shard {', '.join(map(str, wrong))} again"
        )
