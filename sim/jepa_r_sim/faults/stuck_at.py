"""Stuck-at faults in the netlist of a design, 511 in one run.

Yosys maps the design to NOT, AND, OR, XOR, MUX and flip-flops, each module by itself, so that
copies stay copies, and flattens the result. A site is the output of a gate or of a flip-flop. All
inputs are those of the golden run (:class:`~.cxxrtl.Flips`), whose outputs the unharmed netlist
must have in every cycle: that also holds mapping and both engines to each other.

A fault is exact up to the first cycle in which an output differs. Behind it, a processor with
another address would read other words; a pair has raised its alert before that matters.
"""

import json
import re
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.back import rtlil  # type: ignore[attr-defined]
from amaranth.lib import wiring
from attrs import frozen

from ..yosys import run_yosys
from .cxxrtl import RESET_CYCLES, SETTLE, TOP, Flips, tie_commands
from .engine import Engine, Program
from .subject import Strobe, Subject, SubjectError

__all__ = ["StuckAt", "build_stuck_at"]

_OPERATIONS = {"$_NOT_": 0, "$_AND_": 1, "$_OR_": 2, "$_XOR_": 3, "$_MUX_": 4}
_FLIP_FLOP = "$_DFF_P_"

_SCRIPT = """\
read_rtlil design.il
hierarchy -top {top}
proc
{ties}opt
memory
opt
techmap
opt
dfflegalize -cell $_DFF_P_ 01
simplemap
opt -nodffe -nosdff
abc -g AND,OR,XOR,MUX
opt_clean
flatten
opt_clean
write_json netlist.json
"""


@frozen(kw_only=True)
class StuckAt:
    """A netlist whose gates can be stuck.

    Attributes
    ----------
    engine : :class:`~.engine.Engine`
        Runs lists of (site, polarity).
    sites
        Outputs of all gates and flip-flops: UINT32, nets of the harness.
    names : :class:`tuple` of :class:`str`
        Names of ``sites``.
    flip_flops : :class:`int`
        How many of them, the first, are flip-flops.
    places : :class:`tuple` of :class:`str`
        Port of each bit of the observed outputs.
    """

    engine: Engine
    sites: npt.NDArray[np.uint32]
    names: tuple[str, ...]
    flip_flops: int
    places: tuple[str, ...]

    def name_of(self, site: int, polarity: int) -> str:
        """Name of a fault."""
        return f"{self.names[int(np.searchsorted(self.sites, site))]} stuck at {polarity}"


def build_stuck_at(subject: Subject, golden: Flips) -> StuckAt:
    """Map a subject, and check that its netlist does what its text does.

    Parameters
    ----------
    subject
        What faults are injected into.
    golden
        Its golden run.

    Raises
    ------
    SubjectError
        If an output of the netlist differs from the golden run.
    """
    netlist = _Netlist(_mapped(subject), subject)
    recorded, cycles = netlist.recorded(golden), len(golden.trace)
    sources = {
        name: (files(__package__) / name).read_text() for name in ("events.hh", "stuck_at.cc")
    }
    engine = Engine(
        program=Program(main="stuck_at.cc", sources=sources),
        files={"netlist.bin": netlist.table(subject), "recorded.bin": recorded},
        arguments=(str(cycles), str(RESET_CYCLES), str(SETTLE)),
    )
    trace = np.frombuffer(engine.golden("trace.bin")["trace.bin"], np.uint8).reshape(cycles, -1)
    for column, (port, bit) in enumerate(netlist.outputs):
        place = golden.places.index(port) + bit // 32
        wanted = golden.trace[:, place] >> (bit % 32) & 1
        if (differing := np.flatnonzero(trace[:, column] != wanted)).size:
            raise SubjectError(
                f"{subject.name}: {port}[{bit}] of the netlist differs from the text's in cycle "
                f"{differing[0]}"
            )
    inside = [
        (netlist.first_site + n, name)
        for n, each in enumerate(netlist.names)
        if (name := subject.within(each)) is not None
    ]
    return StuckAt(
        engine=engine,
        sites=np.array([site for site, _ in inside], np.uint32),
        names=tuple(name for _, name in inside),
        flip_flops=sum(site < netlist.first_site + netlist.flip_flops for site, _ in inside),
        places=tuple(port for port, _ in netlist.outputs),
    )


def _mapped(subject: Subject) -> dict[str, Any]:
    """The netlist, as yosys writes it."""
    with tempfile.TemporaryDirectory(prefix="jepa-r-faults-") as scratch:
        text = rtlil.convert(subject.design, name=TOP, emit_src=False)
        (Path(scratch) / "design.il").write_text(text)
        run_yosys(
            _SCRIPT.format(top=TOP, ties=tie_commands(subject)),
            directory=Path(scratch),
            what="gates",
        )
        return json.loads((Path(scratch) / "netlist.json").read_text())["modules"][TOP]


class _Netlist:
    """Nets in the order of the harness: constants, inputs, flip-flops, gates."""

    def __init__(self, module: dict[str, Any], subject: Subject):
        self._number: dict[int | str, int] = {"0": 0, "1": 1, "x": 0}
        ports = module["ports"]
        self.inputs = [
            (port, bit)
            for port in [*subject.ports(wiring.In), "rst"]
            for bit in range(len(ports.get(port, {"bits": []})["bits"]))
        ]
        if not self.inputs or self.inputs[-1] != ("rst", 0):
            raise SubjectError(f"{subject.name}: the design has no reset")
        for port, bit in self.inputs:
            self._give(ports[port]["bits"][bit])
        self.first_site = len(self.inputs) + 2
        cells = [cell | {"name": name} for name, cell in module["cells"].items()]
        flops = [cell for cell in cells if cell["type"] == _FLIP_FLOP]
        gates = [cell for cell in cells if cell["type"] in _OPERATIONS]
        strange = {cell["type"] for cell in cells} - {_FLIP_FLOP, "$scopeinfo", *_OPERATIONS}
        if strange:
            raise SubjectError(f"{subject.name}: the netlist has {', '.join(sorted(strange))}")
        for flop in flops:
            self._give(flop["connections"]["Q"][0])
        gates = self._in_order(gates)
        self.flip_flops = len(flops)
        initial, known = _attributes(module)
        self._flops = [
            number
            for flop in flops
            for number in (
                self._of(flop["connections"]["D"][0]),
                initial.get(flop["connections"]["Q"][0], 0),
            )
        ]
        self._gates = [
            number
            for gate in gates
            for number in (
                _OPERATIONS[gate["type"]],
                *(self._of(gate["connections"].get(pin, ["0"])[0]) for pin in "ABS"),
            )
        ]
        self.names = [
            _name(cell["name"], known.get(cell["connections"][pin][0], []))
            for group, pin in ((flops, "Q"), (gates, "Y"))
            for cell in group
        ]
        self._bits = {
            port: [self._of(bit) for bit in ports[port]["bits"]]
            for port in subject.ports(wiring.Out)
        }
        self.outputs = [
            (port, bit) for port, bits in self._bits.items() for bit in range(len(bits))
        ]

    def _give(self, bit: int | str) -> None:
        self._number[bit] = len(self._number) - 1  # x and 0 are one net

    def _of(self, bit: int | str) -> int:
        return self._number[bit]

    def _in_order(self, gates: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Number gates so that each comes after what it reads."""
        driver = {gate["connections"]["Y"][0]: gate for gate in gates}
        ordered = []
        for last in gates:
            stack = [last]
            while stack:
                gate = stack[-1]
                output = gate["connections"]["Y"][0]
                if output in self._number:
                    stack.pop()
                    continue
                waiting = [
                    driver[bit]
                    for pin, (bit,) in gate["connections"].items()
                    if pin != "Y" and bit not in self._number
                ]
                if waiting:
                    if len(stack) > len(gates):
                        raise SubjectError(f"gates drive each other around {gate['name']}")
                    stack += waiting
                    continue
                self._give(output)
                ordered.append(stack.pop())
        return ordered

    def recorded(self, golden: Flips) -> bytes:
        """Bits of the inputs in the golden run, ``[cycles][inputs]``."""
        columns = []
        for port, bit in self.inputs[:-1]:
            values = golden.inputs[port]
            word = values if values.ndim == 1 else values[:, bit // 32]
            columns.append((word >> (bit % 32) & 1).astype(np.uint8))
        columns.append(np.zeros(len(golden.trace), np.uint8))
        return np.stack(columns, 1).tobytes()

    def table(self, subject: Subject) -> bytes:
        """What the harness reads: lists, each after its length."""

        def bits(*ports: str) -> list[int]:
            return [net for port in ports for net in self._bits[port]]

        def strobes(some: tuple[Strobe, ...]) -> list[list[int]]:
            lists = [[len(some)]]
            for strobe in some:
                lists += [bits(strobe.valid) if strobe.valid else [1], bits(*strobe.payload)]
            return lists

        lists = [
            [len(self.inputs)],
            self._flops,
            self._gates,
            bits(*self._bits),
            bits(*subject.compared),
            bits(*subject.stops),
            bits(*subject.alerts),
            list(subject.alerts.values()),
            *strobes(subject.released),
            *strobes(subject.requested),
        ]
        return np.array(
            [number for values in lists for number in (len(values), *values)], "<u4"
        ).tobytes()


def _attributes(module: dict[str, Any]) -> tuple[dict[int, int], dict[int, list[str]]]:
    """Initial values, and names that a person gave, of bits."""
    initial: dict[int, int] = {}
    names: dict[int, list[str]] = {}
    for name, net in module["netnames"].items():
        start = net["attributes"].get("init", "")
        for position, bit in enumerate(net["bits"]):
            if position < len(start) and start[-1 - position] in "01":
                initial[bit] = int(start[-1 - position])
            if not net["hide_name"]:
                # Flattening leaves the escapes of the modules' own names in the middle.
                text = name.replace("\\", "")
                text += "" if len(net["bits"]) == 1 else f"[{position}]"
                names.setdefault(bit, []).append(text)
    return initial, names


def _name(cell: str, nets: list[str]) -> str:
    """Name of a site: that of its net in the module that the cell is in, or the cell's number."""
    match = re.match(r"\$flatten\\(.*\.)\$", cell)
    module = match[1].replace("\\", "") if match else ""
    for net in sorted(nets):
        if net.rpartition(".")[0] == module.rstrip("."):
            return net
    return f"{module}gate${cell.rpartition('$')[2]}"
