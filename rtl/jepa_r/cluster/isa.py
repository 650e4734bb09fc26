"""The instruction set of the sequencer: what one program word says.

A program is a list of words of :data:`WORD_BITS`. Operations start one engine at a cycle that
the compiler fixed; words of the control kind steer loops and pointers. ``wait`` of each word is
added to the running start time when the word is met, so that an operation's start is the sum of all
waits before it (of END's only when it jumps back).

Address operands have a pointer beside them (``*_ptr``, 0 for none): the value of that pointer
register is added when the word is decoded. Loops add strides to pointers; nothing else is dynamic.

The layouts here are the one description: the hardware decodes with them, the compiler encodes with
them.
"""

from amaranth import *
from amaranth.lib import data, enum

__all__ = [
    "ADDRESS",
    "ADDS",
    "ARGUMENTS",
    "LATENT_STORE",
    "LAYOUTS",
    "NO_CHECK",
    "OPERANDS",
    "POINTERS",
    "VERSION",
    "WORD_BITS",
    "WORD_BYTES",
    "Control",
    "Destination",
    "Engine",
    "Fault",
    "Other",
    "Result",
    "Source",
]  # fmt: skip

#: Format of program images that this hardware reads.
VERSION = 2

WORD_BITS = 384
WORD_BYTES = WORD_BITS // 8

#: Pointer registers; number 0 reads as zero.
POINTERS = 32

#: Pointers that begin with what whoever starts the program gives it, instead of with zero.
ARGUMENTS = (30, 31)

#: Pointers that one ADD word changes.
ADDS = 4

#: Bits of an address on the chip.
ADDRESS = 20

#: Address from which on a move to the shared memory goes to the latent store instead.
LATENT_STORE = 1 << ADDRESS

#: Value of ``in_flight`` that asks for nothing.
NO_CHECK = 15

_POINTER = range(POINTERS)


class Engine(enum.Enum, shape=3):
    """What a word starts."""

    CONTROL = 0
    TILE = 1
    VECTOR = 2
    READ = 3
    MOVE = 4


class Control(enum.Enum, shape=3):
    """What a control word does."""

    HALT = 0
    LOOP = 1
    END = 2
    ADD = 3
    PROFILE = 4


class Source(enum.Enum, shape=2):
    """Where a vector operation reads its elements."""

    ACC = 0
    X = 1
    ACT = 2


class Other(enum.Enum, shape=2):
    """Where it reads its second operand; ACT walks as the result does, from its own base."""

    NONE = 0
    X = 1
    ACT = 2


class Result(enum.Enum, shape=2):
    """Where it writes."""

    NONE = 0
    ACT = 1
    X = 2


class Destination(enum.Enum, shape=3):
    """Where a transfer from memory writes."""

    SHARED = 0
    PARAM = 1
    ACT = 2
    ROPE = 3
    TABLE = 4
    X = 5
    PROGRAM = 6
    HEADER = 7


class Fault(enum.Enum, shape=5):
    """Why a cluster stopped. The first one is kept until reset."""

    NONE = 0
    #: An operation was met after its start cycle.
    LATE = 1
    #: An engine was started while it was busy.
    BUSY = 2
    #: Data had not arrived from memory when an operation needed them.
    DEADLINE = 3
    #: Wrong number of B rows at a swap, or two accesses to one accumulator bank.
    ARRAY = 4
    #: A word that is no operation, one of no rows, or loops nested too deep.
    OPCODE = 5
    #: The image does not begin with the magic number.
    IMAGE_MAGIC = 6
    #: The image is of another version.
    IMAGE_VERSION = 7
    #: The image was compiled for another chip.
    IMAGE_CONFIG = 8
    #: The image is empty or does not fit the program memory.
    IMAGE_LENGTH = 9
    #: The image is damaged.
    IMAGE_CRC = 10
    #: Weights or parameters are damaged.
    DATA_CRC = 11
    #: The memory answered a read with an error.
    READ_BUS = 12
    #: The memory answered a write with an error.
    WRITE_BUS = 13
    #: An address outside the locked windows.
    WINDOW = 14
    #: Two engines met at one port of a memory.
    BANK = 15
    #: A word with more wrong bits than its code can correct.
    ECC = 16
    #: An address outside its memory, or a tile that does not exist.
    ADDRESS = 17
    #: A run was asked for, and no program has been fetched.
    NO_PROGRAM = 18
    #: An elastic run of a program that was not compiled for one.
    IMAGE_ELASTIC = 19


def _header(fields: dict) -> data.StructLayout:
    layout = data.StructLayout({"engine": Engine, "wait": 28, "in_flight": 4} | fields)
    assert layout.size <= WORD_BITS, layout.size
    return layout


#: Layout of each engine's words. Fields of rows, columns and passes count from 1.
LAYOUTS = {
    # Y[m, n] (+)= sum over passes of A[m, k] B[n, k], in every tile at once.
    Engine.TILE: _header({
        "a_shared": 1,  # A from the shared memory (multicast), else from the tile's own
        "b_shared": 1,
        "a_addr": ADDRESS,
        "a_ptr": _POINTER,
        "b_addr": ADDRESS,
        "b_ptr": _POINTER,
        "a_stride": ADDRESS,  # words from one K-block to the next
        "b_stride": ADDRESS,
        "rows": 13,  # M
        "columns": 9,  # N
        "passes": 13,  # K-blocks
        "interval": 13,  # cycles from one pass to the next, Tile.interval(M, N)
        "k_first": 9,  # bytes before this one are zero in the first pass
        "k_last": 9,  # bytes from this one on are zero in the last pass
        "acc_half": 1,
        "acc_row": 13,
        "acc_add": 1,  # the first pass adds to what is there, else it stores
    }),
    Engine.VECTOR: _header({
        "rows": 13,
        "segments": 13,  # of L elements, in each row
        "source": Source,
        "src_half": 1,
        "src_addr": ADDRESS,
        "src_ptr": _POINTER,
        "src_seg": 8,  # first segment in its word (ACC, ACT)
        "src_row": 16,  # words from one row to the next
        "src_step": 16,  # words from the last segment of a word to the next (ACT)
        "other": Other,
        "other_addr": ADDRESS,
        "other_ptr": _POINTER,
        "other_row": 16,
        "param_addr": 18,
        "param_ptr": _POINTER,
        "param_step": 1,  # 1: a word for each segment; 0: the same word for all
        "rope_addr": ADDRESS,
        "rope_row": 12,
        "rope_seg": 8,  # the table repeats over the columns: where it starts,
        "rope_period": 8,  # and after how many segments
        "row_addr": 12,  # of the row scales that are read
        "stat_row": 12,  # of the statistics that are gathered
        "result": Result,
        "dst_addr": ADDRESS,
        "dst_ptr": _POINTER,
        "dst_seg": 8,
        "dst_row": 16,
        "dst_step": 16,
        "mode": 2,
        "pre": 1,
        "second": 2,
        "shift2": 6,
        "wide": 1,
        "table": 1,
        "stat": 3,
        "stat_first": 1,
        "stat_last": 1,
        "profile": 2,
        "clear": 1,  # the distance starts from zero
    }),
    Engine.READ: _header({
        "address": 32,
        "address_ptr": _POINTER,
        "words": 16,
        "rows": 16,
        "stride": 32,
        "dest": Destination,
        "dest_addr": ADDRESS,
        "dest_ptr": _POINTER,
        "tiles": 16,
        "crc": 1,
    }),
    Engine.MOVE: _header({
        "from_x": 1,
        "tile": 4,
        "src_addr": ADDRESS,
        "src_ptr": _POINTER,
        "words": 16,
        "rows": 16,
        "src_stride": ADDRESS,
        "to_shared": 1,
        "address": 32,
        "address_ptr": _POINTER,
        "stride": 32,
        "segments": 8,
        "dst_seg": 8,
    }),
    Control.HALT: _header({"control": Control}),
    Control.LOOP: _header({"control": Control, "count": 16}),
    Control.END: _header({"control": Control}),
    Control.ADD: _header({
        "control": Control,
        "adds": data.ArrayLayout(data.StructLayout({"ptr": _POINTER, "value": signed(32)}), ADDS),
    }),
    Control.PROFILE: _header({
        "control": Control,
        "index": 2,
        "width": 13,
        "inv_mul": 16,
        "inv_shift": 6,
        "width_log": 4,
        "floor": 48,
        "shift_base": 6,
    }),
}  # fmt: skip

#: Address operands of each engine: field, its pointer.
OPERANDS = {
    Engine.TILE: (("a_addr", "a_ptr"), ("b_addr", "b_ptr")),
    Engine.VECTOR: (
        ("src_addr", "src_ptr"),
        ("other_addr", "other_ptr"),
        ("param_addr", "param_ptr"),
        ("dst_addr", "dst_ptr"),
    ),
    Engine.READ: (("address", "address_ptr"), ("dest_addr", "dest_ptr")),
    Engine.MOVE: (("src_addr", "src_ptr"), ("address", "address_ptr")),
}
