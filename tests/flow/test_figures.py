import json
from pathlib import Path

from jepa_r_flow.fault_figures import CAMPAIGNS, render_faults
from jepa_r_flow.figures import quoted, render, replaced_quote
from jepa_r_flow.planning import render_planning
from jepa_r_flow.scale import render_scale
from jepa_r_flow.synthesis_figures import render_synthesis
from jepa_r_sim.faults.campaign import CLASSES, wilson

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


def test_quotes_are_replaced_and_nothing_else():
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    changed = replaced_quote(text, "x", "new")
    assert (quoted(text, "x"), quoted(changed, "x")) == ("old", "new")
    assert changed == text.replace("old", "new")
