"""A burst is allowed if, and only if, no byte of it is outside the window."""

import pytest
from amaranth import *
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.guard import WindowGuard
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, follow_faults, follow_settings


def byte_of(beat, lane, dut):
    """Address of a byte, 40 bits wide: ``lane`` counts from the beginning of the beat's word."""
    word = (dut.address >> dut.size) + beat
    return (word << dut.size) + lane


class GuardSpec(Spec):
    """Any byte of the burst, and for the other direction its first and its last."""

    def specify(self, m, dut):
        settings, locked = follow_settings(m, dut, dut.fields, lock=dut.lock)
        beat, lane = AnySeq(8), AnySeq(7)
        byte, first_byte, last_byte = Signal(40), Signal(40), Signal(40)
        width = 1 << dut.size
        of_burst = (beat <= dut.length) & (lane < width) & (byte >= dut.address)
        m.d.comb += [
            byte.eq(byte_of(beat, lane, dut)),
            first_byte.eq(dut.address),
            last_byte.eq(byte_of(dut.length, width - 1, dut)),
        ]

        def in_window(byte):
            return (
                (byte >= settings["base"])
                & (byte <= settings["limit"])
                & (byte < 1 << 32)
                & (byte >> 12 == dut.address >> 12)
            )

        both = in_window(first_byte) & in_window(last_byte)
        usable = locked & (dut.burst == 1)
        m.d.comb += [
            Assert(~(dut.allowed & of_burst) | in_window(byte), "every byte is in the window"),
            Assert(~dut.allowed | usable, "it counts up, and the window is locked"),
            Assert(dut.allowed | ~(usable & both), "what is in the window is allowed"),
            Assert(dut.locked == locked, "locked from the cycle after the lock"),
        ]
        raised = {
            "outside": dut.request & ~(usable & both),
            "misuse": locked & dut.w_en.any(),
            "settings": 0,
        }
        follow_faults(m, dut, raised)


class GuardCovers(GuardSpec):
    """Things that do happen."""

    def specify(self, m, dut):
        super().specify(m, dut)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(dut.allowed & (dut.length == 15) & (dut.base == 0x40), "a long burst is allowed"),
            Cover(dut.faults.outside & (dut.limit == 0x1FFF), "another is not"),
        ]


@pytest.mark.slow
def test_every_byte_of_an_allowed_burst_is_in_the_window(tmp_path):
    prove(GuardSpec(WindowGuard()), depth=1, workdir=tmp_path)


@pytest.mark.slow
def test_bursts_are_allowed_and_refused(tmp_path):
    prove(GuardCovers(WindowGuard()), depth=6, workdir=tmp_path, mode="cover")


BUGS = [
    # A sum of 32 bits is no bug: a burst round the end of the addresses leaves its page.
    ("(self.length + 1) << self.size", "self.length << self.size", "every byte|outside"),
    ("self.address & ~(size_bytes - 1)", "self.address", "allowed|outside"),
    ("& (self.address[12:] == last[12:])", "", "every byte|outside"),
    ("& (self.burst == self.INCREMENTING)", "", "counts up|outside"),
    ("(last <= settings.limit)", "(last < settings.limit)", "is allowed|outside"),
    ("settings.lock.eq(self.lock)", "settings.lock.eq(0)", "lock|frozen|outside"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "found"), BUGS)
def test_planted_bugs_are_found(tmp_path, old, new, found):
    with pytest.raises(ProofError, match=found):
        prove(GuardSpec(mutant(WindowGuard, old, new)()), depth=1, workdir=tmp_path)
