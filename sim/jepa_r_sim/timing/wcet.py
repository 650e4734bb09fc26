"""Worst-case execution time of the firmware, from its binary.

Every path of a function is followed, with what is known of registers and of the stack: constants of
the code, and what comes of them. A branch whose operands are known goes one way, any other both; on
the way of equality it tells one operand by the other. So counters of loops count, and no bound need
be written down; a loop whose end is not known is an error. Two paths that meet with the same
knowledge are one from there, which keeps their number small; when a function returns, what its
registers held is forgotten, which adds paths and never loses one.

An instruction takes as many cycles as its word says, since the core has neither caches nor wait
states; so the longest path is the bound.
"""

from collections.abc import Callable

from attrs import frozen

from jepa_r.safety.map import MEMORIES

from ..firmware import Firmware

__all__ = ["Bound", "WcetError", "longest"]

_MASK = 0xFFFFFFFF

#: Registers that a function leaves as they were: sp, gp, tp, s0, s1, s2 to s11.
_KEPT = frozenset([0, 2, 3, 4, 8, 9, *range(18, 28)])

#: Address at which the function that is asked for returns.
_END = _MASK & ~3


class WcetError(ValueError):
    """The binary has a loop, a jump or a store that cannot be followed."""


@frozen
class Bound:
    """Result of an analysis.

    Attributes
    ----------
    cycles
        On the longest path, from the first instruction to behind the return.
    least
        On the shortest one. Paths that no run can take are among those looked at, so that it is a
        bound as well.
    path
        Addresses of the instructions on the longest one.
    states
        Number of different situations that were seen.
    """

    cycles: int
    least: int
    path: tuple[int, ...]
    states: int


# Registers, then words of the stack by address. None is what is not known.
_Registers = tuple[int | None, ...]
_Stack = frozenset[tuple[int, int]]
_State = tuple[int, _Registers, _Stack]


def _signed(value: int) -> int:
    return value - (value >> 31 << 32)


_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    0: lambda a, b: a + b,
    1: lambda a, b: a << (b & 31),
    2: lambda a, b: int(_signed(a) < _signed(b)),
    3: lambda a, b: int(a < b),
    4: lambda a, b: a ^ b,
    5: lambda a, b: a >> (b & 31),
    6: lambda a, b: a | b,
    7: lambda a, b: a & b,
}

_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    0: lambda a, b: a == b,
    1: lambda a, b: a != b,
    4: lambda a, b: _signed(a) < _signed(b),
    5: lambda a, b: _signed(a) >= _signed(b),
    6: lambda a, b: a < b,
    7: lambda a, b: a >= b,
}


class _Walker:
    """What follows a state."""

    def __init__(self, firmware: Firmware):
        code, self._data = firmware.code, MEMORIES[1]
        self._words = [int.from_bytes(code[n : n + 4], "little") for n in range(0, len(code), 4)]
        self._stack = range(firmware.symbols["_end_of_bss"], self._data.base + self._data.size)

    def word(self, pc: int) -> int:
        """The instruction at an address."""
        if pc % 4 or pc // 4 >= len(self._words):
            raise WcetError(f"jump to {pc:#x}, outside the code")
        return self._words[pc // 4]

    def follow(self, state: _State) -> list[_State]:
        """States after the instruction of a state: two if it branches on what is not known."""
        pc, x, stack = state
        word = self.word(pc)
        opcode, f3, f7 = word & 0x7F, word >> 12 & 7, word >> 25
        d, a, b = word >> 7 & 31, x[word >> 15 & 31], x[word >> 20 & 31]
        immediate = _signed(word) >> 20
        after = pc + 4

        def put(value: int | None, to: int = after) -> list[_State]:
            if d == 0:
                return [(to, x, stack)]
            kept = None if value is None else value & _MASK
            return [(to, (*x[:d], kept, *x[d + 1 :]), stack)]

        match opcode:
            case 0x13 | 0x33:
                if opcode == 0x13:
                    b = immediate & _MASK
                subtract = opcode == 0x33 and f7 == 0x20 and f3 == 0
                arithmetic = f3 == 5 and f7 == 0x20
                if a is None or b is None or (opcode == 0x33 and f7 == 1):
                    return put(None)
                if subtract:
                    return put(a - b)
                if arithmetic:
                    return put(_signed(a) >> (b & 31))
                return put(_OPERATIONS[f3](a, b))
            case 0x37:
                return put(word & 0xFFFFF000)
            case 0x17:
                return put(pc + (word & 0xFFFFF000))
            case 0x6F:
                offset = (word >> 12 & 0xFF) << 12 | (word >> 20 & 1) << 11
                offset |= (word >> 21 & 0x3FF) << 1
                return put(after, pc + offset - (word >> 31 << 20))
            case 0x67:
                if a is None:
                    raise WcetError(f"jump at {pc:#x} to what is not known")
                target = a + immediate & _MASK & ~1
                if d == 0 and word >> 15 & 31 == 1:
                    return [self._returned(target, x, stack)]
                return put(after, target)
            case 0x63:
                offset = (word >> 7 & 1) << 11 | (word >> 25 & 0x3F) << 5 | (word >> 8 & 15) << 1
                target = pc + offset - (word >> 31 << 12)
                if a is None or b is None:
                    return self._both(word, x, stack, after, target)
                return [(target if _CONDITIONS[f3](a, b) else after, x, stack)]
            case 0x03:
                return put(self._load(a, immediate, f3, stack))
            case 0x23:
                address = None if a is None else a + (f7 << 5 | d) - (word >> 31 << 12) & _MASK
                if address is None:
                    raise WcetError(f"store at {pc:#x} to an address that is not known")
                if address not in self._stack:
                    return [(after, x, stack)]
                place = address & ~3
                others = frozenset(item for item in stack if item[0] != place)
                if f3 == 2 and b is not None:
                    others |= {(place, b)}
                return [(after, x, others)]
            case 0x73 | 0x0F:
                return put(None)
        raise WcetError(f"instruction {word:#010x} at {pc:#x} is not known")

    @staticmethod
    def _both(word: int, x: _Registers, stack: _Stack, after: int, target: int) -> list[_State]:
        """Both ways of a branch; on the way of equal operands one is known if the other is."""
        first, second, f3 = word >> 15 & 31, word >> 20 & 31, word >> 12 & 7
        known = x[second] if x[first] is None else x[first]
        place = first if x[first] is None else second
        equal = (*x[:place], known, *x[place + 1 :])
        return [
            (after, equal if f3 == 1 else x, stack),
            (target, equal if f3 == 0 else x, stack),
        ]

    def _load(self, base: int | None, offset: int, f3: int, stack: _Stack) -> int | None:
        if base is None or f3 != 2:
            return None
        address = base + offset & _MASK
        if address // 4 < len(self._words):
            return self._words[address // 4]
        return dict(stack).get(address)

    @staticmethod
    def _returned(target: int, x: _Registers, stack: _Stack) -> _State:
        """Registers of the function, and its part of the stack, are forgotten."""
        below = x[2]
        if below is None:
            raise WcetError("stack pointer is not known at a return")
        kept = tuple(value if n in _KEPT else None for n, value in enumerate(x))
        return target, kept, frozenset(item for item in stack if item[0] >= below)


def longest(
    firmware: Firmware,
    function: str,
    cycles_of: Callable[[int], int],
    *,
    most_states: int = 2_000_000,
) -> Bound:
    """Longest path through a function and all that it calls, and what the shortest takes.

    Parameters
    ----------
    firmware
        Code and symbols.
    function
        Name of a function without arguments.
    cycles_of
        Cycles of an instruction by its word.
    most_states
        Where the analysis gives up.

    Raises
    ------
    WcetError
        If a loop has no end that follows from constants, a jump or the address of a store is not
        known, or there are too many states.
    """
    walker = _Walker(firmware)
    registers: list[int | None] = [None] * 32
    registers[0], registers[1] = 0, _END
    registers[2] = MEMORIES[1].base + MEMORIES[1].size
    start: _State = (firmware.symbols[function], tuple(registers), frozenset())

    # Depth first: a state is left when all that follow it have their bounds.
    bounds: dict[_State, tuple[int, int, _State | None]] = {}
    open_states = {start}
    work: list[tuple[_State, list[_State], int]] = [(start, walker.follow(start), 0)]
    while work:
        state, following, place = work.pop()
        if place < len(following):
            work.append((state, following, place + 1))
            after = following[place]
            if after[0] == _END:
                bounds[after] = (0, 0, None)
            elif after in open_states:
                raise WcetError(f"the loop at {after[0]:#x} has no end that is known")
            elif after not in bounds:
                if len(bounds) + len(open_states) > most_states:
                    raise WcetError(f"more than {most_states} states")
                open_states.add(after)
                work.append((after, walker.follow(after), 0))
            continue
        best = max(following, key=lambda after: bounds[after][0])
        least = min(bounds[after][1] for after in following)
        own = cycles_of(walker.word(state[0]))
        bounds[state] = bounds[best][0] + own, least + own, best
        open_states.discard(state)

    most, least, walk = bounds[start]
    path = []
    path.append(start[0])
    while walk is not None and walk[0] != _END:
        path.append(walk[0])
        walk = bounds[walk][2]
    return Bound(most, least, tuple(path), len(bounds))
