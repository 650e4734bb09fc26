"""The planner on Verilator against its golden model: every elite, action and cycle."""

import random

import attrs
import numpy as np
import pytest

from jepa_r.planner.planner import Planner
from jepa_r_sim import cosim
from jepa_r_sim.benches.planner import COST_BITS, cost_of
from jepa_r_sim.golden import planner
from jepa_r_sim.golden.planner import LIMIT, Settings

ELITES, STEPS = 6, 3
WIDE = 1 << COST_BITS
SEEDS = range(24)

#: Tiles and bytes of a row: one and several blocks, a tile alone, sizes that are no powers of two.
SIZES = [(4, 4), (1, 8), (3, 64)]


def play(tmp_path, *, tiles, row_bytes, runs):
    """What the planner did in each run."""
    dut = Planner(tiles=tiles, elites=ELITES, steps=STEPS, row_bytes=row_bytes)
    simulation = cosim.build(dut, name=f"planner_{tiles}x{row_bytes}")
    results = simulation.run(
        "jepa_r_sim.benches.planner",
        workdir=tmp_path,
        parameters={"tiles": tiles, "row_bytes": row_bytes, "runs": runs},
    )
    return results.values["runs"]


def words(actions, states, row_bytes):
    """A candidate's words as the contract has them, ``[H, 7]`` each: action, then state."""
    blocks = -(-7 // row_bytes)
    lines = []
    for action, state in zip(actions, states, strict=True):
        for vector in (action, state):
            vector = vector.astype(np.int64)
            low = ((vector + 128) & 255) - 128
            high = (vector - low) // 256
            assert np.abs(high).max() <= 128
            padded = [np.resize(part, 7).astype(np.int8).tobytes() for part in (high, low)]
            padded = [part.ljust(blocks * row_bytes, b"\0") for part in padded]
            for block in range(0, blocks * row_bytes, row_bytes):
                lines += [part[block : block + row_bytes] for part in padded]
    return b"".join(lines)


def expected(settings, run, *, row_bytes, previous):
    """The plan of the golden model with the stub's costs."""

    def rollout(actions, states):
        return [
            cost_of(words(action, state, row_bytes), run["distance"])
            for action, state in zip(actions, states, strict=True)
        ]

    return planner.plan(settings, run["pose"], rollout, previous=previous)


def held(settings, seen, right, *, tiles, row_bytes):
    """Compare a plan that has no fault with the golden model's."""
    assert seen["fault"] == "NONE"
    for iteration in range(settings.iterations):
        ranked = zip(right.elites[iteration], right.elite_costs[iteration], strict=True)
        assert [
            [iteration, rank, int(candidate), int(cost)]
            for rank, (candidate, cost) in enumerate(ranked)
        ] == [elite for elite in seen["elites"] if elite[0] == iteration]
    assert len(seen["elites"]) == settings.iterations * settings.elites
    assert seen["action"] == right.action.tolist()
    whole, rest = divmod(settings.samples, tiles)
    batches = settings.iterations * ([tiles] * whole + [rest] * (rest > 0))
    assert seen["batches"] == batches
    rate = Planner.cycles_of(
        **{
            name: getattr(settings, name) for name in ("samples", "elites", "iterations", "horizon")
        },
        tiles=tiles,
        row_bytes=row_bytes,
        rollout=0,
    )
    assert seen["cycles"] == seen["counted"] == rate + sum(seen["rollouts"])


def random_settings(rng, seed):
    """Settings in range, with a share of extremes of each."""
    samples = rng.choice([1, 2, rng.randint(3, 30)])
    elites = min(samples, rng.choice([1, ELITES, rng.randint(1, ELITES)]))
    return Settings(
        samples=rng.choice([samples, elites]),
        elites=elites,
        iterations=rng.randint(1, 3),
        horizon=seed % STEPS + 1,
        warm=rng.getrandbits(1),
        seed=rng.getrandbits(32),
        plan=rng.getrandbits(32),
        momentum_mean=rng.choice([0, 4915, 32768, rng.randint(0, 32768)]),
        momentum_deviation=rng.choice([0, 4915, 32768, rng.randint(0, 32768)]),
        deviation=[rng.choice([0, 1, 1229, 65535, rng.randrange(65536)]) for _ in range(4)],
        clip=[rng.choice([0, 1, 1229, LIMIT, rng.randint(0, LIMIT)]) for _ in range(4)],
        threshold=rng.choice([0, 4096, 65535, rng.randrange(16384)]),
    )


def random_pose(rng):
    """A pose, with a share of what saturates."""
    return [rng.choice([0, -32768, 32767, rng.randrange(-32768, 32768)]) for _ in range(7)]


def as_run(rng, settings, **more):
    return {
        "settings": attrs.asdict(settings),
        "pose": random_pose(rng),
        "program_steps": settings.horizon,
        "inputs": rng.choice([0, 1000, 2**20 - 5]),
        "distance": rng.choice([1, 3, 100, WIDE, WIDE]),
        "seed": rng.getrandbits(32),
    } | more


@pytest.mark.parametrize(("tiles", "row_bytes"), SIZES)
def test_random_plans(tiles, row_bytes, tmp_path):
    """Ties, saturation, no deviation, one sample, last batches, warm starts, one after another."""
    cases, runs = [], []
    for seed in SEEDS:
        rng = random.Random(seed)
        settings = random_settings(rng, seed)
        # Some plans follow one of the same horizon, so that warm starts are.
        for plan in range(rng.randint(1, 2)):
            again = attrs.evolve(settings, plan=plan, warm=settings.warm | plan)
            cases.append(again)
            runs.append(as_run(rng, again))
    previous = None
    for settings, run, seen in zip(
        cases, runs, play(tmp_path, tiles=tiles, row_bytes=row_bytes, runs=runs), strict=True
    ):
        right = expected(settings, run, row_bytes=row_bytes, previous=previous)
        held(settings, seen, right, tiles=tiles, row_bytes=row_bytes)
        previous = right.mu


def test_published_momenta_and_clips_over_many_iterations(tmp_path):
    """As it is meant to be used, with costs that lead somewhere unknown."""
    tiles, row_bytes = SIZES[0]
    rng = random.Random(1)
    settings = Settings(samples=60, elites=ELITES, iterations=8, horizon=2, seed=7)
    run = as_run(rng, settings, distance=WIDE)
    seen = play(tmp_path, tiles=tiles, row_bytes=row_bytes, runs=[run])[0]
    held(
        settings,
        seen,
        expected(settings, run, row_bytes=row_bytes, previous=None),
        tiles=tiles,
        row_bytes=row_bytes,
    )


def test_a_gripper_move_of_the_threshold_is_one(tmp_path):
    tiles, row_bytes = SIZES[0]
    settings = Settings(samples=5, elites=2, iterations=1, threshold=0)
    run = as_run(random.Random(4), settings, distance=WIDE)
    plan = expected(settings, run, row_bytes=row_bytes, previous=None)
    size = abs(int(plan.action[-1]))
    assert size
    cases = [attrs.evolve(settings, threshold=size + more) for more in (0, 1)]
    runs = [run | {"settings": attrs.asdict(case)} for case in cases]
    at, above = play(tmp_path, tiles=tiles, row_bytes=row_bytes, runs=runs)
    assert at["action"] == plan.action.tolist()
    assert above["action"] == [*plan.action[:-1].tolist(), 0]


WRONG = {
    "SAMPLES": [{"samples": 0}],
    "ELITES": [{"elites": 0}, {"elites": ELITES + 1}, {"elites": 255}, {"samples": 3}],
    "ITERATIONS": [{"iterations": 0}],
    "HORIZON": [{"horizon": 0}, {"horizon": STEPS + 1}, {"horizon": 255}],
    "MOMENTUM": [{f"momentum_{name}": 32769} for name in ("mean", "deviation")],
    "CLIP": [{"clip": [LIMIT + (n == k) for n in range(4)]} for k in range(4)],
    "STEPS": [{"horizon": 1}, {"horizon": 3}],
}


def test_settings_out_of_range_are_named_and_nothing_is_drawn(tmp_path):
    tiles, row_bytes = SIZES[0]
    rng = random.Random(2)
    good = Settings(samples=8, elites=4, iterations=1, horizon=2)
    warm = attrs.evolve(good, warm=1, plan=1)
    pairs = [(name, attrs.evolve(good, **change)) for name in WRONG for change in WRONG[name]]
    edges = Settings(
        samples=65535,
        elites=ELITES,
        iterations=255,
        horizon=STEPS,
        momentum_mean=32768,
        momentum_deviation=32768,
        clip=[LIMIT] * 4,
    )
    first = as_run(rng, good, reset=True)
    runs = [first, *(as_run(rng, settings, program_steps=2) for _name, settings in pairs)]
    runs += [as_run(rng, warm), as_run(rng, edges, fails_in=1)]
    before, *seen, after, edge = play(tmp_path, tiles=tiles, row_bytes=row_bytes, runs=runs)
    for (name, settings), result in zip(pairs, seen, strict=True):
        assert settings.fault(elites=ELITES, steps=STEPS, program_steps=2) == name
        assert result == {
            "fault": name,
            "action": before["action"],
            "cycles": Planner.REFUSED,
            "counted": Planner.REFUSED,
            "elites": [],
            "rollouts": [],
            "batches": [],
        }
    # What was refused did not touch the means of the plan before.
    plan = expected(good, first, row_bytes=row_bytes, previous=None)
    held(good, before, plan, tiles=tiles, row_bytes=row_bytes)
    plan = expected(warm, runs[-2], row_bytes=row_bytes, previous=plan.mu)
    held(warm, after, plan, tiles=tiles, row_bytes=row_bytes)
    # The largest values of all are not refused.
    assert (edge["fault"], edge["batches"]) == ("PREDICTOR", [tiles])


def test_a_fault_of_the_predictor_ends_the_plan(tmp_path):
    """At once when it is there before, in any rollout, or found at the end; then all is new."""
    tiles, row_bytes = SIZES[0]
    rng = random.Random(3)
    settings = Settings(samples=9, elites=3, iterations=2, horizon=1, warm=1)
    whole = as_run(rng, settings)
    runs = [whole, as_run(rng, settings, fails=0)]
    runs += [as_run(rng, settings, fails_in=n) for n in (1, 2, 6)]
    runs += [as_run(rng, settings, fails_after=6), as_run(rng, settings)]
    first, before, *during, end, last = play(tmp_path, tiles=tiles, row_bytes=row_bytes, runs=runs)
    held(
        settings,
        first,
        expected(settings, whole, row_bytes=row_bytes, previous=None),
        tiles=tiles,
        row_bytes=row_bytes,
    )
    for result in (before, *during, end):
        assert (result["fault"], result["action"]) == ("PREDICTOR", first["action"])
    assert (before["cycles"], before["rollouts"]) == (Planner.REFUSED, [])
    assert [len(result["rollouts"]) for result in during] == [1, 2, 6]
    assert len(end["elites"]) == 6
    # A plan that failed leaves no means: the next one begins cold.
    held(
        settings,
        last,
        expected(settings, runs[-1], row_bytes=row_bytes, previous=None),
        tiles=tiles,
        row_bytes=row_bytes,
    )


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"tiles": 0}, "tiles is 0; it must be from 1 to 16"),
        ({"tiles": 17}, "tiles is 17; it must be from 1 to 16"),
        ({"elites": 65}, "elites is 65; it must be from 1 to 64"),
        ({"steps": 256}, "steps is 256; it must be from 1 to 255"),
        ({"row_bytes": 0}, "row_bytes is 0; it must be 1 or more"),
    ],
)
def test_sizes_that_cannot_be_are_refused(size, message):
    with pytest.raises(ValueError, match=message):
        Planner(**{"tiles": 4, "elites": 4, "steps": 2, "row_bytes": 4} | size)
