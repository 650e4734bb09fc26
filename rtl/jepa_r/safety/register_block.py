"""Registers of the island's processor, made from the map."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .map import KEYS, REGISTERS, Access

__all__ = ["WINDOWS", "RegisterBlock"]

#: Bits of a byte offset in the register block.
OFFSET_BITS = 12

#: Arrays that are read from memories beside the block.
WINDOWS = ("COMMAND", "JOINT")

_SETTINGS = [register for register in REGISTERS if register.access is Access.SETTING]


def _flattened(registers):
    """Pairs of register and element, in the order of the map."""
    return [(register, n) for register in registers for n in range(register.count)]


class RegisterBlock(Macro):
    """Decoder and storage of all registers in :mod:`~.map`.

    A store is asked about when it is issued, and done when it is released: ``q_en`` gives address
    and word of a store that may never be released, and ``error`` says, a cycle later, whether it is
    refused; nothing is stored. ``w_en`` stores, and refuses by the same rules once more, so that
    what has changed between the two (the lock) counts.

    A setting is written twice, the value and its inverse, and is used from the second write on.
    It is held twice. Once both writes are done its copies must agree, else ``mismatch``; the word
    after an even number of writes is a value again. ``LOCK`` freezes all settings, and is refused
    while one has not been written twice or does not agree.

    Members
    -------
    r_en, r_offset : ``In(1)``, ``In(12)``
        Read a register.
    q_en, q_offset, q_data : ``In(1)``, ``In(12)``, ``In(32)``
        Ask about a store.
    error : ``Out(1)``
        A cycle after ``r_en`` or ``q_en``: it is refused.
    r_data : ``Out(32)``
        A cycle after ``r_en``: the register; zero if refused.
    w_en, w_offset, w_data : ``In(1)``, ``In(12)``, ``In(32)``
        Store a word.
    selftest : ``In(1)``
        The island is in the state ``SELFTEST``.
    allowed : ``In(len(KEYS))``
        Which keys of ``REQUEST`` are allowed now, by the order of ``KEYS``; bits of others do
        nothing.
    key : ``Out(len(KEYS))``
        For one cycle: a key was stored, in the order of ``KEYS``.
    mismatch : ``Out(1)``
        The copies of a setting do not agree, after it was written twice or locked.
    late : ``Out(1)``
        For one cycle: a setting was stored after the lock.
    window_address : ``Out(5)``
        Element of a window that is read, in the cycle of ``r_en``.
    command, joint : ``In(32)``
        The element, one cycle later.
    NAME_FIELD, NAME : ``In``
        Fields of a ``VALUE`` or a ``KEY`` register, and registers without fields.
    NAME : ``Out``
        Of a ``WORD`` or ``SETTING`` what it holds, an array if it has elements.
    NAME, NAME_data : ``Out(1)``, ``Out(32)``
        Of a ``COMMAND``: for one cycle, it was stored, and the word.
    """

    def __init__(self):
        members = {
            "r_en": In(1),
            "r_offset": In(OFFSET_BITS),
            "r_data": Out(32),
            "q_en": In(1),
            "q_offset": In(OFFSET_BITS),
            "q_data": In(32),
            "error": Out(1),
            "w_en": In(1),
            "w_offset": In(OFFSET_BITS),
            "w_data": In(32),
            "selftest": In(1),
            "allowed": In(len(KEYS)),
            "key": Out(len(KEYS)),
            "mismatch": Out(1),
            "late": Out(1),
            "window_address": Out(5),
        }
        for register in REGISTERS:
            name = register.name.lower()
            if register.name in WINDOWS:
                members[name] = In(32)
            elif register.access is Access.VALUE and not register.fields:
                members[name] = In(32)
            elif register.access is Access.VALUE or (register.access is Access.KEY):
                if register.name != "LOCK":
                    for field in register.fields:
                        members[f"{name}_{field.name.lower()}"] = In(field.width)
            elif register.access in (Access.WORD, Access.SETTING):
                shape = data.ArrayLayout(32, register.count) if register.count > 1 else 32
                members[name] = Out(shape)
            elif register.access is Access.COMMAND:
                members |= {name: Out(1), f"{name}_data": Out(32)}
        super().__init__(
            members | {"locked": Out(1), "settings_good": Out(1)}, macro_name="register_block"
        )

    def build(self, platform):
        m = Module()
        self._read(m)
        stored = self._refusals(m)
        self._store(m, stored)
        self._settings(m, stored)
        return m

    def _shown(self, register, n):
        """What a read of an element gives."""
        name = register.name.lower()
        match register.access:
            case Access.CONSTANT:
                return C(register.reset, 32)
            case Access.WORD | Access.SETTING:
                value = getattr(self, name)
                return value[n] if register.count > 1 else value
            case Access.VALUE if not register.fields:
                return getattr(self, name)
            case Access.VALUE | Access.KEY:
                if register.name == "LOCK":
                    return Cat(self.locked, self.settings_good)
                bits, at = [], 0
                for field in register.fields:
                    bits += [C(0, field.low - at), getattr(self, f"{name}_{field.name.lower()}")]
                    at = field.low + field.width
                return Cat(bits)
        return C(0, 1)

    def _read(self, m):
        """What is read is in a register; windows are memories, and come with it."""
        known = Signal(32, reset_less=True)
        window = Signal(len(WINDOWS))
        m.d.sync += [known.eq(0), window.eq(0)]
        word = self.r_offset[2:]
        with m.If(self.r_en):
            for n, name in enumerate(WINDOWS):
                register = next(register for register in REGISTERS if register.name == name)
                first = register.offset // 4
                m.d.sync += window[n].eq((word >= first) & (word < first + register.count))
            with m.Switch(word):
                for register, n in _flattened(REGISTERS):
                    if register.name not in WINDOWS:
                        with m.Case(register.offset // 4 + n):
                            m.d.sync += known.eq(self._shown(register, n))
        windows = [Mux(window[n], getattr(self, name.lower()), 0) for n, name in enumerate(WINDOWS)]
        m.d.comb += [
            # Windows begin at multiples of their size.
            self.window_address.eq(word),
            self.r_data.eq(known | windows[0] | windows[1]),
        ]

    def _refusals(self, m):
        """Answer reads and questions; whether what is stored in this cycle is allowed."""
        unknown = ~Cat(
            self.r_offset[2:] == register.offset // 4 + n for register, n in _flattened(REGISTERS)
        ).any()
        asked, stored = Signal(), Signal()
        m.d.comb += [
            asked.eq(self._accepts(m, "asked", self.q_offset[2:], self.q_data)),
            stored.eq(self.w_en & self._accepts(m, "stored", self.w_offset[2:], self.w_data)),
        ]
        m.d.sync += self.error.eq((self.r_en & unknown) | (self.q_en & ~asked))
        return stored

    def _accepts(self, m, name, word, value):
        """Whether a store to a word of the block is allowed."""
        accepts = Signal(name=f"{name}_accepts")
        with m.Switch(word):
            for register, n in _flattened(REGISTERS):
                if register.access in (Access.CONSTANT, Access.VALUE):
                    continue
                with m.Case(register.offset // 4 + n):
                    here = self.selftest if register.selftest else C(1)
                    if register.access is Access.SETTING:
                        here = ~self.locked
                    elif register.access is Access.KEY:
                        here &= Cat(
                            (value == KEYS[key]) & self._key_allowed(key) for key in register.keys
                        ).any()
                    m.d.comb += accepts.eq(here)
        return accepts

    def _key_allowed(self, key):
        if key == "LOCK":
            return self.settings_good & ~self.locked
        if key.startswith("REQUEST_"):
            return self.allowed[list(KEYS).index(key)]
        return C(1)

    def _store(self, m, stored):
        """Words, keys and commands."""
        m.d.sync += self.key.eq(0)
        for register in REGISTERS:
            if register.access is Access.COMMAND:
                m.d.sync += getattr(self, register.name.lower()).eq(0)
            if register.access is Access.WORD and register.selftest:
                with m.If(~self.selftest):
                    m.d.sync += getattr(self, register.name.lower()).eq(0)
        with m.If(stored), m.Switch(self.w_offset[2:]):
            for register, n in _flattened(REGISTERS):
                name = register.name.lower()
                with m.Case(register.offset // 4 + n):
                    if register.access is Access.WORD:
                        value = getattr(self, name)
                        m.d.sync += (value[n] if register.count > 1 else value).eq(self.w_data)
                    elif register.access is Access.COMMAND:
                        m.d.sync += [
                            getattr(self, name).eq(1),
                            getattr(self, f"{name}_data").eq(self.w_data),
                        ]
                    elif register.access is Access.KEY:
                        for key in register.keys:
                            place = list(KEYS).index(key)
                            m.d.sync += self.key[place].eq(self.w_data == KEYS[key])

    def _settings(self, m, stored):
        """Two copies of each setting, and of the lock; `keep`, or synthesis makes one of two."""
        locked = Signal(name="lock", attrs={"keep": True})
        unlocked = Signal(init=1, name="lock_inverted", attrs={"keep": True})
        lock = list(KEYS).index("LOCK")
        m.d.comb += self.locked.eq(locked | ~unlocked)
        is_lock = Signal()
        m.d.comb += is_lock.eq(
            stored
            & (self.w_offset[2:] == self._offset("LOCK") // 4)
            & (self.w_data == KEYS[list(KEYS)[lock]])
        )
        with m.If(is_lock):
            m.d.sync += [locked.eq(1), unlocked.eq(0)]

        agree, done = [], []
        late = Signal()
        for register, n in _flattened(_SETTINGS):
            name = f"{register.name.lower()}_{n}" if register.count > 1 else register.name.lower()
            value = getattr(self, register.name.lower())
            value = value[n] if register.count > 1 else value
            inverse = Signal(32, init=0xFFFF_FFFF, name=f"{name}_inverse", attrs={"keep": True})
            half, whole = Signal(name=f"{name}_half"), Signal(name=f"{name}_whole")
            here = self.w_offset[2:] == register.offset // 4 + n
            with m.If(stored & here):
                m.d.sync += half.eq(~half)
                with m.If(half):
                    m.d.sync += [inverse.eq(self.w_data), whole.eq(1)]
                with m.Else():
                    m.d.sync += value.eq(self.w_data)
            agree.append((value == ~inverse) | (half & ~self.locked))
            done.append(whole & ~half)
            late = late | (self.w_en & here & self.locked)
        m.d.comb += [
            self.mismatch.eq(~Cat(agree).all() | (locked == unlocked)),
            self.settings_good.eq(Cat(done).all() & ~self.mismatch),
        ]
        m.d.sync += self.late.eq(late)

    @staticmethod
    def _offset(name):
        return next(register.offset for register in REGISTERS if register.name == name)
