"""Measure how well the trained model plans, write ``planning.json``, and print the README's table.

Run with the project's environment: ``.venv/bin/python scripts/bench_planning.py``.
"""

import json
import sys
from pathlib import Path

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.planning import measure_planning, render_planning

if __name__ == "__main__":
    with stages_on_stderr() as stages:
        figures = measure_planning(stages)
    Path(__file__).with_name("planning.json").write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(render_planning(figures) + "\n")
