import random

import pytest

from jepa_r.dma.reader import DmaReader
from jepa_r_sim import cosim

BASE = 0x8000_0000
LENGTH = 1 << 16

# Bus, longest burst, outstanding bursts; destinations with words narrower than a beat (also such
# that do not fill it), as wide, and wider.
HARDWARE = {
    "narrow": (8, 8, 4, {0: 8, 1: 32, 2: 8, 3: 16, 4: 4, 6: 48}),
    "wide": (32, 16, 8, {0: 12, 1: 32, 2: 8, 3: 6, 4: 4, 6: 48}),
}


@pytest.fixture(scope="module", params=HARDWARE)
def reader(request):
    data_bytes, burst_beats, outstanding, words = HARDWARE[request.param]
    dut = DmaReader(
        data_bytes=data_bytes, words=words, burst_beats=burst_beats, outstanding=outstanding
    )
    return cosim.build(dut, name=f"dma_reader_{request.param}"), *HARDWARE[request.param]


def contract_of(hardware, rng):
    _, width, burst, outstanding, _ = hardware
    rate = rng.choice([width, width, width // 2, rng.randint(1, width)])
    most = outstanding * burst * width // rate
    return {
        "data_bytes": width,
        "bytes_per_cycle": rate,
        "latency": rng.choice([1, rng.randint(1, most), min(most, 60)]),
        "burst_beats": burst,
        "outstanding": outstanding,
    }


def queue_of(hardware, rng, *, count, most_words=60):
    """Random transfers that neither overlap nor leave the memory."""
    _, width, _, _, words = hardware
    transfers, address, after = [], BASE, 0
    for _ in range(count):
        dest, size = rng.choice(sorted(words.items()))
        rows = rng.choice([1, 1, 2, rng.randint(1, 6)])
        count_words = rng.choice([1, rng.randint(1, 9), rng.randint(1, most_words)])
        span = -(-size // width) * width * count_words if size > width else count_words * width
        address += rng.choice([0, width * rng.randint(0, 40)])
        stride = span + width * rng.choice([0, rng.randint(0, 9)])
        end = address + (rows - 1) * stride + span + width
        if end > BASE + LENGTH:
            break
        transfers.append({
            "address": address, "words": count_words, "rows": rows, "stride": stride,
            "dest": dest, "dest_addr": rng.randrange(1 << 20), "tiles": rng.randrange(1 << 16),
            "crc": rng.randint(0, 1), "after": after,
        })  # fmt: skip
        address = end
        after += rng.choice([0, 0, 1, rng.randint(0, 300)])
    return transfers


def run(hardware, scenarios, tmp_path, seed=1):
    simulation, _, _, _, words = hardware
    results = simulation.run(
        "jepa_r_sim.benches.dma_reader",
        workdir=tmp_path,
        parameters={"words": words, "length": LENGTH, "seed": seed, "scenarios": scenarios},
    )
    return results.values["results"]


@pytest.mark.parametrize("seed", range(3))
def test_transfers_arrive_and_complete_within_their_bounds(reader, tmp_path, seed):
    rng = random.Random(seed)
    scenarios = []
    for n in range(12):
        mode = [["worst"]] if n % 3 == 0 else [["random", 100 * seed + n]]
        scenarios.append({
            "contract": contract_of(reader, rng),
            "mode": mode if n % 12 else [["fast"]],
            "transfers": queue_of(reader, rng, count=10),
        })
    results = run(reader, scenarios, tmp_path, seed)
    for scenario, result in zip(scenarios, results, strict=True):
        print(scenario["mode"], result)


def test_bounds_are_reached_by_memory_that_is_always_as_late_as_it_may(reader, tmp_path):
    rng = random.Random(7)
    scenarios = [
        {
            "contract": contract_of(reader, rng),
            "mode": [["worst"]],
            "transfers": queue_of(reader, rng, count=12, most_words=200),
        }
        for _ in range(12)
    ]
    results = run(reader, scenarios, tmp_path)
    for result in results:
        print(result)
