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
    # What the other bursts cover while one is released.
    most = (outstanding - 1) * burst * width // rate - 2
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
    modes = [[["fast"]], [["random", seed], ["stalling"]]]
    modes += [[["random", 100 * seed + n]] for n in range(10)]
    scenarios = [
        {
            "contract": contract_of(reader, rng),
            "mode": mode,
            "transfers": queue_of(reader, rng, count=10),
        }
        for mode in modes
    ]
    run(reader, scenarios, tmp_path, seed)


def test_bounds_are_reached_by_memory_that_is_always_as_late_as_it_may(reader, tmp_path):
    rng = random.Random(7)
    scenarios = [
        {
            "contract": contract_of(reader, rng),
            "mode": [["worst"]],
            "transfers": queue_of(reader, rng, count=12, most_words=200),
        }
        for _ in range(20)
    ]
    for result in run(reader, scenarios, tmp_path):
        # A bound may be a cycle too late for each transfer of a queue, and two for roundings.
        assert all(slack <= n + 2 for n, slack in enumerate(result["slack"])), result["slack"]
        assert result["slack"][0] <= 2


def test_bounds_are_missed_by_memory_that_breaks_its_contract(reader, tmp_path):
    rng = random.Random(8)
    scenario = {
        "contract": contract_of(reader, rng),
        "mode": [["worst"], ["broken", {"burst": 3, "by": 100}]],
        "transfers": queue_of(reader, rng, count=8),
    }
    (result,) = run(reader, [scenario], tmp_path)
    assert result["violations"] > 0
    assert min(result["slack"]) < 0


def three_transfers(reader, **middle):
    """Three transfers of ten words of a beat each and a sum, of which the second is changed.

    They are far apart: a fault also stops what is complete but for its last cycles.
    """
    _, width, _, _, words = reader
    dest = next(number for number, size in words.items() if size == width)
    transfers = [
        {
            "address": BASE + 4096 * n, "words": 10, "rows": 1, "stride": 0, "dest": dest,
            "dest_addr": 100 * n, "tiles": 1, "crc": 1, "after": 200 * n,
        }
        for n in range(3)
    ]  # fmt: skip
    transfers[1] |= middle
    return transfers


def stopped(reader, fault, *, mode=(), windows=None, complete=1, **middle):
    """A scenario in which the second transfer does not complete, and so none behind it."""
    _, width, burst, outstanding, _ = reader
    return {
        "contract": {
            "data_bytes": width, "bytes_per_cycle": width,
            "latency": min(20, (outstanding - 1) * burst - 2),
            "burst_beats": burst, "outstanding": outstanding,
        },
        "mode": [["random", 1], *mode],
        "transfers": three_transfers(reader, **middle),
        **({"windows": windows} if windows else {}),
        "complete": complete,
        **({"fault": fault} if fault else {}),
    }  # fmt: skip


def test_damaged_data_never_complete(reader, tmp_path):
    width = reader[1]
    start, behind = BASE + 4096, BASE + 4096 + 10 * width
    rng = random.Random(9)
    places = [start, behind - 1, behind, behind + 3, *rng.choices(range(start, behind), k=6)]
    scenarios = [
        stopped(reader, "CRC", mode=[["flip", place, {"bit": rng.randrange(8)}]])
        for place in places
    ]
    scenarios.append(stopped(reader, "CRC", mode=[["flip", behind + 3, {"bit": 7}]]))
    # What follows the sum in its beat is padding; and nobody looks where no sum is asked for.
    scenarios.append(stopped(reader, None, complete=3, mode=[["flip", behind + 4]]))
    run(reader, scenarios, tmp_path)


def test_errors_of_the_bus_stop_transfers(reader, tmp_path):
    width = reader[1]
    start, behind = BASE + 4096, BASE + 4096 + 10 * width
    scenarios = [
        stopped(reader, "BUS", mode=[["error", at, {"response": response}]])
        for at in (start, behind - 1, behind)
        for response in (2, 3)
    ]
    # Inside the window, but no memory is there.
    windows = [[BASE, BASE + 2 * LENGTH]]
    nowhere = BASE + LENGTH
    scenarios.append(stopped(reader, "BUS", windows=windows, address=nowhere))
    run(reader, scenarios, tmp_path)


def test_nothing_outside_the_windows_is_asked_for(reader, tmp_path):
    width = reader[1]
    start, end = BASE + 4096, BASE + 4096 + 11 * width
    third = [BASE + 8192, BASE + 12288]
    scenarios = [
        stopped(reader, None, windows=[[BASE, end], third], complete=3),
        stopped(reader, None, windows=[[0, 0], third, [start, end], [BASE, start]], complete=3),
        *(
            stopped(reader, "WINDOW", windows=windows)
            for windows in (
                [[BASE, end - 1], third],  # the sum does not fit
                [[BASE, start], [start + 1, end], third],  # the first byte does not
                [[BASE, start + width], [start + width, end], third],  # not in one window
                [[BASE, start], third],
            )
        ),
        stopped(reader, "WINDOW", rows=3, stride=LENGTH, crc=0),  # the second row is outside
        stopped(reader, "WINDOW", address=(1 << 32) - 4 * width),  # wraps round
        stopped(reader, "WINDOW", address=start + width // 2),
        stopped(reader, "WINDOW", words=0),
        stopped(reader, "WINDOW", rows=0),
        stopped(reader, "WINDOW", dest=7),
    ]
    for scenario in scenarios:
        # There is no room for its sum.
        scenario["transfers"][1]["spoilt"] = "fault" in scenario
    run(reader, scenarios, tmp_path)
