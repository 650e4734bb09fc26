"""Bit flips in the registers of a design, on C++ that yosys makes of it.

The design is flattened but not optimised, so that its registers are those of the text. The program
runs the subject once without a fault and keeps all outputs and, every ``interval`` cycles, all
registers. A fault starts from the snapshot before it, and ends when the registers are again those
of a snapshot, when the alert has been up for some cycles, when a wrong value has left, or with the
window.

Before a wrong value leaves, a faulty run has stored what the golden run has, so that memory needs
no copy a fault. The harness is ``flips.cc``; this module writes what it includes.
"""

import math
import re
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.back import rtlil  # type: ignore[attr-defined]
from amaranth.lib import wiring
from attrs import frozen

from ..yosys import run_yosys
from .engine import Engine, Program
from .subject import Memory, Strobe, Subject, SubjectError

__all__ = ["RESET_CYCLES", "SETTLE", "TOP", "Flips", "Register", "build_flips", "tie_commands"]

#: Cycles after an alert in which nothing wrong may leave, either.
SETTLE = 16
#: Cycles of reset before the golden run.
RESET_CYCLES = 8
#: Cycles between snapshots: seldom enough to cost little, often enough to end masked runs soon.
_INTERVAL = 32

#: Name of the subject in yosys.
TOP = "subject"
_RUNTIME = "include/backends/cxxrtl/runtime"
#: Characters of a function of the generated code, at least.
_PART = 8000
#: The generated code is as fast as with ``-O3``: it asks for inlining where that matters.
_OPTIMISE = "-O1"


@frozen(kw_only=True)
class Register:
    """A register, or a row of a memory.

    Attributes
    ----------
    name : :class:`str`
        As in the flattened design.
    first : :class:`int`
        Its first bit in the harness.
    width : :class:`int`
        Bits.
    """

    name: str
    first: int
    width: int


@frozen(kw_only=True)
class Flips:
    """A subject that bits can be flipped in.

    Attributes
    ----------
    engine : :class:`~.engine.Engine`
        Runs lists of (bit, cycle).
    bits
        All bits of registers: UINT32, the harness' numbers.
    registers : :class:`tuple` of :class:`Register`
        Where they are, in ascending order of ``first``.
    first, cycles : :class:`int`
        Range of cycles in which faults are injected.
    window : :class:`int`
        Cycles that are watched after each, at least.
    places : :class:`tuple` of :class:`str`
        Port of each word of the observed outputs.
    trace
        Observed outputs of the golden run: UINT32 ``[cycles, words]``.
    inputs
        All inputs of the golden run, memory's answers included: ``[cycles]`` or ``[cycles, words]``
        by port.
    """

    engine: Engine
    bits: npt.NDArray[np.uint32]
    registers: tuple[Register, ...]
    first: int
    cycles: int
    window: int
    places: tuple[str, ...]
    trace: npt.NDArray[np.uint32]
    inputs: dict[str, npt.NDArray[np.uint32]]

    def name_of(self, bit: int) -> str:
        """Register and bit of one of ``bits``."""
        starts = [register.first for register in self.registers]
        register = self.registers[int(np.searchsorted(starts, bit, "right")) - 1]
        return f"{register.name}[{bit - register.first}]"

    def output(self, port: str) -> npt.NDArray[np.uint32]:
        """Values of an observed output in the golden run: ``[cycles]`` of its low word."""
        return self.trace[:, self.places.index(port)]


def build_flips(subject: Subject, *, cycles: int = 4096, window: int = 2048) -> Flips:
    """Make the program of a subject, and run it once without a fault.

    Parameters
    ----------
    subject
        What faults are injected into.
    cycles
        Range of cycles, from ``subject.first``, that faults are drawn from.
    window
        Cycles that are watched after each fault.

    Raises
    ------
    SubjectError
        If the golden run raises an alert or releases nothing: no campaign could mean anything.
    """
    design = _design(subject)
    layout = _Layout.of(subject)
    elements = _elements(design)
    glue = _glue(subject, layout, elements)
    texts = {name: (files(__package__) / name).read_text() for name in ("events.hh", "flips.cc")}
    program = Program(
        main="flips.cc",
        sources={**texts, "design.cc": design, "glue.hh": glue},
        includes=_RUNTIME,
        optimise=_OPTIMISE,
    )
    length = subject.first + cycles + window + _INTERVAL + SETTLE + 1
    engine = Engine(
        program=program,
        files={"image.bin": _image(subject.memory), "recorded.bin": layout.recorded(subject)},
        arguments=(str(length), str(window), str(_INTERVAL)),
    )
    left = engine.golden("trace.bin", "inputs.bin", "state.bin")
    trace = np.frombuffer(left["trace.bin"], "<u4").reshape(length, -1)
    _check_golden(subject, trace, layout)
    registers = _registers(elements, subject)
    inputs = np.frombuffer(left["inputs.bin"], "<u4").reshape(length, -1)
    return Flips(
        engine=engine,
        bits=_usable(np.frombuffer(left["state.bin"], np.uint8), registers),
        registers=registers,
        first=subject.first,
        cycles=cycles,
        window=window,
        places=layout.places,
        trace=trace,
        inputs={
            port: np.squeeze(inputs[:, first : first + words], 1)
            if words == 1
            else inputs[:, first : first + words]
            for port, (first, words) in layout.inputs.items()
        },
    )


def tie_commands(subject: Subject) -> str:
    """Lines of yosys that cut nets from their drivers, in a design that still has its hierarchy."""
    lines = []
    for name, value in subject.ties.items():
        path, _, net = f"{TOP}.{name}".rpartition(".")
        lines.append(f"cd {path}\nconnect -set {net} {value}\ncd\n")
    return "".join(lines)


def _design(subject: Subject) -> str:
    """C++ of the subject."""
    text = rtlil.convert(subject.design, name=TOP, emit_src=False)
    with tempfile.TemporaryDirectory(prefix="jepa-r-faults-") as scratch:
        (Path(scratch) / "design.il").write_text(text)
        script = (
            f"read_rtlil design.il\nhierarchy -top {TOP}\nproc\n{tie_commands(subject)}"
            "flatten\nopt_clean\nwrite_cxxrtl -O6 -g0 design.cc\n"
        )
        run_yosys(script, directory=Path(scratch), what="cxxrtl")
        return _in_parts((Path(scratch) / "design.cc").read_text())


def _in_parts(text: str) -> str:
    """Cut the generated class's one function of all logic into many, its variables into members.

    The compiler's time grows faster than a function: for the lockstep pair, 22 s instead of
    minutes. Without hierarchy and without loops, the function is a list of statements, done once.
    """
    declared = "bool eval(performer *performer = nullptr) override;\n"
    match = re.fullmatch(
        rf"(.*\t{re.escape(declared)})(.*)"
        rf"(bool p_{TOP}::eval\(performer \*performer\) \{{\n)(.*)(\treturn converged;\n\}}\n.*)",
        text,
        re.S,
    )
    if match is None:
        raise SubjectError("the C++ of the design is not what is known of yosys")
    head, between, opening, body, rest = match.groups()
    lines = [line for line in body.split("\n") if not line.strip().startswith("//")]
    variables = [line for line in lines if re.fullmatch(r"\tvalue<\d+> \w+;", line)]
    edges = "\tbool posedge_p_clk = this->posedge_p_clk();"
    statements = "\n".join(
        line for line in lines if line not in {*variables, "\tbool converged = true;", edges}
    )
    parts, part = [], ""
    # A statement is a line, or a block that ends with its brace.
    for statement in re.findall(r"\tif .*?^\t\}\n|\t[^\n]*\n", statements, re.S | re.M):
        part += statement
        if len(part) > _PART:
            parts.append(part)
            part = ""
    parts.append(part)
    names = [f"part_{number}(bool posedge_p_clk)" for number in range(len(parts))]
    return "".join([
        head,
        *(f"{line}\n" for line in variables),
        *(f"\t[[gnu::noinline]] void {name};\n" for name in names),
        between,
        *(f"void p_{TOP}::{name} {{\n{part}}}\n" for name, part in zip(names, parts, strict=True)),
        opening,
        f"\tbool converged = true;\n{edges}\n",
        *(f"\tpart_{number}(posedge_p_clk);\n" for number in range(len(parts))),
        rest,
    ])


@frozen(kw_only=True)
class _Element:
    """A member of the generated class that holds state."""

    member: str
    width: int
    depth: int | None

    @property
    def words(self) -> int:
        return -(-self.width // 32)

    @property
    def name(self) -> str:
        return _demangled(self.member)


def _elements(design: str) -> list[_Element]:
    """Registers and memories of the generated class, in its order."""
    found = []
    for match in re.finditer(
        r"^\t(?:/\*\w+\*/ )?(wire|memory)<(\d+)> (\w+)(?: \{ (\d+)u \})?;", design, re.M
    ):
        _kind, width, member, depth = match.groups()
        found.append(_Element(member=member, width=int(width), depth=int(depth) if depth else None))
    if not found:
        raise SubjectError("the design has no registers")
    return found


def _demangled(member: str) -> str:
    """Name in the design of a member of the generated class."""
    name = re.sub(r"^(?:memory_)?[pi]_", "", member)
    return re.sub(
        r"_(?:_|([0-9a-f]+)_)", lambda match: chr(int(match[1], 16)) if match[1] else "_", name
    )


def _registers(elements: list[_Element], subject: Subject) -> tuple[Register, ...]:
    registers, first = [], 0
    for element in elements:
        # Registers that drive ports of the top have the ports' names.
        name = subject.within(element.name)
        for row in range(element.depth or 1):
            registers.append(
                Register(
                    name=(element.name if name is None else name)
                    + ("" if element.depth is None else f"[{row}]"),
                    first=first,
                    width=element.width,
                )
            )
            first += 32 * element.words
    return tuple(registers)


def _usable(kept: npt.NDArray[np.uint8], registers: tuple[Register, ...]) -> npt.NDArray[np.uint32]:
    """Numbers of the bits that are registers, and not padding of words or logic."""
    every = np.concatenate([
        np.arange(register.first, register.first + register.width) for register in registers
    ])
    return every[kept[every] == 1].astype(np.uint32)


@frozen(kw_only=True)
class _Layout:
    """Words of the ports in the harness: name to (first, words)."""

    inputs: dict[str, tuple[int, int]]
    outputs: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, subject: Subject) -> "_Layout":
        return cls(
            inputs=_placed(subject.ports(wiring.In)), outputs=_placed(subject.ports(wiring.Out))
        )

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(port for port, (_, words) in self.outputs.items() for _ in range(words))

    def recorded(self, subject: Subject) -> bytes:
        """Inputs that are given, ``[cycles][words]``."""
        given = {port: np.atleast_1d(values) for port, values in subject.inputs.items()}
        rows = max((len(values) for values in given.values()), default=0)
        total = sum(words for _, words in self.inputs.values())
        table = np.zeros((rows, total), "<u4")
        for port, values in given.items():
            first, words = self.inputs[port]
            held = values[np.minimum(np.arange(rows), len(values) - 1)].astype(np.uint64)
            for word in range(min(words, 2)):
                table[:, first + word] = held >> np.uint64(32 * word) & np.uint64(0xFFFF_FFFF)
        return table.tobytes()


def _placed(widths: dict[str, int]) -> dict[str, tuple[int, int]]:
    sizes = [math.ceil(width / 32) for width in widths.values()]
    starts = np.cumsum([0, *sizes])
    return {
        port: (int(start), size) for port, start, size in zip(widths, starts, sizes, strict=False)
    }


def _image(memory: Memory | None) -> bytes:
    if memory is None:
        return b""
    return np.concatenate([region.words for region in memory.regions]).astype("<u8").tobytes()


def _check_golden(subject: Subject, trace: npt.NDArray[np.uint32], layout: _Layout) -> None:
    for port, quiet in subject.alerts.items():
        differing = np.flatnonzero(trace[:, layout.outputs[port][0]] != quiet)
        if differing.size:
            raise SubjectError(
                f"{subject.name}: {port} is not {quiet} in cycle {differing[0]} of the golden run"
            )
    strobes = [strobe.valid for strobe in subject.released if strobe.valid]
    if strobes and not any(trace[:, layout.outputs[port][0]].any() for port in strobes):
        raise SubjectError(f"{subject.name}: the golden run releases nothing")


def _glue(subject: Subject, layout: _Layout, elements: list[_Element]) -> str:
    """The header that ties ``flips.cc`` to a design."""
    words = sum(element.words * (element.depth or 1) for element in elements)
    memory = subject.memory
    each = []
    for element in elements:
        if element.depth is None:
            each.append(
                f"  f(d.{element.member}.curr.data, d.{element.member}.next.data, {element.words});"
            )
        else:
            each.append(
                f"  for (size_t n = 0; n < {element.depth}; ++n) "
                f"f(d.{element.member}[n].data, nullptr, {element.words});"
            )
    held = {element.member for element in elements}
    lines = [
        "#pragma once",
        '#include "design.cc"',
        "#include <array>",
        "#include <cstddef>",
        "#include <cstdint>",
        f"using Design = cxxrtl_design::p_{TOP};",
        f"constexpr size_t STATE_WORDS = {words};",
        f"constexpr size_t INPUT_WORDS = {sum(size for _, size in layout.inputs.values())};",
        f"constexpr size_t OUTPUT_WORDS = {len(layout.places)};",
        f"constexpr int RESET_CYCLES = {RESET_CYCLES};",
        f"constexpr int32_t SETTLE = {SETTLE};",
        "struct Range { uint32_t first, words; };",
        "struct Strobe { Range valid; Range payload[8]; size_t count; };",
        "struct Alert { uint32_t place, quiet; };",
        "struct Region { uint64_t base; uint32_t words; unsigned uses; };",
        "enum { FETCH = 1, LOAD = 2, STORE = 4 };",
        "template <class F> inline void each_register(Design& d, F&& f) {",
        *each,
        "}",
        "inline void observe(Design& d, uint32_t* to) {",
        *(
            f"  to[{first + word}] = d.{_member(port)}{_current(port, held)}.data[{word}];"
            for port, (first, size) in layout.outputs.items()
            for word in range(size)
        ),
        "}",
        "inline void fill_answer(uint32_t* to, uint64_t data, bool error) {",
        *(_answer(memory, layout) if memory else ["  (void)to, (void)data, (void)error;"]),
        "}",
        "inline void drive(Design& d, uint32_t* from, uint64_t data, bool error) {",
        "  fill_answer(from, data, error);",
        *(
            f"  d.{_member(port)}.data[{word}] = from[{first + word}];"
            for port, (first, size) in layout.inputs.items()
            for word in range(size)
        ),
        "}",
        "inline void drive_clock(Design& d, bool clock, bool reset) {",
        "  d.p_clk.data[0] = clock;",
        "  d.p_rst.data[0] = reset;",
        "}",
        _table("Range", "COMPARED", [_range(layout, port) for port in subject.compared]),
        _table("Range", "STOPS", [_range(layout, port) for port in subject.stops]),
        _table("Strobe", "RELEASED", [_strobe(layout, strobe) for strobe in subject.released]),
        _table("Strobe", "REQUESTED", [_strobe(layout, strobe) for strobe in subject.requested]),
        _table(
            "Alert",
            "ALERTS",
            [f"{{{layout.outputs[port][0]}, {quiet}}}" for port, quiet in subject.alerts.items()],
        ),
        f"constexpr bool HAS_MEMORY = {str(memory is not None).lower()};",
        f"constexpr size_t LATENCY = {memory.latency if memory else 1};",
        _table("Region", "REGIONS", [
            f"{{{region.base}u, {len(region.words)}u, "
            f"{region.fetch:d} | {2 * region.load} | {4 * region.store}}}"
            for region in (memory.regions if memory else ())
        ]),
    ]  # fmt: skip
    ports = {
        "READ": "read", "ADDRESS": "address", "FETCHING": "fetch", "STORING": "store",
        "STORE_ADDRESS": "store_address", "STORE_DATA": "store_data", "CHECK": "check",
        "CHECK_ADDRESS": "check_address",
    }  # fmt: skip
    for constant, name in ports.items():
        port = getattr(memory, name) if memory else None
        lines.append(f"constexpr Range {constant} = {_range(layout, port)};")
    return "\n".join(lines) + "\n"


def _member(port: str) -> str:
    """Member of the generated class for a port of the top."""
    return "p_" + port.replace("_", "__")


def _current(port: str, held: set[str]) -> str:
    return ".curr" if _member(port) in held else ""


def _answer(memory: Memory, layout: _Layout) -> list[str]:
    first, words = layout.inputs[memory.data]
    return [
        *(f"  to[{first + word}] = static_cast<uint32_t>(data >> {32 * word});"
          for word in range(words)),
        f"  to[{layout.inputs[memory.error][0]}] = error;",
    ]  # fmt: skip


def _range(layout: _Layout, port: str | None) -> str:
    first, words = layout.outputs[port] if port is not None else (0, 0)
    return f"{{{first}, {words}}}"


def _strobe(layout: _Layout, strobe: Strobe) -> str:
    payload = ", ".join(_range(layout, port) for port in strobe.payload)
    return f"{{{_range(layout, strobe.valid)}, {{{payload}}}, {len(strobe.payload)}}}"


def _table(kind: str, name: str, rows: list[str]) -> str:
    return f"constexpr std::array<{kind}, {len(rows)}> {name}{{{{{', '.join(rows)}}}}};"
