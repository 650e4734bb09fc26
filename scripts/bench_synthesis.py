"""Measure area and speed for the README, and write them to ``synthesis.json`` and into it.

Run with the project's environment: ``.venv/bin/python scripts/bench_synthesis.py --pdk-dir DIR``,
where ``DIR`` has the Liberty files of ASAP7 and of IHP SG13G2.
"""

import argparse
import json
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from jepa_r_flow.console import stages_on_stderr
from jepa_r_flow.figures import replaced_quote
from jepa_r_flow.synthesis_figures import PARTS, measure_synthesis, render_synthesis

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pdk-dir", type=Path, required=True, help="Liberty files, at any depth")
parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
arguments = parser.parse_args()

warnings.simplefilter("ignore", UnusedElaboratable)
file = HERE / "synthesis.json"
with stages_on_stderr() as stages:
    measured = measure_synthesis(stages, pdk_dir=arguments.pdk_dir, parts=arguments.part or PARTS)
# Read only now: another part may have been measured meanwhile.
figures = json.loads(file.read_text()) if arguments.part and file.is_file() else {}
figures |= measured
file.write_text(json.dumps(figures, indent=2) + "\n")
README.write_text(replaced_quote(README.read_text(), "synthesis", render_synthesis(figures)))
