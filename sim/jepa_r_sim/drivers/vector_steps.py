"""Stimuli of the vector unit: random operations that keep its rules, packed for its ports."""

from collections.abc import Iterator

import numpy as np

from jepa_r.vector.layouts import Mode, VectorStep
from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.golden.unit import FinishedRow, Step

from .cocotb_stream import pack

__all__ = [
    "PROFILE_FIELDS",
    "operand_words",
    "pack_profiles",
    "pack_table",
    "random_operation",
    "random_step",
    "unpack_row",
]

PROFILE_FIELDS = {
    "width": 13,
    "inv_mul": 16,
    "inv_shift": 6,
    "width_log": 4,
    "floor": 48,
    "shift_base": 6,
}

_CONTROL = [(name, VectorStep()[name].width) for name in VectorStep().members]


def operand_words(step: Step | None, lanes: int) -> dict[str, int]:
    """Value of every input port of the unit in the cycle of a step; ``None`` is an idle cycle."""
    if step is None:
        return {"step": 0}
    control = [1 if name == "valid" else getattr(step, name) for name, _ in _CONTROL]
    column = [word for n in range(lanes) for word in (step.add[n], step.mul[n], step.shift[n], 0)]
    rope = [word for n in range(lanes) for word in (step.cos[n], step.sin[n])]
    return {
        "step": pack(control, [width for _, width in _CONTROL]),
        "src": pack(step.src, [32] * lanes),
        "other": pack(step.other, [16] * lanes),
        "column": pack(column, [32, 16, 8, 8] * lanes),
        "rope": pack(rope, [16, 16] * lanes),
        "row": pack([step.offset, step.row_mul, step.row_shift], [32, 16, 6]),
    }


def pack_profiles(profiles: list[NormProfile]) -> int:
    """Value of the port ``profiles``."""
    fields = [getattr(profile, name) for profile in profiles for name in PROFILE_FIELDS]
    return pack(fields, [*PROFILE_FIELDS.values()] * len(profiles))


def pack_table(table) -> list[int]:
    """Words of a table of 256 INT8."""
    return [pack(table[n : n + 4], [8] * 4) for n in range(0, 256, 4)]


def unpack_row(row: int, word: int) -> FinishedRow:
    """What ``row_addr`` and ``row_data`` say."""
    offset = word & 0xFFFFFFFF
    offset -= (offset & 0x80000000) << 1
    return FinishedRow(row, offset, word >> 32 & 0xFFFF, word >> 48 & 0x3F)


def _signed(rng: np.random.Generator, bits: int, size: int) -> list[int]:
    """Numbers of all sizes, with a share of extremes, ones and zeros."""
    edge = 1 << (bits - 1)
    values = rng.integers(-edge, edge, size) >> rng.integers(0, bits, size)
    edges = np.array([-edge, -edge + 1, edge - 1, 0, 1, -1])
    return np.where(rng.random(size) < 0.25, rng.choice(edges, size), values).tolist()


def random_step(rng: np.random.Generator, lanes: int, **fixed) -> Step:
    """Random operands and settings, but for the fields that are given."""
    mode = fixed.get("mode", int(rng.integers(3)))
    pre = fixed.get("pre", int(rng.integers(2)))
    source_bits = 16 if (mode == Mode.NORM.value and pre) or rng.random() < 0.3 else 32
    fields = {
        "mode": mode,
        "pre": pre,
        "second": int(rng.integers(4)),
        # Sums have up to 33 bits; most shifts leave something of them.
        "shift2": int(rng.choice([0, 1, 8, 14, 15, 16, 30, 32, 33, 63, int(rng.integers(64))])),
        "wide": int(rng.integers(2)),
        "table": int(rng.integers(2)),
        "src": _signed(rng, source_bits, lanes),
        "other": _signed(rng, 16, lanes),
        "add": _signed(rng, 32, lanes),
        "mul": _signed(rng, 16, lanes),
        "shift": rng.choice([0, 1, 8, 16, 31, 45, 46, 47, 48, 62, 63, 64, 255], lanes).tolist()
        if rng.random() < 0.5
        else rng.integers(0, 50, lanes).tolist(),
        "cos": _signed(rng, 16, lanes),
        "sin": _signed(rng, 16, lanes),
        "offset": _signed(rng, 32 if rng.random() < 0.5 else 12, 1)[0],
        "row_mul": int(rng.choice([0, 1, 32768, 65535, int(rng.integers(65536))])),
        "row_shift": int(rng.choice([0, 1, 47, 48, 63, int(rng.integers(64))])),
    }
    if mode == Mode.EXP.value and rng.random() < 0.8:
        # Logits near their maximum, a few above it.
        fields["src"] = (
            (fields["offset"] - rng.integers(-10, 300, lanes)).clip(-(2**31), 2**31 - 1).tolist()
        )
    return Step(**fields | fixed)


def random_operation(
    rng: np.random.Generator, lanes: int, *, row_numbers: list[int], segments: int, **fixed
) -> Iterator[Step]:
    """Steps of an operation over rows: each row's segments in order, one setting for all."""
    like = random_step(rng, lanes, **fixed)
    settings = {
        name: getattr(like, name)
        for name in ("mode", "pre", "second", "shift2", "wide", "table", "stat")
    }
    for row in row_numbers:
        for n in range(segments):
            yield random_step(
                rng,
                lanes,
                **settings
                | fixed
                | {"stat_row": row, "first_seg": n == 0, "last_seg": n == segments - 1},
            )
