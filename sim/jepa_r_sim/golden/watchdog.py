"""Golden model of :mod:`jepa_r.safety.watchdog`: what each cycle makes of the one before."""

from attrs import define, field

__all__ = ["Watchdog", "token"]

#: Powers in the polynomial of the shift register, but the constant.
_POWERS = (32, 22, 2, 1)


def _step(state: int) -> int:
    """Multiply by 1/x modulo the polynomial, in the ring over two elements."""
    shifted = state >> 1
    return shifted ^ sum(1 << power - 1 for power in _POWERS) if state & 1 else shifted


def token(challenge: int, signature: int) -> int:
    """Token that answers a challenge after the path with this signature."""
    return _step(challenge) ^ signature


@define
class Watchdog:
    """State; :meth:`step` is a cycle. Times are absolute, unlike those of the hardware."""

    seed: int = 0x1D872B41
    settings: dict[str, int] = field(factory=lambda: {"open": 0, "deadline": 0, "path": 0})
    challenge: int = field(init=False)
    began: int | None = None
    now: int = 0
    last: int = 0
    faults: set[str] = field(factory=set)
    first: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.challenge = self.seed

    def step(
        self,
        *,
        writes: dict[str, int] | None = None,
        start: bool = False,
        kick: bool = False,
        token: int = 0,
    ) -> None:
        """Go through one cycle with these inputs."""
        raised = set()
        writes = writes or {}
        if self.began is None:
            self.settings |= writes
            if start:
                self.began = self.now + 1
        else:
            age = self.now - self.began
            due = _step(self.challenge) ^ self.settings["path"]
            if start or writes:
                raised.add("misuse")
            if kick and age < self.settings["open"]:
                raised.add("early")
            if not kick and age >= self.settings["deadline"]:
                raised.add("late")
            if kick and token != due:
                raised.add("replayed" if token == self.last else "wrong")
            if kick and token == due and age >= self.settings["open"]:
                self.challenge, self.last = _step(self.challenge), token
                self.began = self.now + 1
        self.now += 1
        self.first = self.first or raised
        self.faults |= raised
