import pytest

from jepa_r.registers import Registers
from jepa_r_sim import cosim

DESCRIPTION = {"CONFIG_HASH": 0x0123_4567_89AB_CDEF, "CYCLES_PER_MS": 1_500_000}

PAUSES = {"never": [0.0], "often": [0.8], "mixed": [0.0, 0.2, 0.5, 0.9]}


@pytest.fixture(scope="module")
def registers():
    return cosim.build(Registers(**DESCRIPTION), name="registers")


def run(registers, tmp_path, testcase, **parameters):
    return registers.run(
        "jepa_r_sim.benches.registers",
        testcase=testcase,
        workdir=tmp_path,
        parameters={"description": DESCRIPTION} | parameters,
        seed=parameters["seed"],
    ).values


@pytest.mark.parametrize("pause", PAUSES)
@pytest.mark.parametrize("seed", range(2))
def test_every_cycle_is_as_described(registers, pause, seed, tmp_path):
    seen = run(
        registers, tmp_path, "randomly",
        seed=seed, cycles=4000, pauses=PAUSES[pause], unlocked=600,
    )  # fmt: skip
    # All answers, and channels in either order.
    for answer in ("OKAY", "SLVERR", "DECERR"):
        assert seen[f"write {answer}"] > 10
    for answer in ("OKAY", "DECERR"):
        assert seen[f"read {answer}"] > 10
    assert seen["both at once"] > 10
    if pause == "mixed":
        assert seen["address first"] + seen["data first"] > 100


def test_a_manager_that_knows_nothing_of_it_is_served(registers, tmp_path):
    seen = run(registers, tmp_path, "manager", seed=3, reads=40)
    assert seen["write SLVERR"] > 40
