"""Emitted Verilog as a synthesis engineer finds it: a module a component, the same bytes again."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys

import pytest

DESIGNS = [
    ("nano", "chip"),
    ("nano", "island"),
    pytest.param("jepa-r", "chip", marks=pytest.mark.slow),
]


def generate(preset, top, directory, *, seed):
    """Generate in a process of its own, with its own hashes; returns what it printed."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from jepa_r_flow.cli import main; main()"),
            *("generate", "--preset", preset, "--top", top, "--json", "-o", str(directory)),
        ],
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def digests(directory, result):
    """Hash of every file but the result itself, which has the time in it."""
    names = [*result["files"], *result["handoff"], *result.get("registers", ())]
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}


@pytest.mark.parametrize(("preset", "top"), DESIGNS)
def test_equal_configurations_give_equal_bytes_and_no_component_twice(preset, top, tmp_path):
    first = generate(preset, top, tmp_path / "a", seed=1)
    second = generate(preset, top, tmp_path / "b", seed=4711)
    assert first["files"] == second["files"]
    assert first["modules"] == second["modules"]
    assert digests(tmp_path / "a", first) == digests(tmp_path / "b", second)

    contents = {}
    for name in first["files"]:
        text = (tmp_path / "a" / name).read_text()
        assert "$" not in re.search(r"^module .*?;$", text, re.M | re.S)[0], name
        anonymous = text.replace(name.removesuffix(".v"), "MODULE")
        assert contents.setdefault(anonymous, name) == name, "two modules differ in name alone"

    assert first["bytes"] < 8_000_000
    # Of the largest process that ran, in KiB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20
