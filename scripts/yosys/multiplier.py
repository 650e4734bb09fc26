"""Write the techmaps ``multiplier_*.v``: signed ``$mul`` as full adders of a library.

::

    python scripts/yosys/multiplier.py

rewrites them. A product is the array of Baugh and Wooley (the partial products that carry a sign
are inverted, and 2^n + 2^(2n-1) is added), reduced to two rows by full and half adders, earliest
bits first, and added. Two things make a library's full adder worth naming: it is half as large as
the gates that a mapper finds for it, and where its outputs are inverted, full adders of alternating
polarity need no inverters between them, because a full adder of inverted inputs gives inverted
outputs. Partial products come in either polarity at the same price.

Delays below are in ps, rough, and only decide which bits meet first and in which polarity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FLAVOURS", "techmap"]

EDGE = 8  # bits of an operand


@dataclass
class Bit:
    """A bit on its way: at ``time``, ``net`` holds it, inverted or not.

    A bit with ``make`` has no net yet; whoever uses it says in which polarity it is wanted.
    """

    time: float
    net: str = ""
    inverted: bool = False
    make: Callable[[bool], str] | None = None


class Netlist:
    """Lines of a module's body; nets are numbered."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def net(self) -> str:
        self._count += 1
        self.lines.append(f"  wire n{self._count};")
        return f"n{self._count}"

    def logic(self, expression: str) -> str:
        net = self.net()
        self.lines.append(f"  assign {net} = {expression};")
        return net

    def cell(self, cell: str, inputs: dict[str, str], *outputs: str) -> list[str]:
        nets = [self.net() for _ in outputs]
        pins = inputs | dict(zip(outputs, nets, strict=True))
        named = ", ".join(f".{pin}({net})" for pin, net in pins.items())
        self.lines.append(f"  {cell} u{self._count} ({named});")
        return nets

    def take(self, bit: Bit, inverted: bool) -> str:
        """Net that holds ``bit`` in a polarity."""
        if bit.make is not None:
            bit.net, bit.inverted, bit.make = bit.make(inverted), inverted, None
        return bit.net if bit.inverted == inverted else self.logic(f"~{bit.net}")


def constant(value: bool) -> Bit:
    return Bit(0, make=lambda inverted: "1'b1" if value != inverted else "1'b0")


def settled(bits: list[Bit]) -> list[Bit]:
    return [bit for bit in bits if bit.make is None]


class Generic:
    """Adders in logic, for the mapper to find gates for."""

    name = "generic"
    preferred = False  # polarity of inputs that come in either

    def full(self, netlist: Netlist, bits: list[Bit]) -> tuple[Bit, Bit]:
        fixed = settled(bits)
        inverted = max(fixed, key=lambda bit: bit.time).inverted if fixed else self.preferred
        time = max(
            bit.time + (10 if bit.make is None and bit.inverted != inverted else 0) for bit in bits
        )
        nets = [netlist.take(bit, inverted) for bit in sorted(bits, key=lambda bit: bit.time)]
        return self._full(netlist, nets, inverted, time)

    def half(self, netlist: Netlist, bits: list[Bit]) -> tuple[Bit, Bit]:
        time = max(bit.time for bit in bits)
        x, y = (netlist.take(bit, False) for bit in bits)
        return (
            Bit(time + 30, netlist.logic(f"~({x} ^ {y})"), True),
            Bit(time + 18, netlist.logic(f"~({x} & {y})"), True),
        )

    def partial(self, netlist: Netlist, a: str, b: str, inverted: bool) -> str:
        return netlist.logic(f"~({a} & {b})" if inverted else f"{a} & {b}")

    def _full(
        self, netlist: Netlist, nets: list[str], inverted: bool, time: float
    ) -> tuple[Bit, Bit]:
        x, y, z = nets
        return (
            Bit(time + 62, netlist.logic(f"~({x} ^ {y} ^ {z})"), not inverted),
            Bit(time + 34, netlist.logic(f"~(({x} & {y}) | ({z} & ({x} | {y})))"), not inverted),
        )


class Asap7(Generic):
    """FAx1 of ASAP7, whose outputs are inverted; its half adder is one of the xp5 cells.

    FAx1 is small but weak, so full adders whose inputs come after ``late`` are left to the mapper.
    """

    name = "asap7"

    def __init__(self, late: float) -> None:
        self._late = late

    def half(self, netlist: Netlist, bits: list[Bit]) -> tuple[Bit, Bit]:
        return self.full(netlist, [*bits, constant(False)])

    def partial(self, netlist: Netlist, a: str, b: str, inverted: bool) -> str:
        # From the flip-flops' inverted outputs.
        cell = "OR2x2_ASAP7_75t_R" if inverted else "NOR2x1_ASAP7_75t_R"
        return netlist.cell(cell, {"A": f"~{a}", "B": f"~{b}"}, "Y")[0]

    def _full(
        self, netlist: Netlist, nets: list[str], inverted: bool, time: float
    ) -> tuple[Bit, Bit]:
        if time > self._late:
            return super()._full(netlist, nets, inverted, time)
        early, middle, last = nets
        pins = {"A": middle, "B": early, "CI": last}
        carry, total = netlist.cell("FAx1_ASAP7_75t_R", pins, "CON", "SN")
        return Bit(time + 62, total, not inverted), Bit(time + 34, carry, not inverted)


class Sg13g2(Generic):
    """Full adders of two XOR and one a22oi of IHP SG13G2: only the carry is inverted."""

    name = "sg13g2"
    preferred = True

    def half(self, netlist: Netlist, bits: list[Bit]) -> tuple[Bit, Bit]:
        fixed = settled(bits)
        inverted = bool(fixed) and max(fixed, key=lambda bit: bit.time).inverted
        time = max(bit.time for bit in bits)
        x, y = (netlist.take(bit, inverted) for bit in bits)
        cell = "sg13g2_nor2_1" if inverted else "sg13g2_nand2_1"
        carry = netlist.cell(cell, {"A": x, "B": y}, "Y")[0]
        return self._xor(netlist, x, y, False, time + 30), Bit(time + 18, carry, not inverted)

    def partial(self, netlist: Netlist, a: str, b: str, inverted: bool) -> str:
        return Generic.partial(self, netlist, a, b, inverted)

    def _full(
        self, netlist: Netlist, nets: list[str], inverted: bool, time: float
    ) -> tuple[Bit, Bit]:
        early, middle, last = nets
        half = netlist.cell("sg13g2_xor2_1", {"A": early, "B": middle}, "X")[0]
        pins = {"A1": half, "A2": last, "B1": early, "B2": middle}
        carry = netlist.cell("sg13g2_a22oi_1", pins, "Y")[0]
        return (
            self._xor(netlist, half, last, inverted, time + 62),
            Bit(time + 34, carry, not inverted),
        )

    def _xor(self, netlist: Netlist, x: str, y: str, odd: bool, time: float) -> Bit:
        def make(inverted: bool) -> str:
            cell, out = ("sg13g2_xnor2_1", "Y") if odd != inverted else ("sg13g2_xor2_1", "X")
            return netlist.cell(cell, {"A": x, "B": y}, out)[0]

        return Bit(time, make=make)


def staged(cells: Generic, netlist: Netlist, columns: list[list[Bit]]) -> None:
    """Reduce all columns to two bits, in the fewest stages (Dadda)."""
    heights = [2]
    while heights[-1] < max(map(len, columns)):
        heights.append(heights[-1] * 3 // 2)
    for height in reversed(heights[:-1]):
        carries: list[list[Bit]] = [[] for _ in range(len(columns) + 1)]
        for n, column in enumerate(columns):
            waiting = sorted(column, key=lambda bit: bit.time)
            done: list[Bit] = []
            while (excess := len(waiting) + len(done) + len(carries[n]) - height) > 0:
                if excess >= 2 and len(waiting) >= 3:
                    total, carry = cells.full(netlist, waiting[:3])
                    waiting = waiting[3:]
                else:
                    total, carry = cells.half(netlist, waiting[:2])
                    waiting = waiting[2:]
                done.append(total)
                carries[n + 1].append(carry)
            columns[n] = waiting + done
        for n in range(len(columns)):
            columns[n] = columns[n] + carries[n]


def greedy(cells: Generic, netlist: Netlist, columns: list[list[Bit]]) -> None:
    """Reduce column by column, always the three earliest bits."""
    for n in range(len(columns)):
        waiting = columns[n]
        while len(waiting) > 2:
            waiting.sort(key=lambda bit: bit.time)
            total, carry = cells.full(netlist, waiting[:3])
            waiting = [*waiting[3:], total]
            if n + 1 < len(columns):
                columns[n + 1].append(carry)
        columns[n] = waiting


def ripple(cells: Generic, netlist: Netlist, columns: list[list[Bit]]) -> list[Bit]:
    """Add two rows with a full adder a column."""
    totals, carry = [], None
    for column in columns:
        bits = column if carry is None else [*column, carry]
        if len(bits) == 1:
            total, carry = bits[0], None
        else:
            add = cells.full if len(bits) == 3 else cells.half
            total, carry = add(netlist, bits)
        totals.append(total)
    return totals


@dataclass(frozen=True)
class Flavour:
    """How a product is built: cells, order of reduction, and who adds the last two rows."""

    cells: Generic
    reduce: Callable[[Generic, Netlist, list[list[Bit]]], None]
    rippled: bool


FLAVOURS = {
    "generic": Flavour(Generic(), staged, False),
    "asap7_fast": Flavour(Asap7(late=180), staged, False),
    "asap7_small": Flavour(Asap7(late=1e9), greedy, True),
    "sg13g2_fast": Flavour(Sg13g2(), greedy, False),
    "sg13g2_small": Flavour(Sg13g2(), greedy, True),
}


def techmap(name: str) -> str:
    """Verilog of a flavour's techmap."""
    flavour, netlist = FLAVOURS[name], Netlist()
    cells = flavour.cells

    def partial(row: int, column: int) -> Bit:
        signed = (row == EDGE - 1) != (column == EDGE - 1)
        return Bit(
            80,
            make=lambda inverted: cells.partial(
                netlist, f"A[{row}]", f"B[{column}]", signed != inverted
            ),
        )

    columns: list[list[Bit]] = [[] for _ in range(2 * EDGE)]
    for row in range(EDGE):
        for column in range(EDGE):
            columns[row + column].append(partial(row, column))
    columns[EDGE].append(constant(True))
    flavour.reduce(cells, netlist, columns)

    if flavour.rippled:
        totals = ripple(cells, netlist, columns)
        out = [netlist.take(bit, False) for bit in totals]
    else:
        rows = []
        for n in range(2):
            nets = [
                netlist.take(column[n], False) if n < len(column) else "1'b0" for column in columns
            ]
            rows.append("{" + ", ".join(reversed(nets)) + "}")
        netlist.lines.append(f"  wire [{2 * EDGE - 1}:0] total = {rows[0]} + {rows[1]};")
        out = [f"total[{n}]" for n in range(2 * EDGE)]
    # The 2^15 of Baugh and Wooley.
    out[-1] = f"~{out[-1]}"
    netlist.lines += [f"  assign Y[{n}] = {net};" for n, net in enumerate(out)]
    return _MODULE.format(name=name, body="\n".join(netlist.lines), edge=EDGE, out=2 * EDGE)


_MODULE = """\
// Written by multiplier.py: a product of two signed {edge}-bit operands. Other $mul stay.
(* techmap_celltype = "$mul" *)
module multiplier_{name} (A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 0;
  parameter B_WIDTH = 0;
  parameter Y_WIDTH = 0;
  input [{edge}-1:0] A;
  input [{edge}-1:0] B;
  output [{out}-1:0] Y;
  wire _TECHMAP_FAIL_ = !(A_SIGNED && B_SIGNED && A_WIDTH == {edge} && B_WIDTH == {edge}
                          && Y_WIDTH == {out});
{body}
endmodule
"""


def main() -> None:
    for name in FLAVOURS:
        Path(__file__).with_name(f"multiplier_{name}.v").write_text(techmap(name))


if __name__ == "__main__":
    main()
