"""No path of a netlist goes from one clock to another but by a crossing of the list."""

import json

import pytest

from jepa_r.clocking import PIN, Kind
from jepa_r.config import PRESETS
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS
from jepa_r_sim.yosys import run_yosys

CLOCKS = {"safe_clk": "safe", "guard_clk": "guard", "ai_clk": "ai"}


class Netlist:
    """A flat netlist of yosys: what drives each bit, and what clock each register has."""

    def __init__(self, module, port_clock):
        self.module = module
        self.port_clock = port_clock
        self.driver = {}
        self.registers = {}
        for name, cell in module["cells"].items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    self.driver |= dict.fromkeys(bits, (name, port))
        for name, port in module["ports"].items():
            if port["direction"] == "input":
                self.driver |= dict.fromkeys(port["bits"], (None, name))
        self.known = {}

    def clock(self, cell):
        """Domain of a register or memory, or none of other cells."""
        connections = cell["connections"]
        clock = next((connections[p] for p in ("CLK", "clk") if p in connections), None)
        return None if clock is None else self.root(clock[0])

    def root(self, bit):
        """Clock port behind a clock's net."""
        owner, port = self.driver[bit]
        assert owner is None, f"clock gate {owner}"
        return CLOCKS[port]

    def domains(self, bit):
        """Domains of the registers, memories and ports that a bit depends on in the same cycle."""
        todo = [bit]
        while todo:
            bit = todo[-1]
            if bit in self.known:
                todo.pop()
                continue
            owner, port = self.driver.get(bit, (None, None))
            if owner is None:
                self.known[bit] = {self.port_clock(port)} if port else set()
                continue
            cell = self.module["cells"][owner]
            domain = self.clock(cell)
            if domain is not None:
                self.known[bit] = {domain}
                continue
            inputs = self.inputs(cell)
            missing = [each for each in inputs if each not in self.known]
            if missing:
                todo += missing
            else:
                self.known[bit] = set().union(*(self.known[each] for each in inputs))
        return self.known[bit]

    def begins(self, bits):
        """Bits of registers, memories and ports that some bits depend on in the same cycle."""
        todo, seen, found = list(bits), set(), set()
        while todo:
            bit = todo.pop()
            if bit in seen:
                continue
            seen.add(bit)
            owner, _ = self.driver[bit]
            cell = self.module["cells"].get(owner)
            if cell is None or self.clock(cell) is not None:
                found.add(bit)
            else:
                todo += self.inputs(cell)
        return found

    def inputs(self, cell):
        """Input bits of a cell, but for its clock and asynchronous reset."""
        return [
            bit
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "input" and port not in {"CLK", "clk", "ARST"}
            for bit in bits
            if isinstance(bit, int)
        ]


def flat_netlist(directory, files, top, port_clock, boxes=()):
    """A top in one module; memories of the technology, and ``boxes``, are boxes with a clock."""
    boxes = " ".join(
        f"blackbox {path.stem};"
        for path in files
        if path.stem.startswith("sram_array") or path.stem in boxes
    )
    names = " ".join(str(path.resolve()) for path in files)
    run_yosys(
        f"read_verilog {names}; {boxes} setattr -mod -unset keep_hierarchy *; "
        f"setattr -unset keep_hierarchy */c:*; hierarchy -top {top}; proc; flatten; memory -nomap; "
        "memory_map; opt_clean; write_json flat.json",
        directory=directory,
        what="crossings",
    )
    module = json.loads((directory / "flat.json").read_text())["modules"][top]
    return Netlist(module, port_clock)


def crossing_paths(netlist):
    """Registers whose cones begin in another domain: instance, that domain, and their own.

    Their asynchronous resets have cones as well.
    """
    found = set()
    for owner, cell in netlist.module["cells"].items():
        domain = netlist.clock(cell)
        if domain is not None:
            bits = [*netlist.inputs(cell), *cell["connections"].get("ARST", [])]
            sources = set().union(*(netlist.domains(bit) for bit in bits))
            # A cell that was flattened is called `$flatten\\outer.\\inner.name`.
            place = owner.removeprefix("$flatten").replace("\\", "")
            found |= {(place, source, domain) for source in sources - {domain}}
    return found


def check_crossings(netlist, crossings, resets):
    """Hold a netlist to the list, and to the synchronisers of resets that are pins."""
    allowed = {
        (end.path.replace("/", "."), end.source, end.target)
        for crossing in crossings
        if crossing.kind is not Kind.GATES
        for end in crossing.endpoints
    } | {(path, PIN, target) for path, target in resets.items()}
    met = set()
    for place, source, target in crossing_paths(netlist):
        match = {
            (path, s, t)
            for path, s, t in allowed
            if (s, t) == (source, target) and place.startswith(f"{path}.")
        }
        assert match, f"{place}: from {source} to {target}"
        met |= match
    assert met == allowed


@pytest.mark.slow
def test_registers_behind_other_clocks_are_those_of_the_list(tmp_path):
    top = TOPS["island"](PRESETS["nano"])
    emitted = emit_verilog(top, name="island", into=tmp_path / "v")
    netlist = flat_netlist(tmp_path, emitted.files, "island", top.port_clock)
    resets = {f"{domain}_reset": domain for domain in CLOCKS.values()}
    check_crossings(netlist, top.crossings, resets)
