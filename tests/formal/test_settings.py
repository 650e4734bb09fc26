"""Settings are frozen after the lock, and every flipped bit of theirs is seen."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Cover

from jepa_r.safety.settings import Settings
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, first_is_fast, past

FIELDS = {"low": 24, "high": 32, "mode": 2}


class Frozen(Spec):
    """Everything that is written before the lock stays as it is."""

    def specify(self, m, dut):
        locked = Signal()
        with m.If(dut.lock):
            m.d.sync += locked.eq(1)
        m.d.comb += [
            Assert(dut.locked == locked, "locked from the cycle after the lock"),
            Assert(dut.refused == (locked & dut.w_en.any()), "a write after it is refused"),
            Assert(~dut.mismatch, "the copies agree"),
            Cover(locked & (dut.low == 5) & dut.refused, "written, locked and written again"),
        ]
        for n, (name, width) in enumerate(FIELDS.items()):
            value = Signal(width)
            with m.If(dut.w_en[n] & ~locked):
                m.d.sync += value.eq(dut.w_data)
            m.d.comb += Assert(getattr(dut, name) == value, f"{name} is what was written")
            before = past(m, getattr(dut, name))
            m.d.comb += Assert(
                ~past(m, locked) | (getattr(dut, name) == before), f"{name} is frozen"
            )


class Flipped(Spec):
    """One register of all differs from what it should be, in any one bit."""

    def specify(self, m, dut):
        values = [dut.low, dut.high, dut.mode, dut.lock_copies[0]]
        copies = [dut.copies["low"], dut.copies["high"], dut.copies["mode"], dut.lock_copies[1]]
        held = Cat(*values, *copies)
        good = Signal(len(Cat(*values)))
        m.d.comb += good.eq(AnyConst(len(good)))
        bit = AnyConst(range(len(held)))
        wrong = held == (Cat(good, ~good) ^ (1 << bit))
        m.d.comb += [
            Assert(~wrong | dut.mismatch | (bit >= len(held)), "a flipped bit is seen"),
            Assert((held != Cat(good, ~good)) | ~dut.mismatch, "none is not"),
        ]


def test_nothing_changes_after_the_lock(tmp_path):
    assert prove(Frozen(Settings(FIELDS)), depth=1, workdir=tmp_path).mode == "prove"
    prove(Frozen(Settings(FIELDS)), depth=4, workdir=tmp_path, mode="cover")


def test_every_flipped_bit_is_seen(tmp_path):
    """From any state of the registers, those that cannot be reached included."""
    prove(Flipped(Settings(FIELDS)), depth=1, workdir=tmp_path, mode="settle")


BUGS = [
    (Frozen, "prove", "with m.If(bit & ~self.locked):", "with m.If(bit):", "frozen"),
    (Frozen, "prove", "self.locked & self.w_en.any()", "self.w_en.any()", "refused"),
    (Frozen, "prove", "copy.eq(~self.w_data[: len(copy)])", "copy.eq(0)", "agree"),
    (Flipped, "settle", "differs.append(value != ~copy)", "pass", "flipped bit"),
    (Flipped, "settle", "locked == unlocked", "0", "flipped bit"),
]


@pytest.mark.parametrize(("spec", "mode", "old", "new", "found"), first_is_fast(BUGS))
def test_planted_bugs_are_found(tmp_path, spec, mode, old, new, found):
    with pytest.raises(ProofError, match=found):
        prove(spec(mutant(Settings, old, new)(FIELDS)), depth=1, workdir=tmp_path, mode=mode)


@pytest.mark.parametrize("width", [0, 33])
def test_settings_that_cannot_be_are_refused(width):
    with pytest.raises(ValueError, match=rf"^low has {width} bits; a setting has 1 to 32$"):
        Settings({"low": width})
