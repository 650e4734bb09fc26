# amaranth: UnusedElaboratable=no
import random

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.latent.feeder import Feeder
from jepa_r.latent.store import SLOTS, LatentStore


def simulate(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"^words is 0; it must be from 1 to 262144$"):
        LatentStore(words=0, row_bytes=8, ecc=False)
    with pytest.raises(ValueError, match=r"^words is 262145; it must be from 1 to 262144$"):
        LatentStore(words=262145, row_bytes=8, ecc=False)
    with pytest.raises(ValueError, match=r"^to_bytes is 3; it must divide from_bytes, which is 8$"):
        Feeder(words=4, from_bytes=8, to_bytes=3)
    with pytest.raises(ValueError, match=r"^to_bytes is 0; it must divide from_bytes, which is 8$"):
        Feeder(words=4, from_bytes=8, to_bytes=0)


@pytest.mark.parametrize("words", [1, 3, 16])
def test_only_the_slot_that_is_being_made_is_written(words):
    dut = LatentStore(words=words, row_bytes=2, ecc=True)
    rng = random.Random(words)

    async def testbench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        expected = [0] * (SLOTS * words)
        ctx.set(dut.w_en, 1)
        for _ in range(100):
            slot = rng.randrange(SLOTS)
            ctx.set(dut.slot, slot)
            address = slot * words + rng.randrange(words)
            expected[address] = rng.randrange(1 << 16)
            ctx.set(dut.w_addr, address)
            ctx.set(dut.w_data, expected[address])
            await ctx.tick()
        assert not ctx.get(dut.outside)
        edges = [
            (slot, at) for slot in range(SLOTS) for at in (slot * words - 1, slot * words + words)
        ]
        for slot, address in [*edges, (3, 1 << 19), (0, (1 << 20) - 1)]:
            ctx.set(dut.slot, slot)
            ctx.set(dut.w_addr, address % (1 << 20))
            ctx.set(dut.w_data, 0xDEAD)
            await ctx.tick()
        assert ctx.get(dut.outside)
        ctx.set(dut.w_en, 0)
        ctx.set(dut.r_en, 1)
        for address, word in enumerate(expected):
            ctx.set(dut.r_addr, address)
            for _ in range(LatentStore.READ_LATENCY):
                await ctx.tick()
            assert ctx.get(dut.r_data) == word
        assert ctx.get(dut.outside)
        assert not ctx.get(dut.broken)

    simulate(dut, testbench)


def test_wrong_words_are_corrected_or_told():
    dut = LatentStore(words=2, row_bytes=4, ecc=True)
    told = []

    async def testbench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        for inject in (1, 2, 3):
            ctx.set(dut.w_en, 1)
            ctx.set(dut.w_data, 0x12345678)
            ctx.set(dut.inject, inject)
            await ctx.tick()
            ctx.set(dut.w_en, 0)
            ctx.set(dut.r_en, 1)
            await ctx.tick()
            ctx.set(dut.r_en, 0)
            for _ in range(LatentStore.READ_LATENCY - 1):
                await ctx.tick()
            right = ctx.get(dut.r_data) == 0x12345678
            await ctx.tick()
            told.append((ctx.get(dut.corrected), right, ctx.get(dut.broken)))

    simulate(dut, testbench)
    assert told[:2] == [(1, True, 0), (2, True, 0)]
    assert told[2][0] == 2
    assert told[2][2] == 1


@settings(max_examples=12, deadline=None)
@given(
    parts=st.sampled_from([1, 2, 3, 4]),
    rows=st.integers(1, 7),
    blocks=st.integers(1, 9),
    slot=st.integers(0, SLOTS - 1),
    address=st.sampled_from([0, 5, 1000, (1 << 20) - 70]),
    spare=st.integers(0, 3),
)
def test_a_latent_arrives_in_order_and_in_time(parts, rows, blocks, slot, address, spare):
    to_bytes = 2
    words = rows * -(-blocks // parts) + spare
    dut = Feeder(words=words, from_bytes=parts * to_bytes, to_bytes=to_bytes)
    rng = random.Random(rows * blocks)
    memory = [rng.randbytes(parts * to_bytes) for _ in range(SLOTS * words)]
    found = {}
    ended = []

    async def store(ctx):
        coming = [0] * (LatentStore.READ_LATENCY - 1)
        while True:
            _, _, enable, at = await ctx.tick().sample(dut.r_en, dut.r_addr)
            coming.append(int.from_bytes(memory[at], "little") if enable else 0xEE)
            ctx.set(dut.r_data, coming.pop(0))

    async def testbench(ctx):
        for name, value in (
            ("slot", slot), ("address", address), ("rows", rows), ("blocks", blocks), ("start", 1)
        ):  # fmt: skip
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        ctx.set(dut.start, 0)
        # Only what is there with `start` counts.
        ctx.set(dut.slot, slot ^ 1)
        ctx.set(dut.rows, 99)
        for cycle in range(1, rows * blocks + 12):
            if ctx.get(dut.feed_en):
                at = ctx.get(dut.feed_addr)
                assert at not in found
                found[at] = ctx.get(dut.feed_data)
            if ctx.get(dut.done):
                ended.append((cycle, ctx.get(dut.failed)))
                assert ctx.get(dut.busy)
                assert ctx.get(dut.reading) == slot
            await ctx.tick()
        assert not ctx.get(dut.busy)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(store, background=True)
    simulator.add_testbench(testbench)
    simulator.run()
    expected = {}
    for kb in range(blocks):
        for token in range(rows):
            word = memory[slot * words + kb // parts * rows + token]
            piece = word[kb % parts * to_bytes :][:to_bytes]
            expected[(address + kb * rows + token) % (1 << 20)] = int.from_bytes(piece, "little")
    assert found == expected
    assert ended == [(Feeder.cycles(rows=rows, blocks=blocks), 0)]


@pytest.mark.parametrize(
    ("rows", "blocks", "failed"),
    [
        (0, 1, 1),
        (1, 0, 1),
        (4, 4, 0),
        (8, 2, 0),
        (4, 5, 1),
        (9, 1, 1),
        (8, 3, 1),
        (65535, 65535, 1),
    ],
)
def test_latents_that_do_not_fit_a_slot_are_refused(rows, blocks, failed):
    dut = Feeder(words=8, from_bytes=4, to_bytes=2)
    read = []

    async def testbench(ctx):
        ctx.set(dut.slot, 3)
        ctx.set(dut.rows, rows)
        ctx.set(dut.blocks, blocks)
        ctx.set(dut.start, 1)
        for _ in range(60):
            await ctx.tick()
            ctx.set(dut.start, 0)
            if ctx.get(dut.r_en):
                read.append(ctx.get(dut.r_addr))
            if ctx.get(dut.done):
                assert ctx.get(dut.failed) == failed
                break
        else:
            raise AssertionError("it never ended")
        for _ in range(3):
            await ctx.tick()
            assert not ctx.get(dut.busy)
            assert not ctx.get(dut.feed_en)

    simulate(dut, testbench)
    assert all(24 <= at < 32 for at in read)
