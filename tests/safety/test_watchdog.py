import random

import pytest

from jepa_r.safety.watchdog import Watchdog
from jepa_r_sim.golden import watchdog as golden

from .cycles import play

FIELDS = ("open", "deadline", "path")
SIGNATURE = 0xC0FFEE11


def write(**settings):
    """Cycles that write settings."""
    return [{"w_en": 1 << FIELDS.index(name), "w_data": value} for name, value in settings.items()]


SET_UP = [*write(open=10, deadline=20, path=SIGNATURE), {"start": 1}]


def tokens():
    """Tokens that are due, one after the other."""
    challenge = golden.Watchdog().challenge
    while True:
        yield golden.token(challenge, SIGNATURE)
        challenge = golden.token(challenge, 0)


def run(cycles):
    """First faults, and the cycle they show in, counted from the start: 0 is the one after it."""
    outputs = ("faults", "first", "alert_p", "alert_n", "running", "challenge")
    seen = play(Watchdog(), [*SET_UP, *cycles], outputs)[len(SET_UP) :]
    for got in seen:
        assert (got["alert_p"], got["alert_n"]) == ((1, 0) if got["faults"] else (0, 1))
    shown = next((n for n, got in enumerate(seen) if got["faults"]), None)
    return seen[-1]["first"], shown


def kicks(at, values=None):
    """Cycles with a kick in those numbered ``at``, with the token that is due or the given one."""
    values = tokens() if values is None else iter(values)
    return [{"kick": 1, "token": next(values)} if n in at else {} for n in range(max(at) + 1)]


@pytest.mark.parametrize(
    ("count", "fault"),
    [(0, {"early"}), (9, {"early"}), (10, set()), (19, set()), (20, set()), (21, {"late"})],
)
def test_the_window_has_sharp_edges(count, fault):
    first, shown = run(kicks([count]))
    assert first == fault
    assert shown == {"early": count + 1, "late": 21}.get(next(iter(fault), None))


@pytest.mark.parametrize("count", [9, 10, 20, 21])
def test_each_token_opens_a_window_of_its_own(count):
    first, _shown = run(kicks([15, 16 + count]))
    assert first == ({"early"} if count < 10 else {"late"} if count > 20 else set())


def test_no_token_at_all_is_late():
    assert run([{}] * 25) == ({"late"}, 21)


def test_two_tokens_at_once_are_early():
    first, shown = run(kicks([15, 16]))
    assert (first, shown) == ({"early"}, 17)


def test_a_kick_that_is_held_is_early_and_a_replay():
    value = next(tokens())
    first, shown = run([{}] * 12 + [{"kick": 1, "token": value}] * 30)
    assert (first, shown) == ({"early", "replayed"}, 14)


def test_an_old_token_is_a_replay():
    series = tokens()
    one, two = next(series), next(series)
    assert run(kicks([15, 31], [one, one])) == ({"replayed"}, 32)
    # One older than that is not told from any wrong one.
    assert run(kicks([15, 31, 47], [one, two, one])) == ({"wrong"}, 48)


@pytest.mark.parametrize("bit", [0, 17, 31])
def test_one_wrong_bit_is_a_wrong_token(bit):
    assert run(kicks([15], [next(tokens()) ^ 1 << bit])) == ({"wrong"}, 16)


def test_a_path_with_another_signature_makes_a_wrong_token():
    challenge = golden.Watchdog().challenge
    assert run(kicks([15], [golden.token(challenge, SIGNATURE ^ 0x40)])) == ({"wrong"}, 16)


@pytest.mark.parametrize(
    "cycle", [{"start": 1}, *write(open=0), *write(deadline=500), *write(path=0)]
)
def test_a_second_start_or_a_write_after_it_is_a_fault_and_changes_nothing(cycle):
    assert run([{}, {}, cycle]) == ({"misuse"}, 3)
    settings = play(Watchdog(), [*SET_UP, cycle], FIELDS)[-1]
    assert settings == {"open": 10, "deadline": 20, "path": SIGNATURE}


def test_without_settings_it_trips_at_once():
    seen = play(Watchdog(), [{"start": 1}, {}], ["faults"])
    assert [got["faults"] for got in seen] == [set(), set(), {"late"}]


def test_nothing_happens_before_the_start():
    seen = play(Watchdog(), [{"kick": 1, "token": 3}, *[{}] * 30], ["faults", "running"])
    assert all(got == {"faults": set(), "running": 0} for got in seen)


@pytest.mark.parametrize("seed", range(2))
def test_every_cycle_is_as_the_golden_model_says(seed):
    rng = random.Random(seed)
    model = golden.Watchdog()
    opening = rng.randrange(6)
    settings = {"open": opening, "deadline": opening + rng.randrange(8), "path": SIGNATURE}
    cycles, expected = [], []

    def step(inputs, **arguments):
        model.step(**arguments)
        cycles.append(inputs)
        expected.append((set(model.faults), set(model.first), model.challenge))

    for name, value in settings.items():
        step(*write(**{name: value}), writes={name: value})
    for n in range(600):
        due = golden.token(model.challenge, SIGNATURE)
        age = 0 if model.began is None else n + 3 - model.began
        chance = 0.6 if opening <= age else 0.01
        value = rng.choices([due, model.last, due ^ 1 << rng.randrange(32)], [400, 1, 1])[0]
        kick, start = rng.random() < chance, n == 2 or rng.random() < 0.001
        inputs = {"kick": kick, "token": value, "start": start}
        step(inputs, **inputs)
    seen = play(Watchdog(width=8), cycles, ["faults", "first", "challenge"])
    for n, (got, want) in enumerate(zip(seen[1:], expected, strict=True)):
        assert tuple(got.values()) == want, n


def test_the_shift_register_goes_through_every_state_but_zero():
    """The order of a step is 2**32 - 1: it is 1 to that power, and to no quotient by a prime."""
    assert Watchdog.SEED == golden.Watchdog().seed
    columns = [golden.token(1 << n, 0) for n in range(32)]
    identity = [1 << n for n in range(32)]

    def apply(matrix, vector):
        result = 0
        for n in range(32):
            result ^= matrix[n] if vector >> n & 1 else 0
        return result

    def power(exponent):
        result, square = identity, columns
        while exponent:
            if exponent & 1:
                result = [apply(square, column) for column in result]
            square = [apply(square, column) for column in square]
            exponent >>= 1
        return result

    order = 2**32 - 1
    assert order == 3 * 5 * 17 * 257 * 65537
    assert power(order) == identity
    assert all(power(order // prime) != identity for prime in (3, 5, 17, 257, 65537))


@pytest.mark.parametrize("width", [1, 33])
def test_counts_that_cannot_be_are_refused(width):
    with pytest.raises(ValueError, match=rf"^width is {width}; it must be from 2 to 32$"):
        Watchdog(width=width)
