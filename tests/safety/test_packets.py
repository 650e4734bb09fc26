# amaranth: UnusedElaboratable=no
"""Packets are taken whole, in order, or not at all, and what is shown never changes by itself."""

import random
import re
from itertools import pairwise

import pytest
from amaranth.sim import Simulator

from jepa_r.safety.packets import COMMAND_WORDS, JOINT_WORDS, PacketIn, Verdict
from jepa_r_sim.drivers.packets import command_packet, joint_packet, with_sum
from jepa_r_sim.golden.packets import judge

LATENCY = 4


def play(packets, *, words, strict, rng, updates=0.0, restarts=(), pause=0.0, after=20):
    """Send packets; what was seen in each cycle, and the cycle of each packet's last word.

    ``updates`` are cycles, or a probability. ``restarts`` are numbers of packets before which
    everything is forgotten.
    """
    dut = PacketIn(words=words, strict=strict)
    ends, seen = [], []
    todo = [
        (n, word, at == len(packet) - 1)
        for n, packet in enumerate(packets)
        for at, word in enumerate(packet)
    ]
    pending = set(restarts)

    async def testbench(ctx):
        cycle, left, address = 0, after, 0
        while left:
            restart = bool(todo) and todo[0][0] in pending and dut_is_idle(ctx)
            if restart:
                pending.discard(todo[0][0])
            offered = bool(todo) and not restart and rng.random() >= pause
            _, word, last = todo[0] if offered else (0, rng.getrandbits(32), 1)
            update = cycle in updates if isinstance(updates, set) else rng.random() < updates
            address = rng.randrange(words)
            ctx.set(dut.restart, restart)
            ctx.set(dut.i.tvalid, offered)
            ctx.set(dut.i.tdata, word)
            ctx.set(dut.i.tlast, last)
            ctx.set(dut.update, update)
            ctx.set(dut.r_addr, address)
            seen.append({
                "checked": ctx.get(dut.checked),
                "verdict": ctx.get(dut.verdict),
                "sequence": ctx.get(dut.sequence),
                "known": ctx.get(dut.known),
                "age": ctx.get(dut.age),
                "update": update,
                "restart": restart,
                "address": address,
                "data": ctx.get(dut.r_data),
            })
            if offered and ctx.get(dut.i.tready):
                todo.pop(0)
                if last:
                    ends.append(cycle)
            left -= not todo
            await ctx.tick()
            cycle += 1

    def dut_is_idle(ctx):
        return ctx.get(dut.i.tready)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return seen, ends


def events(seen):
    return [
        (cycle, Verdict(s["verdict"]).name, s["sequence"])
        for cycle, s in enumerate(seen)
        if s["checked"]
    ]


def some_packets(rng, words, count, *, strict):
    """Packets of all kinds; most are numbered as the receiver expects."""
    last, packets = rng.choice([0, 2**32 - 3, rng.getrandbits(32)]), []
    for _ in range(count):
        ahead = rng.choice([1, 1, 1, 1, 0, 2, -1, 1 << 31, (1 << 31) - 1])
        number = (last + ahead) % 2**32
        packet = with_sum([number, *(rng.getrandbits(32) for _ in range(words - 2))])
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
        elif ahead == 1 or (not strict and 1 < ahead < 1 << 31) or not packets:
            last = number
        packets.append(packet)
    return packets


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "ahead"])
@pytest.mark.parametrize("words", [3, 6])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_every_packet_is_judged_as_the_golden_model_does(words, strict, pause):
    rng = random.Random(words)
    packets = some_packets(rng, words, 80, strict=strict)
    seen, ends = play(packets, words=words, strict=strict, rng=rng, updates=0.1, pause=pause)
    verdicts = judge(packets, words=words, strict=strict)
    assert set(verdicts) == {"LENGTH", "SUM", "REPEATED", "ORDER", "ACCEPTED"}
    found = events(seen)
    assert [(cycle, verdict) for cycle, verdict, _ in found] == [
        (end + LATENCY, verdict) for end, verdict in zip(ends, verdicts, strict=True)
    ]
    assert [number for *_, number in found] == [packet[0] for packet in packets]


def test_what_is_shown_is_the_newest_good_packet_at_the_last_update():
    rng = random.Random(3)
    words = 6
    packets = some_packets(rng, words, 150, strict=True)
    restarts = {40, 41, 100}
    seen, ends = play(
        packets, words=words, strict=True, rng=rng, updates=0.08, pause=0.2, restarts=restarts
    )
    verdicts, begin = [], 0
    for end in [*sorted(restarts), len(packets)]:
        verdicts += judge(packets[begin:end], words=words, strict=True)
        begin = end

    judged = {end + LATENCY - 1: n for n, end in enumerate(ends)}
    shown = newest = previous = None  # number of the packet, and the cycle in which it was judged
    compared = changes = 0
    for cycle, s in enumerate(seen):
        assert s["known"] == (shown is not None)
        assert s["age"] == (0xFFFF_FFFF if shown is None else cycle - shown[1])
        if cycle and previous is not None and previous == shown:
            assert s["data"] == packets[shown[0]][seen[cycle - 1]["address"]]
            compared += 1
        previous = shown
        if s["update"] and newest is not None:
            shown, newest = newest, None
            changes += 1
        if s["restart"]:
            shown = newest = None
        if cycle in judged and verdicts[judged[cycle]] == "ACCEPTED":
            newest = (judged[cycle], cycle)
    assert compared > 500
    assert changes > 20


def test_a_wrong_bit_anywhere_in_a_command_is_seen():
    rng = random.Random(5)
    good = command_packet(7, range(7), range(7, 14), [-1] * 7)
    assert len(good) == COMMAND_WORDS
    packets = []
    for bit in range(0, 32 * COMMAND_WORDS, 13):
        packets.append(list(good))
        packets[-1][bit // 32] ^= 1 << bit % 32
    packets.append(good)
    seen, _ = play(packets, words=COMMAND_WORDS, strict=True, rng=rng)
    assert [verdict for _, verdict, _ in events(seen)] == ["SUM"] * (len(packets) - 1) + [
        "ACCEPTED"
    ]


def test_a_bad_packet_between_two_updates_does_not_hide_the_good_one_before():
    rng = random.Random(6)
    first, second = joint_packet(1, range(7), range(7)), joint_packet(2, [9] * 7, [8] * 7)
    bad = [*second[:-1], second[-1] ^ 1]
    seen, ends = play(
        [first, bad, bad[:3]], words=JOINT_WORDS, strict=False, rng=rng, updates={110}, after=100
    )
    assert len(ends) == 3
    assert ends[-1] < 100
    tail = [(s["address"], after["data"]) for s, after in pairwise(seen[112:])]
    assert len(tail) > 20
    assert all(data == first[address] for address, data in tail)


def test_sizes_are_checked():
    with pytest.raises(
        ValueError, match=f"^{re.escape('words is 1; a packet has at least a number and a sum')}$"
    ):
        PacketIn(words=1, strict=True)


def test_latency_is_stated():
    assert PacketIn.LATENCY == LATENCY
