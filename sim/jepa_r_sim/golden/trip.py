"""Golden model of :mod:`jepa_r.safety.trip`: what each cycle shows, and makes of the next.

Times are those of what happened last, and not counts of what did not happen since, as in the
hardware.
"""

from collections.abc import Mapping

from attrs import define, field

__all__ = ["TripMachine"]

_FIRST, _SECOND = 0xA6, 0x39


@define
class TripMachine:
    """State; :meth:`step` is a cycle.

    Attributes
    ----------
    sources
        Alerts.
    times
        Parameters of the hardware, by name.
    state
        ``SAFE``, ``REQUESTED`` or ``LIVE``.
    energised
        First cycle in which there is energy, if there is.
    caught
        Sources and causes of the last trip.
    """

    sources: int
    times: Mapping[str, int]
    now: int = 0
    state: str = "SAFE"
    energised: int | None = None
    caught: tuple[int, frozenset[str]] = (0, frozenset())
    rearmed: bool = False
    _read: bool = False
    _requested: int = 0
    _agreed: int | None = None
    _unclear: bool = False
    _follows: dict[str, int] = field(factory=lambda: {"a": -1, "b": -1})
    _level: int = 0
    _edge: int = -1

    def shown(self) -> dict[str, object]:
        """Outputs of the cycle that comes: all are registers."""
        on = self.energised is not None
        tested = self._tested()
        return {
            "energise_a": int(on),
            "energise_b": int(on),
            "drive_a": int(on and tested != "a"),
            "drive_b": int(on and tested != "b"),
            "live": int(self.state == "LIVE"),
            "rearmed": int(self.rearmed),
            "sources": self.caught[0],
            "cause": set(self.caught[1]),
        }

    def _tested(self) -> str | None:
        """Drive that is off for a test. Tests end half way, and at the end, of a period."""
        if self.energised is None:
            return None
        period, cycles = self.times["test_period"], self.times["test_cycles"]
        place = (self.now - self.energised) % period
        if period // 2 - cycles <= place < period // 2:
            return "a"
        return "b" if place >= period - cycles else None

    def step(self, given: Mapping[str, int]) -> None:
        """Go through one cycle with these inputs, by name; those that are missing are 0."""

        def value(name: str) -> int:
            return int(given.get(name, 0))

        loud = sum(
            1 << n
            for n in range(self.sources)
            if (value("alert_p") >> n & 1, value("alert_n") >> n & 1) != (0, 1)
        )
        causes = self._stop((value("stop_a"), value("stop_b")))
        causes |= self._feedback({x: value(f"feedback_{x}") for x in "ab"})
        causes |= self._heartbeat(value("heartbeat"))
        good = not loud and not causes
        self.rearmed = False
        was_live = self.state == "LIVE"
        if self.state == "LIVE":
            if not good:
                self.state, self._read = "SAFE", False
                self.caught = loud, frozenset(causes)
        else:
            self._ask(good, value("cause_read"), value("key") if value("rearm") else None)
        if not (was_live and good):
            self.energised = None
        elif self.energised is None:
            self.energised = self.now + 1
        self.now += 1

    def _stop(self, pair: tuple[int, int]) -> set[str]:
        """Causes of the emergency stop's contacts."""
        causes = set() if pair == (1, 0) else {"stop"}
        if pair[0] != pair[1]:
            self._agreed = None
        elif self._agreed is None:
            self._agreed = self.now
        if self._agreed is not None:
            self._unclear |= self.now - self._agreed >= self.times["discrepancy"]
        if self._unclear:
            causes.add("discrepancy")
        if pair == (0, 1):
            self._unclear = False
        return causes

    def _feedback(self, levels: Mapping[str, int]) -> set[str]:
        """Causes of the drives. It keeps the last cycle in which a drive did as it was told."""
        told = self.shown()
        for x, level in levels.items():
            if level == told[f"drive_{x}"]:
                self._follows[x] = self.now
        return {
            f"feedback_{x}"
            for x, last in self._follows.items()
            if self.now - last > self.times["follow"]
        }

    def _heartbeat(self, level: int) -> set[str]:
        """Whether more cycles than allowed are without an edge."""
        if level != self._level:
            self._level, self._edge = level, self.now
        return {"heartbeat"} if self.now - self._edge > self.times["heartbeat"] else set()

    def _ask(self, good: bool, read: int, key: int | None) -> None:
        """Steps of a re-arm."""
        if self.state == "SAFE":
            if key is None:
                self._read |= bool(read)
                return
            if key == _FIRST and self._read and good:
                self.state, self._requested = "REQUESTED", self.now
            self._read = False
            return
        waited = self.now - self._requested
        in_time = self.times["rearm_min"] <= waited <= self.times["rearm_max"]
        if key == _SECOND and in_time and good:
            self.state, self.rearmed, self.caught = "LIVE", True, (0, frozenset())
        elif key is not None or not good or waited > self.times["rearm_max"]:
            self.state = "SAFE"
