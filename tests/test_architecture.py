"""Rules about who may import whom: scripts -> sim -> rtl, and one way through the rooms of rtl."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RTL = ROOT / "rtl" / "jepa_r"
SIM = ROOT / "sim" / "jepa_r_sim"

#: Rooms each room of rtl may import, besides itself and the modules beside the rooms.
MAY_IMPORT = {
    "fabric": set(),
    "numeric": {"fabric"},
    "memory": {"fabric"},
    "tile": {"fabric", "numeric", "memory"},
    "vector": {"fabric", "numeric", "memory"},
    "dma": {"fabric", "numeric", "memory"},
    "cluster": {"fabric", "numeric", "memory", "tile", "vector", "dma"},
    "latent": {"fabric", "numeric", "memory", "dma"},
    "planner": {"fabric", "numeric", "memory"},
    "control": {"fabric", "numeric", "memory", "dma"},
    "safety": {"fabric", "memory"},
}

#: Modules beside the rooms that import rooms; nothing below them may import these.
TOPS = {"chip", "registers", "robot", "tops"}

#: Packages that neither the generator nor, of the last two, the models may import.
FORBIDDEN = {
    RTL: {"numpy", "cocotb", "cocotbext", "cocotb_tools", "jepa_r_sim", "jepa_r_flow"},
    SIM: {"jepa_r_flow", "typer"},
}


def imported(text: str, package: list[str]) -> set[str]:
    """Full names of the modules that source ``text`` of a module in ``package`` imports.

    ``from x import y`` counts as ``x`` and ``x.y``, since ``y`` may be a module.
    """
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def imports(path: Path) -> set[str]:
    """Full names of what a file below ``rtl/`` or ``sim/`` imports."""
    return imported(path.read_text(), list(path.relative_to(ROOT).parent.parts[1:]))


def rooms(names: set[str]) -> set[str]:
    """Rooms and tops of rtl among full names."""
    parts = [name.split(".") for name in names]
    known = MAY_IMPORT.keys() | TOPS
    return {p[1] for p in parts if p[0] == "jepa_r" and len(p) > 1 and p[1] in known}


def test_every_form_of_import_is_seen():
    text = """
import jepa_r.tile.array
from jepa_r import vector
from jepa_r.dma.reader import DmaReader
from ..memory.sram import Sram
from .. import cluster
def late():
    from ..tops import TOPS
"""
    found = rooms(imported(text, ["jepa_r", "fabric"]))
    assert found == {"tile", "vector", "dma", "memory", "cluster", "tops"}


def test_every_room_has_a_rule():
    found = {path.name for path in RTL.iterdir() if (path / "__init__.py").exists()}
    assert found == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_what_it_may(room):
    for path in (RTL / room).rglob("*.py"):
        assert rooms(imports(path)) <= MAY_IMPORT[room] | {room}, path


def test_only_tops_import_the_cluster():
    for path in RTL.glob("*.py"):
        if path.stem not in TOPS:
            assert not rooms(imports(path)), path


@pytest.mark.parametrize("package", FORBIDDEN, ids=lambda path: path.name)
def test_imports_walk_one_way(package):
    for path in package.rglob("*.py"):
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & FORBIDDEN[package], path
