"""What a step of the vector unit is made of."""

from amaranth import *
from amaranth.lib import data, enum

__all__ = [
    "ROW_BITS",
    "ColumnParams",
    "Mode",
    "NormProfileLayout",
    "RopeEntry",
    "RowParams",
    "Second",
    "Stat",
    "VectorStep",
]

#: Width of row indices.
ROW_BITS = 16


class Mode(enum.Enum, shape=2):
    """First stage of the lanes: how ``y`` (INT16) follows from ``src`` (INT32)."""

    #: ``sat16(round((src + column.add) * column.mul, column.shift))``
    REQUANT = 0
    #: ``sat16(round(((src << 8 * pre) - row.offset) * row.mul, row.shift))``
    NORM = 1
    #: ``exp2(clip(row.offset - src, 0, 255))``
    EXP = 2


class Second(enum.Enum, shape=2):
    """Second stage of the lanes: how ``z`` follows from ``y``, before saturation."""

    #: ``y``
    PASS = 0
    #: ``y + other``
    RESIDUAL = 1
    #: ``round(y * rope.cos + partner's y * rope.sin, shift2)``
    ROTATE = 2
    #: ``round(y * column.mul + column.add, shift2)``
    COLUMN = 3


class Stat(enum.Enum, shape=3):
    """What is gathered over the ``z`` of a row, or for ``L1`` of all steps."""

    NONE = 0
    #: Maximum, for the exponentials.
    MAX = 1
    #: Mean and reciprocal standard deviation, for ``Mode.NORM`` with ``pre``.
    MOMENTS = 2
    #: Reciprocal of the sum (0..2**24 - 1), for ``Mode.NORM`` of the context.
    SUM = 3
    #: Sum of ``abs(z - other)``.
    L1 = 4


class ColumnParams(data.StructLayout):
    """Parameters of a column, 8 bytes, little endian in memory.

    Members
    -------
    add : ``signed(32)``
        Added to accumulators, or after the gain.
    mul : ``signed(16)``
        Factor.
    shift : ``unsigned(8)``
        Shift after the first factor; 63 and above give 0.
    unused : ``unsigned(8)``
        Fills the eighth byte.
    """

    def __init__(self):
        super().__init__({"add": signed(32), "mul": signed(16), "shift": 8, "unused": 8})


class RowParams(data.StructLayout):
    """Parameters of a row, as its first pass leaves them for its second.

    Members
    -------
    offset : ``signed(32)``
        Maximum, or mean in 1/256.
    mul : ``unsigned(16)``
        Factor.
    shift : ``unsigned(6)``
        Shift after it.
    """

    def __init__(self):
        super().__init__({"offset": signed(32), "mul": 16, "shift": 6})


class RopeEntry(data.StructLayout):
    """Rotation of a column.

    Members
    -------
    cos : ``signed(16)``
        Factor of the column itself.
    sin : ``signed(16)``
        Factor of its partner, with its sign.
    """

    def __init__(self):
        super().__init__({"cos": signed(16), "sin": signed(16)})


class NormProfileLayout(data.StructLayout):
    """Constants of a LayerNorm, as ``jepa_r_sim.golden.rows.NormProfile`` has them.

    Members
    -------
    width : ``unsigned(13)``
        Channels.
    inv_mul, inv_shift : ``unsigned(16)``, ``unsigned(6)``
        ``256 / width = inv_mul * 2**-inv_shift``.
    width_log : ``unsigned(4)``
        Smallest power of two that holds ``width``.
    floor : ``unsigned(48)``
        Added to the variance times ``width**2``.
    shift_base : ``unsigned(6)``
        Shift of a row whose reciprocal root has the exponent 0.
    """

    def __init__(self):
        super().__init__({
            "width": 13,
            "inv_mul": 16,
            "inv_shift": 6,
            "width_log": 4,
            "floor": 48,
            "shift_base": 6,
        })


class VectorStep(data.StructLayout):
    """Control of a step: what the lanes do with one segment of a row.

    Members
    -------
    valid : ``unsigned(1)``
        There is a step in this cycle.
    mode : :class:`Mode`
        First stage.
    pre : ``unsigned(1)``
        With ``Mode.NORM``: ``src`` is INT16 and counts in 256ths of ``row.offset``.
    second : :class:`Second`
        Second stage.
    shift2 : ``unsigned(6)``
        Shift of the second stage, for ``ROTATE`` and ``COLUMN``.
    wide : ``unsigned(1)``
        Results are INT16, not INT8.
    table : ``unsigned(1)``
        Results are looked up in the table; without ``wide``.
    stat : :class:`Stat`
        What is gathered.
    first_seg, last_seg : ``unsigned(1)``
        First and last segment of a row in this operation.
    stat_first : ``unsigned(1)``
        This operation is the first of the row; else it goes on from the running memory.
    stat_last : ``unsigned(1)``
        This operation is the last of the row.
    stat_row : ``unsigned(16)``
        Row.
    profile : ``unsigned(2)``
        Profile of ``MOMENTS``.
    """

    def __init__(self):
        super().__init__({
            "valid": 1,
            "mode": Mode,
            "pre": 1,
            "second": Second,
            "shift2": 6,
            "wide": 1,
            "table": 1,
            "stat": Stat,
            "first_seg": 1,
            "last_seg": 1,
            "stat_first": 1,
            "stat_last": 1,
            "stat_row": ROW_BITS,
            "profile": 2,
        })
