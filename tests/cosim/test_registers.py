from pathlib import Path

import pytest

from jepa_r.registers import DESCRIPTION, Registers
from jepa_r_sim import cosim

CHIP = {"CONFIG_HASH": 0x0123_4567_89AB_CDEF, "CYCLES_PER_MS": 1_500_000}

#: Each description: path, arguments, registers that are met often, the lock.
DESCRIPTIONS = {
    "chip": (DESCRIPTION, CHIP, ["CONTROL", "INTERRUPT_STATUS", "NEXT_PLAN", "PLAN"], "LOCK"),
    # What the chip has no example of: narrow counters, two locks, accesses of halves.
    "other": (Path(__file__).with_name("other.rdl"), {}, ["COUNTS", "HALVES"], "LOCKS"),
}

PAUSES = {"never": [0.0], "often": [0.8], "mixed": [0.0, 0.2, 0.5, 0.9]}


@pytest.fixture(scope="module", params=DESCRIPTIONS)
def registers(request):
    path, arguments, often, lock = DESCRIPTIONS[request.param]
    simulation = cosim.build(Registers(path=path, **arguments), name=f"registers_{request.param}")
    described = {"path": str(path), "description": arguments, "often": often, "lock": lock}
    return simulation, described


@pytest.mark.parametrize("pause", PAUSES)
@pytest.mark.parametrize("seed", range(2))
def test_every_cycle_is_as_described(registers, pause, seed, tmp_path):
    simulation, described = registers
    parameters = {"seed": seed, "cycles": 2500, "pauses": PAUSES[pause], "unlocked": 400}
    seen = simulation.run(
        "jepa_r_sim.benches.registers", testcase="randomly", workdir=tmp_path, seed=seed,
        parameters=described | parameters,
    ).values  # fmt: skip
    # All answers, and channels in either order.
    for answer in ("OKAY", "SLVERR", "DECERR"):
        assert seen[f"write {answer}"] > 10
    for answer in ("OKAY", "DECERR"):
        assert seen[f"read {answer}"] > 10
    assert seen["both at once"] > 10
    if pause == "mixed":
        assert seen["address first"] + seen["data first"] > 100


def test_a_manager_that_knows_nothing_of_it_is_served(tmp_path):
    simulation = cosim.build(Registers(**CHIP), name="registers_chip")
    seen = simulation.run(
        "jepa_r_sim.benches.registers", testcase="manager", workdir=tmp_path, seed=3,
        parameters={"description": CHIP, "seed": 3, "reads": 40},
    ).values  # fmt: skip
    assert seen["write SLVERR"] > 40
