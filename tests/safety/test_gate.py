import random

import pytest

from jepa_r.safety.gate import OPEN_KEY, Gate, GateState
from jepa_r_sim.formal import mutant
from jepa_r_sim.golden import gate as golden

from .cycles import play

QUIET = {"alert_n": 0b11, "energise_a": 1, "energise_b": 1, "seen_a": 1, "seen_b": 1}
DISABLED = QUIET | {"enable_n": 1}
ENABLED = QUIET | {"enable_p": 1}
SEQUENCE = [DISABLED, ENABLED, ENABLED | {"open": 1, "key": OPEN_KEY}]
OUTPUTS = ["is_open", "o_valid", "released", "alive"]


def run(cycles):
    return play(Gate(joints=2, alerts=2), cycles, OUTPUTS)


def sample(*torques, **change):
    return ENABLED | {"i_valid": 1, "torque": torques} | change


def test_the_sequence_opens_it_and_torques_pass():
    seen = run([*SEQUENCE, sample(5, -6), ENABLED, ENABLED, sample(7, 8), ENABLED])
    assert [got["is_open"] for got in seen] == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert [list(got["released"]) for got in seen[3:8]] == [
        [0, 0], [5, -6], [5, -6], [5, -6], [7, 8],
    ]  # fmt: skip
    assert [got["o_valid"] for got in seen[3:8]] == [0, 1, 0, 0, 1]
    assert [got["alive"] for got in seen[3:8]] == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"seen_a": 0}, {"seen_b": 0}, {"enable_p": 0}, {"enable_n": 1},
        {"enable_p": 0, "enable_n": 1}, {"alert_p": 1}, {"alert_p": 2}, {"alert_n": 1},
        {"alert_n": 2}, {"alert_p": 1, "alert_n": 2},
    ],
)  # fmt: skip
def test_it_closes_in_the_cycle_in_which_anything_is_not_open(change):
    cycles = [*SEQUENCE, sample(5, 6), ENABLED, ENABLED | change, *[sample(5, 6)] * 4]
    seen = run(cycles)
    assert [got["is_open"] for got in seen] == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert [list(got["released"]) for got in seen[4:]] == [[5, 6], *[[0, 0]] * 6]
    assert not any(got["o_valid"] for got in seen[5:])


@pytest.mark.parametrize("name", ["energise_a", "energise_b"])
def test_channel_b_masks_the_torques_without_a_clock(name):
    """What the synchronisers show some cycles later closes it for good."""
    cycles = [*SEQUENCE, sample(5, 6), ENABLED | {name: 0}, ENABLED]
    assert [list(got["released"]) for got in run(cycles)[4:6]] == [[0, 0], [5, 6]]


@pytest.mark.parametrize("missing", range(3))
def test_no_step_of_the_sequence_may_be_left_out(missing):
    again = [SEQUENCE[n] for n in range(3) if n != missing]
    seen = run([*SEQUENCE, ENABLED | {"alert_p": 1}, *again, *[sample(5, 6)] * 3])
    # Without a cycle between, enable and key may come together.
    assert seen[-1]["is_open"] == (missing == 1)
    assert run([*SEQUENCE, ENABLED | {"alert_p": 1}, *SEQUENCE, sample(5, 6)])[-1]["is_open"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        [DISABLED, ENABLED | {"open": 1, "key": OPEN_KEY ^ 1}],
        [DISABLED, DISABLED | {"open": 1, "key": OPEN_KEY}],
        [DISABLED, QUIET],
        [DISABLED, QUIET | {"enable_p": 1, "enable_n": 1}],
        [DISABLED, ENABLED | {"seen_b": 0}],
        [DISABLED | {"alert_p": 1}],
        [DISABLED | {"seen_a": 0}],
    ],
)
def test_a_wrong_step_closes_it_again(wrong):
    seen = run([*wrong, *SEQUENCE[1:], sample(5, 6), ENABLED])
    assert not any(got["is_open"] for got in seen)


def test_a_gate_that_opens_has_nothing_from_before():
    closing = ENABLED | {"alert_p": 1}
    seen = run([*SEQUENCE, sample(5, 6), sample(9, 9), closing, *SEQUENCE, ENABLED])
    assert list(seen[-1]["released"]) == [0, 0]


def test_states_are_far_apart():
    codes = [state.value for state in GateState]
    for n, code in enumerate(codes):
        assert all((code ^ other).bit_count() >= 5 for other in codes[:n])
        assert 5 <= code.bit_count() <= 10 - 5


@pytest.mark.parametrize("sizes", [{"joints": 0, "alerts": 1}, {"joints": 1, "alerts": 0}])
def test_gates_that_cannot_be_are_refused(sizes):
    name = next(name for name, value in sizes.items() if value == 0)
    with pytest.raises(ValueError, match=rf"^{name} is 0; it must be at least 1$"):
        Gate(**sizes)


def weather(rng, model):
    """Inputs of a cycle: mostly those that open the gate and keep it open, and now and then any."""
    given = rng.choices(
        [DISABLED, ENABLED, SEQUENCE[2], QUIET],
        [[6, 1, 1, 1], [2, 2, 6, 1], [0, 1, 0, 0]][model.reached],
    )[0]
    given = given | {"torque": [rng.randrange(-(2**31), 2**31) for _ in range(2)]}
    given |= {"i_valid": rng.randrange(2)}
    if rng.random() < 0.12:
        given |= rng.choice([{"energise_a": 0}, {"energise_b": 0}, {"open": 1}])
    if rng.random() < 0.1:
        name = rng.choice(["seen_a", "seen_b", "alert_p", "alert_n"])
        given[name] = rng.randrange(4 if name.startswith("alert") else 2)
    if rng.random() < 0.1:
        given |= {"enable_p": rng.randrange(2), "enable_n": rng.randrange(2)}
    if rng.random() < 0.3:
        given["key"] = OPEN_KEY ^ 1 << rng.randrange(8)
    return given


def compare(cls, seed, *, cycles=800):
    """All outputs are those of the golden model. Returns how often each was set."""
    rng, model = random.Random(seed), golden.Gate(joints=2, alerts=2)
    given, expected = [], []
    for _ in range(cycles):
        given.append(weather(rng, model))
        expected.append(model.step(given[-1]))
    seen = play(cls(joints=2, alerts=2), given, OUTPUTS)
    for n, (got, want) in enumerate(zip(seen, expected, strict=False)):
        assert got | {"released": list(got["released"])} == want, f"cycle {n}"
    return {name: sum(want[name] != 0 for want in expected) for name in ("is_open", "o_valid")}


@pytest.mark.parametrize("seed", range(4))
def test_every_cycle_is_as_the_golden_model_says(seed):
    met = compare(Gate, seed)
    assert min(met.values()) > 100


BUGS = {
    "a key that does not matter": ("(self.key == OPEN_KEY) & enabled", "enabled"),
    "an alert on one rail alone": (" & ~self.alert_p.any() &", " &"),
    "a wrong key that is forgiven": ("m.Elif(self.open | ~quiet |", "m.Elif(~quiet |"),
    "an enable of equal rails in READY": (" | ~(enabled | disabled)):", "):"),
    "half of channel B": ("ready & self.energise_a & self.energise_b", "ready & self.energise_a"),
    "a gate that opens again by itself": (
        "with m.If(~(enabled & quiet)):", "with m.If(~enabled):",
    ),
    "torques from before": ("self.held.as_value().eq(0)", "self.held.as_value().eq(self.held)"),
    "torques that a closed gate calls new": (
        "self.o_valid.eq(self.fresh & self.is_open)", "self.o_valid.eq(self.fresh)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_differs_from_the_golden_model(bug):
    with pytest.raises(AssertionError, match=r"^cycle \d+\n"):
        compare(mutant(Gate, *BUGS[bug]), 0)
