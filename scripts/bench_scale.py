"""Measure full-size hardware in simulation, for ``scale.json`` and the README.

Run with the project's environment: ``.venv/bin/python scripts/bench_scale.py``. Builds that are in
the cache take no time: set ``JEPA_R_CACHE`` to an empty directory to measure them.
"""

import json
from pathlib import Path

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.figures import replaced_quote
from jepa_r_flow.scale import measure_scale, render_scale

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

if __name__ == "__main__":
    with stages_on_stderr() as stages:
        figures = measure_scale(stages)
    (HERE / "scale.json").write_text(json.dumps(figures, indent=2) + "\n")
    README.write_text(replaced_quote(README.read_text(), "scale", render_scale(figures)))
