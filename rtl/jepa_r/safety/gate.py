"""Actuation gate: the only path to the motors."""

from amaranth import *
from amaranth.lib import data, enum
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["OPEN_KEY", "Gate", "GateState"]

#: Key that opens a gate that is ready.
OPEN_KEY = 0x5C


class GateState(enum.Enum, shape=10):
    """States: any two differ in six bits, and in five from all zeros and all ones."""

    CLOSED = 0b1101000101
    READY = 0b0000101111
    OPEN = 0b1110101000


class Gate(Macro):
    """Lets torques pass while both channels say so, each in its own way.

    Open means, in every cycle anew: the state is ``OPEN``, the enable of channel A is exactly
    (1, 0), both outputs of channel B are high and every alert is quiet. Of these the last three act
    without a clock: torques are those of the register, or zeros, by gates behind it. So the gate
    closes in the very cycle in which one of them changes (:attr:`LATENCY` is 0), also when this
    clock has stopped, which channel B sees on the other one. If the other clock stops, its
    monitor on this side is one of the alerts. If both stop, no register can tell: ``alive`` changes
    with each sample that passes and goes to an actuator that wants it to.

    A gate that has closed stays closed. To open, it wants the full sequence: from ``CLOSED``, the
    enable at exactly (0, 1) with channel B on and no alert makes it ``READY``; then the enable goes
    to (1, 0), and :data:`OPEN_KEY` opens it. In ``READY`` any other value of the enable, another
    key, or a key too early closes it again. Changes of the enable's two rails must fall into one
    cycle. A state that is none leads to ``CLOSED``, and passes nothing.

    Parameters
    ----------
    joints : :class:`int`, positive
        Torques J.
    alerts : :class:`int`, positive
        Alerts N that close it at once, besides what the alert unit does.

    Members
    -------
    i_valid, torque : ``In(1)``, ``In(ArrayLayout(signed(32), J))``
        Torques from the limiter, Q16.16.
    enable_p, enable_n : ``In(1)``
        Channel A: closed is (0, 1), open is (1, 0).
    energise_a, energise_b : ``In(1)``
        Channel B, as its registers on the other clock say: both high is open. No register of this
        clock is behind them, only the gates before the motors.
    seen_a, seen_b : ``In(1)``
        The same, behind synchronisers. A cycle of the other clock must be longer than one of this
        clock, so that no pulse is lost on the way.
    alert_p, alert_n : ``In(N)``
        Alerts: quiet is (0, 1), and nothing else is.
    open, key : ``In(1)``, ``In(8)``
        The last step.
    o_valid, released : ``Out(1)``, ``Out(ArrayLayout(signed(32), J))``
        Torques for the motors, one cycle after they came; ``o_valid`` for a cycle when they are
        new. Zeros while closed.
    is_open : ``Out(1)``
        Torques pass.
    alive : ``Out(1)``
        Changes with each sample that passes.

    Raises
    ------
    :exc:`ValueError`
        If ``joints`` or ``alerts`` is not positive.
    """

    #: Cycles from anything that closes the gate to zeros at the motors.
    LATENCY = 0

    #: Cycles from a torque to the motors, if open.
    DELAY = 1

    def __init__(self, *, joints=7, alerts):
        for name, value in {"joints": joints, "alerts": alerts}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        torques = data.ArrayLayout(signed(32), joints)
        # The state is a plain signal: it may hold what is no state.
        self.state = Signal(10, init=GateState.CLOSED.value)
        self.held = Signal(torques)
        self.fresh = Signal()
        super().__init__(
            {
                "i_valid": In(1),
                "torque": In(torques),
                "enable_p": In(1),
                "enable_n": In(1),
                "energise_a": In(1),
                "energise_b": In(1),
                "seen_a": In(1),
                "seen_b": In(1),
                "alert_p": In(alerts),
                "alert_n": In(alerts),
                "open": In(1),
                "key": In(8),
                "o_valid": Out(1),
                "released": Out(torques),
                "is_open": Out(1),
                "alive": Out(1),
            },
            macro_name=f"gate_{joints}_{alerts}",
        )

    def build(self, platform):
        m = Module()
        quiet, enabled, disabled, ready = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            quiet.eq(self.seen_a & self.seen_b & ~self.alert_p.any() & self.alert_n.all()),
            enabled.eq(self.enable_p & ~self.enable_n),
            disabled.eq(~self.enable_p & self.enable_n),
            ready.eq((self.state == GateState.OPEN.value) & enabled & quiet),
            self.is_open.eq(ready & self.energise_a & self.energise_b),
        ]
        with m.Switch(self.state):
            with m.Case(GateState.CLOSED):
                with m.If(disabled & quiet):
                    m.d.sync += self.state.eq(GateState.READY)
            with m.Case(GateState.READY):
                with m.If(self.open & (self.key == OPEN_KEY) & enabled & quiet):
                    m.d.sync += self.state.eq(GateState.OPEN)
                with m.Elif(self.open | ~quiet | ~(enabled | disabled)):
                    m.d.sync += self.state.eq(GateState.CLOSED)
            with m.Case(GateState.OPEN):
                with m.If(~(enabled & quiet)):
                    m.d.sync += self.state.eq(GateState.CLOSED)
            with m.Default():
                m.d.sync += self.state.eq(GateState.CLOSED)

        # Zeros are what a closed gate holds, so that it opens with none from before.
        m.d.sync += self.fresh.eq(self.i_valid & ready)
        with m.If(~ready):
            m.d.sync += self.held.as_value().eq(0)
        with m.Elif(self.i_valid):
            m.d.sync += [self.held.eq(self.torque), self.alive.eq(~self.alive)]
        m.d.comb += [
            self.o_valid.eq(self.fresh & self.is_open),
            self.released.as_value().eq(
                self.held.as_value() & self.is_open.replicate(len(self.held.as_value()))
            ),
        ]
        return m
