"""Golden model of :mod:`jepa_r.safety.alert`: what each cycle shows, and makes of the next.

Inputs are sets of numbers, and times are absolute.
"""

from collections.abc import Mapping

from attrs import define, field

__all__ = ["AlertUnit", "Cause", "wires"]

#: Cycles of a ping, and classes by their codes. The code that is left is as ``TRIP``.
_PING = 4
_CLASSES = {1: "FALLBACK", 2: "LOG"}

#: Inputs with an alert, those with broken wires, and whether the settings are wrong.
Cause = tuple[frozenset[int], frozenset[int], bool]

_NONE: Cause = (frozenset(), frozenset(), False)


def wires(rails: tuple[int, int], ping: bool) -> tuple[int, int]:
    """Wires of a sender, a cycle after the rails of its checker (quiet is (0, 1)) and a ping."""
    return (1 - rails[0], 1 - rails[1]) if ping else rails


def _members(bits: int) -> frozenset[int]:
    return frozenset(n for n in range(bits.bit_length()) if bits >> n & 1)


@define
class AlertUnit:
    """State; :meth:`step` is a cycle.

    Attributes
    ----------
    inputs, round_cycles
        Parameters of the hardware.
    begun
        First cycle after reset.
    alerts, broken
        Inputs that had an alert, and broken wires, since then.
    fallback, trip
        First cycle in which either is asked for.
    cause, was_read
        What reset leaves alone.
    """

    inputs: int
    round_cycles: int
    now: int = 0
    begun: int = 0
    alerts: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    fallback: int | None = None
    trip: int | None = None
    cause: Cause = _NONE
    was_read: bool = False
    settings: dict[str, int] = field(
        factory=lambda: {"classes": 0, "log_cycles": 0, "fallback_cycles": 0}
    )
    locked: bool = False
    _acknowledged: frozenset[int] = frozenset()
    _waits: int | None = None

    @property
    def _turn(self) -> int:
        return self.round_cycles // self.inputs

    def pinged(self, cycle: int) -> int | None:
        """Input to which the unit sends a ping in a cycle: behind a register."""
        age = cycle - 1 - self.begun
        if age < 0 or age % self._turn >= _PING:
            return None
        return age // self._turn % self.inputs

    def shown(self) -> dict[str, int]:
        """Outputs of the cycle that comes: all are registers."""

        def bits(members: frozenset[int]) -> int:
            return sum(1 << n for n in members)

        ping = self.pinged(self.now)
        return {
            "alerts": bits(self.alerts),
            "broken": bits(self.broken),
            "fallback_p": int(self.fallback is not None),
            "fallback_n": int(self.fallback is None),
            "trip_p": int(self.trip is not None),
            "trip_n": int(self.trip is None),
            "cause_alerts": bits(self.cause[0]),
            "cause_broken": bits(self.cause[1]),
            "cause_settings": int(self.cause[2]),
            "was_read": int(self.was_read),
            "heartbeat": (self.now - self.begun) // self._turn % 2,
            "ping": 0 if ping is None else 1 << ping,
        }

    def _of_class(self, name: str) -> frozenset[int]:
        return frozenset(
            n
            for n in range(self.inputs)
            if _CLASSES.get(self.settings["classes"] >> 2 * n & 3, "TRIP") == name
        )

    def step(self, given: Mapping[str, int]) -> None:
        """Go through one cycle with these inputs, by name; those that are missing are 0."""
        p, n = given.get("p", 0), given.get("n", 0)
        pair = {k: (p >> k & 1, n >> k & 1) for k in range(self.inputs)}
        expected = self.pinged(self.now - 1)
        loud = frozenset(k for k, seen in pair.items() if seen != wires((0, 1), k == expected))
        broken = frozenset(k for k, (one, other) in pair.items() if one == other)
        refused = self.locked and given.get("w_en", 0) != 0

        logs = self._of_class("LOG")
        waiting = (self.alerts & logs) - self._acknowledged
        # One clock for all that wait: it goes on while any does.
        if not waiting:
            self._waits = None
        elif self._waits is None:
            self._waits = self.now
        late = self._waits is not None and (self.now - self._waits >= self.settings["log_cycles"])
        long = self.fallback is not None and (
            self.now - self.fallback >= self.settings["fallback_cycles"]
        )
        old = waiting if late else frozenset()

        self._note(given, (loud | old, broken, refused), bool((loud - logs) | old | broken))
        if given.get("reset", 0):
            self._reset()
            return
        if loud & self._of_class("FALLBACK") or late:
            self.fallback = self.now + 1 if self.fallback is None else self.fallback
        if loud & self._of_class("TRIP") or broken or refused or long:
            self.trip = self.now + 1 if self.trip is None else self.trip
        self._acknowledged |= _members(given.get("acknowledge", 0)) & self.alerts & logs
        self.alerts |= loud
        self.broken |= broken
        self._write(given)
        self.now += 1

    def _note(self, given: Mapping[str, int], found: Cause, counts: bool) -> None:
        """Keep the first cause, or let it go."""
        read = self.was_read or bool(given.get("cause_read", 0))
        if given.get("power_on", 0) or (given.get("clear", 0) and self.was_read):
            self.cause, self.was_read = _NONE, False
        elif self.cause == _NONE and (counts or found[2]):
            self.cause, self.was_read = found, False
        else:
            self.was_read = read

    def _write(self, given: Mapping[str, int]) -> None:
        if not self.locked:
            widths = {"classes": 2 * self.inputs, "log_cycles": 32, "fallback_cycles": 32}
            for place, (name, width) in enumerate(widths.items()):
                if given.get("w_en", 0) >> place & 1:
                    self.settings[name] = given.get("w_data", 0) % (1 << width)
        self.locked |= bool(given.get("lock", 0))

    def _reset(self) -> None:
        """All but the cause begins anew."""
        self.now += 1
        self.begun, self.locked = self.now, False
        self.alerts = self.broken = self._acknowledged = frozenset()
        self.fallback = self.trip = self._waits = None
        self.settings = dict.fromkeys(self.settings, 0)
