"""Liberty files: read, checked, and cut down to what mapping and timing need.

A foundry's files are large (44 MB for ASAP7) and mostly about power. What stays are the cells that
synthesis may use, without their power groups: abc reads a tenth of the text, once a module.

Source: Liberty User Guide, volume 1 (groups ``library``, ``cell``, ``ff``, ``latch``).
"""

import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from attrs import frozen

__all__ = ["PDKS", "Cell", "Liberty", "LibertyError", "Pdk", "find_pdk", "read_liberty"]


class LibertyError(ValueError):
    """Liberty files that nothing can be mapped to; the message names file, cell and remedy."""


@frozen(kw_only=True)
class Pdk:
    """Where the files of a known process are, and which of its cells to leave alone.

    Attributes
    ----------
    name
        What people call it.
    files
        Patterns of the file names that mapping needs, without ``.gz``; each must be there.
    corners
        The files in other corners, for timing alone.
    dont_use
        Patterns of cells.
    """

    name: str
    files: tuple[str, ...]
    corners: dict[str, tuple[str, ...]]
    dont_use: tuple[str, ...] = ()


#: Processes whose files are found by name below a directory.
PDKS = {
    "asap7": Pdk(
        name="ASAP7, 7 nm predictive, regular threshold, typical (0.70 V, 25 C)",
        files=tuple(
            f"asap7sc7p5t_{kind}_RVT_TT_nldm_*.lib"
            for kind in ("SIMPLE", "INVBUF", "AO", "OA", "SEQ")
        ),
        corners={},
        # Cells of fractional drive are too weak for abc, which sees no wires. Flip-flops
        # with scan, set and reset, or the falling edge are of no use to what is generated.
        # Of the others one is left: yosys would take the largest, which needs no inverter.
        dont_use=("*xp*", "SDF*", "DFFASR*", "DFFL*", "DFFHQNx[13]*", "DFFHQx*"),
    ),
    "sg13g2": Pdk(
        name="IHP SG13G2, 130 nm, typical (1.20 V, 25 C)",
        files=("sg13g2_stdcell_typ_1p20V_25C.lib",),
        corners={"slow": ("sg13g2_stdcell_slow_1p08V_125C.lib",)},
    ),
    "osu018": Pdk(name="OSU, 180 nm", files=("osu018_stdcells.lib",), corners={}),
}


@frozen(kw_only=True)
class Cell:
    """A cell of a library.

    Attributes
    ----------
    area
        In square micrometres.
    sequential
        Whether it is a flip-flop.
    inputs
        Names of its inputs, and their capacitance in the file's unit.
    functions
        Function of each output, as written in the file.
    """

    area: float
    sequential: bool
    inputs: dict[str, float]
    functions: dict[str, str]


@frozen(kw_only=True)
class Liberty:
    """A library to map to.

    Attributes
    ----------
    files
        The files, cut down.
    cells
        Cells that may be used, by name.
    time_ns, load_pf
        What the files' unit of time is in nanoseconds, of capacitance in picofarads.
    digest
        Hash of the text.
    """

    files: tuple[Path, ...]
    cells: dict[str, Cell]
    time_ns: float
    load_pf: float
    digest: str

    def constant(self, value: int) -> tuple[str, str] | None:
        """Cell and pin that gives a constant, if there is one."""
        for name, cell in self.cells.items():
            for pin, function in cell.functions.items():
                if function.strip('" ()') == str(value):
                    return name, pin
        return None

    def buffer(self) -> tuple[str, str, str]:
        """Smallest buffer, its input and its output."""
        found = [
            (cell.area, name, next(iter(cell.inputs)), pin)
            for name, cell in self.cells.items()
            if len(cell.inputs) == 1 and not cell.sequential
            for pin, function in cell.functions.items()
            if function.strip('" ()') in cell.inputs
        ]
        if not found:
            raise LibertyError(f"{self.files[0].name} has no buffer; give the file with buffers")
        return min(found)[1:]


def find_pdk(name: str, directory: Path, corner: str | None) -> tuple[list[Path], list[Path]]:
    """Files of a known process: to map to, and to time with.

    Raises
    ------
    LibertyError
        If process, directory, corner or a file is not there.
    """
    if name not in PDKS:
        raise LibertyError(f"--pdk is {name!r}; it must be one of {', '.join(PDKS)}")
    pdk = PDKS[name]
    if not directory.is_dir():
        raise LibertyError(f"--pdk-dir {directory} is not a directory")
    if corner is not None and corner not in pdk.corners:
        known = ", ".join(pdk.corners) or "only its typical one"
        raise LibertyError(f"--corner is {corner!r}; {name} has {known}")

    def find(pattern: str) -> Path:
        found = sorted([*directory.rglob(pattern), *directory.rglob(pattern + ".gz")])
        if not found:
            raise LibertyError(f"--pdk-dir {directory} has no {pattern}[.gz], which {name} needs")
        return found[0]

    files = [find(pattern) for pattern in pdk.files]
    timing = files if corner is None else [find(pattern) for pattern in pdk.corners[corner]]
    return files, timing


def read_liberty(paths: Sequence[Path], *, dont_use: Iterable[str] = (), into: Path) -> Liberty:
    """Read Liberty files, drop what synthesis has no use for, and write the rest into a directory.

    Left out are power, pins of supplies, latches, clock gates, scan flip-flops, tri-state and
    physical cells, and what ``dont_use`` names.

    Parameters
    ----------
    paths
        Files, ``.lib`` or ``.lib.gz``.
    dont_use
        Patterns of cell names.
    into
        Directory for the files that are left.

    Raises
    ------
    LibertyError
        If a file is missing or no Liberty file, units differ, a pattern matches nothing, or the
        cells are not enough to map to.
    """
    into.mkdir(parents=True, exist_ok=True)
    patterns = list(dont_use)
    unmatched = set(patterns)
    cells: dict[str, Cell] = {}
    units: tuple[float, float] | None = None
    files, digest = [], hashlib.sha256()
    for number, path in enumerate(paths):
        text = _read(path)
        here = (_unit(text, path, "time_unit"), _unit(text, path, "capacitive_load_unit"))
        if units is not None and here != units:
            raise LibertyError(f"{path} has other units than {paths[0]}; give files of one library")
        units = here
        kept = []
        for name, part in _parts(text):
            if name is None:
                kept.append(part)
                continue
            hit = {pattern for pattern in patterns if fnmatchcase(name, pattern)}
            unmatched -= hit
            if hit or _useless(part):
                continue
            if name in cells:
                raise LibertyError(f"{path}: cell {name} is in two files; give one corner alone")
            kept.append(part)
            cells[name] = _cell(part, path, name)
        stripped = "".join(kept)
        digest.update(stripped.encode())
        file = into / f"{number}_{path.name.removesuffix('.gz')}"
        file.write_text(stripped)
        files.append(file)
    if unmatched:
        raise LibertyError(f"--dont-use {sorted(unmatched)[0]!r} matches no cell of the libraries")
    names = ", ".join(path.name for path in paths)
    if not any(cell.sequential for cell in cells.values()):
        raise LibertyError(f"no cell of {names} is a flip-flop; give the file with them, too")
    if not any(len(cell.inputs) == 2 and not cell.sequential for cell in cells.values()):
        raise LibertyError(f"no cell of {names} is a gate of two inputs; give the file with them")
    assert units is not None
    return Liberty(
        files=tuple(files),
        cells=cells,
        time_ns=units[0],
        load_pf=units[1],
        digest=digest.hexdigest(),
    )


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("latin-1")
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LibertyError(f"Liberty file {path} cannot be read: {reason}") from None
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    if not re.match(r"\s*library\s*\(", text):
        raise LibertyError(f"{path} is not a Liberty file: it does not begin with library (...)")
    if text.count("{") != text.count("}"):
        raise LibertyError(f"{path} is not a whole Liberty file: its braces do not match")
    return text


_UNITS = {"ps": 1e-3, "ns": 1.0, "us": 1e3, "ff": 1e-3, "pf": 1.0}


def _unit(text: str, path: Path, name: str) -> float:
    """A unit in nanoseconds or picofarads."""
    found = re.search(rf'\b{name}\s*[:(]\s*"?\s*([\d.]+)\s*,?\s*"?([a-zA-Z]+)', text)
    if found is None or found[2].lower() not in _UNITS:
        raise LibertyError(f"{path} has no {name} that is known; ps, ns, ff and pf are")
    return float(found[1]) * _UNITS[found[2].lower()]


#: Groups that neither mapping nor timing reads.
_POWER = re.compile(
    r"\s*(internal_power|leakage_power|pg_pin|receiver_capacitance\w*|output_current_\w+|ocv_\w+"
    r"|power_lut_template|leakage_current|intrinsic_parasitic|dynamic_current)\s*\("
)
_CELL = re.compile(r'\s*cell\s*\(\s*"?([^")\s]+)"?\s*\)')


def _parts(text: str) -> Iterator[tuple[str | None, str]]:
    """Text between cells (name ``None``) and of each cell, without the groups about power."""
    name: str | None = None
    lines: list[str] = []
    depth, entered, skipping = 0, False, False
    start = 0  # depth at which a cell, or what is skipped inside or outside of one, began
    cell_start = 0
    for line in text.splitlines(keepends=True):
        if not line.strip():
            continue
        if not skipping and _POWER.match(line):
            skipping, start, entered = True, depth, False
        elif not skipping and name is None and (head := _CELL.match(line)):
            yield None, "".join(lines)
            name, cell_start, lines = head[1], depth, []
        if not skipping:
            lines.append(line)
        opened, closed = line.count("{"), line.count("}")
        depth += opened - closed
        entered = entered or opened > 0
        if skipping:
            skipping = not entered or depth > start
        elif name is not None and closed and depth == cell_start:
            yield name, "".join(lines)
            name, lines = None, []
    yield None, "".join(lines)


def _useless(cell: str) -> bool:
    """Whether synthesis has no use for a cell."""
    return bool(
        re.search(
            r"\b(dont_use\s*:\s*\"?true|latch\s*\(|clock_gating_integrated_cell|test_cell\s*\("
            r"|statetable\s*\(|three_state\s*:|is_filler_cell|is_decap_cell)",
            cell,
        )
    ) or not re.search(r"\bpin\s*\(", cell)


def _cell(text: str, path: Path, name: str) -> Cell:
    area = re.search(r"\barea\s*:\s*\"?([\d.eE+-]+)", text)
    if area is None:
        raise LibertyError(f"{path}: cell {name} has no area")
    inputs: dict[str, float] = {}
    functions: dict[str, str] = {}
    for pin, body in re.findall(
        r'\bpin\s*\(\s*"?([^")]+?)"?\s*\)(.*?)(?=\bpin\s*\(|\Z)', text, re.S
    ):
        if re.search(r'direction\s*:\s*"?input', body):
            load = re.search(r"\bcapacitance\s*:\s*\"?([\d.eE+-]+)", body)
            inputs[pin] = float(load[1]) if load else 0.0
        elif function := re.search(r'\bfunction\s*:\s*"([^"]*)"', body):
            functions[pin] = function[1]
    return Cell(
        area=float(area[1]),
        sequential=bool(re.search(r"\bff\s*\(", text)),
        inputs=inputs,
        functions=functions,
    )
