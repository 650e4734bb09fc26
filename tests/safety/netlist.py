"""Netlists of emitted Verilog: how many flip-flops, what drives a port, and faults in them."""

import json
from functools import reduce
from operator import and_, or_

from jepa_r.emit import emit_verilog
from jepa_r_sim.yosys import run_yosys


def synthesize(component, *, into, script):
    """Modules of the netlist, by name; ``script`` may say ``{files}``."""
    into.mkdir(parents=True, exist_ok=True)
    emitted = emit_verilog(component, name="top", into=into / "verilog")
    files = " ".join(str(path.relative_to(into)) for path in emitted.files)
    commands = script.format(files=files) + "\nwrite_json netlist.json\n"
    run_yosys(commands, directory=into, what="synthesize")
    modules = json.loads((into / "netlist.json").read_text())["modules"]
    return {name.removeprefix("\\"): module for name, module in modules.items()}


def is_flop(cell):
    return cell["type"].startswith("$_") and "DFF" in cell["type"]


def flops(modules, name="top"):
    """Flip-flops of a module, with what is below it."""
    total = 0
    for cell in modules[name]["cells"].values():
        total += is_flop(cell)
        if cell["type"] in modules:
            total += flops(modules, cell["type"])
    return total


def count(modules, kind, name="top"):
    """Instances of a module below another."""
    cells = modules[name]["cells"].values()
    below = [cell["type"] for cell in cells if cell["type"] in modules]
    return sum((module == kind) + count(modules, kind, module) for module in below)


def driver(modules, port, name="top"):
    """Cell type that drives a port of one bit, through all levels; its value if it is constant."""
    bit = modules[name]["ports"][port]["bits"][0]
    if isinstance(bit, str):
        return bit
    for cell in modules[name]["cells"].values():
        for pin, bits in cell["connections"].items():
            if bit in bits and cell["port_directions"][pin] == "output":
                if cell["type"] in modules:
                    assert len(bits) == 1
                    return driver(modules, pin, cell["type"])
                return cell["type"]
    raise AssertionError(f"nothing drives {port}")


GATES = {
    "$_BUF_": (lambda ones, a: a, "A"),
    "$_NOT_": (lambda ones, a: ones ^ a, "A"),
    "$_AND_": (lambda ones, a, b: a & b, "AB"),
    "$_NAND_": (lambda ones, a, b: ones ^ a & b, "AB"),
    "$_OR_": (lambda ones, a, b: a | b, "AB"),
    "$_NOR_": (lambda ones, a, b: ones ^ (a | b), "AB"),
    "$_XOR_": (lambda ones, a, b: a ^ b, "AB"),
    "$_XNOR_": (lambda ones, a, b: ones ^ a ^ b, "AB"),
    "$_ANDNOT_": (lambda ones, a, b: a & ~b, "AB"),
    "$_ORNOT_": (lambda ones, a, b: a | ones ^ b, "AB"),
    "$_MUX_": (lambda ones, a, b, s: a & ~s | b & s, "ABS"),
}


class Faults:
    """A flat netlist of gates and plain flip-flops, with a stuck-at fault in every lane but one.

    Lane 0 is without a fault. The others have every net stuck at 0 and at 1, one each.
    """

    def __init__(self, module):
        self.ports = {name: port["bits"] for name, port in module["ports"].items()}
        cells = list(module["cells"].values())
        self.flops = [
            (cell["connections"]["D"][0], cell["connections"]["Q"][0])
            for cell in cells
            if is_flop(cell)
        ]
        assert all(cell["type"] == "$_DFF_P_" for cell in cells if is_flop(cell))
        self.gates = self._sorted([cell for cell in cells if not is_flop(cell)])
        clock = set(self.ports["clk"])
        driven = [bit for name, port in module["ports"].items() if port["direction"] == "input"
                  for bit in self.ports[name] if bit not in clock]  # fmt: skip
        nets = [*driven, *(q for _d, q in self.flops), *(out for _gate, _ins, out in self.gates)]
        self.lanes = 1 + 2 * len(nets)
        self.ones = (1 << self.lanes) - 1
        self.faults = [None, *((net, value) for net in nets for value in (0, 1))]
        self.masks = {
            net: (self.ones ^ 1 << 1 + 2 * n, 1 << 2 + 2 * n) for n, net in enumerate(nets)
        }
        self.names = {}
        for name, net in module["netnames"].items():
            for n, bit in enumerate(net["bits"]):
                self.names.setdefault(bit, f"{name}[{n}]")
        self.values = {"0": 0, "1": self.ones, "x": 0}
        self.values |= {q: 0 for _d, q in self.flops}

    def _sorted(self, cells):
        """Gates in an order in which every input is known before it is used."""
        known = {"0", "1", "x"} | {bit for bits in self.ports.values() for bit in bits}
        made = {cell["connections"]["Y"][0] for cell in cells}
        known = (known - made) | {q for _d, q in self.flops}
        order = []
        while cells:
            ready = [
                cell for cell in cells
                if all(cell["connections"][pin][0] in known for pin in GATES[cell["type"]][1])
            ]  # fmt: skip
            assert ready, "a loop of gates"
            for cell in ready:
                function, pins = GATES[cell["type"]]
                ins = [cell["connections"][pin][0] for pin in pins]
                order.append((function, ins, cell["connections"]["Y"][0]))
                known.add(cell["connections"]["Y"][0])
            done = {id(cell) for cell in ready}
            cells = [cell for cell in cells if id(cell) not in done]
        return order

    def _set(self, net, value):
        keep, force = self.masks[net]
        self.values[net] = value & keep | force

    def settle(self, **inputs):
        """Values of all nets for inputs that are the same in all lanes."""
        for name, number in inputs.items():
            for n, bit in enumerate(self.ports[name]):
                self._set(bit, self.ones * (number >> n & 1))
        for _d, q in self.flops:
            self._set(q, self.values[q])
        for function, ins, out in self.gates:
            self._set(out, function(self.ones, *(self.values[bit] for bit in ins)))

    def clock(self):
        new = {q: self.values[d] for d, q in self.flops}
        self.values |= new

    def state(self):
        return {q: self.values[q] for _d, q in self.flops}

    def lanes_where(self, **outputs):
        """Lanes in which outputs of one bit have values, as the bits of a number."""
        return reduce(and_, (
            self.values[self.ports[name][0]] ^ (0 if value else self.ones)
            for name, value in outputs.items()
        ))  # fmt: skip

    def named(self, lanes):
        """Names of the faults in lanes."""
        return [
            f"{self.names.get(net, net)} stuck at {value}"
            for lane, (net, value) in enumerate(self.faults[1:], 1)
            if lanes >> lane & 1
        ]


def union(lanes):
    return reduce(or_, lanes, 0)
