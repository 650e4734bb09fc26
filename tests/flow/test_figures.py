import json
from pathlib import Path

from jepa_r_flow.figures import BEGIN, END, render

ROOT = Path(__file__).parents[2]


def test_the_readme_quotes_the_measured_figures():
    figures = json.loads((ROOT / "scripts/figures.json").read_text())
    quoted = (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    assert quoted.strip() == render(figures).strip()
    assert figures["nano"]["match"]
    assert figures["nano"]["cycles_predicted"] == figures["nano"]["cycles_measured"]
