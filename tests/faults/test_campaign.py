import builtins
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jepa_r_sim.cosim import MissingToolError
from jepa_r_sim.faults import campaign as campaigns
from jepa_r_sim.faults.campaign import (
    CLASSES,
    Campaign,
    ClusterError,
    FaultsError,
    classify,
    draw,
    on_cluster,
    on_this_machine,
    run_campaign,
    summarise,
    wilson,
)
from jepa_r_sim.faults.engine import EVENT

from . import toy

#: What happened, and the class that it is.
CASES = {
    "nothing is left": ({"matched": 64}, "masked"),
    "nothing is left of an output that differed": ({"diverged": 9, "matched": 64}, "masked"),
    "something is left": ({}, "latent"),
    "an output differs, nothing follows": ({"diverged": 9}, "latent"),
    "alert": ({"alert": 9}, "detected"),
    "alert, a wrong request behind it": ({"alert": 9, "requested": 10}, "detected"),
    "alert, a wrong request in its cycle": ({"alert": 9, "requested": 9}, "contained"),
    "alert, a wrong request before it": ({"alert": 9, "requested": 7}, "contained"),
    "alert, then the design stops": ({"alert": 9, "stopped": 12}, "detected"),
    "the design stops, then alert": ({"alert": 9, "stopped": 8}, "safe_stop"),
    "the design stops": ({"stopped": 8, "omitted": 8}, "safe_stop"),
    "nothing more is released": ({"omitted": 8}, "timeout"),
    "alert of what is missing": ({"omitted": 8, "alert": 9}, "detected"),
    "a wrong value leaves": ({"released": 8, "requested": 4}, "silent"),
    "a wrong value leaves behind a missing one": ({"omitted": 8, "released": 20}, "silent"),
    "alert in the cycle of a wrong value": ({"alert": 8, "released": 8}, "silent"),
    "a wrong value leaves in spite of an alert": ({"alert": 8, "released": 12}, "silent"),
    "a wrong value leaves in spite of a stop": ({"stopped": 8, "released": 12}, "silent"),
}


def events_of(*fields):
    events = np.zeros(len(fields), EVENT)
    for name in EVENT.names[:8]:
        events[name] = -1
    for event, given in zip(events, fields, strict=True):
        for name, cycle in given.items():
            event[name] = cycle
    return events


def campaign_of(flips, count=300, seed=1, bound=toy.SKEW + 1):
    cycles = np.arange(flips.first, flips.first + flips.cycles, dtype=np.uint32)
    return Campaign(
        engine=flips.engine,
        faults=draw(flips.bits, cycles, count=count, seed=seed),
        name_of=lambda fault: flips.name_of(int(fault[0])),
        at=lambda fault: int(fault[1]),
        places=flips.places,
        population=len(flips.bits) * len(cycles),
        bound=bound,
    )


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(campaigns, "_SHARD", 50)


@pytest.mark.parametrize("case", CASES)
def test_what_happened_decides_the_class(case):
    happened, wanted = CASES[case]
    assert CLASSES[classify(events_of(happened))[0]] == wanted


def test_every_class_is_among_the_cases():
    assert {wanted for _, wanted in CASES.values()} == set(CLASSES)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (0, 38416, 0.0, 9.9987e-5),
        (50, 100, 0.403832, 0.596168),
        (1, 10, 0.017876, 0.404150),
        (10, 10, 0.722467, 1.0),
    ],
)
def test_intervals_are_wilsons(hits, total, low, high):
    assert wilson(hits, total) == pytest.approx((low, high), rel=1e-4)


def test_the_same_seed_draws_the_same_faults():
    bits, cycles = np.arange(100, 140, dtype=np.uint32), np.arange(7, 57, dtype=np.uint32)
    faults = draw(bits, cycles, count=1500, seed=3)
    assert len(np.unique(faults, axis=0)) == 1500
    assert set(faults[:, 0]) == set(bits)
    assert set(faults[:, 1]) == set(cycles)
    assert (draw(bits, cycles, count=1500, seed=3) == faults).all()
    assert (draw(bits, cycles, count=1500, seed=4) != faults).any()
    everything = draw(bits, cycles, count=None, seed=3)
    assert len(np.unique(everything, axis=0)) == 2000


@pytest.mark.parametrize("count", [0, 2001])
def test_no_more_faults_are_drawn_than_there_are(count):
    with pytest.raises(FaultsError, match=f"faults is {count}; it must be 1..2000, of which"):
        draw(np.arange(40), np.arange(50), count=count, seed=1)


def test_an_interrupted_campaign_continues(pair, tmp_path, small_shards):
    campaign = campaign_of(pair)
    whole = run_campaign(campaign, directory=tmp_path / "whole")
    ran = []

    def until_the_third(engine, shards):
        for n, shard in enumerate(shards):
            if n == 3:
                raise KeyboardInterrupt
            yield n, engine.run(shard)

    def noted(engine, shards):
        ran.extend(shards)
        return on_this_machine(2)(engine, shards)

    with pytest.raises(KeyboardInterrupt):
        run_campaign(campaign, directory=tmp_path / "cut", runner=until_the_third)
    said = []
    resumed = run_campaign(
        campaign, directory=tmp_path / "cut", resume=True, runner=noted,
        progress=lambda done, total: said.append((done, total)),
    )  # fmt: skip
    assert (resumed == whole).all()
    assert len(ran) == 3
    assert said[0] == (150, 300)
    assert said[-1] == (300, 300)
    # Without being asked to, it begins anew; and another list of faults is another campaign.
    run_campaign(campaign, directory=tmp_path / "cut", runner=noted)
    run_campaign(campaign_of(pair, seed=2), directory=tmp_path / "cut", resume=True, runner=noted)
    assert len(ran) == 3 + 6 + 6


_KILLED = """
import pickle, sys, time
from pathlib import Path
from jepa_r_sim.faults import campaign
campaign._SHARD = 50
engine, faults = pickle.loads(Path(sys.argv[1]).read_bytes())
def slowly(engine, shards):
    for n, shard in enumerate(shards):
        yield n, engine.run(shard)
        time.sleep(0.5)
made = campaign.Campaign(
    engine=engine, faults=faults, name_of=str, at=int, places=(), population=1, bound=None
)
campaign.run_campaign(made, directory=Path(sys.argv[2]), runner=slowly)
"""


def test_a_killed_campaign_continues(pair, tmp_path, small_shards):
    campaign = campaign_of(pair)
    whole = run_campaign(campaign, directory=tmp_path / "whole")
    given = tmp_path / "campaign.pickle"
    given.write_bytes(pickle.dumps((campaign.engine, campaign.faults)))
    directory = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, given, directory])
    deadline = time.monotonic() + 120
    while len(list(directory.glob("*/shard-*.npy"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = len(list(directory.glob("*/shard-*.npy")))
    assert 2 <= left < 6
    ran = []

    def noted(engine, shards):
        ran.extend(shards)
        return on_this_machine(1)(engine, shards)

    resumed = run_campaign(campaign, directory=directory, resume=True, runner=noted)
    assert len(ran) == 6 - left
    assert (resumed == whole).all()


def test_a_broken_shard_is_done_again(pair, tmp_path, small_shards):
    campaign = campaign_of(pair, count=100)
    whole = run_campaign(campaign, directory=tmp_path)
    first = next(tmp_path.glob("*/shard-00000.npy"))
    np.save(first, np.load(first)[:10])
    next(tmp_path.glob("*/shard-00001.npy")).write_bytes(b"")
    assert (run_campaign(campaign, directory=tmp_path, resume=True) == whole).all()


def test_a_summary_counts_every_fault_once(pair):
    campaign = campaign_of(pair, count=500)
    result = summarise(campaign, campaign.engine.run(campaign.faults))
    assert result["injected"] == sum(result[name] for name in CLASSES) == 500
    assert sum(sum(part.values()) for part in result["modules"].values()) == 500
    assert result["modules"].keys() == {"main", "check", "top"}
    assert sum(result["reaction"].values()) == result["detected"] + result["contained"]
    assert result["latency"].keys() == {"1", "3"}
    assert result["late"] == 0
    assert result["silent_cases"] == result["timeout_cases"] == []


def test_alerts_behind_the_bound_are_late(pair):
    campaign = campaign_of(pair, count=500, bound=toy.SKEW)
    result = summarise(campaign, campaign.engine.run(campaign.faults))
    assert result["late"] == result["latency"]["3"] > 0


def test_what_nobody_notices_is_late_and_listed(untied):
    campaign = campaign_of(untied, count=500)
    result = summarise(campaign, campaign.engine.run(campaign.faults))
    assert result["late"] > 0
    assert len(result["silent_cases"]) == result["silent"] > 0
    for case in result["silent_cases"]:
        assert case["port"] in {"w_en", "w_addr", "w_data"}
        # Behind a value that is missing, the next is wrong for being there.
        assert case["expected"] != case["found"] or case["port"] == "w_en"
        assert case["released"] >= case["cycle"]
        assert case["alert"] is None


def test_a_cluster_finds_the_same(pair, tmp_path, small_shards):
    distributed = pytest.importorskip("distributed")
    campaign = campaign_of(pair, count=200)
    here = run_campaign(campaign, directory=tmp_path / "here")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        runner = on_cluster(cluster.scheduler_address)
        there = run_campaign(campaign, directory=tmp_path / "there", runner=runner)
    assert (there == here).all()


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(campaigns, "_PATIENCE", 1)
    with pytest.raises(ClusterError, match=r"scheduler tcp://127\.0\.0\.1:9 does not answer: "):
        on_cluster("tcp://127.0.0.1:9")


def test_what_a_cluster_needs_is_said(monkeypatch):
    original = builtins.__import__

    def without(name, *more):
        if name == "distributed":
            raise ImportError(name)
        return original(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingToolError, match=r"pip install 'jepa-r\[cluster\]'"):
        on_cluster("tcp://127.0.0.1:8786")
