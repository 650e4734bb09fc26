# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from jepa_r_sim.faults.campaign import CLASSES, classify, draw
from jepa_r_sim.faults.cxxrtl import SETTLE, build_flips
from jepa_r_sim.faults.subject import Strobe, SubjectError

from . import toy
from .conftest import CYCLES, WINDOW
from .model import WIDTHS, Toy

#: Registers of the toy in the flattened design, by their names in the model.
NAMES = {
    **{f"main.{name}": name for name in ("pc", "ir", "en", "fetch", "write", "addr")},
    "main.wdata": "acc",
    "main.fsm_state": "state",
}


def drawn(flips, count, seed):
    cycles = np.arange(flips.first, flips.first + flips.cycles, dtype=np.uint32)
    return draw(flips.bits, cycles, count=count, seed=seed)


def counts(events):
    return dict(zip(CLASSES, np.bincount(classify(events), minlength=len(CLASSES)), strict=True))


def ran(at=None, change=None, cycles=CYCLES + WINDOW):
    """Cycles of a wrong store and of a missing one in the model, as the engine defines them."""
    memory = toy.single().memory
    golden, hurt = Toy(memory), Toy(memory)
    omitted = -1
    for cycle in range(cycles):
        if cycle == at:
            change(hurt.r)
        want, got = golden.outputs(), hurt.outputs()
        due, leaves = want[0] and want[2], got[0] and got[2]
        if leaves and (not due or want[3:] != got[3:] or omitted >= 0):
            return cycle, omitted
        if due and not leaves and omitted < 0:
            omitted = cycle
        golden.edge()
        hurt.edge()
    return -1, omitted


def test_the_golden_run_is_the_models(single):
    model = Toy(toy.single().memory)
    ports = [f"main_{name}" for name in toy.BUS]
    for cycle in range(CYCLES):
        found = tuple(int(single.output(port)[cycle]) for port in ports)
        assert found == model.outputs(), cycle
        model.edge()


def test_all_registers_can_be_hurt_and_nothing_else(single):
    widths = {}
    for bit in single.bits:
        name, _, _ = single.name_of(int(bit)).rpartition("[")
        widths[name] = widths.get(name, 0) + 1
    # What is loaded into `history` is never read, so that it is not in the design any more.
    assert {NAMES[name]: width for name, width in widths.items()} == WIDTHS


def test_a_flip_does_what_it_does_in_the_model(single):
    faults = drawn(single, 400, 7)
    events = single.engine.run(faults)
    seen = set()
    for (bit, at), event in zip(faults.tolist(), events, strict=True):
        name, _, place = single.name_of(bit)[:-1].rpartition("[")

        def change(r, name=NAMES[name], place=int(place)):
            r[name] ^= 1 << place

        released, omitted = ran(at, change, int(event["end"]) + 1)
        assert (event["released"], event["omitted"]) == (released, omitted), single.name_of(bit)
        seen.add((released >= 0, omitted >= 0, event["matched"] >= 0))
    # A wrong store; one behind a missing one; none any more; nothing left of the flip.
    assert {(True, False, False), (True, True, False), (False, True, False)} <= seen
    assert (False, False, True) in seen


def test_nothing_escapes_from_the_pair(pair):
    events = pair.engine.run(drawn(pair, 3000, 1))
    found = counts(events)
    assert sum(found.values()) == 3000
    assert found["silent"] == found["timeout"] == 0
    assert found["detected"] > 1000
    assert found["contained"] > 10
    wrong = (events["diverged"] >= 0) & (events["alert"] >= events["diverged"])
    assert set((events["alert"] - events["diverged"])[wrong]) == {1, toy.SKEW + 1}


def test_a_flip_in_a_live_register_is_detected(pair):
    """Every bit of the sum that is about to be stored, in both processors."""
    live = [bit for bit in pair.bits if ".wdata[" in pair.name_of(int(bit))]
    assert len(live) == 64
    request = int(np.flatnonzero(pair.output("w_request"))[3])
    events = pair.engine.run(np.array([(bit, request) for bit in live], np.uint32))
    assert (events["alert"] >= request).all()
    assert (events["alert"] <= request + 2 * toy.SKEW + 1).all()
    assert (events["released"] < 0).all()


def test_without_its_comparators_the_pair_lets_wrong_values_out(untied):
    found = counts(untied.engine.run(drawn(untied, 1000, 1)))
    assert found["silent"] > 20
    assert found["detected"] == found["contained"] == 0


def test_an_alert_does_not_excuse_what_leaves_after_it():
    flips = build_flips(toy.pair(gated=False), cycles=CYCLES, window=WINDOW)
    events = flips.engine.run(drawn(flips, 1000, 1))
    silent = classify(events) == CLASSES.index("silent")
    assert ((events["alert"] >= 0) & (events["alert"] < events["released"]))[silent].any()
    assert (events["released"] <= events["alert"] + SETTLE)[silent & (events["alert"] >= 0)].all()


def test_the_window_is_watched_whole(single):
    """Latent faults are followed to the end of the window, others no longer than needed."""
    faults = drawn(single, 500, 3)
    events = single.engine.run(faults)
    kinds = classify(events)
    watched = events["end"] - faults[:, 1].astype(np.int32)
    latent = kinds == CLASSES.index("timeout")
    assert (watched[latent] >= WINDOW).all()
    assert (events["end"] == events["released"])[kinds == CLASSES.index("silent")].all()


def test_same_faults_in_any_order_do_the_same(pair):
    faults = drawn(pair, 300, 5)
    events = pair.engine.run(faults)
    assert (pair.engine.run(faults[::-1])[::-1] == events).all()


def test_a_subject_names_ports_that_exist():
    with pytest.raises(SubjectError, match=r"toy, single: 'w_code' is no output of main_addr, "):
        toy.single(released=(Strobe(valid="w_en", payload=("w_code",)),))
    with pytest.raises(SubjectError, match=r"toy, single: 'w_en' is no input of error, rdata"):
        toy.single(inputs={"w_en": [0]})
    with pytest.raises(SubjectError, match=r"toy, single: nothing is released"):
        toy.single(released=())


def test_a_golden_run_must_mean_something():
    with pytest.raises(SubjectError, match=r"alert_p is not 1 in cycle 0 of the golden run"):
        build_flips(toy.pair(alerts={"alert_p": 1}), cycles=CYCLES, window=WINDOW)
    idle = toy.pair(memory=toy.memory(
        program=[toy.JUMP << 28], store="w_en", store_address="w_addr", store_data="w_data"
    ))  # fmt: skip
    with pytest.raises(SubjectError, match=r"toy, pair: the golden run releases nothing"):
        build_flips(idle, cycles=CYCLES, window=WINDOW)
