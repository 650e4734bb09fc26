"""Golden model of :class:`jepa_r.safety.state.StateMachine`."""

from collections.abc import Collection

from attrs import evolve, frozen

__all__ = ["STATES", "Channel", "allowed", "following"]

#: States and their words: code words of the first-order Reed-Muller code of length 16.
STATES = {
    "RESET": 0x5A5A,
    "SELFTEST": 0x5555,
    "LOCKED": 0x3333,
    "RUN": 0x0F0F,
    "FALLBACK": 0x00FF,
    "STOP": 0x6666,
    "TRIP": 0x3C3C,
}

#: Cycles at the beginning of SELFTEST in which all is held in reset.
HOLD = 64


@frozen(kw_only=True)
class Channel:
    """State of channel A.

    Attributes
    ----------
    state
        One of :data:`STATES`.
    periods
        Periods that have begun in FALLBACK.
    held
        Cycles for which SELFTEST has been held in reset.
    interrupt
        FALLBACK is not confirmed.
    """

    state: str = "RESET"
    periods: int = 0
    held: int = 0
    interrupt: bool = False

    @property
    def hold(self) -> bool:
        """What a session begins anew is held in reset."""
        return self.state == "RESET" or (self.state == "SELFTEST" and self.held <= HOLD)

    @property
    def enabled(self) -> bool:
        """Torques may leave."""
        return self.state in {"RUN", "FALLBACK"}


def allowed(channel: Channel, given: Collection[str]) -> set[str]:
    """What the firmware may ask for; ``given`` has the names of inputs that are one."""
    may = {
        "SELFTEST": {"locked"}
        if {"settings_locked", "comparator_good"} <= set(given) and not channel.hold
        else set(),
        "LOCKED": {"stop"}
        | ({"run"} if "estop_released" in given and "fallback" not in given else set()),
        "RUN": {"fallback", "stop"},
        "FALLBACK": {"fallback", "stop"},
        "STOP": {"restart"},
    }.get(channel.state, set())
    return may if channel.state == "RESET" else may | {"trip"}


def following(
    channel: Channel, given: Collection[str], asked: Collection[str], *, limit: int
) -> Channel:
    """State of the next cycle."""
    asks = set(asked) & allowed(channel, given)
    state = channel.state
    confirmed = "fallback" in asks and state == "FALLBACK"
    if "trip" in given or "trip" in asks:
        state = "TRIP"
    elif "stop" in asks:
        state = "STOP"
    elif state == "RESET":
        state = "TRIP" if "load_failed" in given else "SELFTEST" if "loaded" in given else "RESET"
    elif state == "SELFTEST" and "locked" in asks:
        state = "LOCKED"
    elif state == "LOCKED" and "run" in asks:
        state = "RUN"
    elif state == "RUN" and ("fallback" in given or "fallback" in asks):
        state = "FALLBACK"
    elif state == "FALLBACK" and "period" in given and channel.periods == limit:
        state = "STOP"
    elif (state == "STOP" and "restart" in asks) or (state == "TRIP" and "rearm" in given):
        state = "SELFTEST"
    stays = state == channel.state == "FALLBACK"
    return evolve(
        channel,
        state=state,
        periods=channel.periods + ("period" in given) if stays else 0,
        held=min(channel.held + 1, HOLD + 1) if state == "SELFTEST" else 0,
        interrupt=state == "FALLBACK"
        and (channel.state == "RUN" or (channel.interrupt and not confirmed)),
    )
