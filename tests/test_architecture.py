"""The house: a file imports only from its own floor's folder or from a lower floor."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "disentangle_lightning"

FLOORS = {
    "__init__": 0, "atomic": 0, "errors": 0, "memory": 0, "settings": 0, "settings_files": 0,
    "slurm": 0, "summary": 0, "provenance": 0, "failures": 0, "sweep_file": 0,
    "corpus": 1, "upstream": 1, "nn": 1, "report": 1,
    "features": 2,
    "tasks": 3,
    "analysis": 4, "deployment": 4, "encoder": 4,
    "pipeline": 5, "sweep": 5,
    "verbs": 6, "cli": 6, "__main__": 6,
}  # fmt: skip
NEIGHBOURS = {("encoder", "deployment"), ("__main__", "cli"), ("cli", "verbs")}
"""Rooms of one floor of which the first stands on the second."""


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("disentangle_lightning"):
            found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("disentangle_lightning")]
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # the package's front door hands out DisentangledEncoder, on first use only
    for module in imported(file):
        other = room(module)
        allowed = own == other or (own, other) in NEIGHBOURS or FLOORS[other] < FLOORS[own]
        allowed |= FLOORS[own] == FLOORS[other] == 0
        assert allowed, f"{own} (floor {FLOORS[own]}) imports {module} (floor {FLOORS[other]})"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_file_says_what_it_is(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), f"{file.name} has no docstring"


def test_the_embedded_encoder_is_small():
    folder = PACKAGE / "upstream" / "embedded"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 8_000_000
