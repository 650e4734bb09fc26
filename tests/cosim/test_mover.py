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
        # What the other bursts cover while one is released.
        "latency": rng.randint(1, (outstanding - 1) * burst * width // rate - 2),
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
    run(mover, scenarios, tmp_path, seed)


def test_bounds_are_nearly_reached_by_memory_that_is_always_as_late_as_it_may(mover, tmp_path):
    rng = random.Random(5)
    scenarios = [
        {
            "contract": contract_of(mover[1], rng),
            "mode": [["worst"]],
            # Far apart, so that nothing is left over from one to the next.
            "transfers": [
                transfer | {"after": 2000 * n}
                for n, transfer in enumerate(queue_of(mover[1], rng, count=4, to_shared=0))
            ],
        }
        for _ in range(5)
    ]
    share = max(1, mover[1]["data_bytes"] // (2 * mover[1]["lanes"]))
    for result in run(mover, scenarios, tmp_path):
        # Beats at the end of a row may have fewer words, and take less time, than is allowed for.
        rows = result["bursts"] * (share - 1)
        assert sum(result["slack"]) <= len(result["slack"]) + rows, result


def test_requests_that_have_to_wait_do_not_change(mover, tmp_path):
    rng = random.Random(6)
    scenario = {
        "contract": contract_of(mover[1], rng),
        "mode": [["random", 1], ["stalling"]],
        "transfers": queue_of(mover[1], rng, count=8, to_shared=0),
    }
    run(mover, [scenario], tmp_path)


def stopped(mover, fault, *, mode=(), windows=None, complete=1, **middle):
    """Three transfers of ten beats, far apart, of which the second stops everything."""
    hardware = mover[1]
    width = hardware["data_bytes"]
    size = hardware["row_bytes"]
    words = 10 * (width // size) if size <= width else 10
    transfers = [
        {
            "source": 0, "tile": 1, "src_addr": 0, "words": words, "rows": 1, "src_stride": 0,
            "to_shared": 0, "address": BASE + 4096 * n, "stride": 0, "segments": 0, "dst_seg": 0,
            "after": 300 * n,
        }
        for n in range(3)
    ]  # fmt: skip
    transfers[1] |= middle
    return {
        "contract": {
            "data_bytes": width, "bytes_per_cycle": width, "latency": 2,
            "burst_beats": hardware["burst_beats"], "outstanding": hardware["outstanding"],
        },
        "mode": [["random", 1], *mode],
        "transfers": transfers,
        **({"windows": windows} if windows else {}),
        "complete": complete,
        **({"fault": fault} if fault else {}),
    }  # fmt: skip


def length_of_ten(hardware):
    """Bytes of what :func:`stopped` writes."""
    size, width = hardware["row_bytes"], hardware["data_bytes"]
    return 10 * max(width, -(-size // width) * width)


def test_errors_of_the_bus_stop_transfers(mover, tmp_path):
    end = BASE + 4096 + length_of_ten(mover[1])
    scenarios = [
        stopped(mover, "BUS", mode=[["error", at, {"response": response}]])
        for at in (BASE + 4096, end - 1)
        for response in (2, 3)
    ]
    windows = [[BASE, BASE + 2 * LENGTH]]
    scenarios.append(stopped(mover, "BUS", windows=windows, address=BASE + LENGTH))
    run(mover, scenarios, tmp_path)


def test_nothing_outside_the_windows_is_asked_for(mover, tmp_path):
    width = mover[1]["data_bytes"]
    start = BASE + 4096
    end = start + length_of_ten(mover[1])
    third = [BASE + 8192, BASE + 12288]
    scenarios = [
        stopped(mover, None, windows=[[BASE, end], third], complete=3),
        stopped(mover, None, windows=[[0, 0], third, [start, end], [BASE, start]], complete=3),
        *(
            stopped(mover, "WINDOW", windows=windows)
            for windows in (
                [[BASE, end - 1], third],
                [[BASE, start], [start + 1, end], third],
                [[BASE, start + width], [start + width, end], third],
            )
        ),
        stopped(mover, "WINDOW", rows=3, stride=LENGTH),
        stopped(mover, "WINDOW", address=start + width // 2),
        stopped(mover, "WINDOW", words=0),
        stopped(mover, "WINDOW", rows=0),
        stopped(mover, "WINDOW", rows=0, to_shared=1),
    ]
    run(mover, scenarios, tmp_path)
