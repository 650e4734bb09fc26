"""Ways to map: techmaps and scripts of yosys and abc, from the smallest to the fastest.

Structure and script both matter, so a unit is mapped with one recipe after the other until it
meets the clock; ``scripts/yosys/README.md`` has what each was measured to do.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from .liberty import Liberty

__all__ = ["RECIPES", "Recipe", "recipes_for"]

_SCRIPTS = Path(__file__).parents[2] / "yosys"

#: Cells that a library must have for the techmaps that name them.
_FLAVOURS = {
    "generic": (),
    "asap7": ("FAx1_ASAP7_75t_R", "NOR2x1_ASAP7_75t_R", "OR2x2_ASAP7_75t_R"),
    "sg13g2": (
        "sg13g2_xor2_1", "sg13g2_xnor2_1", "sg13g2_nand2_1", "sg13g2_nor2_1", "sg13g2_a22oi_1",
    ),
}  # fmt: skip


@frozen(kw_only=True)
class Recipe:
    """A way to map.

    Attributes
    ----------
    name
        What reports call it.
    flavour
        Library whose cells its techmaps name, or ``generic``.
    product
        Techmap of products, ``multiplier_PRODUCT.v``, or none for yosys' own.
    sums
        Techmap of sums, ``alu_SUMS.v``, or none for yosys' own prefix adder.
    segment
        Bits of a segment of ``sums``.
    abc
        Script of abc.
    """

    name: str
    flavour: str = "generic"
    product: str | None = "generic"
    sums: str | None = None
    segment: int = 1024
    abc: str

    @property
    def digest(self) -> str:
        """Hash of all that it says."""
        files = [*self._techmaps(), self.abc]
        texts = [(_SCRIPTS / name).read_text() for name in files]
        return hashlib.sha256("\0".join([str(self), _SCRIPT, *texts]).encode()).hexdigest()

    def suits(self, liberty: Liberty) -> bool:
        """Whether the library has the cells that its techmaps name."""
        return set(_FLAVOURS[self.flavour]) <= set(liberty.cells)

    def _techmaps(self) -> list[str]:
        sums = [f"alu_{self.sums}.v"] if self.sums else []
        return [*sums, f"multiplier_{self.product}.v"] if self.product else sums

    def script(self, *, top: str, liberty: Liberty, period_ps: float, directory: Path) -> str:
        """Commands that map ``unit.v`` to ``mapped.v`` and count its cells in ``stat.json``."""
        # Without a driving cell, abc takes registers for infinitely strong and buffers no fan-out.
        buffer, pin, _ = liberty.buffer()
        load = 4 * liberty.cells[buffer].inputs[pin] * 1000 * liberty.load_pf
        (directory / "abc.constr").write_text(
            f"set_driving_cell {buffer}\nset_load {load:.4g} [all_outputs]\n"
        )
        with_flops = [
            file for file in liberty.files if any(head in file.read_text() for head in _FLOP)
        ]
        ties = [
            f"-{level}cell {constant[0]} {constant[1]}"
            for level, value in (("hi", 1), ("lo", 0))
            if (constant := liberty.constant(value))
        ]
        for name in self._techmaps():
            (directory / name).write_text((_SCRIPTS / name).read_text())
        sums = product = ""
        if self.sums:
            # The prefix adders of products are not of segments: they are made later.
            sums = (
                f"alumacc t:$add\ntechmap -D SEGMENT={self.segment} -map alu_{self.sums}.v t:$alu"
            )
        if self.product:
            product = f"techmap -map multiplier_{self.product}.v t:$mul"
        cells = liberty.files if self.flavour != "generic" else ()
        return _SCRIPT.format(
            top=top,
            # So that cells in techmaps have directions.
            cells="\n".join(
                f"read_liberty -lib -ignore_miss_func -overwrite {file}" for file in cells
            ),
            sums=sums,
            product=product,
            flops="\n".join(f"dfflibmap -liberty {file}" for file in with_flops),
            abc=self._abc(),
            target=round(TARGET * period_ps),
            liberty=" ".join(f"-liberty {file}" for file in liberty.files),
            ties=f"hilomap -singleton {' '.join(ties)}" if ties else "",
            buffer=" ".join(liberty.buffer()),
        )

    def _abc(self) -> str:
        """Script of abc in one word; yosys sets the target only in such."""
        lines = (_SCRIPTS / self.abc).read_text().splitlines()
        commands = [line for line in lines if line and not line.startswith("#")]
        return "+" + ";".join(command.replace(" ", ",") for command in commands)


#: abc's target, as a part of the clock period: it sees neither the flip-flop before the gates nor
#: the one behind.
TARGET = 0.68

_FLOP = ("ff (", "ff(")

# Registers are named after what they hold while they still drive it: afterwards an inverter may.
# `insbuf` stands between two clean-ups: without the first, every alias of a net costs a buffer;
# without the second, buffers that drive nothing load the carries.
_SCRIPT = """\
{cells}
read_verilog -lib children.v
read_verilog -sv unit.v
hierarchy -check -top {top}
proc
flatten
opt_expr
opt_clean
opt -nodffe -nosdff
fsm
opt
wreduce
peepopt
opt_clean
{sums}
{product}
alumacc
share
opt
memory
opt -fast -full
opt -undriven -fine
techmap -map +/techmap.v
opt -fast
opt_clean
rename -wire
{flops}
opt -undriven
opt_clean -purge
abc -constr abc.constr -script {abc} -D {target} {liberty}
{ties}
opt_clean -purge
insbuf -buf {buffer}
opt_clean -purge
rename -unescape
write_verilog -noattr -noexpr -nohex -nodec mapped.v
tee -q -o stat.json stat -json
"""

#: From the smallest to the fastest.
RECIPES = (
    Recipe(
        name="small, full adders",
        flavour="asap7",
        product="asap7_small",
        sums="asap7",
        segment=9,
        abc="small.abc",
    ),
    Recipe(
        name="small, full adders",
        flavour="sg13g2",
        product="sg13g2_small",
        sums="sg13g2",
        abc="small.abc",
    ),
    Recipe(
        name="fast, full adders",
        flavour="asap7",
        product="asap7_fast",
        sums="asap7",
        segment=5,
        abc="resyn.abc",
    ),
    Recipe(
        name="fast, full adders",
        flavour="sg13g2",
        product="sg13g2_fast",
        sums="sg13g2",
        segment=10,
        abc="resyn.abc",
    ),
    Recipe(name="area flow", abc="flow.abc"),
    Recipe(name="resynthesised", abc="resyn.abc"),
    Recipe(name="sized", abc="speed.abc"),
)


def recipes_for(liberty: Liberty) -> Sequence[Recipe]:
    """Recipes that suit a library, from the smallest to the fastest."""
    return [recipe for recipe in RECIPES if recipe.suits(liberty)]
