"""Settings from a YAML file and `--field value` overrides, checked against their schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import EncodeSettings, PipelineSettings, StageSettings

Settings = TypeVar("Settings")

_STAGES = ("stage1", "stage2", "probe")

_OF_THE_PIPELINE = {
    "data": ("manifest", "store", "labels"),
    "model.init_args": ("task", "stage1", "representation", "source", "targets"),
}
"""What a stage's file may leave open (`???`) for the pipeline to decide."""


def read_settings(
    schema: type[Settings], configs: str | Path | Sequence[str | Path] | None, overrides: Sequence[str]
) -> Settings:
    """The settings of files, later ones on top, and over them `--field value` or `--field=value`.

    A pipeline's `corpus`, each of its `init_args.corpora`, and `encode` may be the path of a file, whose content then
    replaces what stood there. A field that is overridden as a whole goes before its parts, whatever their order, and
    interpolations obey all of it.

    Raises:
        UserError: a file is missing or no YAML mapping, or a field is unknown, missing or of the wrong type.
    """
    files = [configs] if isinstance(configs, str | Path) else configs or []
    where = ""
    try:
        tree = OmegaConf.structured(schema)
        for file in files:
            where = f"{file}: "
            tree = _merge(tree, read_yaml(file), Path(file).parent, where)
        where = ""
        for pair in sorted(override_pairs(overrides), key=lambda pair: pair[0].count(".")):
            tree = _merge(tree, override_tree([pair]), Path(), where)
        where = f"{files[-1]}: " if files else ""
        for name in sorted(OmegaConf.missing_keys(tree)):
            raise UserError(f"{where}field '{name}' is missing; give it in the file or as --{name}")
        settings = cast(Settings, OmegaConf.to_object(tree))
    except OmegaConfBaseException as error:
        raise UserError(f"{where}{_one_line(error)}") from None
    if isinstance(settings, PipelineSettings):
        _inline_stage_files(settings)
    return settings


def read_yaml(path: str | Path) -> DictConfig:
    """A YAML file as a mapping whose interpolations are not resolved yet.

    Raises:
        UserError: the file is missing or no YAML mapping.
    """
    try:
        tree = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"settings file {path} does not exist") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"settings file {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, DictConfig):
        raise UserError(f"settings file {path} holds no mapping of fields to values")
    return tree


def write_yaml(path: Path, settings: Any) -> None:
    """Write settings atomically."""
    write_text(path, OmegaConf.to_yaml(settings))


def set_field(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted field of a nested mapping."""
    *folders, last = name.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[last] = value


def first_difference(before: Any, now: Any, name: str = "") -> str | None:
    """The dotted name of the first field in which two plain trees differ, and both its values; None if none does.

    >>> first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    'a.c 2, not 3'
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        found = (first_difference(before.get(key), now.get(key), f"{name}.{key}".lstrip(".")) for key in keys)
        return next((difference for difference in found if difference), None)
    return None if before == now else f"{name} {before}, not {now}"


def escape_interpolations(tree: Any) -> Any:
    """A plain tree whose `${...}` are text to whoever reads it as YAML settings."""
    if isinstance(tree, dict):
        return {key: escape_interpolations(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [escape_interpolations(value) for value in tree]
    return tree.replace("${", "\\${") if isinstance(tree, str) else tree


def _merge(tree: DictConfig, part: DictConfig, folder: Path, where: str) -> DictConfig:
    """Settings with another part on top; the files that it names are found from its folder."""
    if OmegaConf.get_type(tree) is not PipelineSettings:
        return cast(DictConfig, OmegaConf.merge(tree, part))
    plain = _plain(part)
    for name in _STAGES:
        stage = plain.get(name)
        if isinstance(stage, dict) and _is_path(stage.get("config")):
            stage["config"] = str(folder / stage["config"])
    named = _take_encode(plain, folder, where) | _take_corpora(plain, "corpus", "corpus", folder, where)
    for field, content in named.items():
        OmegaConf.update(tree, field, content, merge=False)
    return cast(DictConfig, OmegaConf.merge(tree, plain))


def _take_encode(part: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """{encode: content} of the file that stands in its place, taken out of the part."""
    if not _is_path(part.get("encode")):
        return {}
    path = folder / part.pop("encode")
    try:
        return {"encode": OmegaConf.merge(OmegaConf.structured(EncodeSettings), _named(path, "encode", where))}
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_one_line(error)}") from None


def _take_corpora(holder: dict[str, Any], key: str, field: str, folder: Path, where: str) -> dict[str, Any]:
    """{field: content} of every file that stands in a corpus's place, taken out of its holder; outer ones first."""
    found: dict[str, Any] = {}
    corpus: Any = holder.get(key)
    if _is_path(corpus):
        path = folder / holder.pop(key)
        found[field] = corpus = _plain(_named(path, field, where))
        if unknown := corpus.keys() - {"class_path", "init_args"}:
            raise UserError(f"{path}: field '{min(unknown)}' is unknown; a corpus has class_path and init_args")
        folder, where = path.parent, f"{path}: "
    arguments = corpus.get("init_args") if isinstance(corpus, dict) else None
    several = arguments.get("corpora") if isinstance(arguments, dict) else None
    if isinstance(several, dict):
        for name in list(several):
            found |= _take_corpora(several, name, f"{field}.init_args.corpora.{name}", folder, where)
    return found


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value != "???"


def _named(path: Path, field: str, where: str) -> DictConfig:
    """A file that a field names."""
    try:
        return read_yaml(path)
    except UserError as error:
        raise UserError(f"{where}field '{field}': {error}") from None


def _plain(tree: DictConfig) -> dict[str, Any]:
    """Dictionaries and lists, interpolations as they are written."""
    return cast(dict[str, Any], OmegaConf.to_container(tree, resolve=False))


def _one_line(error: OmegaConfBaseException) -> str:
    field = f"field '{error.full_key}': " if getattr(error, "full_key", None) else ""
    said = str(error).splitlines()[0]
    if "is not a ListConfig" in said:
        said = "expected a list, such as [a, b]"
    return f"{field}{said}"


def _inline_stage_files(settings: PipelineSettings) -> None:
    """Put each stage's file into `set`, so that the run's own config.yaml needs no other file.

    The file's own interpolations stay: they are of the stage's fields, which are not complete before it is trained.
    """
    for name in _STAGES:
        stage: StageSettings = getattr(settings, name)
        if stage.config is None:
            continue
        merged = OmegaConf.merge(_named(Path(stage.config), f"{name}.config", ""), stage.set)
        for field in sorted(OmegaConf.missing_keys(merged)):
            section, _, last = field.rpartition(".")
            if last not in _OF_THE_PIPELINE.get(section, ()):
                raise UserError(f"field '{field}' of {stage.config} is missing; give it as --{name}.set.{field}")
            del OmegaConf.select(merged, section)[last]
        stage.set = _plain(cast(DictConfig, merged))
        stage.config = None


def override_pairs(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """`--a.b 1 --c=2` as the pairs (a.b, 1) and (c, 2).

    Raises:
        UserError: an argument is no flag, or a flag has no value.
    """
    pairs = []
    rest = list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"argument '{flag}' is not understood; fields are set with --field value")
        name, has_value, value = flag[2:].partition("=")
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{name} needs a value")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


def override_tree(pairs: Sequence[tuple[str, str]]) -> DictConfig:
    """The pairs (a.b, 1) and (c, 2) as the tree {a: {b: 1}, c: 2}; values are YAML.

    Raises:
        UserError: a value is no YAML.
    """
    tree = OmegaConf.create()
    for name, value in pairs:
        try:
            tree.merge_with_dotlist([f"{name}={value}"])
        except yaml.YAMLError:
            raise UserError(f"the value of --{name} is not YAML: {value}") from None
    return tree
