"""Golden model of :mod:`jepa_r.safety.limiter`, a sample a step."""

from collections.abc import Sequence

from attrs import define, field

__all__ = ["Limiter"]

_NOT_A_NUMBER = -(2**31)


@define
class Limiter:
    """State; :meth:`step` takes a sample and returns the faults it makes."""

    limits: Sequence[int]
    steps: Sequence[int]
    max_age: int
    released: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.released = [0] * len(self.limits)

    def step(self, torques: Sequence[int], *, age: int, stop: bool = False) -> set[str]:
        """Release what is allowed of these torques."""
        faults = {"stale"} if age > self.max_age else set()
        for n, torque in enumerate(torques):
            limit, step, before = self.limits[n], self.steps[n], self.released[n]
            if torque == _NOT_A_NUMBER:
                faults.add("invalid")
                torque = 0
            elif abs(torque) > limit:
                faults.add("range")
            if "stale" in faults or stop:
                torque = 0
            wanted = max(-limit, min(limit, torque))
            allowed = max(before - step, min(before + step, wanted))
            if allowed != wanted:
                faults.add("slew")
            self.released[n] = allowed
        return faults
