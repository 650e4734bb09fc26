"""Ways to map: scripts of yosys and abc, from the smallest to the fastest.

Structure and script both matter, so a unit is mapped with one recipe after the other until it
meets the clock; ``scripts/yosys/README.md`` has what each was measured to do.
"""

import hashlib
from pathlib import Path

from attrs import frozen

from .liberty import Liberty

__all__ = ["RECIPES", "Recipe"]

_SCRIPTS = Path(__file__).parents[2] / "yosys"


@frozen(kw_only=True)
class Recipe:
    """A way to map.

    Attributes
    ----------
    name
        What reports call it.
    booth
        Whether multipliers are Booth's.
    adder
        Prefix tree of yosys that adders become, or none for its own (Brent and Kung).
    abc
        Script of abc, in ``scripts/yosys``.
    """

    name: str
    booth: bool = False
    adder: str | None = None
    abc: str = "speed.abc"

    @property
    def digest(self) -> str:
        """Hash of all that it says."""
        text = f"{self}{(_SCRIPTS / self.abc).read_text()}{_SCRIPT}"
        return hashlib.sha256(text.encode()).hexdigest()

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
        return _SCRIPT.format(
            top=top,
            booth="booth" if self.booth else "",
            adder=f"-map +/choices/{self.adder}.v" if self.adder else "",
            flops="\n".join(f"dfflibmap -liberty {file}" for file in with_flops),
            abc=self._abc(),
            target=round(TARGET * period_ps),
            liberty=" ".join(f"-liberty {file}" for file in liberty.files),
            ties=f"hilomap {' '.join(ties)}" if ties else "",
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

_SCRIPT = """\
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
{booth}
alumacc
share
opt
memory
opt -fast -full
opt -undriven -fine
techmap {adder} -map +/techmap.v
opt -fast
opt_clean
{flops}
opt -undriven
opt_clean -purge
abc -constr abc.constr -script {abc} -D {target} {liberty}
{ties}
insbuf -buf {buffer}
opt_clean -purge
rename -wire
rename -unescape
write_verilog -noattr -noexpr -nohex -nodec mapped.v
tee -q -o stat.json stat -json
"""

#: From the smallest to the fastest.
RECIPES = (
    Recipe(name="default"),
    Recipe(name="sklansky", adder="sklansky"),
    Recipe(name="booth, sklansky", booth=True, adder="sklansky"),
    Recipe(name="booth, kogge-stone", booth=True, adder="kogge-stone"),
)
