"""Verilog emission: one file a distinct module, the same bytes for the same design."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from amaranth.back import rtlil, verilog
from amaranth.lib import wiring
from attrs import frozen

from .platform import MemoryShape, VerilogPlatform

__all__ = ["Emitted", "emit_verilog"]


#: What yosys reads in every `always @*`, so that each runs once when simulation begins. It has a
#: number of all modules so far: with it, a new module would change the text of others.
_AWAKENER = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+(?= )")


@frozen
class Emitted:
    """What :func:`emit_verilog` wrote.

    Attributes
    ----------
    files : :class:`list` of :class:`pathlib.Path`
        Verilog files, the top first.
    instances : :class:`dict` from :class:`str` to :class:`int`
        Instances of every module in the whole hierarchy, the top counted once.
    memories : :class:`dict` from :class:`str` to :class:`~.platform.MemoryShape`
        The modules that are memories and nothing else, which SRAM macros replace.
    """

    files: list[Path]
    instances: dict[str, int]
    memories: dict[str, MemoryShape]


def emit_verilog(top: wiring.Component, *, name: str, into: Path) -> Emitted:
    """Write a component, and every macro below it, each to a file of its own.

    The text depends on the design alone: it names no source file and no machine, so that equal
    designs give equal files.
    """
    into.mkdir(parents=True, exist_ok=True)
    texts: dict[str, str] = {}
    rtlil_texts: list[str] = []
    children: dict[str, dict[str, int]] = {}
    memories: dict[str, MemoryShape] = {}
    pending = {name: top}
    while pending:
        module, component = pending.popitem()
        platform = VerilogPlatform(component)
        # Memories come from a template: Amaranth would write an initial value for every row.
        if hasattr(component, "verilog"):
            texts[module] = component.verilog(module)
            memories[module] = component.memory
        else:
            texts[module] = ""
            rtlil_texts.append(
                rtlil.convert(component, name=module, platform=platform, emit_src=False)
            )
        children[module] = platform.instances
        pending |= {key: macro for key, macro in platform.macros.items() if key not in texts}
    for module, text in _modules(rtlil_texts):
        # Plain submodules are `macro.submodule`; they stay in their macro's file.
        file = module.partition(".")[0]
        texts[file] += f"\n{text}" if texts[file] else text
    files = {module: into / f"{module}.v" for module in texts}
    for module, path in files.items():
        path.write_text(texts[module])
    return Emitted(
        files=list(files.values()),
        instances=_count(name, children),
        memories=dict(sorted(memories.items())),
    )


def _modules(texts: list[str]) -> Iterator[tuple[str, str]]:
    """Name and Verilog of every module, from one run of yosys.

    Its start takes most of the time of a small module, so all of them share it; the step from RTLIL
    to Verilog is Amaranth's own, which it offers only for a single component.
    """
    everything = verilog._convert_rtlil_text("\n".join(texts), strip_internal_attrs=True)
    starts = [match.start() for match in re.finditer(r"^(\(\*.*\*\)\n)*module ", everything, re.M)]
    for start, end in pairwise([*starts, len(everything)]):
        text = everything[start:end]
        # `always @*` without an input never runs, so the signal would stay unknown.
        if stuck := re.search(r"always @\*\n +(\S+) = \d+'", text):
            raise ValueError(f"{stuck[1]} is a constant part of a signal: assign it as a whole")
        name = re.search(r"^module \\?(\S+?)[\s(]", text, re.M)
        assert name, text[:80]
        yield name[1], _AWAKENER.sub("awakener", text.rstrip()) + "\n"


def _count(top: str, children: dict[str, dict[str, int]]) -> dict[str, int]:
    """Instances of each module below ``top``, through all levels."""
    total: dict[str, int] = {}

    def visit(module: str, times: int) -> None:
        total[module] = total.get(module, 0) + times
        for child, count in children[module].items():
            visit(child, times * count)

    visit(top, 1)
    return total
