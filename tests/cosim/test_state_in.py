import random
import zlib

import pytest

from jepa_r.control.state_in import StateIn
from jepa_r_sim import cosim
from jepa_r_sim.drivers.packets import state_packet

#: Cycles from a packet's last word to what comes of it.
LATENCY = 4


@pytest.fixture(scope="module")
def state_in():
    return cosim.build(StateIn(), name="state_in")


def words_with_sum(words):
    """A packet of any length with a sum that is right."""
    return [*words, zlib.crc32(b"".join(word.to_bytes(4, "little") for word in words))]


def some_packet(rng, sequence):
    """A packet, and whether it is to be taken."""
    pose = [rng.choice([rng.randint(-32639, 32639), 32639, -32639, 0]) for _ in range(7)]
    packet = state_packet(sequence, pose, rng.getrandbits(32))
    kind = rng.choice(["good", "good", "good", "spare", "bit", "length", "long", "range"])
    if kind == "spare":
        packet = words_with_sum([*packet[:4], packet[4] | rng.getrandbits(16) << 16, packet[5]])
    elif kind == "bit":
        packet[rng.randrange(7)] ^= 1 << rng.randrange(32)
    elif kind == "length":
        # With a sum that is right for its length, too.
        length = rng.choice([1, 2, 3, 4, 5, 7, 8, 12, 13, 14, 15])
        packet = words_with_sum([rng.getrandbits(32) for _ in range(length)])
        packet = packet[: rng.choice([length, length + 1])]
        if len(packet) == 7:
            packet.append(packet[-1])
    elif kind == "long":
        # Right at both ends: only its length tells.
        packet[6:6] = [rng.getrandbits(32) for _ in range(rng.choice([1, 2, 7, 8, 9]))]
    elif kind == "range":
        pose[rng.randrange(7)] = rng.choice([32640, 32767, -32640, -32768])
        packet = state_packet(sequence, pose, 0)
    return packet, kind in {"good", "spare"}


@pytest.mark.parametrize("pauses", [[0.0], [0.0, 0.3, 0.9]], ids=["never", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_packets_are_taken_whole_or_dropped(state_in, pauses, seed, tmp_path):
    rng = random.Random(seed)
    sequence, chosen = rng.choice([0, 2**32 - 5, rng.getrandbits(32)]), []
    for _ in range(200):
        chosen.append((*some_packet(rng, sequence), sequence))
        sequence = (sequence + rng.choice([1, 1, 1, 1, 0, 2, -1, 1000])) % 2**32
    # Each bit of one packet is under its sum.
    whole = state_packet(sequence, [1, -2, 3, -4, 5, -6, 7], 8)
    for bit in range(7 * 32):
        packet = list(whole)
        packet[bit // 32] ^= 1 << bit % 32
        chosen.append((packet, False, sequence))
    chosen.append((whole, True, sequence))

    parameters = {"packets": [packet for packet, _, _ in chosen], "pauses": pauses, "seed": seed}
    seen = state_in.run(
        "jepa_r_sim.benches.state_in", workdir=tmp_path, parameters=parameters, seed=seed
    ).values

    events, changes, known = [], [[0, 0, 0, 0, 0]], None
    for end, (packet, good, number) in zip(seen["ends"], chosen, strict=True):
        if good:
            events.append([end + LATENCY, "updated", known not in (None, (number - 1) % 2**32)])
            pose = sum(word << 32 * n for n, word in enumerate(packet[1:5])) % 2**112
            changes.append([end + LATENCY, number, pose, packet[5], 1])
            known = number
        else:
            events.append([end + LATENCY, "dropped", False])
    assert seen["events"] == events
    assert seen["changes"] == changes


def test_latency_is_stated():
    assert StateIn.LATENCY == LATENCY
