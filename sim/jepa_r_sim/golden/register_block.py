"""Golden model of :class:`jepa_r.safety.register_block.RegisterBlock`."""

from attrs import define, field

from jepa_r.safety.map import KEYS, REGISTERS, Access, Register

__all__ = ["RegisterBlock"]

_ONES = 0xFFFF_FFFF


def _elements() -> dict[int, tuple[Register, int]]:
    return {
        register.offset + 4 * n: (register, n)
        for register in REGISTERS
        for n in range(register.count)
    }


@define
class RegisterBlock:
    """What the registers hold.

    Attributes
    ----------
    words
        Byte offset to word, of what the processor writes.
    inverses
        Byte offset of a setting to its second copy.
    writes
        Byte offset of a setting to how often it was written.
    locked
        Settings are frozen.
    """

    words: dict[int, int] = field(factory=dict)
    inverses: dict[int, int] = field(factory=dict)
    writes: dict[int, int] = field(factory=dict)
    locked: bool = False

    @property
    def mismatch(self) -> bool:
        """Copies that should agree do not."""
        return any(
            self.words.get(offset, 0) ^ self.inverses.get(offset, _ONES) != _ONES
            for offset, (register, _) in _elements().items()
            if register.access is Access.SETTING
            and (self.locked or self.writes.get(offset, 0) % 2 == 0)
        )

    @property
    def settings_good(self) -> bool:
        """All settings were written twice, and agree."""
        return not self.mismatch and all(
            self.writes.get(offset, 0) >= 2 and self.writes[offset] % 2 == 0
            for offset, (register, _) in _elements().items()
            if register.access is Access.SETTING
        )

    def refuses(self, offset: int, word: int, *, selftest: bool, allowed: frozenset[str]) -> bool:
        """Whether a store is refused now."""
        if offset not in _elements():
            return True
        register, _ = _elements()[offset]
        if register.access in (Access.CONSTANT, Access.VALUE):
            return True
        if register.access is Access.SETTING:
            return self.locked
        if register.selftest and not selftest:
            return True
        if register.access is not Access.KEY:
            return False
        key = next((name for name in register.keys if KEYS[name] == word), None)
        if key == "LOCK":
            return self.locked or not self.settings_good
        return key is None or (key.startswith("REQUEST_") and key not in allowed)

    def store(self, offset: int, word: int, *, selftest: bool, allowed: frozenset[str]) -> bool:
        """Store a word, unless that is refused; whether it was not."""
        if self.refuses(offset, word, selftest=selftest, allowed=allowed):
            return False
        register, _ = _elements()[offset]
        if register.access is Access.WORD:
            self.words[offset] = word
        elif register.access is Access.SETTING:
            count = self.writes.get(offset, 0)
            (self.inverses if count % 2 else self.words)[offset] = word
            self.writes[offset] = count + 1
        elif word == KEYS["LOCK"] and register.name == "LOCK":
            self.locked = True
        return True

    def tick(self, *, selftest: bool) -> None:
        """End a cycle: what belongs to the self test goes with it."""
        if not selftest:
            for offset, (register, _) in _elements().items():
                if register.selftest and register.access is Access.WORD:
                    self.words[offset] = 0

    def read(self, offset: int, shown: dict[int, int]) -> tuple[int, bool]:
        """Word of a register, and whether there is none; ``shown`` has the values of hardware."""
        if offset not in _elements():
            return 0, True
        register, _ = _elements()[offset]
        if register.access is Access.CONSTANT:
            return register.reset, False
        if register.name == "LOCK":
            return self.locked | self.settings_good << 1, False
        if register.access in (Access.WORD, Access.SETTING):
            return self.words.get(offset, 0), False
        return shown.get(offset, 0), False
