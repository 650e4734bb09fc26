"""Faults inside a running island, and what each must lead to."""

from attrs import frozen

from .island import CONFIG, closes

__all__ = ["FAULTS", "notices"]


@frozen
class InnerFault:
    """A fault of a register.

    Attributes
    ----------
    register, bits
        What flips.
    alert
        Name of the first alert.
    cycles
        Bound on the time to the closed gate, and the clock that it is counted in.
    clock
        Clock of the register.
    sources, cause
        Bits of channel B's sources and causes that must show.
    within_us
        Time that it may take to show at all.
    """

    register: str
    bits: tuple[int, ...]
    alert: str | None
    cycles: int | None
    clock: str = "safe"
    sources: int = 0
    cause: int = 0
    within_us: float = 2


#: Channel B's sources by name: bits of ``trip_sources``.
TRIP, LOCKSTEP, STOPPED, WATCHDOG, CLOCK = (1 << n for n in range(5))

#: The budget: a wrong output of a core is out of the gate's way in four cycles, a wrong state in
#: four at the unit.
_WRONG = 4

#: By what happens.
FAULTS = {
    "an output of the first core": InnerFault(
        "pair.main.core.bus_addr", (3,), "LOCKSTEP", _WRONG, sources=LOCKSTEP
    ),
    "an output of the second core": InnerFault(
        "pair.checker.core.bus_addr", (17,), "LOCKSTEP", _WRONG, sources=LOCKSTEP
    ),
    # Two cycles of sender and unit behind the checker's own, and the state machine's.
    "a setting": InnerFault(
        "registers.limit_torque_0_inverse", (12,), "SETTING", _WRONG, sources=TRIP
    ),
    "a setting of the window": InnerFault(
        "registers.watchdog_open_inverse", (0,), "SETTING", _WRONG, sources=TRIP
    ),
    "a limit of the limiter": InnerFault(
        "limiter.settings.limit_0", (30,), "LIMITER", _WRONG, sources=TRIP
    ),
    "a torque that was released": InnerFault(
        "limiter.joint_0.released", (22,), "LIMITER", None, sources=TRIP, within_us=1100
    ),
    "the state of channel A": InnerFault("machine.state", (3,), None, _WRONG, sources=STOPPED),
    "the state of the gate": InnerFault("gate.state", (3,), None, 0),
    "the state of channel B": InnerFault(
        "trip.state", (3,), "ESTOP", 1, clock="guard", cause=1 << 5
    ),
    "the watchdog's window": InnerFault(
        "watchdog.watchdog.settings.open", (3,), "WATCHDOG", 4, clock="guard", sources=WATCHDOG
    ),
    "the watchdog's switch": InnerFault(
        "watchdog.live", (0,), "WATCHDOG", 1, clock="guard", sources=WATCHDOG
    ),
    "a limit of channel B's monitor": InnerFault(
        "safe_clock.settings.stop", (0,), "ESTOP", 4, clock="guard", sources=CLOCK
    ),
    # Of a whole monitor, with a latch of its own: a cycle more than those of the register block.
    "a limit of channel A's monitor": InnerFault(
        "guard_clock.settings.stop", (0,), "CLOCK", _WRONG, sources=TRIP
    ),
    "the challenge that the firmware reads": InnerFault(
        "next_challenge.word.o", (5,), "WATCHDOG", None, sources=WATCHDOG, within_us=1100
    ),
    "a request that no one made": InnerFault(
        "tokens.requested.o", (0,), "WATCHDOG", 4, clock="guard", sources=WATCHDOG
    ),
    # The firmware waits for a period that never begins; the watchdog's window is 1.3125 ms.
    "the timer of the periods": InnerFault(
        "timer.phase", (31,), "WATCHDOG", None, sources=WATCHDOG, within_us=1320
    ),
}


def _cycles(world, name, value, begin, clock):
    """Cycles from a time to a change of an output; a part of one counts as one."""
    mhz = {"safe": CONFIG.clock_mhz, "guard": CONFIG.guard_mhz}[clock]
    at = next(
        event.time_ps
        for event in world.model.events
        if event.time_ps >= begin and (event.name, event.value) == (name, value)
    )
    return round((at - begin) * mhz / 1e6, 1)


def notices(world, what, latency):
    """Plant a fault; it is found in time, by the one that should, and the gate is closed."""
    fault, model = FAULTS[what], world.model
    model.edge(fault.clock)
    begin = model.time_ps
    for bit in fault.bits:
        model.flip(fault.register, bit)
    while model.shown["is_open"] and model.time_ps < begin + fault.within_us * 1e6:
        if fault.within_us > 100:
            model.packet("joints", world.sample())
            model.packet("commands", world.command())
            world.sequence += 1
        model.until("is_open", 0, within_us=min(fault.within_us, 1000))
    assert not model.shown["is_open"]
    model.run(1)
    closed = _cycles(world, "is_open", 0, begin, fault.clock)
    if fault.cycles is not None:
        latency(f"{what}, to the closed gate", closed, fault.cycles, f"{fault.clock}_clk")
    if fault.alert is not None:
        assert model.alerts("first_alert") == {fault.alert}
    if fault.sources or fault.cause:
        if fault.cycles is not None:
            energy = max(_cycles(world, f"sto_{x}", 0, begin, "safe") for x in "ab")
            latency(f"{what}, to no energy", energy, 16, "safe_clk")
        assert model.shown["trip_sources"] & fault.sources == fault.sources
        assert model.shown["trip_cause"] & fault.cause == fault.cause
    assert model.shown["brake"] == 1
    if fault.alert is not None:
        closes(world, state="TRIP")
