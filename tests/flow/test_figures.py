import json
from pathlib import Path

import pytest

from jepa_r_flow.fault_figures import CAMPAIGNS, coverage, render_coverage, render_faults
from jepa_r_flow.figures import quoted, render, replaced_quote
from jepa_r_flow.planning import render_planning
from jepa_r_flow.scale import render_scale
from jepa_r_flow.synthesis_figures import render_synthesis
from jepa_r_sim.faults.campaign import CLASSES, wilson
from jepa_r_sim.faults.cxxrtl import SETTLE
from jepa_r_sim.firmware import shipped
from jepa_r_sim.golden.island_devices import Island
from jepa_r_sim.riscv.compare import cycles_of

ROOT = Path(__file__).parents[2]


def file(name):
    return json.loads((ROOT / "scripts" / name).read_text())


def test_the_readme_quotes_the_measured_figures():
    figures = file("figures.json")
    assert quoted((ROOT / "README.md").read_text(), "figures") == render(figures).strip()
    for part in ("nano", "loop"):
        assert figures[part]["match"]
        assert figures[part]["cycles_predicted"] == figures[part]["cycles_measured"]


def test_the_readme_quotes_how_well_it_plans():
    readme = (ROOT / "README.md").read_text()
    assert quoted(readme, "planning") == render_planning(file("planning.json")).strip()


def test_the_readme_quotes_full_size_simulation():
    figures = file("scale.json")
    assert quoted((ROOT / "README.md").read_text(), "scale") == render_scale(figures).strip()
    for part in (*figures["tiles"], figures["block"]):
        assert part["mismatches"] == 0
        assert part["cycles_predicted"] == part["cycles_measured"]


def test_the_readme_quotes_area_and_speed():
    figures = file("synthesis.json")
    assert (
        quoted((ROOT / "README.md").read_text(), "synthesis") == render_synthesis(figures).strip()
    )
    fast, small = figures["cells"]["sg13g2"]["points"]
    assert fast["mhz"] >= 320
    assert fast["um2_in_array"] <= 8900
    assert small["mhz"] >= 262
    assert small["um2_in_array"] <= 7800
    assert all(p["mhz"] >= 2000 and p["um2"] <= 86 for p in figures["cells"]["asap7"]["points"])


def test_the_readme_quotes_fault_campaigns():
    figures = file("faults.json")
    assert quoted((ROOT / "README.md").read_text(), "faults") == render_faults(figures).strip()
    run = {name: figures[name] for name in CAMPAIGNS if name in figures}
    for name, campaign in run.items():
        assert sum(campaign[kind] for kind in CLASSES) == campaign["injected"]
        if name in {"F1", "F2"}:
            assert campaign["silent"] == campaign["timeout"] == campaign["late"] == 0
        elif name == "F2b":
            # Of all faults, so of the testable ones, too.
            assert wilson(campaign["reached"], campaign["injected"])[0] >= 0.9
        elif name in {"F1b", "untied"}:
            assert campaign["silent"] > 0
    assert run


def test_the_campaign_of_the_self_test_watches_it_to_its_end_and_no_further():
    """The golden processor runs the shipped image; cycles are those of the hardware."""
    firmware, total = shipped(), 0
    hart = Island(firmware.code).machine

    def until(place):
        nonlocal total
        while hart.pc != place:
            total += cycles_of(hart.step(), hart)
        return total

    until(firmware.symbols["core_test"])
    end = until(hart.x[1])
    campaign = file("faults.json")["F2b"]
    watched = CAMPAIGNS["F2b"]["cycles"] + campaign["window"]
    assert end <= watched < until(firmware.symbols["memory_test"])
    # What was run is what would be run.
    assert watched <= campaign["cycles"] <= watched + 4 * SETTLE


def campaign(**counts):
    """A result with these counts."""
    return dict.fromkeys((*CLASSES, "late"), 0) | counts


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ({"detected": 3, "silent": 1}, 0.75),
        ({"contained": 3, "timeout": 1}, 0.75),
        ({"safe_stop": 3, "late": 1}, 0.75),
        ({"detected": 1, "contained": 1, "safe_stop": 1, "masked": 9, "latent": 9}, 1.0),
        ({"silent": 5, "masked": 9}, 0.0),
    ],
)
def test_coverage_is_the_share_of_dangerous_faults_that_are_detected(counts, share):
    measured, (low, high) = coverage(campaign(**counts))
    assert measured == share
    assert low <= share <= high


def test_without_a_dangerous_fault_there_is_no_coverage():
    assert coverage(campaign(masked=5, latent=5)) is None


def test_the_level_of_coverage_is_that_of_what_is_certain():
    """All of a few is not yet high."""
    figures = {
        "F1": campaign(detected=8742, target="lockstep"),
        "F1b": campaign(silent=512, timeout=155, target="single"),
        "F2": campaign(detected=100, target="lockstep"),
        "F2b": campaign(silent=7, target="self-test", reached=4956, injected=5110),
    }
    assert render_coverage(figures).splitlines()[2:] == [
        "| F1 | 100.00% | 99.96% to 100.00% | high |",
        "| F1b | 0.00% | 0.00% to 0.57% | none |",
        "| F2 | 100.00% | 96.30% to 100.00% | medium |",
        "| F2b | 96.99% | 96.48% to 97.42% | medium |",
    ]


def test_quotes_are_replaced_and_nothing_else():
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    changed = replaced_quote(text, "x", "new")
    assert (quoted(text, "x"), quoted(changed, "x")) == ("old", "new")
    assert changed == text.replace("old", "new")
