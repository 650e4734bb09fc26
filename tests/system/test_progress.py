"""What a caller learns of a run while it lasts."""

from itertools import pairwise

from jepa_r_sim.system import Run


def test_a_run_tells_how_far_it_is(nano, tmp_path):
    told = []
    (result,) = nano.run(tmp_path, [Run()], progress=lambda *far: told.append(far))
    assert nano.is_exact(result)
    total = nano.compiled.cycles
    assert {known for _done, known in told} == {total}
    done = [cycles for cycles, _total in told]
    assert all(before < after for before, after in pairwise(done))
    assert 0.98 * total < done[-1] <= total


def test_a_run_that_ends_early_tells_no_more(nano, tmp_path):
    told = []
    late = Run(mode=[("worst",), ("broken", {"burst": 300, "by": 5000})])
    (result,) = nano.run(tmp_path, [late], progress=lambda *far: told.append(far))
    assert result.fault == "DEADLINE"
    assert 0.9 * result.cycles < told[-1][0] <= result.cycles
