"""Mapping of one unit to a library: yosys and abc, tried with one recipe after the other."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from attrs import frozen

from jepa_r_sim.cosim import cache_root
from jepa_r_sim.yosys import SynthesisError, run_yosys

from .liberty import Liberty, LibertyError
from .netlist import Unit
from .recipes import Recipe

__all__ = ["Mapped", "map_unit"]


@frozen(kw_only=True)
class Mapped:
    """A unit mapped to cells.

    Attributes
    ----------
    netlist
        Its Verilog: cells of the library and instances of other units.
    cells
        How often each cell is there, other units apart.
    area_um2, sequential_um2
        Area of these cells, and of the flip-flops among them.
    """

    netlist: Path
    cells: Mapping[str, int]
    area_um2: float
    sequential_um2: float


def map_unit(
    unit: Unit, children: Mapping[str, Unit], *, liberty: Liberty, recipe: Recipe, period_ps: float
) -> Mapped:
    """Map a unit; what was mapped before, with the same tools, is taken from the cache.

    Raises
    ------
    LibertyError
        If the library lacks a cell that the unit needs.
    SynthesisError
        If yosys fails.
    """
    declarations = "".join(children[name].declaration for name in sorted(unit.children))
    text = unit.file.read_text()
    key = hashlib.sha256(
        "\0".join([
            text,
            declarations,
            liberty.digest,
            recipe.digest,
            f"{period_ps:.3f}",
            version("pyosys"),
        ]).encode()
    ).hexdigest()[:32]
    entry = cache_root() / "mapping" / key
    if not (entry / "stat.json").is_file():
        entry.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{unit.name[:40]}-", dir=entry.parent))
        try:
            (partial / "unit.v").write_text(text)
            (partial / "children.v").write_text(declarations)
            script = recipe.script(
                top=unit.name, liberty=liberty, period_ps=period_ps, directory=partial
            )
            run_yosys(script, directory=partial, what="map")
            if not entry.exists():
                partial.rename(entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    cells = _count(entry / "stat.json", unit)
    unknown = {name: count for name, count in cells.items() if name not in liberty.cells}
    if unknown:
        name, count = max(unknown.items(), key=lambda item: item[1])
        raise LibertyError(
            f"{unit.name} needs {count} cells {name}, which no Liberty file has; "
            "give the files of the whole library"
        )

    def area(only_sequential: bool) -> float:
        return sum(
            count * liberty.cells[name].area
            for name, count in cells.items()
            if liberty.cells[name].sequential or not only_sequential
        )

    return Mapped(
        netlist=entry / "mapped.v",
        cells=cells,
        area_um2=area(False),
        sequential_um2=area(True),
    )


def _count(stat: Path, unit: Unit) -> dict[str, int]:
    modules = json.loads(stat.read_text())["modules"]
    try:
        counts = modules[f"\\{unit.name}"]["num_cells_by_type"]
    except KeyError:
        raise SynthesisError(f"yosys left no module {unit.name}") from None
    return {
        name.removeprefix("\\"): int(count)
        for name, count in counts.items()
        if name.removeprefix("\\") not in unit.children
    }
