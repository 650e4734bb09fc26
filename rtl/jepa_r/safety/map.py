"""Memory map and registers of the island's processor: the one description.

The register block, the firmware's C header and the models of devices are made from these tables.
All registers are words; the bus has no smaller access. A read has no side effect. A write to a
register that is not writable, to a hole, or with a wrong key changes nothing and is a bus error.

Settings are written twice, first the value and then its inverse; the hardware keeps both, uses the
value while they agree, and raises ``SETTING`` while they do not. ``LOCK`` freezes them until reset,
and refuses while any has not been written.

A packet becomes visible when it is taken: ``TAKE`` copies the newest complete packet to where it is
read, and it stays there until the next.
"""

from enum import Enum, IntEnum

from attrs import frozen

__all__ = [
    "ALERTS", "BY_NAME", "DRY_DEADLINE", "DRY_OPEN", "JOINTS", "KEYS", "MEMORIES", "PERIOD_CYCLES",
    "REGISTERS", "WATCHDOG_BITS", "WATCHDOG_TAPS", "Access", "Alert", "AlertClass", "Bits", "Fault",
    "Memory", "Register", "Stage", "State",
]  # fmt: skip

#: Joints of the arm.
JOINTS = 7

#: Island cycles of a control period: 1 ms at 100 MHz.
PERIOD_CYCLES = 100_000

#: Words of a packet of the arm's controller, and of the encoders.
COMMAND_WORDS, JOINT_WORDS = 25, 16

#: Bits of the watchdog's counter.
WATCHDOG_BITS = 24

#: Feedback of the watchdog's challenge of 32 bits: the next value is the present one moved down by
#: a bit, plus this (modulo 2) if the bit moved out was one. The polynomial
#: x^32 + x^22 + x^2 + x + 1 is primitive.
WATCHDOG_TAPS = 0x80200003

#: Window of the watchdog's dry runs, in guard cycles.
DRY_OPEN, DRY_DEADLINE = 64, 128


class State(IntEnum):
    """States of the island, as words of which any two differ in 8 bits of 16.

    They are words of the first-order Reed-Muller code of length 16; the two constant ones are left
    out, so that no stuck bus is a state.
    """

    SELFTEST = 0x5555
    LOCKED = 0x3333
    RUN = 0x0F0F
    FALLBACK = 0x00FF
    STOP = 0x6666
    TRIP = 0x3C3C


class AlertClass(Enum):
    """What an alert leads to."""

    LOG = "log"
    FALLBACK = "fallback"
    TRIP = "trip"


@frozen
class Alert:
    """A source of alerts.

    Attributes
    ----------
    name
        As in ``ALERTS``, where its place is its bit.
    severity
        What it leads to.
    doc
        What it says.
    """

    name: str
    severity: AlertClass
    doc: str


#: Sources of alerts: bit ``n`` of the register of that name is the ``n``-th.
ALERTS = (
    Alert("LOCKSTEP", AlertClass.TRIP, "the cores differ"),
    Alert("UNCORRECTABLE", AlertClass.TRIP, "a word of a memory or of the bus cannot be corrected"),
    Alert("WATCHDOG", AlertClass.TRIP, "the token came early, late, wrong or again"),
    Alert("CLOCK", AlertClass.TRIP, "the island's or the guard's clock is slow, fast or stopped"),
    Alert("SETTING", AlertClass.TRIP, "a setting and its inverse differ, or one was written late"),
    Alert(
        "ESTOP",
        AlertClass.TRIP,
        "the emergency stop was pressed, its pair is not antivalent, or the second channel took "
        "the energy",
    ),
    Alert("REQUEST", AlertClass.TRIP, "the firmware asked for it"),
    Alert("LIMITER", AlertClass.TRIP, "torques out of range, too fast, or from an old sample"),
    Alert("DEADLINE", AlertClass.FALLBACK, "no action in its window, or not the next one"),
    Alert("AI_CLOCK", AlertClass.FALLBACK, "the accelerator's clock is slow, fast or stopped"),
    Alert("TRAP", AlertClass.LOG, "the core took a synchronous trap"),
    Alert("CORRECTED", AlertClass.LOG, "a single wrong bit was corrected"),
)

#: What is written where a write must be meant. Any two differ in at least 10 bits.
KEYS = {
    "LOCK": 0x9E3779B9,
    "RELEASE_AI": 0x3C6EF372,
    "REQUEST_LOCKED": 0xA54FF53A,
    "REQUEST_RUN": 0x510E527F,
    "REQUEST_FALLBACK": 0x9B05688C,
    "REQUEST_STOP": 0x1F83D9AB,
    "REQUEST_TRIP": 0x5BE0CD19,
    "REQUEST_RESTART": 0xCBBB9D5D,
    "TEST_COMPARATOR": 0x629A292A,
    "TEST_WATCHDOG": 0x9159015A,
}


class Access(Enum):
    """What a register is."""

    #: The same word always.
    CONSTANT = "constant"
    #: The hardware shows it; a write is refused.
    VALUE = "value"
    #: The firmware writes it, and reads it back.
    WORD = "word"
    #: Written twice, value and inverse, until the lock; reads give the value.
    SETTING = "setting"
    #: Takes one of the keys named in ``keys``, and any other word is refused. Reads give 0, or what
    #: the fields say.
    KEY = "key"
    #: A write makes something happen; reads give 0.
    COMMAND = "command"


@frozen
class Bits:
    """A field of a register."""

    name: str
    low: int
    width: int
    doc: str

    @property
    def mask(self) -> int:
        """Its bits, in place."""
        return (1 << self.width) - 1 << self.low


@frozen(kw_only=True)
class Register:
    """A register, or an array of ``count``.

    Attributes
    ----------
    name, offset, access, doc
        Name, byte offset of the first word, what it is, what it says.
    fields
        Parts of the word; empty if it is one number of 32 bits.
    count
        Elements, at consecutive words.
    reset
        Value after reset, and that of a constant.
    keys
        Names of the keys that it takes.
    signed
        Whether it is a number of two's complement.
    selftest
        Whether it works in the state ``SELFTEST`` alone; elsewhere a write is refused.
    """

    name: str
    offset: int
    access: Access
    doc: str
    fields: tuple[Bits, ...] = ()
    count: int = 1
    reset: int = 0
    keys: tuple[str, ...] = ()
    signed: bool = False
    selftest: bool = False


@frozen(kw_only=True)
class Memory:
    """A part of the memory map, and which accesses of the processor the bus allows there."""

    name: str
    base: int
    size: int
    fetch: bool = False
    load: bool = True
    store: bool = True


#: The memory map. Everything else is a bus error.
MEMORIES = (
    Memory(name="CODE", base=0x0000_0000, size=16 * 1024, fetch=True, store=False),
    Memory(name="DATA", base=0x0001_0000, size=8 * 1024),
    Memory(name="REGISTERS", base=0x0002_0000, size=4 * 1024),
)

_ALERT_BITS = tuple(Bits(alert.name, n, 1, alert.doc) for n, alert in enumerate(ALERTS))

_WINDOW = (
    Bits("EARLY", 1, 1, "something came before the window"),
    Bits("LATE", 2, 1, "the window ended first"),
    Bits("WRONG", 3, 1, "what came was not the next"),
)

_CLOCK = (
    Bits("GUARD_SLOW", 0, 1, "guard clock against the island's"),
    Bits("GUARD_FAST", 1, 1, "guard clock against the island's"),
    Bits("GUARD_STOPPED", 2, 1, "guard clock against the island's"),
    Bits("AI_SLOW", 4, 1, "accelerator's clock against the island's"),
    Bits("AI_FAST", 5, 1, "accelerator's clock against the island's"),
    Bits("AI_STOPPED", 6, 1, "accelerator's clock against the island's"),
)

_PACKET = (
    Bits("FRESH", 0, 1, "the visible packet was not visible before the last take"),
    Bits("CRC_GOOD", 1, 1, "its sum agrees"),
    Bits("LENGTH_GOOD", 2, 1, "it had exactly its words"),
    Bits("LOST", 8, 8, "packets between the last two takes that were never visible, at most 255"),
)

#: The registers, by offset.
REGISTERS = (
    Register(
        name="IDENTITY",
        offset=0x000,
        access=Access.CONSTANT,
        reset=0x4A524D01,
        doc="Names this map, and its version in the low byte.",
    ),
    Register(
        name="STATE",
        offset=0x004,
        access=Access.VALUE,
        reset=State.SELFTEST,
        fields=(Bits("STATE", 0, 16, "one of the states"),),
        doc="State of the island.",
    ),
    Register(
        name="REQUEST",
        offset=0x008,
        access=Access.KEY,
        keys=tuple(key for key in KEYS if key.startswith("REQUEST_")),
        doc="Ask for a state. LOCKED is entered from SELFTEST with the lock set and the comparator "
        "tested good; RUN from LOCKED with the pair of the emergency stop released; FALLBACK from "
        "RUN; STOP from LOCKED, RUN and FALLBACK; TRIP from any. RESTART, in STOP, resets the "
        "island with its locks, so that the whole sequence is run again. What is not allowed is "
        "refused. In FALLBACK the key of FALLBACK confirms it, which ends the external interrupt.",
    ),
    Register(
        name="STAGE",
        offset=0x00C,
        access=Access.WORD,
        doc="How far the firmware's start came, for the log.",
    ),
    Register(
        name="FAULT",
        offset=0x010,
        access=Access.WORD,
        doc="First fault that the firmware found since start, for the log.",
    ),
    Register(
        name="ALERTS",
        offset=0x014,
        access=Access.VALUE,
        fields=_ALERT_BITS,
        doc="Alerts since reset.",
    ),
    Register(
        name="FIRST_ALERT",
        offset=0x018,
        access=Access.VALUE,
        fields=_ALERT_BITS,
        doc="Alerts of the first cycle that had one of class fallback or trip.",
    ),
    Register(
        name="INPUTS",
        offset=0x01C,
        access=Access.VALUE,
        fields=(
            Bits("ESTOP_A", 0, 1, "1: not pressed"),
            Bits("ESTOP_B", 1, 1, "0: not pressed"),
            Bits("ARM", 2, 1, "the operator wants motion"),
            Bits("RESTART", 3, 1, "the operator wants a new start"),
        ),
        doc="Inputs of the operator, synchronised.",
    ),
    Register(
        name="TICK",
        offset=0x020,
        access=Access.VALUE,
        doc=f"Control periods of {PERIOD_CYCLES} cycles that have begun since reset.",
    ),
    Register(
        name="PHASE",
        offset=0x024,
        access=Access.VALUE,
        doc="Cycles since the control period began.",
    ),
    Register(
        name="TICK_DONE",
        offset=0x028,
        access=Access.COMMAND,
        doc="Ends the timer interrupt, until the next period begins.",
    ),
    Register(
        name="INTERRUPT_TEST",
        offset=0x02C,
        access=Access.WORD,
        selftest=True,
        fields=(
            Bits("TIMER", 0, 1, "raise the timer interrupt"),
            Bits("EXTERNAL", 1, 1, "raise the external interrupt"),
            Bits("MASK", 2, 1, "nothing else raises either"),
        ),
        doc="Interrupts for the self test; 0 in all other states.",
    ),
    Register(
        name="WATCHDOG_OPEN",
        offset=0x040,
        access=Access.SETTING,
        doc="Guard cycles from a token, or the lock, to the first at which the next may come.",
    ),
    Register(
        name="WATCHDOG_DEADLINE",
        offset=0x044,
        access=Access.SETTING,
        doc="Guard cycles from a token, or the lock, to the last at which the next may come.",
    ),
    Register(
        name="WATCHDOG_CHALLENGE",
        offset=0x048,
        access=Access.VALUE,
        fields=(Bits("VALUE", 0, 32, "never 0"),),
        doc="The token that was good last. The next value of the register of feedback is good now.",
    ),
    Register(
        name="WATCHDOG_TOKEN",
        offset=0x04C,
        access=Access.COMMAND,
        doc="Serve the watchdog. All 32 bits are compared; those above the token's must be 0.",
    ),
    Register(
        name="WATCHDOG_STATUS",
        offset=0x050,
        access=Access.VALUE,
        fields=(
            Bits("OPEN", 0, 1, "a token may come now"),
            *_WINDOW,
            Bits("DRY", 4, 1, "a dry run goes on"),
            Bits("SERVED", 5, 1, "the dry run ended by a good token in its window"),
        ),
        doc="The watchdog's window; EARLY, LATE, WRONG and SERVED are the last dry run's.",
    ),
    Register(
        name="WATCHDOG_TEST",
        offset=0x054,
        access=Access.KEY,
        keys=("TEST_WATCHDOG",),
        selftest=True,
        doc=f"Begin a dry run, with a window from {DRY_OPEN} to {DRY_DEADLINE} guard cycles. It "
        "ends at the first token or after the window; nothing trips. The write sets DRY and clears "
        "what the last run left at once; DRY ends when what this one left is there.",
    ),
    Register(
        name="DEADLINE_OPEN",
        offset=0x060,
        access=Access.SETTING,
        doc="Cycles from an action to the first at which the next may come.",
    ),
    Register(
        name="DEADLINE_LIMIT",
        offset=0x064,
        access=Access.SETTING,
        doc="Cycles from an action to the last at which the next may come.",
    ),
    Register(
        name="DEADLINE_STATUS",
        offset=0x068,
        access=Access.VALUE,
        fields=(Bits("RUNNING", 0, 1, "an action is expected"), *_WINDOW),
        doc="The deadline monitor, which runs in RUN; it counts packets with a good sum.",
    ),
    Register(
        name="DEADLINE_SEQUENCE",
        offset=0x06C,
        access=Access.VALUE,
        doc="Sequence number that the monitor expects next.",
    ),
    Register(
        name="COMPARATOR_TEST",
        offset=0x080,
        access=Access.KEY,
        keys=("TEST_COMPARATOR",),
        selftest=True,
        doc="Begin the comparator's self test.",
    ),
    Register(
        name="COMPARATOR_STATUS",
        offset=0x084,
        access=Access.VALUE,
        fields=(
            Bits("BUSY", 0, 1, "the test goes on"),
            Bits("DONE", 1, 1, "it ended"),
            Bits("GOOD", 2, 1, "it found every pattern"),
        ),
        doc="The comparator's self test.",
    ),
    Register(
        name="CODE_CORRECTED",
        offset=0x090,
        access=Access.VALUE,
        fields=(Bits("COUNT", 0, 16, "at most 65535"),),
        doc="Words of code found with one wrong bit.",
    ),
    Register(
        name="CODE_UNCORRECTABLE",
        offset=0x094,
        access=Access.VALUE,
        fields=(Bits("COUNT", 0, 16, "at most 65535"),),
        doc="Words of code found with more.",
    ),
    Register(
        name="DATA_CORRECTED",
        offset=0x098,
        access=Access.VALUE,
        fields=(Bits("COUNT", 0, 16, "at most 65535"),),
        doc="Words of data found with one wrong bit, by the scrubber or a load.",
    ),
    Register(
        name="DATA_UNCORRECTABLE",
        offset=0x09C,
        access=Access.VALUE,
        fields=(Bits("COUNT", 0, 16, "at most 65535"),),
        doc="Words of data found with more.",
    ),
    Register(
        name="ECC_INJECT",
        offset=0x0A0,
        access=Access.COMMAND,
        selftest=True,
        fields=(
            Bits("FIRST", 0, 6, "bit to invert, below 39"),
            Bits("SECOND", 8, 6, "another, below 39"),
            Bits("COUNT", 16, 2, "0: none is inverted; 1: the first; 2: both"),
        ),
        doc="Invert bits of the code word of the next store to data memory. From a write with "
        "COUNT 2 until one with another COUNT, or the end of SELFTEST, an uncorrectable word is "
        "counted and refused, and not an alert.",
    ),
    Register(
        name="SWEEPS",
        offset=0x0A4,
        access=Access.VALUE,
        doc="Times that the scrubber went through the data memory.",
    ),
    Register(
        name="CLOCKS",
        offset=0x0B0,
        access=Access.VALUE,
        fields=_CLOCK,
        doc="What the island's clock monitors see now.",
    ),
    Register(
        name="AI_VERDICT",
        offset=0x0C0,
        access=Access.VALUE,
        fields=(
            Bits("GOOD", 0, 1, "image checked, and good"),
            Bits("BAD", 1, 1, "image checked, and refused"),
        ),
        doc="Verdict on the accelerator's image; neither while it is checked.",
    ),
    Register(
        name="AI_RELEASE",
        offset=0x0C4,
        access=Access.KEY,
        keys=("RELEASE_AI",),
        doc="Release the accelerator from reset.",
    ),
    Register(
        name="LOCK",
        offset=0x0C8,
        access=Access.KEY,
        keys=("LOCK",),
        fields=(
            Bits("LOCKED", 0, 1, "settings are frozen"),
            Bits("GOOD", 1, 1, "all have been written and agree with their inverses"),
        ),
        doc="Freeze all settings until reset, and start the watchdog.",
    ),
    Register(
        name="TAKE",
        offset=0x100,
        access=Access.COMMAND,
        fields=(
            Bits("COMMAND", 0, 1, "the newest command"),
            Bits("JOINT", 1, 1, "the newest sample of the joints"),
        ),
        doc="Make packets visible. Their status is that of the visible ones from the next read on.",
    ),
    Register(
        name="COMMAND_STATUS",
        offset=0x104,
        access=Access.VALUE,
        fields=_PACKET,
        doc="The visible command.",
    ),
    Register(
        name="COMMAND_AGE",
        offset=0x108,
        access=Access.VALUE,
        doc="Cycles since its last word came, at most 2^32 - 1.",
    ),
    Register(
        name="JOINT_STATUS",
        offset=0x10C,
        access=Access.VALUE,
        fields=_PACKET,
        doc="The visible sample of the joints.",
    ),
    Register(
        name="JOINT_AGE",
        offset=0x110,
        access=Access.VALUE,
        doc="Cycles since its last word came, at most 2^32 - 1.",
    ),
    Register(
        name="TORQUE",
        offset=0x140,
        access=Access.WORD,
        count=JOINTS,
        signed=True,
        doc="Torques for the next commit, Q16.16 Nm.",
    ),
    Register(
        name="TORQUE_COMMIT",
        offset=0x15C,
        access=Access.COMMAND,
        fields=(
            Bits("SEQUENCE", 0, 16, "one more than the last"),
            Bits("INVERSE", 16, 16, "its inverse"),
        ),
        doc="Pass all torques to the limiter at once. The first after reset has sequence 1.",
    ),
    Register(
        name="TORQUE_STATUS",
        offset=0x160,
        access=Access.VALUE,
        fields=(
            Bits("RANGE", 0, 1, "a torque was out of range"),
            Bits("SLEW", 1, 1, "a torque changed too fast"),
            Bits("AGE", 2, 1, "the sample was too old"),
            Bits("SEQUENCE", 3, 1, "a commit was not the next"),
        ),
        doc="What the limiter refused since reset.",
    ),
    Register(
        name="LIMIT_TORQUE",
        offset=0x180,
        access=Access.SETTING,
        count=JOINTS,
        doc="The limiter's bound on the size of each torque, Q16.16 Nm, inclusive.",
    ),
    Register(
        name="LIMIT_SLEW",
        offset=0x1A0,
        access=Access.SETTING,
        count=JOINTS,
        doc="Its bound on the change of each torque from one commit to the next, inclusive.",
    ),
    Register(
        name="LIMIT_SAMPLE_AGE",
        offset=0x1C0,
        access=Access.SETTING,
        doc="Its bound on the age of the joints' sample at a commit in RUN and FALLBACK, in "
        "cycles, inclusive.",
    ),
    Register(
        name="LIMIT_FALLBACK",
        offset=0x1C4,
        access=Access.SETTING,
        doc="Periods in FALLBACK after which the hardware goes to STOP by itself.",
    ),
    Register(
        name="COMMAND",
        offset=0x200,
        access=Access.VALUE,
        count=COMMAND_WORDS,
        doc="The visible command: sequence, age in microseconds, flags, 7 positions, 7 velocities, "
        "7 torques, CRC-32.",
    ),
    Register(
        name="JOINT",
        offset=0x280,
        access=Access.VALUE,
        count=JOINT_WORDS,
        doc="The visible sample of the joints: sequence, 7 positions, 7 velocities, CRC-32.",
    ),
)

#: The registers by name.
BY_NAME = {register.name: register for register in REGISTERS}


class Stage(IntEnum):
    """Steps of the firmware's start, in their order; what ``STAGE`` holds is the one that runs."""

    CORE = 1
    MEMORY = 2
    INTERRUPTS = 3
    ECC = 4
    COMPARATOR = 5
    WATCHDOG = 6
    CLOCKS = 7
    IMAGE = 8
    SETTINGS = 9
    READY = 10


class Fault(IntEnum):
    """Faults that the firmware finds. Those of commands tell joints apart only in the log."""

    NONE = 0x00
    # The start: the stage that failed is in the low bits.
    CORE = 0x11
    MEMORY = 0x12
    INTERRUPTS = 0x13
    ECC = 0x14
    COMPARATOR = 0x15
    WATCHDOG = 0x16
    CLOCKS = 0x17
    IMAGE = 0x18
    SETTINGS = 0x19
    # The command, in the order of the checks.
    COMMAND_MISSING = 0x21
    COMMAND_LENGTH = 0x22
    COMMAND_CRC = 0x23
    COMMAND_FLAGS = 0x24
    COMMAND_REPEATED = 0x25
    COMMAND_ORDER = 0x26
    COMMAND_AGE = 0x27
    POSITION_NAN = 0x28
    VELOCITY_NAN = 0x29
    TORQUE_NAN = 0x2A
    POSITION_RANGE = 0x2B
    VELOCITY_RANGE = 0x2C
    TORQUE_RANGE = 0x2D
    POSITION_RATE = 0x2E
    VELOCITY_RATE = 0x2F
    TORQUE_RATE = 0x30
    # The sample of the joints, likewise.
    JOINT_MISSING = 0x41
    JOINT_LENGTH = 0x42
    JOINT_CRC = 0x43
    JOINT_REPEATED = 0x44
    JOINT_ORDER = 0x45
    JOINT_AGE = 0x46
    JOINT_POSITION_NAN = 0x47
    JOINT_VELOCITY_NAN = 0x48
    JOINT_POSITION_RANGE = 0x49
    JOINT_VELOCITY_RANGE = 0x4A
    JOINT_POSITION_JUMP = 0x4B
    # The cycle.
    OVERRUN = 0x61
    FLOW = 0x62
    STATE = 0x63
    ESTOP = 0x64
    FALLBACK_BOUND = 0x65
    TRAP = 0x66
    LIMITER = 0x67
    # The hardware left RUN first, mostly since an action missed its window.
    DEADLINE = 0x68
