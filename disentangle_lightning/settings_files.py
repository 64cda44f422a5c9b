"""Settings from a YAML file and `--field value` overrides, checked against their schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import PipelineSettings

Settings = TypeVar("Settings")


def read_settings(schema: type[Settings], config: str | Path | None, overrides: Sequence[str]) -> Settings:
    """The settings of a file with `--field value` or `--field=value` overrides on top; interpolations obey them.

    Raises:
        UserError: the file is missing or no YAML mapping, or a field is unknown, missing or of the wrong type.
    """
    try:
        tree = OmegaConf.structured(schema)
        if config is not None:
            tree = OmegaConf.merge(tree, read_yaml(config))
        tree = OmegaConf.merge(tree, OmegaConf.from_dotlist(_dotlist(overrides)))
        settings = cast(Settings, OmegaConf.to_object(tree))
    except OmegaConfBaseException as error:
        where = f"{config}: " if config else ""
        field = f"field '{error.full_key}': " if getattr(error, "full_key", None) else ""
        raise UserError(f"{where}{field}{str(error).splitlines()[0]}") from None
    if isinstance(settings, PipelineSettings):
        _inline_stage_files(settings, Path(config).parent if config else Path())
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
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"settings file {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, DictConfig):
        raise UserError(f"settings file {path} holds no mapping of fields to values")
    return tree


def write_yaml(path: Path, settings: Any) -> None:
    """Write settings atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(OmegaConf.to_yaml(settings), encoding="utf-8")
    temporary.replace(path)


def set_field(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted field of a nested mapping."""
    *folders, last = name.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[last] = value


def _inline_stage_files(settings: PipelineSettings, folder: Path) -> None:
    """Put each stage's file into `set`, so that the run's own config.yaml needs no other file."""
    for stage in (settings.stage1, settings.stage2, settings.probe):
        if stage.config is not None:
            merged = OmegaConf.merge(read_yaml(folder / stage.config), stage.set)
            stage.set = cast(dict[str, Any], OmegaConf.to_container(merged, resolve=False))
            stage.config = None


def _dotlist(overrides: Sequence[str]) -> list[str]:
    """`--a.b 1 --c=2` to `a.b=1 c=2`."""
    pairs: list[str] = []
    rest = list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"argument '{flag}' is not understood; fields are set with --field value")
        if "=" in flag:
            pairs.append(flag[2:])
        elif rest:
            pairs.append(f"{flag[2:]}={rest.pop(0)}")
        else:
            raise UserError(f"{flag} needs a value")
    return pairs
