"""Measure how many faults a second the engines inject, on one core.

Run with the project's environment: ``.venv/bin/python scripts/bench_faults.py [FAULTS]``. Times are
of the processor, so that a machine that also does other things gives the same figures. What is not
in the cache is built first, which is not measured.
"""

import resource
import sys

import numpy as np

from jepa_r_sim.faults.campaign import draw
from jepa_r_sim.faults.cxxrtl import build_flips
from jepa_r_sim.faults.engine import Engine
from jepa_r_sim.faults.stuck_at import build_stuck_at
from jepa_r_sim.faults.targets import TARGETS

FAULTS = 5000


def measure(name: str, engine: Engine, faults: np.ndarray, starts: np.ndarray) -> str:
    """Faults, and cycles behind the faults, of a second of one core."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    events = engine.run(faults)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    cycles = int((events["end"] - starts).sum())
    return (
        f"{name:<24} {len(faults):>7,} faults {seconds:8.2f} s "
        f"{len(faults) / seconds:9,.0f} faults/s {cycles / seconds / 1e6:7.2f} M fault-cycles/s"
    )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FAULTS
    for target in ("single", "lockstep"):
        subject = TARGETS[target]()
        flips = build_flips(subject)
        cycles = np.arange(flips.first, flips.first + flips.cycles, dtype=np.uint32)
        faults = draw(flips.bits, cycles, count=count, seed=1)
        line = measure(f"{target}, flips", flips.engine, faults, faults[:, 1].astype(np.int64))
        sys.stdout.write(line + "\n")
        netlist = build_stuck_at(subject, flips)
        faults = draw(netlist.sites, np.arange(2, dtype=np.uint32), count=count, seed=1)
        line = measure(f"{target}, stuck-at", netlist.engine, faults, np.zeros(count, np.int64))
        sys.stdout.write(line + "\n")
