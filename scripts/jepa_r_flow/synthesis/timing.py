"""Static timing with OpenSTA, a unit at a time.

A chip of 150,000 cells of the array has too many gates for one run, and needs none: a unit is
timed on its own, with its children as *timing models*, each a Liberty cell that says for every port
what the analysis of the child found (worst setup, worst delay from the clock, worst delay through).
Paths that cross units are therefore seen, whoever they pass by. Models are conservative: one number
a port, and inputs that all change as the slowest does.

Memories are no part of the logic: they come as models with a given access time. Neither is the
distribution of the reset, which place and route builds like that of the clock: it is not timed.

A top with several clocks is timed under its constraints alone, which say what crosses between them,
each path against the clock that ends it.
"""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from jepa_r_sim.cosim import MissingToolError
from jepa_r_sim.yosys import SynthesisError

from .liberty import Liberty
from .netlist import Port, Unit

__all__ = ["Arc", "Model", "Timing", "memory_model", "time_domains", "time_unit", "write_model"]


@frozen(kw_only=True)
class Arc:
    """Worst delay between two ports, in picoseconds.

    Without ``source``, it is from the clock; without ``target``, to the clock, setup included.
    """

    source: str | None
    target: str | None
    delay_ps: float


@frozen(kw_only=True)
class Model:
    """What a parent sees of a unit: its ports, and an arc for each that matters."""

    unit: str
    ports: tuple[Port, ...]
    arcs: tuple[Arc, ...]


@frozen(kw_only=True)
class Step:
    """A point of a path: pin, cell it is of, arrival there."""

    pin: str
    cell: str
    arrival_ps: float


@frozen(kw_only=True)
class Timing:
    """Result of an analysis.

    Attributes
    ----------
    worst_ps
        Shortest clock period that all paths of the unit meet, or 0 if it has none.
    period_ps
        Period that was asked for.
    path
        Its worst path.
    slack_ps
        What is left of a cycle under its constraints, if it has any.
    model
        What a parent is to see.
    clocks
        If the unit has several clocks: ``worst_ps`` of each. All else is of the one that has the
        least left of its period.
    """

    worst_ps: float
    period_ps: float
    path: tuple[Step, ...]
    model: Model
    slack_ps: float | None = None
    clocks: Mapping[str, float] = field(factory=dict)

    @property
    def tightness(self) -> float:
        """Part of the period that the worst path takes; at most 1 is met."""
        return self.worst_ps / self.period_ps


def memory_model(unit: Unit, *, access_ps: float, setup_ps: float) -> Model:
    """Model of a memory: outputs ``access_ps`` after the clock, inputs ``setup_ps`` before it."""
    return Model(
        unit=unit.name,
        ports=unit.ports,
        arcs=tuple(
            Arc(source=port.name, target=None, delay_ps=setup_ps)
            if port.direction == "input"
            else Arc(source=None, target=port.name, delay_ps=access_ps)
            for port in unit.ports
            if port.name not in ("clk", "rst")
        ),
    )


def time_unit(
    unit: Unit,
    netlist: Path,
    models: Mapping[str, Model],
    *,
    liberty: Liberty,
    corner: Sequence[Path],
    period_ps: float,
    directory: Path,
    constraints: Path | None = None,
) -> Timing:
    """Analyse a mapped unit.

    Parameters
    ----------
    unit, netlist
        The unit, and its cells.
    models
        Timing models, those of its children among them.
    liberty
        Library it was mapped to.
    corner
        Liberty files to time with.
    period_ps
        Clock period.
    directory
        Where scripts and reports stay.
    constraints
        SDC of the unit, for ``slack_ps``. All else is found with one clock, inputs that come with
        it and outputs that are due at its next edge.

    Raises
    ------
    MissingToolError
        If OpenSTA is not installed.
    SynthesisError
        If it fails.
    """
    scale = 1000 * liberty.time_ns
    inputs = [port.name for port in unit.ports if port.direction == "input" and port.name != "clk"]
    text = _analysed(
        unit, netlist, models, liberty, corner, directory,
        inputs=inputs,
        commands=_PORTS.format(period=period_ps / scale)
        + ("set_false_path -from [get_ports rst]\n" if "rst" in inputs else "")
        + _REPORTS
        + (_CONSTRAINED.format(file=constraints) if constraints else ""),
    )  # fmt: skip
    return _read(unit, text, period_ps, scale)


def time_domains(
    unit: Unit,
    netlist: Path,
    models: Mapping[str, Model],
    *,
    liberty: Liberty,
    corner: Sequence[Path],
    periods_ps: Mapping[str, float],
    directory: Path,
    constraints: Path,
) -> Timing:
    """Analyse a mapped top with several clocks; nothing is to be above it.

    Parameters
    ----------
    unit, netlist, models, liberty, corner, directory
        As of :func:`time_unit`.
    periods_ps
        Period of each clock, by its name in the constraints.
    constraints
        SDC of the top: clocks, ports, and what crosses.

    Raises
    ------
    MissingToolError
        If OpenSTA is not installed.
    SynthesisError
        If it fails, or the constraints name what is not there.
    """
    scale = 1000 * liberty.time_ns
    text = _analysed(
        unit, netlist, models, liberty, corner, directory,
        inputs=[port.name for port in unit.ports if port.direction == "input"],
        commands=_DOMAINS.format(file=constraints, clocks=" ".join(periods_ps)),
    )  # fmt: skip
    if unknown := re.findall(rf"^Warning: \S*{re.escape(constraints.name)}, (.*)", text, re.M):
        raise SynthesisError(f"constraints of {unit.name}: {unknown[0]}")
    found: dict[str, Timing] = {}
    for clock, part in re.findall(
        r"^JEPA-R CLOCK (\w+)\n(.*?)(?=^JEPA-R CLOCK|\Z)", text, re.M | re.S
    ):
        found[clock] = _read(unit, part, periods_ps[clock], scale)
    return evolve(
        max(found.values(), key=lambda timing: timing.tightness),
        clocks={clock: timing.worst_ps for clock, timing in found.items()},
        slack_ps=round(min(each.period_ps - each.worst_ps for each in found.values()), 2),
    )


def _analysed(
    unit: Unit,
    netlist: Path,
    models: Mapping[str, Model],
    liberty: Liberty,
    corner: Sequence[Path],
    directory: Path,
    *,
    inputs: Sequence[str],
    commands: str,
) -> str:
    """What OpenSTA printed; scripts and models of the children stay in the directory."""
    if shutil.which("sta") is None:
        raise MissingToolError("not found: OpenSTA; install with: apt-get install opensta")
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in sorted(unit.children):
        file = directory / f"{name}.lib"
        write_model(models[name], liberty, file)
        written.append(file)
    buffer, _, _ = liberty.buffer()
    load = 4 * next(iter(liberty.cells[buffer].inputs.values()))
    outputs = [port.name for port in unit.ports if port.direction == "output"]
    # A model with setup times, outputs from the clock and paths through would be a latch to
    # OpenSTA, which lends time: what ends in it would have a slack of zero.
    libraries = [f"read_liberty {{{file}}}" for file in corner]
    libraries += [f"read_liberty -no_latch_infer {{{file}}}" for file in written]
    script = directory / "time.tcl"
    script.write_text(
        _DESIGN.format(
            libraries="\n".join(libraries),
            netlist=netlist,
            top=unit.name,
            buffer=buffer,
            load=load,
            inputs=_patterns(unit, inputs),
            outputs=_patterns(unit, outputs),
            ns=1 / liberty.time_ns,
        )
        + f'{commands}puts "JEPA-R END"\nexit\n'
    )
    done = subprocess.run(
        ["sta", "-no_splash", "-exit", str(script)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    (directory / "time.log").write_text(text)
    if "JEPA-R END" not in text:
        errors = re.findall(r"^(?:Error:? ?.*|.*rror.*)$", text, re.M) or text.splitlines()[-1:]
        raise SynthesisError(f"OpenSTA, {unit.name}: {' '.join(errors[:1]).strip()}")
    return text


def _patterns(unit: Unit, names: Sequence[str]) -> str:
    """Tcl list of name and pattern of ports."""
    width = {port.name: port.width for port in unit.ports}
    return " ".join(
        f"{{{name} {{{name}[*]}}}}" if width[name] > 1 else f"{{{name} {name}}}" for name in names
    )


_DESIGN = """\
set link_make_black_boxes 0
{libraries}
read_verilog {{{netlist}}}
link_design {top}
set ns {ns}
set inputs {{{inputs}}}
set outputs {{{outputs}}}
foreach port $inputs {{
  set_driving_cell -lib_cell {buffer} [get_ports [lindex $port 1]]
}}
foreach port $outputs {{
  set_load {load} [get_ports [lindex $port 1]]
}}
proc worst {{found}} {{
  if {{![llength $found]}} return
  set end [lindex $found 0]
  puts "JEPA-R WORST [get_property $end slack]"
  foreach point [get_property $end points] {{
    set pin [get_property $point pin]
    puts "JEPA-R STEP [get_property $point arrival] [get_full_name $pin]"
  }}
}}
"""

_PORTS = """\
if {{[llength [get_ports -quiet clk]]}} {{
  create_clock -name clk -period {period} [get_ports clk]
}} else {{
  create_clock -name clk -period {period}
}}
foreach port $inputs {{
  set_input_delay 0 -clock clk [get_ports [lindex $port 1]]
}}
foreach port $outputs {{
  set_output_delay 0 -clock clk [get_ports [lindex $port 1]]
}}
"""

_REPORTS = """\
worst [find_timing_paths -path_delay max]
report_checks -path_delay max
foreach target $outputs {
  set to [get_ports [lindex $target 1]]
  if {![llength [find_timing_paths -from [all_inputs] -to $to -path_delay max]]} continue
  foreach source $inputs {
    set from [get_ports [lindex $source 1]]
    set found [find_timing_paths -from $from -to $to -path_delay max]
    if {![llength $found]} continue
    set slack [get_property [lindex $found 0] slack]
    puts "JEPA-R ARC [lindex $source 0] [lindex $target 0] $slack"
  }
}
set_false_path -from [all_inputs] -to [all_outputs]
foreach source $inputs {
  set found [find_timing_paths -from [get_ports [lindex $source 1]] -path_delay max]
  if {[llength $found]} {
    puts "JEPA-R ARC [lindex $source 0] - [get_property [lindex $found 0] slack]"
  }
}
foreach target $outputs {
  set found [find_timing_paths -to [get_ports [lindex $target 1]] -path_delay max]
  if {[llength $found]} {
    puts "JEPA-R ARC - [lindex $target 0] [get_property [lindex $found 0] slack]"
  }
}
"""

_CONSTRAINED = """\
source {{{file}}}
set worst [find_timing_paths -path_delay max]
if {{[llength $worst]}} {{ puts "JEPA-R SLACK [get_property [lindex $worst 0] slack]" }}
report_checks -path_delay max
"""

#: Each clock's own paths, whichever clock they begin at; what is cut off does not count.
_DOMAINS = """\
source {{{file}}}
foreach clock {{{clocks}}} {{
  puts "JEPA-R CLOCK $clock"
  worst [find_timing_paths -path_delay max -to [get_clocks $clock]]
  report_checks -path_delay max -to [get_clocks $clock]
}}
"""


def _read(unit: Unit, text: str, period_ps: float, scale: float) -> Timing:
    """Result from what the script printed."""
    worst, slack = 0.0, None
    steps, arcs = [], []
    for kind, *rest in (line.split(" ")[1:] for line in text.splitlines() if line[:7] == "JEPA-R "):
        if kind == "WORST":
            worst = period_ps - float(rest[0]) * scale
        elif kind == "SLACK":
            slack = round(float(rest[0]) * scale, 2)
        elif kind == "STEP":
            steps.append((rest[1], float(rest[0]) * scale))
        elif kind == "ARC":
            arcs.append(
                Arc(
                    source=None if rest[0] == "-" else rest[0],
                    target=None if rest[1] == "-" else rest[1],
                    delay_ps=round(period_ps - float(rest[2]) * scale, 3),
                )
            )
    # The report of the worst path names the cell of each of its pins.
    cells = dict(re.findall(r"[\^v] (\S+) \((\S+)\)", text))
    path = tuple(
        Step(pin=pin, cell=cells.get(pin, ""), arrival_ps=round(arrival, 2))
        for pin, arrival in steps
    )
    return Timing(
        worst_ps=round(worst, 2),
        period_ps=period_ps,
        path=path,
        slack_ps=slack,
        model=Model(unit=unit.name, ports=unit.ports, arcs=tuple(arcs)),
    )


def write_model(model: Model, liberty: Liberty, file: Path) -> None:
    """Write a model as Liberty: one cell, its times constant."""
    scale = 1000 * liberty.time_ns
    buffer, _, _ = liberty.buffer()
    load = 2 * next(iter(liberty.cells[buffer].inputs.values()))
    into: dict[str, list[Arc]] = {}
    for arc in model.arcs:
        into.setdefault(arc.target or arc.source or "", []).append(arc)
    widths = sorted({port.width for port in model.ports if port.width > 1})
    lines = [
        f"library ({model.unit}) {{",
        "  delay_model : table_lookup;",
        f'  time_unit : "{_text_of(liberty.time_ns, "ns", "ps")}";',
        "  capacitive_load_unit ({}, {});".format(*_load_of(liberty.load_pf)),
        '  voltage_unit : "1V";',
        '  current_unit : "1uA";',
        '  pulling_resistance_unit : "1kohm";',
        "  default_max_transition : 1e9;",
        *(
            f"  type (bits{n}) {{ base_type : array; data_type : bit; bit_width : {n}; "
            f"bit_from : {n - 1}; bit_to : 0; downto : true; }}"
            for n in widths
        ),
        f"  cell ({model.unit}) {{",
        "    area : 0;",
    ]
    for port in model.ports:
        group = "pin" if port.width == 1 else "bus"
        lines.append(f"    {group} ({port.name}) {{")
        if port.width > 1:
            lines.append(f"      bus_type : bits{port.width};")
        lines.append(f"      direction : {port.direction};")
        if port.direction == "input":
            lines.append(f"      capacitance : {load};")
        if port.name == "clk":
            lines.append("      clock : true;")
        for arc in into.get(port.name, []):
            lines += _timing(arc, scale)
        lines.append("    }")
    lines += ["  }", "}", ""]
    file.write_text("\n".join(lines))


def _timing(arc: Arc, scale: float) -> list[str]:
    """Timing group of an arc, of the pin it is written at."""
    value = f'(scalar) {{ values ("{arc.delay_ps / scale:.6g}"); }}'
    if arc.target is None:
        return [
            "      timing () {",
            "        related_pin : clk; timing_type : setup_rising;",
            f"        rise_constraint {value}",
            f"        fall_constraint {value}",
            "      }",
        ]
    zero = '(scalar) { values ("0"); }'
    kind = "timing_type : rising_edge;" if arc.source is None else "timing_sense : non_unate;"
    return [
        "      timing () {",
        f'        related_pin : "{arc.source or "clk"}"; {kind}',
        f"        cell_rise {value}",
        f"        cell_fall {value}",
        f"        rise_transition {zero}",
        f"        fall_transition {zero}",
        "      }",
    ]


def _text_of(value: float, unit: str, smaller: str) -> str:
    return f"{value:g}{unit}" if value >= 1 else f"{value * 1000:g}{smaller}"


def _load_of(picofarads: float) -> tuple[str, str]:
    return (f"{picofarads:g}", "pf") if picofarads >= 1 else (f"{picofarads * 1000:g}", "ff")


def digest(*parts: Any) -> str:
    """Hash of what a result depends on."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]
