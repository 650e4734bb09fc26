"""Golden model of :mod:`jepa_r.safety.gate`: what each cycle shows, and makes of the next."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

__all__ = ["Gate"]

_KEY = 0x5C


@define
class Gate:
    """State; :meth:`step` is a cycle.

    Attributes
    ----------
    joints, alerts
        Sizes.
    reached
        Steps of the sequence that are done: 0 none, 1 the gate was seen disabled, 2 it is open.
    sample
        Torques that the gate has, or ``None``: those of an open gate alone.
    fresh
        They came in the cycle before.
    passed
        Samples that the gate took.
    """

    joints: int
    alerts: int
    reached: int = 0
    sample: Sequence[int] | None = None
    fresh: bool = False
    passed: int = field(default=0)

    def step(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Go through one cycle with these inputs, by name; those that are missing are 0.

        Returns
        -------
        dict
            Outputs of this cycle.
        """

        def value(name: str) -> int:
            return int(given.get(name, 0))

        quiet = value("alert_p") == 0 and value("alert_n") == (1 << self.alerts) - 1
        well = quiet and value("seen_a") == value("seen_b") == 1
        enable = value("enable_p"), value("enable_n")
        passes = self.reached == 2 and well and enable == (1, 0)
        is_open = passes and value("energise_a") == value("energise_b") == 1
        shown = {
            "is_open": int(is_open),
            "o_valid": int(is_open and self.fresh),
            "released": list(self.sample or ()) if is_open and self.sample else [0] * self.joints,
            "alive": self.passed % 2,
        }
        self.fresh = passes and value("i_valid") == 1
        if not passes:
            self.sample = None
        elif self.fresh:
            self.sample, self.passed = given.get("torque", [0] * self.joints), self.passed + 1
        self.reached = self._following(
            well, enable, value("key") if value("open") else None, passes
        )
        return shown

    def _following(self, well: bool, enable: tuple[int, int], key: int | None, passes: bool) -> int:
        """Steps that are done in the next cycle. Whatever is not the next step undoes them all."""
        if self.reached == 0:
            return int(well and enable == (0, 1))
        if self.reached == 1:
            if not well or enable not in {(0, 1), (1, 0)}:
                return 0
            if key is None:
                return 1
            return 2 if key == _KEY and enable == (1, 0) else 0
        return 2 if passes else 0
