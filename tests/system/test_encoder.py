"""The whole encoder on the RTL against the integer model, with memories of every kind."""

import pytest
from attrs import evolve

from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.system import Run

#: Read bursts of the run, all behind those of the program image.
BURSTS = (100, 200, 300, 400, 500)
LATENESS = (1500, 700, 90, 300, 60)


def late(burst, by, kind="worst"):
    """A memory that is ``by`` cycles late from a burst on."""
    first = (kind,) if kind != "random" else ("random", burst + by)
    return [first, ("broken", {"burst": burst, "by": by})]


def test_every_memory_in_its_contract_gives_the_latent_in_the_same_cycle(nano, memories, tmp_path):
    runs = memories(22)
    nano.assert_exact(nano.run(tmp_path, list(runs.values())), runs)


def test_registers_without_reset_do_not_matter(nano, tmp_path):
    for seed in (2, 3):
        nano.assert_exact(nano.run(tmp_path, [Run()], seed=seed), ["worst"])


@pytest.mark.parametrize("kind", ["worst", "random"])
def test_a_broken_contract_is_a_deadline_fault(nano, tmp_path, kind):
    modes = [late(burst, by, kind) for burst in BURSTS for by in (700, 5000)]
    for result in nano.run(tmp_path, [Run(mode=mode) for mode in modes]):
        assert (result.done, result.fault) == (False, "DEADLINE")
        assert result.cycles < nano.compiled.cycles


def test_an_elastic_run_waits_for_a_broken_contract(nano, tmp_path):
    elastic = compile_encoder(nano.config, nano.quantised, elastic=True)
    modes = [late(burst, by, "worst") for burst, by in zip(BURSTS, LATENESS, strict=True)]
    modes += [late(burst, 600, "random") for burst in BURSTS]
    modes += [[("random", n), ("stalling",)] for n in range(2)]
    runs = [Run(mode=mode, elastic=True) for mode in modes]
    for result in nano.run(tmp_path, runs, compiled=elastic):
        assert nano.is_right(result), result.fault
        assert result.slipped > 0
        assert result.cycles == elastic.cycles + result.slipped


def test_an_elastic_run_in_the_contract_waits_for_nothing(nano, memories, tmp_path):
    elastic = compile_encoder(nano.config, nano.quantised, elastic=True)
    assert nano.compiled.cycles <= elastic.cycles < 1.05 * nano.compiled.cycles
    runs = [evolve(run, elastic=True) for run in memories(2).values()]
    for result in nano.run(tmp_path, runs, compiled=elastic):
        assert nano.is_right(result), result.fault
        assert (result.cycles, result.slipped) == (elastic.cycles, 0)


@pytest.mark.parametrize("burst", [BURSTS[0], BURSTS[-1]])
def test_lateness_within_the_slack_is_not_seen_and_more_is_a_fault(nano, tmp_path, burst):
    """Whatever the lateness, a run is exact or it is refused."""
    lateness = [0, 1, 2, 4, 8, 16, 32, 64, 128, 512]
    results = nano.run(tmp_path, [Run(mode=late(burst, by)) for by in lateness])
    exact = [nano.is_exact(result) for result in results]
    refused = [not r.done and r.fault == "DEADLINE" for r in results]
    assert [not e for e in exact] == refused
    assert exact[0]
    assert refused[-1]
    assert sorted(refused) == refused


def test_requests_that_must_wait_are_a_broken_contract_too(nano, tmp_path):
    modes = [[("random", n), ("stalling",)] for n in range(4)]
    for result in nano.run(tmp_path, [Run(mode=mode) for mode in modes]):
        assert nano.is_exact(result) or (not result.done and result.fault == "DEADLINE")
