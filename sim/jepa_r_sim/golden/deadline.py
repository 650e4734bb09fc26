"""Golden model of :mod:`jepa_r.safety.deadline`: what each cycle makes of the one before."""

from attrs import define, field

__all__ = ["DeadlineMonitor"]

_NAMES = ("open", "deadline", "grace", "max_age", "first_sequence")


@define
class DeadlineMonitor:
    """State; :meth:`step` is a cycle. Times are absolute, unlike those of the hardware."""

    settings: dict[str, int] = field(factory=lambda: dict.fromkeys(_NAMES, 0))
    now: int = 0
    #: Cycle in which the count is 0: of the start, or after the last good action.
    began: int | None = None
    missed: int | None = None
    came: bool = False
    good_ones: int = 0
    faults: set[str] = field(factory=set)
    first: set[str] = field(factory=set)

    @property
    def expected(self) -> int:
        """Number of the action that is due."""
        return (self.settings["first_sequence"] + self.good_ones) % 2**32

    def step(
        self,
        *,
        writes: dict[str, int] | None = None,
        start: bool = False,
        action: bool = False,
        good: bool = False,
        sequence: int = 0,
        age: int = 0,
    ) -> bool:
        """Go through one cycle with these inputs; whether an action was good."""
        raised: set[str] = set()
        writes = writes or {}
        accepted = False
        if self.began is None:
            self.settings |= writes
            if start:
                self.began = self.now + 1
        else:
            accepted = self._run(raised, action, good, sequence, age)
            if start or writes:
                raised.add("misuse")
        self.now += 1
        self.first = self.first or raised
        self.faults |= raised
        return accepted

    def _run(self, raised: set[str], action: bool, good: bool, sequence: int, age: int) -> bool:
        assert self.began is not None
        elapsed = self.now - self.began
        right = action and good and sequence == self.expected
        if action and not right:
            raised.add("sequence" if good else "check")
        if right and age > self.settings["max_age"]:
            raised.add("stale")
        if self.missed is not None:
            self.came |= right
            if not self.came and self.now - self.missed >= self.settings["grace"]:
                raised.add("never")
            return False
        if right and self.good_ones and elapsed < self.settings["open"]:
            raised.add("early")
        if right and not raised:
            self.good_ones += 1
            self.began = self.now + 1
            return True
        if elapsed >= self.settings["deadline"]:
            raised.add("late")
            self.missed = self.now + 1
        return False
