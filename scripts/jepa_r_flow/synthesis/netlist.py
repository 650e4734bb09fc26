"""Emitted Verilog as a hierarchy: what is mapped once, how often it is there, on which clocks."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from attrs import frozen

from jepa_r_sim.yosys import run_yosys

__all__ = ["Port", "Unit", "clocks_of", "read_hierarchy"]


@frozen(kw_only=True)
class Port:
    """A port of a unit: ``input`` or ``output``, and its bits."""

    name: str
    direction: str
    width: int


@frozen(kw_only=True)
class Unit:
    """One emitted file: a macro, with the plain submodules that only it has.

    Attributes
    ----------
    name
        Name of its module.
    file
        Its Verilog.
    ports
        Its ports.
    children
        Units it instantiates, and how often.
    declaration
        Verilog of the module without contents.
    """

    name: str
    file: Path
    ports: tuple[Port, ...]
    children: Mapping[str, int]
    declaration: str


_NAME = r"(\\\S+ |[A-Za-z_][\w$]*)"
_HEADER = re.compile(rf"^module {_NAME}\s*(\(.*?\));$", re.M | re.S)
_PORT = re.compile(rf"^  (input|output)(?: (?:reg|wire))?(?: \[(\d+):(\d+)\])? {_NAME};$", re.M)
_INSTANCE = re.compile(rf"^  {_NAME} {_NAME} ?\($", re.M)


def read_hierarchy(files: Sequence[Path]) -> dict[str, Unit]:
    """Units of a directory of emitted Verilog, those that others are made of first.

    Parameters
    ----------
    files
        One a unit, named after its module; as :func:`jepa_r.emit.emit_verilog` writes them.
    """
    names = {path.stem for path in files}
    units = {}
    for path in files:
        text = path.read_text()
        own = next(match for match in _HEADER.finditer(text) if _plain(match[1]) == path.stem)
        body = text[own.end() : text.index("\nendmodule", own.end())]
        ports = tuple(
            Port(
                name=_plain(name),
                direction=direction,
                width=abs(int(high) - int(low)) + 1 if high else 1,
            )
            for direction, high, low, name in _PORT.findall(body)
        )
        lines = [
            match[0].replace(" reg ", " ").replace(" wire ", " ") for match in _PORT.finditer(body)
        ]
        instances = Counter(_plain(name) for name, _ in _INSTANCE.findall(text))
        units[path.stem] = Unit(
            name=path.stem,
            file=path,
            ports=ports,
            children={name: count for name, count in instances.items() if name in names},
            declaration="\n".join([own[0], *lines, "endmodule", ""]),
        )
    order = TopologicalSorter({name: unit.children for name, unit in units.items()}).static_order()
    return {name: units[name] for name in order}


def clocks_of(
    units: Mapping[str, Unit], top: str, ports: Sequence[str], *, directory: Path
) -> dict[str, frozenset[str]]:
    """Which of the top's clock ports the instances of each unit are clocked by.

    Units below the top have one clock, ``clk``, and give it to those below them.

    Parameters
    ----------
    units
        The hierarchy, those that others are made of first.
    top
        Its top.
    ports
        Clock ports of the top.
    directory
        For what yosys reads and writes.

    Raises
    ------
    SynthesisError
        If yosys fails.
    """
    found: dict[str, frozenset[str]] = dict.fromkeys(units, frozenset())
    found[top] = frozenset(ports)
    if len(ports) > 1:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "children.v").write_text(
            "".join(units[name].declaration for name in sorted(units[top].children))
        )
        run_yosys(
            f"read_verilog -lib children.v\nread_verilog {units[top].file.absolute()}\n"
            f"hierarchy -top {top}\nproc\nflatten\nopt_clean\nwrite_json clocks.json\n",
            directory=directory,
            what="clocks",
        )
        module = json.loads((directory / "clocks.json").read_text())["modules"][top]
        clocks = {module["ports"][port]["bits"][0]: port for port in ports}
        for cell in module["cells"].values():
            if cell["type"] in units and "clk" in cell["connections"]:
                found[cell["type"]] |= {clocks[cell["connections"]["clk"][0]]}
    for name, unit in reversed(units.items()):
        for child in unit.children:
            if name != top or len(ports) == 1:
                found[child] |= found[name]
    return found


def _plain(name: str) -> str:
    """Name without Verilog's escape."""
    return name.removeprefix("\\").rstrip()
