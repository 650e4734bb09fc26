import random

import pytest

from jepa_r.dma.mover import Mover
from jepa_r_sim import cosim

BASE = 0x4000_0000
LENGTH = 1 << 16

HARDWARE = {
    # Words wider than a beat, as wide, narrower, and such that do not fill a beat.
    "nano": {"row_bytes": 8, "lanes": 4, "data_bytes": 8, "burst_beats": 8, "outstanding": 3},
    "wide": {"row_bytes": 12, "lanes": 2, "data_bytes": 32, "burst_beats": 16, "outstanding": 4},
    "tall": {"row_bytes": 32, "lanes": 4, "data_bytes": 16, "burst_beats": 4, "outstanding": 2},
}


@pytest.fixture(scope="module", params=HARDWARE)
def mover(request):
    hardware = HARDWARE[request.param] | {"read_latency": 3}
    return cosim.build(Mover(**hardware), name=f"mover_{request.param}"), hardware


def contract_of(hardware, rng):
    width, burst, outstanding = (
        hardware[name] for name in ("data_bytes", "burst_beats", "outstanding")
    )
    rate = rng.choice([width, width, width // 2, rng.randint(1, width)])
    return {
        "data_bytes": width,
        "bytes_per_cycle": rate,
        "latency": rng.randint(1, outstanding * burst * width // rate),
        "burst_beats": burst,
        "outstanding": outstanding,
    }


def queue_of(hardware, rng, *, count, to_shared=None):
    """Random transfers whose places in memory do not overlap."""
    width = hardware["data_bytes"]
    transfers, address, after = [], BASE, 0
    for _ in range(count):
        shared = rng.randint(0, 1) if to_shared is None else to_shared
        source = rng.randint(0, 1)
        size = (hardware["row_bytes"], 2 * hardware["lanes"])[source]
        rows = rng.choice([1, 2, rng.randint(1, 6)])
        words = rng.choice([1, rng.randint(1, 9), rng.randint(1, 80)])
        span = -(-size // width) * width * words if size > width else words * width
        stride = span + width * rng.choice([0, rng.randint(0, 9)])
        parts = hardware["row_bytes"] // hardware["lanes"]
        transfer = {
            "source": source, "tile": rng.randrange(16), "src_addr": rng.randrange(1 << 20),
            "words": words, "rows": rows, "src_stride": rng.randrange(1 << 20),
            "to_shared": shared, "segments": rng.randint(0, parts),
            "dst_seg": rng.randrange(parts), "after": after,
        }  # fmt: skip
        if shared:
            transfer |= {"address": rng.randrange(1 << 20), "stride": rng.randrange(1 << 20)}
        else:
            address += width * rng.choice([0, rng.randint(0, 40)])
            transfer |= {"address": address, "stride": stride}
            address += rows * stride
            if address > BASE + LENGTH:
                break
        transfers.append(transfer)
        after += rng.choice([0, 0, 1, rng.randint(0, 300)])
    return transfers


def run(mover, scenarios, tmp_path, seed=1):
    simulation, hardware = mover
    results = simulation.run(
        "jepa_r_sim.benches.mover",
        workdir=tmp_path,
        parameters={"hardware": hardware, "seed": seed, "scenarios": scenarios},
    )
    return results.values["results"]


@pytest.mark.parametrize("seed", range(2))
def test_transfers_arrive_and_complete_within_their_bounds(mover, tmp_path, seed):
    rng = random.Random(seed)
    modes = [[["fast"]], [["worst"]], *([["random", 100 * seed + n]] for n in range(6))]
    scenarios = [
        {
            "contract": contract_of(mover[1], rng),
            "mode": mode,
            "transfers": queue_of(mover[1], rng, count=8),
        }
        for mode in modes
    ]
    print(run(mover, scenarios, tmp_path, seed))


def test_bounds_are_nearly_reached(mover, tmp_path):
    rng = random.Random(5)
    scenarios = [
        {
            "contract": contract_of(mover[1], rng),
            "mode": [["worst"]],
            "transfers": queue_of(mover[1], rng, count=6, to_shared=0),
        }
        for _ in range(8)
    ]
    for result in run(mover, scenarios, tmp_path):
        print(result)
