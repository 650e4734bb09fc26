"""Golden model of :mod:`jepa_r.safety.clock_monitor`: what each cycle makes of those before."""

from attrs import define, field

__all__ = ["ClockMonitor"]

_NAMES = ("window", "low", "high", "stop", "gap")


@define
class ClockMonitor:
    """State; :meth:`step` is a cycle. It keeps the cycles of all edges, and counts when asked."""

    settings: dict[str, int] = field(factory=lambda: dict.fromkeys(_NAMES, 0))
    now: int = 0
    level: bool = False
    started: int | None = None
    #: First cycle of this window.
    opened: int = 0
    edges: list[int] = field(factory=list)
    faults: set[str] = field(factory=set)
    first: set[str] = field(factory=set)

    def step(
        self, *, toggle: bool, writes: dict[str, int] | None = None, start: bool = False
    ) -> None:
        """Go through one cycle with these inputs."""
        raised = set()
        writes = writes or {}
        if self.started is None:
            self.settings |= writes
            if start:
                self.started, self.opened = self.now, self.now + 1
        else:
            raised = self._run(toggle != self.level)
            if start or writes:
                raised.add("misuse")
        self.level = toggle
        self.now += 1
        self.first = self.first or raised
        self.faults |= raised

    def _run(self, edge: bool) -> set[str]:
        assert self.started is not None
        raised = set()
        quiet = self.now - (self.edges[-1] if self.edges else self.started)
        if not edge and quiet >= self.settings["stop"]:
            raised.add("stopped")
        if edge and self.edges and quiet < self.settings["gap"]:
            raised.add("glitch")
        if edge:
            self.edges.append(self.now)
        inside = sum(self.opened <= cycle for cycle in self.edges)
        if edge and inside > self.settings["high"]:
            raised.add("fast")
        if self.now - self.opened + 1 >= self.settings["window"]:
            if inside < self.settings["low"]:
                raised.add("slow")
            self.opened = self.now + 1
        return raised
