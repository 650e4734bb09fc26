"""What specifications of safety blocks have in common."""

import pytest
from amaranth import *
from amaranth.hdl import Assert

from jepa_r_sim.formal import free_inputs


class Spec(Elaboratable):
    """A block with free inputs, and a model of it side by side.

    Subclasses define :meth:`specify`. The model's registers and the block's are linked by
    assertions: they are the invariant that induction needs.
    """

    def __init__(self, dut):
        self.dut = dut

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = self.dut
        free_inputs(m, self.dut)
        self.specify(m, self.dut)
        return m

    def specify(self, m, dut):
        raise NotImplementedError


def past(m, value, init=0):
    """Value of the cycle before; ``init`` in the first cycle and after a reset."""
    held = Signal.like(Value.cast(value), init=init, name="past")
    m.d.sync += held.eq(value)
    return held


def follow_settings(m, dut, fields, *, lock):
    """Settings of a model: they take what is written until the cycle of ``lock``.

    Says that those of the block are the same, and returns the model's, and whether it is locked.
    """
    locked = Signal(name="model_locked")
    values, shown = {}, {}
    for n, (name, width) in enumerate(fields.items()):
        value = values[name] = Signal(width, name=f"model_{name}")
        with m.If(dut.w_en[n] & ~locked):
            m.d.sync += value.eq(dut.w_data)
        shown[name] = getattr(dut, name, getattr(dut.settings, name))
        m.d.comb += Assert(shown[name] == value, f"{name} is what was written")
    with m.If(lock):
        m.d.sync += locked.eq(1)
    frozen = past(m, locked)
    for name, value in shown.items():
        m.d.comb += Assert(~frozen | (value == past(m, value)), f"{name} is frozen")
    m.d.comb += [
        Assert(dut.settings.locked == locked, "the lock holds"),
        Assert(~dut.settings.mismatch, "the copies agree"),
    ]
    return values, locked


def follow_faults(m, dut, raised):
    """Say that the faults of a block are those of the model, one cycle later, and stay.

    ``raised`` has the model's conditions by name.
    """
    faults, first = ({name: Signal(name=f"{kind}_{name}") for name in raised}
                     for kind in ("model", "first"))  # fmt: skip
    none_before = ~Cat(first.values()).any()
    for name, now in raised.items():
        with m.If(now):
            m.d.sync += faults[name].eq(1)
            with m.If(none_before):
                m.d.sync += first[name].eq(1)
        m.d.comb += [
            Assert(dut.faults[name] == faults[name], f"fault {name} exactly when it is due"),
            Assert(dut.first[name] == first[name], f"cause {name} is that of the first cycle"),
            Assert(dut.faults[name] | ~past(m, dut.faults[name]) | past(m, ResetSignal()),
                   f"fault {name} stays"),
        ]  # fmt: skip
    any_fault = Cat(faults.values()).any()
    m.d.comb += [
        Assert(dut.alert_p == any_fault, "the alert's first rail"),
        Assert(dut.alert_n == ~any_fault, "the alert's second rail"),
    ]
    return faults


def first_is_fast(bugs):
    """Parameters of planted bugs: the first runs in every suite, the rest with ``--slow``."""
    fast, *slow = bugs
    return [fast, *(pytest.param(*bug, marks=pytest.mark.slow) for bug in slow)]
