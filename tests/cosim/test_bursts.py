import random

import pytest

from jepa_r.dma.bursts import BurstPlanner
from jepa_r_sim import cosim

BEATS_WIDTH = 16
PAGE = 4096
TOP = (1 << 32) - 1
ANYWHERE = [[0, TOP], [0, 0], [0, 0], [0, 0]]


def bursts_of(block, *, data_bytes, burst_beats):
    """Bursts of each row, beat by beat."""
    address, stride, rows, beats, extra, _illegal = block
    whole = []
    for row in range(rows):
        bursts = []
        base = (address + row * stride) % (1 << 32)
        for n in range(beats + (extra and row == rows - 1)):
            beat = base + n * data_bytes
            if not bursts or beat % PAGE == 0 or bursts[-1][1] == burst_beats:
                bursts.append([beat, 0])
            bursts[-1][1] += 1
        whole.append(bursts)
    return whole


def random_block(rng, data_bytes):
    beats = rng.choice([1, 2, 3, rng.randrange(1, 40), rng.randrange(1, 600)])
    rows = rng.choice([1, 1, 2, rng.randrange(1, 6)])
    stride = data_bytes * rng.choice([beats, 0, rng.randrange(1000), PAGE // data_bytes])
    near_page = PAGE * rng.randrange(1, 1000) - data_bytes * rng.randrange(20)
    address = rng.choice([near_page, PAGE * rng.randrange(1000), data_bytes * rng.randrange(10000)])
    return [address, stride, rows, beats, rng.getrandbits(1), 0]


def plan(tmp_path, data_bytes, burst_beats, runs):
    """Run the bench; ``runs`` have blocks and the rest that is not usual."""
    planner = BurstPlanner(data_bytes=data_bytes, burst_beats=burst_beats, beats_width=BEATS_WIDTH)
    usual = {"windows": ANYWHERE, "fault": False, "pause": [0, 0]}
    return (
        cosim
        .build(planner, name=f"bursts_{data_bytes}_{burst_beats}")
        .run(
            "jepa_r_sim.benches.bursts",
            workdir=tmp_path,
            parameters={"beats_width": BEATS_WIDTH, "runs": [usual | run for run in runs]},
        )
        .values["runs"]
    )


@pytest.mark.parametrize(("data_bytes", "burst_beats"), [(4, 256), (16, 16), (128, 5)])
def test_rows_become_bursts_in_time(data_bytes, burst_beats, tmp_path):
    rng = random.Random(data_bytes)
    blocks = [random_block(rng, data_bytes) for _ in range(25)]
    planned = [bursts_of(block, data_bytes=data_bytes, burst_beats=burst_beats) for block in blocks]
    bursts = [burst for rows in planned for row in rows for burst in row]
    run = {"blocks": blocks, "bursts": len(bursts)}
    pauses = [[0, 0], [0.3, 0.5], [0.95, 0]]
    seen = plan(tmp_path, data_bytes, burst_beats, [run | {"pause": pause} for pause in pauses])
    assert all(each["bursts"] == bursts for each in seen)

    # Without pauses, each burst has its cycle.
    cycle, taken = BurstPlanner.FIRST - BurstPlanner.NEXT_BLOCK, []
    for rows in planned:
        gap = BurstPlanner.NEXT_BLOCK
        for row in rows:
            for _burst in row:
                taken.append(cycle := cycle + gap)
                gap = BurstPlanner.NEXT
            gap = BurstPlanner.NEXT_ROW
    assert seen[0]["taken"] == taken


def test_rows_outside_all_windows_stop_the_planner(tmp_path):
    windows = [[0x1000, 0x2000], [0x2000, 0x2800], [0x8000, 0x8000], [0xFFFF_F000, TOP]]
    good = [0x1000, 0x800, 2, 128, 0, 0]
    allowed = [
        [0x1000, 0, 1, 256, 0, 0],  # all of a window
        [0x1000, 0, 1, 255, 1, 0],  # with the extra beat
        [0x27F0, 0, 1, 1, 0, 0],
        [0x2000, -0x1000 % (1 << 32), 2, 128, 0, 0],  # downwards
        [0xFFFF_F000, 0, 1, 255, 0, 0],
    ]  # fmt: skip
    # A block, and how many of its rows are fetched before the one that is not allowed.
    refused = [
        ([0x0FF0, 0, 1, 1, 0, 0], 0),
        ([0x0FF0, 0, 1, 2, 0, 0], 0),
        ([0x1000, 0, 1, 257, 0, 0], 0),  # two windows together are none
        ([0x1000, 0, 1, 256, 1, 0], 0),
        ([0x1000, 0, 2, 256, 1, 0], 1),
        ([0x2800, 0, 1, 1, 0, 0], 0),
        ([0x8000, 0, 1, 1, 0, 0], 0),  # an empty window
        ([0x1800, 0x800, 3, 128, 0, 0], 2),
        ([0x1000, 0x7F8, 2, 1, 0, 0], 1),  # the second row begins inside a beat
        ([0x1008, 0, 1, 1, 0, 0], 0),
        ([0x1000, 0, 1, 1, 0, 1], 0),  # illegal
        ([0xFFFF_F000, 0, 1, 256, 0, 0], 0),  # the last byte of all has no limit behind it
        ([0xFFFF_F000, 0, 1, 512, 0, 0], 0),  # around the end of addresses
        ([0x1000, 0, 1, (1 << BEATS_WIDTH) - 1, 1, 0], 0),
    ]  # fmt: skip

    def rows_of(block, rows=None):
        planned = bursts_of(block, data_bytes=16, burst_beats=16)[:rows]
        return [burst for row in planned for burst in row]

    runs, expected = [], []
    for block in allowed:
        expected.append([*rows_of(good), *rows_of(block), *rows_of(good)])
        runs.append({"blocks": [good, block, good]})
    for block, rows in refused:
        expected.append([*rows_of(good), *rows_of(block, rows)])
        runs.append({"blocks": [good, block, good], "fault": True})
    runs = [
        run | {"windows": windows, "bursts": len(bursts)}
        for run, bursts in zip(runs, expected, strict=True)
    ]
    seen = plan(tmp_path, 16, 16, runs)
    assert [run["bursts"] for run in seen] == expected
