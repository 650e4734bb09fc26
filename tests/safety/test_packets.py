# amaranth: UnusedElaboratable=no
"""Packets are judged, and shown whole: one from one take to the next."""

import random
import re

import pytest
from amaranth.sim import Simulator

from jepa_r.safety.packets import PacketIn
from jepa_r_sim.drivers.packets import command_packet, joint_packet, with_sum
from jepa_r_sim.golden.packets import Packets

LATENCY = 4


def play(packets, *, words, rng, takes, pause=0.0, after=20):
    """Send packets and hold every cycle to the golden model.

    ``takes`` is a probability, or the cycles after the last word of each packet. Returns what was
    compared: cycles with a known word, and the verdicts in order.
    """
    dut, golden = PacketIn(words=words), Packets(words)
    todo = [
        (packet, word, at == len(packet) - 1)
        for packet in packets
        for at, word in enumerate(packet)
    ]
    compared, verdicts = [], []

    async def testbench(ctx):
        cycle, left, ends, previous = 0, after, {}, None
        while left:
            offered = bool(todo) and rng.random() >= pause
            packet, word, last = todo[0] if offered else (None, rng.getrandbits(32), 1)
            end = max(ends, default=-1)
            take = rng.random() < takes if isinstance(takes, float) else cycle - end in takes
            address = rng.randrange(words)
            ctx.set(dut.i.tvalid, offered)
            ctx.set(dut.i.tdata, word)
            ctx.set(dut.i.tlast, last)
            ctx.set(dut.take, take)
            ctx.set(dut.r_addr, address)

            good = None
            if cycle - LATENCY in ends:
                good = golden.arrive(ends[cycle - LATENCY], cycle - LATENCY)
                assert ctx.get(dut.good) == good
                assert ctx.get(dut.sequence) == ends[cycle - LATENCY][0]
                verdicts.append(good)
            assert ctx.get(dut.checked) == (good is not None)
            shown = golden.visible
            assert ctx.get(dut.fresh) == golden.fresh
            assert ctx.get(dut.lost) == golden.lost
            assert ctx.get(dut.age) == golden.age(cycle)
            assert ctx.get(dut.length_good) == (shown is not None and shown.length_good(words))
            if ctx.get(dut.length_good):
                assert ctx.get(dut.sum_good) == shown.sum_good
            if shown is not None and previous is not None and shown is previous[0]:
                if previous[1] < len(shown.words):
                    assert ctx.get(dut.r_data) == shown.words[previous[1]]
                    compared.append(cycle)
            previous = (shown, address)
            if take:
                golden.take()
            if offered and ctx.get(dut.i.tready):
                todo.pop(0)
                if last:
                    ends[cycle] = packet
            left -= not todo
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return compared, verdicts


def some_packets(rng, words, count):
    """Packets of all kinds."""
    packets = []
    for _ in range(count):
        packet = with_sum([rng.getrandbits(32) for _ in range(words - 1)])
        kind = rng.choice(["good"] * 4 + ["bit", "short", "long", "both"])
        if kind == "bit":
            packet[rng.randrange(words)] ^= 1 << rng.randrange(32)
        elif kind == "short":
            packet = with_sum(packet[: rng.randrange(1, words - 1)])
        elif kind == "long":
            packet = with_sum([*packet, *(rng.getrandbits(32) for _ in range(rng.randrange(3)))])
        elif kind == "both":
            # Right at both ends: only its length tells.
            packet[-1:-1] = packet[: rng.choice([1, words])]
        packets.append(packet)
    return packets


@pytest.mark.parametrize(
    ("takes", "pause"), [(0.02, 0.0), (0.3, 0.5), ((3, 9), 0.0), ((4,), 0.2), ((5, 30), 0.7)]
)
def test_packets_are_judged_and_shown_as_the_golden_model_does(takes, pause):
    rng = random.Random(str(takes))
    packets = some_packets(rng, 6, 60)
    compared, verdicts = play(packets, words=6, rng=rng, takes=takes, pause=pause)
    assert len(compared) > 200
    assert len(verdicts) == len(packets)
    assert 10 < sum(verdicts) < 50


def test_lost_packets_are_counted_up_to_255():
    packets = [with_sum([n]) for n in range(300)]
    play(packets, words=2, rng=random.Random(1), takes=(30, 31), after=40)


@pytest.mark.parametrize(
    "packet",
    [command_packet(7, range(7), range(7, 14), [-1] * 7), joint_packet(9, [-5] * 7, range(7))],
    ids=["command", "joint"],
)
def test_a_wrong_bit_anywhere_is_seen(packet):
    packets = []
    for bit in range(0, 32 * len(packet), 23):
        packets.append(list(packet))
        packets[-1][bit // 32] ^= 1 << bit % 32
    packets.append(packet)
    _, verdicts = play(packets, words=len(packet), rng=random.Random(2), takes=0.01)
    assert verdicts == [False] * (len(packets) - 1) + [True]


def test_sizes_are_checked():
    with pytest.raises(
        ValueError, match=f"^{re.escape('words is 1; a packet has at least a number and a sum')}$"
    ):
        PacketIn(words=1)


def test_latency_is_stated():
    assert PacketIn.LATENCY == LATENCY
