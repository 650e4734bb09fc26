# amaranth: UnusedElaboratable=no
import json
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from jepa_r_flow import faults as faults_module
from jepa_r_flow.cli import app
from jepa_r_flow.output import RESULT
from jepa_r_sim.faults.campaign import CLASSES

from ..faults import toy

#: Of all calls here; toys are cheap.
SMALL = ("--cycles", 384, "--window", 192, "--workers", 1)


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    made = {"lockstep": toy.pair, "single": toy.single, "untied": toy.untied}
    monkeypatch.setattr(faults_module, "TARGETS", made)
    monkeypatch.setattr(faults_module, "campaigns_root", lambda: tmp_path / "campaigns")


def call(*arguments):
    """Run the command; its exit code, JSON object and what it said on standard error."""
    result = CliRunner().invoke(app, ["faults", *map(str, arguments), "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_help_has_an_example():
    result = CliRunner().invoke(app, ["faults", "--help"])
    assert result.exit_code == 0
    assert "jepa-r faults" in result.stdout.split("Examples:")[1]


def test_nothing_escapes_from_a_pair(tmp_path):
    output = tmp_path / "out"
    code, found, stderr = call(*SMALL, "--faults", 600, "-o", output)
    assert code == 0
    assert found["injected"] == 600 == sum(found[name] for name in CLASSES)
    assert found["silent"] == found["timeout"] == found["late"] == 0
    assert found["silent_cases"] == []
    assert found["population"] == found["registers"] * 384
    assert max(map(int, found["latency"])) == found["bound"] == toy.SKEW + 1
    assert "inject" in stderr
    written = json.loads((output / RESULT).read_text())
    assert {**written, "directory": str(output)} == {"command": "faults", **found}
    with Image.open(output / "picture.png") as picture:
        assert len(picture.convert("RGB").resize((200, 70)).getcolors(14000)) > 20


def test_escapes_fail_the_campaign(tmp_path):
    code, found, _ = call(*SMALL, "--target", "untied", "--faults", 600, "-o", tmp_path / "out")
    assert code == 1
    assert found["silent"] == len(found["silent_cases"]) > 0


def test_a_baseline_only_counts(tmp_path):
    code, found, _ = call(*SMALL, "--target", "single", "--faults", 600, "-o", tmp_path / "out")
    assert code == 0
    assert found["silent"] > 0


def test_stuck_at_faults_of_one_processor(tmp_path):
    code, found, _ = call(
        *SMALL, "--target", "single", "--kind", "stuck-at", "--all", "-o", tmp_path / "out"
    )
    assert code == 0
    assert found["injected"] == found["population"] == 2 * found["sites"]
    assert found["reached"] + len(found["unreached_cases"]) == found["injected"]


def test_the_same_seed_gives_the_same_counts_resumed_or_not(tmp_path):
    arguments = (*SMALL, "--faults", 600, "--seed", 5, "-o", tmp_path / "out")
    _, first, _ = call(*arguments)
    _, again, _ = call(*arguments)
    _, resumed, _ = call(*arguments, "--resume")
    _, other, _ = call(*SMALL, "--faults", 600, "--seed", 6, "-o", tmp_path / "out")
    for name in ("seconds", "build_seconds", "processor_seconds"):
        for found in (first, again, resumed, other):
            del found[name]
    assert first == again == resumed
    assert first["reaction"] != other["reaction"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "island"), "target is 'island'; it must be one of lockstep, single, untied"),
        (("--kind", "bridges"), "kind is 'bridges'; it must be one of flips, stuck-at"),
        (("--all",), "all faults are for --kind stuck-at; give flips a number"),
        (("--target", "single", "--faults", 48385), "faults is 48385; it must be 1..48384, of"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, message, tmp_path):
    code, found, stderr = call(*SMALL, *arguments, "-o", tmp_path / "out")
    assert code == found["exit_code"] == 2
    assert found["error"].startswith(message)
    assert message in stderr
    assert not (tmp_path / "out").exists()


def test_a_cluster_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, found, _ = call("--scheduler", "tcp://127.0.0.1:8786", "-o", tmp_path / "out")
    assert code == 3
    assert found["error"].endswith("pip install 'jepa-r[cluster]'")
