"""What stands beside the Verilog for the tools behind it.

SDC, LPF, SRAM macro map, a FuseSoC core and a LibreLane configuration; their templates are in
``constraints/``, with why they say what they say.
"""

import json
from pathlib import Path
from string import Template
from typing import Any

from amaranth import Shape
from amaranth.lib import wiring
from attrs import asdict

from jepa_r.clocking import PIN, Crossing
from jepa_r.config import ChipConfig
from jepa_r.emit import Emitted
from jepa_r.platform import MemoryShape

from .synthesis.ecp5 import write_lpf

__all__ = ["MACRO_LIBRARIES", "clock_ports", "macro_map", "write_handoff"]

_TEMPLATES = Path(__file__).parents[2] / "constraints"

#: Part of the clock period that the world outside has, before inputs and after outputs.
_OUTSIDE = 0.2

#: Words and bits of the SRAM macros of open processes; all of them have one port.
MACRO_LIBRARIES = {
    "sg13g2": {
        f"RM_IHPSG13_1P_{words}x{bits}_c{mux}_bm_bist": (words, bits)
        for words, bits, mux in (
            (64, 64, 2),
            (256, 64, 2),
            (512, 64, 2),
            (1024, 64, 2),
            (2048, 64, 2),
            (4096, 16, 3),
        )
    }
}

#: Ports that are not timed, and why.
_UNTIMED = {
    "rst": "reset is distributed like the clock, by place and route; hold it for 16 cycles",
    "inject[*]": "bits to flip in tests, constant in operation",
    "interrupt": "a level, which its reader synchronises",
}


def write_handoff(
    config: ChipConfig, top: str, component: wiring.Component, emitted: Emitted, directory: Path
) -> list[str]:
    """Write the files, and return their names."""
    verilog = [path.name for path in emitted.files]
    inputs, outputs = [], []
    for path, member, _ in component.signature.flatten(component):
        name = "__".join(map(str, path))
        if Shape.cast(member.shape).width > 1:
            name += "[*]"
        (inputs if member.flow == wiring.In else outputs).append(name)
    clocks = clock_ports(config, component)
    values = {
        "top": top,
        "preset": config.name,
        "hash": config.hash,
        "mhz": config.clock_mhz,
        "period": f"{1000 / config.clock_mhz:.4f}",
        "outside": f"{_OUTSIDE:g}",
    }
    if hasattr(component, "port_clock"):
        both = {"hash": f"{config.hash}, island {config.safety.hash}"}
        sdc = _domains_sdc(component, values | both, clocks, inputs, outputs)
    else:
        sdc = _filled(
            "top.sdc",
            values
            | {
                "inputs": _tcl(inputs),
                "outputs": _tcl(outputs),
                "untimed": "\n".join(
                    _false_path(name, reason, is_output=name in outputs)
                    for name, reason in _UNTIMED.items()
                    if name in (*inputs, *outputs, "rst")
                ),
            },
        )
    files = {
        f"{top}.sdc": sdc,
        f"{top}.core": _filled(
            "top.core", values | {"files": "\n".join(f"      - {name}" for name in verilog)}
        ),
        "librelane.json": json.dumps(_librelane(clocks, top, verilog), indent=2) + "\n",
        "srams.json": json.dumps(macro_map(emitted), indent=2) + "\n",
    }
    for name, text in files.items():
        (directory / name).write_text(text)
    lpf = write_lpf(
        directory / f"{top}.lpf",
        top=top,
        preset=config.name,
        config_hash=config.hash,
        clocks=clocks,
    )
    return [*files, lpf.name]


def clock_ports(config: ChipConfig, component: wiring.Component) -> dict[str, float]:
    """Clock ports of a top, and their frequencies in MHz."""
    if not hasattr(component, "port_clock"):
        return {"clk": config.clock_mhz}
    return {
        "safe_clk": config.safety.clock_mhz,
        "guard_clk": config.safety.guard_mhz,
        "ai_clk": config.clock_mhz,
    }


def _false_path(name: str, reason: str, *, is_output: bool) -> str:
    direction = "to" if is_output else "from"
    return f"# {name}: {reason}\nset_false_path -{direction} [get_ports {{{name}}}]"


def _domains_sdc(
    component: Any,
    values: dict[str, Any],
    megahertz: dict[str, float],
    inputs: list[str],
    outputs: list[str],
) -> str:
    """Constraints of a top with clocks of its own: ports by clock, and every crossing."""
    periods = {name.removesuffix("_clk"): 1000 / mhz for name, mhz in megahertz.items()}
    clocks, ports, untimed = [], [], []
    for name, period in periods.items():
        length = f"[expr {{{period:.4f} * $ns}}]"
        clocks.append(f"create_clock -name {name} -period {length} [get_ports {name}_clk]")
    for direction, names in (("input", inputs), ("output", outputs)):
        for name in names:
            clock = component.port_clock(name.removesuffix("[*]"))
            if name in megahertz:
                continue
            reason = _UNTIMED.get(name, "")
            if clock == PIN:
                reason = (
                    "begins at any time, ends in the synchroniser of its domain; hold it for 16 "
                    "cycles"
                    if name.endswith("_rst")
                    else "follows no clock"
                )
            if reason:
                untimed.append(_false_path(name, reason, is_output=direction == "output"))
                continue
            delay = f"[expr {{{_OUTSIDE * periods[clock]:.4f} * $ns}}]"
            ports.append(f"set_{direction}_delay {delay} -clock {clock} [get_ports {{{name}}}]")
    return _filled(
        "domains.sdc",
        values
        | {
            "clocks": "\n".join(clocks),
            "ports": "\n".join(ports),
            "crossings": "\n".join(_crossing(c, periods) for c in component.crossings),
            "untimed": "\n".join(untimed),
        },
    )


def _crossing(crossing: Crossing, periods: dict[str, float]) -> str:
    lines = [f"# {crossing.name}, {crossing.source} to {crossing.target}: {crossing.why}"]
    for end in crossing.endpoints:
        pins = f"[get_pins {{{' '.join(f'{end.path}/{pin}' for pin in end.pins)}}}]"
        if end.together:
            most = min(periods[end.source], periods[end.target])
            lines += [
                f"set_max_delay -ignore_clock_latency [expr {{{most:.4f} * $ns}}] -through {pins}",
                f"set_false_path -hold -through {pins}",
            ]
        else:
            lines.append(f"set_false_path -through {pins}")
    return "\n".join(lines)


def _filled(template: str, values: dict[str, Any]) -> str:
    return Template((_TEMPLATES / f"{template}.in").read_text()).substitute(values)


def _tcl(names: list[str]) -> str:
    """Tcl list, a name a line."""
    return "\n".join(f"  {name}" for name in names)


def _librelane(clocks: dict[str, float], top: str, verilog: list[str]) -> dict[str, Any]:
    """Configuration of LibreLane's Classic flow; memories are still to be replaced."""
    ports = list(clocks)
    return {
        "meta": {"version": 2, "flow": "Classic"},
        "DESIGN_NAME": top,
        "VERILOG_FILES": [f"dir::{name}" for name in verilog],
        "CLOCK_PORT": ports[0] if len(ports) == 1 else ports,
        "CLOCK_PERIOD": round(1000 / max(clocks.values()), 4),
        "PNR_SDC_FILE": f"dir::{top}.sdc",
        "SIGNOFF_SDC_FILE": f"dir::{top}.sdc",
        "SYNTH_HIERARCHY_MODE": "keep",
        "FP_CORE_UTIL": 45,
    }


def macro_map(emitted: Emitted) -> dict[str, Any]:
    """Which SRAM macros could replace each memory, and how many of them.

    Returns
    -------
    dict
        ``memories``: name to shape, ``instances`` and ``macros`` (library to ``macro``, ``across``
        and ``down``; ``null`` where its macros have too few ports or no separate segments, with
        the ``reason``); ``bits`` of all instances.
    """
    memories = {}
    for name, shape in emitted.memories.items():
        memories[name] = {
            **asdict(shape),
            "instances": emitted.instances[name],
            "macros": {library: _macros(shape, library) for library in MACRO_LIBRARIES},
        }
    return {
        "memories": memories,
        "bits": sum(
            shape.words * shape.bits * emitted.instances[name]
            for name, shape in emitted.memories.items()
        ),
    }


def _macros(shape: MemoryShape, library: str) -> dict[str, Any]:
    if shape.ports != "1rw":
        return {"macro": None, "reason": f"{library} has no macro that reads and writes at once"}
    candidates = []
    for macro, (words, bits) in MACRO_LIBRARIES[library].items():
        across, down = -(-shape.bits // bits), -(-shape.words // words)
        waste = across * down * words * bits - shape.words * shape.bits
        candidates.append((waste, across * down, macro, across, down))
    _, _, macro, across, down = min(candidates)
    return {"macro": macro, "across": across, "down": down}
