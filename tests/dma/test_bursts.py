import random

import pytest
from amaranth import *
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.config import MemoryContract
from jepa_r.dma.bound import ReadBound
from jepa_r.dma.bursts import beats_of, burst_lengths
from jepa_r.dma.mover import Mover
from jepa_r.dma.reader import DmaReader
from jepa_r.fabric.crc import Crc32

BUS = {"data_bytes": 16, "burst_beats": 16, "outstanding": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_bytes": 12}, "data_bytes is 12; it must be a power of two from 4 to 128"),
        (
            {"burst_beats": 257},
            "burst_beats is 257; it must be from 1 to 256 for beats of 16 bytes",
        ),
        (
            {"data_bytes": 128, "burst_beats": 33},
            "burst_beats is 33; it must be from 1 to 32 for beats of 128 bytes",
        ),
        ({"outstanding": 0}, "outstanding is 0; it must be from 1 to 256"),
        ({"address_bits": 40}, "address_bits is 40; it must be from 13 to 32"),
        ({"queue": 0}, "queue is 0; it must hold at least one transfer"),
    ],
)
def test_buses_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DmaReader(**(BUS | {"words": {0: 8}} | change))
    with pytest.raises(ValueError, match=f"^{message}$"):
        Mover(**(BUS | {"row_bytes": 8, "lanes": 4} | change))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({8: 4}, r"words has destination 8; they are numbered 0 to 7"),
        ({1: 0}, r"words\[1\] is 0; a word has at least one byte"),
    ],
)
def test_destinations_that_cannot_be_are_refused(words, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DmaReader(**BUS, words=words)


def test_movers_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"^lanes is 3; it must divide row_bytes, which is 8$"):
        Mover(**BUS, row_bytes=8, lanes=3)
    with pytest.raises(ValueError, match=r"^read_latency is 0; it must be at least 1$"):
        Mover(**BUS, row_bytes=8, lanes=4, read_latency=0)


@given(
    address=st.integers(0, 1 << 20),
    beats=st.integers(1, 3000),
    log=st.integers(2, 7),
    burst_beats=st.integers(1, 256),
)
def test_bursts_cover_a_row_and_cross_no_page(address, beats, log, burst_beats):
    width = 1 << log
    burst_beats = min(burst_beats, 4096 // width)
    address -= address % width
    lengths = list(burst_lengths(address, beats, data_bytes=width, burst_beats=burst_beats))
    assert sum(lengths) == beats
    for length in lengths:
        assert 1 <= length <= burst_beats
        assert address // 4096 == (address + length * width - 1) // 4096
        address += length * width


@settings(max_examples=8, deadline=None)
@given(word_bytes=st.integers(1, 300), log=st.integers(2, 7))
def test_hardware_counts_beats_as_the_compiler_does(word_bytes, log):
    words = Signal(16)
    beats = Signal(32)
    m = Module()
    sizes = {"word_bytes": word_bytes, "data_bytes": 1 << log}
    m.d.comb += beats.eq(beats_of(words, **sizes))
    rng = random.Random(word_bytes)

    async def testbench(ctx):
        edges = [1, 2, 3, 4, 5, 65535, 65534, 65533]
        for count in [*edges, *(rng.randrange(1, 65536) for _ in range(200))]:
            ctx.set(words, count)
            await ctx.delay(1e-9)
            assert ctx.get(beats) == beats_of(count, **sizes)

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()


def contract(**change):
    return MemoryContract(
        **{
            "data_bytes": 16, "bytes_per_cycle": 8, "latency": 60, "burst_beats": 8,
            "outstanding": 5,
        }
        | change
    )  # fmt: skip


@pytest.mark.parametrize("outstanding", [6, 12])
def test_as_many_bursts_as_a_contract_needs_give_the_promised_rate(outstanding):
    promise = contract(latency=70, outstanding=outstanding)
    words = 40_000
    bound = ReadBound(words={0: 16}, contract=promise)
    done = bound.transfer(issue=0, address=0, words=words, dest=0)
    assert done == DmaReader.START + promise.latency + 1 + DmaReader.COMPLETE + words * 2


def test_copies_of_a_bound_go_their_own_ways():
    bound = ReadBound(words={0: 16}, contract=contract())
    bound.transfer(issue=0, address=0, words=100, dest=0)
    other = bound.copy()
    later = {"issue": 10, "address": 0, "words": 50, "dest": 0}
    assert bound.transfer(**later) == other.transfer(**later)


def test_sums_cost_a_beat():
    transfer = {"issue": 0, "address": 0, "words": 7, "dest": 0}
    plain, summed = (
        ReadBound(words={0: 16}, contract=contract()).transfer(**transfer, crc=crc)
        for crc in (False, True)
    )
    assert summed - plain == 2
    assert DmaReader.COMPLETE == Crc32.LATENCY + 1
