"""Measure how well the trained model plans; write ``planning.json`` and the README's table.

Run with the project's environment: ``.venv/bin/python scripts/bench_planning.py``.
"""

import json
from pathlib import Path

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.figures import replaced_quote
from jepa_r_flow.planning import measure_planning, render_planning

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

if __name__ == "__main__":
    with stages_on_stderr() as stages:
        figures = measure_planning(stages)
    (HERE / "planning.json").write_text(json.dumps(figures, indent=2) + "\n")
    README.write_text(replaced_quote(README.read_text(), "planning", render_planning(figures)))
