"""Measure the README's figures, and write them to ``figures.json`` and into the README.

Run with the project's environment: ``.venv/bin/python scripts/bench_figures.py``. Builds that are
in the cache take no time: set ``JEPA_R_CACHE`` to an empty directory to measure them.
"""

import json
from pathlib import Path

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.figures import measure, render, replaced_quote

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

with stages_on_stderr() as stages:
    figures = measure(stages)
(HERE / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
README.write_text(replaced_quote(README.read_text(), "figures", render(figures)))
