"""Run the fault campaigns of the README, and write them to ``faults.json`` and into it.

It prints the diagnostic coverage that they measured.

Run with the project's environment: ``.venv/bin/python scripts/bench_faults.py``.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.fault_figures import (
    CAMPAIGNS,
    measure_faults,
    render_coverage,
    render_faults,
)
from jepa_r_flow.figures import replaced_quote

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--campaign", action="append", choices=CAMPAIGNS, help="only this; may be repeated"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UnusedElaboratable)
    file = HERE / "faults.json"
    figures = json.loads(file.read_text()) if arguments.campaign and file.is_file() else {}
    with stages_on_stderr() as stages:
        figures |= measure_faults(
            stages, campaigns=arguments.campaign or CAMPAIGNS, workers=arguments.workers
        )
    file.write_text(json.dumps(figures, indent=2) + "\n")
    README.write_text(replaced_quote(README.read_text(), "faults", render_faults(figures)))
    sys.stdout.write(render_coverage(figures) + "\n")
