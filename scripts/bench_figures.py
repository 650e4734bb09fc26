"""Measure the README's figures, and write them to ``figures.json`` and into the README.

Run with the project's environment: ``.venv/bin/python scripts/bench_figures.py``.
"""

import json
from pathlib import Path

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.figures import BEGIN, END, measure, render

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

with stages_on_stderr() as stages:
    figures = measure(stages)
(HERE / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
before, _, rest = README.read_text().partition(BEGIN)
after = rest.partition(END)[2]
README.write_text(f"{before}{BEGIN}\n{render(figures)}\n{END}{after}")
