# amaranth: UnusedElaboratable=no
import os
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r_sim import cosim
from jepa_r_sim.cosim import (
    MissingToolError,
    SimulationError,
    build,
    build_files,
    require_tools,
    verilator_environment,
)

BENCH = "bench_counter"
PASSING = {"step": 3, "cycles": 5, "expected": 15}


class Counter(wiring.Component):
    """Adds ``step`` to ``total`` in every cycle."""

    step: In(8)
    total: Out(16)

    def elaborate(self, platform):
        m = Module()
        hidden = Signal(16)
        m.d.sync += [hidden.eq(hidden + self.step), self.total.eq(hidden + self.step)]
        return m


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of this module's own, and its benches importable by name."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPA_R_CACHE", str(root))
        patch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
        yield root


@pytest.fixture(scope="module")
def counter(cache):
    return build(Counter(), name="counter")


@pytest.fixture
def no_compiler(monkeypatch):
    """Any attempt to compile fails the test."""

    def refuse(command, log):
        raise AssertionError(f"compiled again: {command}")

    monkeypatch.setattr(cosim, "_execute", refuse)


def test_bench_gets_parameters_and_leaves_a_report(counter, tmp_path):
    results = counter.run(BENCH, parameters=PASSING, workdir=tmp_path)
    assert results.passed == ("counts", "sees_only_ports")
    assert results.values == {"total": 15}
    assert results.waves is None
    assert "counts passed" in results.log.read_text()


def test_one_test_of_a_bench_can_be_run_alone(counter, tmp_path):
    results = counter.run(BENCH, parameters=PASSING, testcase="counts", workdir=tmp_path)
    assert results.passed == ("counts",)


def test_failing_bench_raises_with_its_message(counter, tmp_path):
    with pytest.raises(SimulationError, match=r"bench_counter\.counts: .*total is 15, not 16"):
        counter.run(BENCH, parameters=PASSING | {"expected": 16}, workdir=tmp_path)


def test_report_of_an_earlier_run_is_not_taken_for_this_one(counter, tmp_path):
    counter.run(BENCH, parameters=PASSING, workdir=tmp_path)
    with pytest.raises(SimulationError, match="KeyError"):
        counter.run(BENCH, parameters={}, workdir=tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_missing_bench_raises(counter, tmp_path):
    with pytest.raises(SimulationError, match="no_such_bench"):
        counter.run("no_such_bench", workdir=tmp_path)


def test_same_design_is_compiled_once(counter, no_compiler):
    assert build(Counter(), name="counter") == counter


def test_other_text_is_compiled_again(counter, no_compiler, tmp_path):
    changed = tmp_path / "counter.v"
    changed.write_text(counter.files[0].read_text() + "\n")
    with pytest.raises(AssertionError, match="compiled again"):
        build_files([changed], top="counter")


def test_half_a_build_is_not_taken_for_a_whole_one(cache, counter, monkeypatch, tmp_path):
    changed = tmp_path / "counter.v"
    changed.write_text(counter.files[0].read_text() + "// half\n")
    before = set(cache.iterdir())
    executed = cosim._execute

    def die_in_make(command, log):
        if command[0] == "make":
            raise KeyboardInterrupt
        executed(command, log)

    with monkeypatch.context() as patch:
        patch.setattr(cosim, "_execute", die_in_make)
        with pytest.raises(KeyboardInterrupt):
            build_files([changed], top="counter")
    assert {path.suffix for path in set(cache.iterdir()) - before} == {".lock"}
    simulation = build_files([changed], top="counter")
    simulation.run(BENCH, parameters=PASSING, testcase="counts", workdir=tmp_path / "run")


def test_leftovers_of_a_killed_build_are_removed(cache, counter, tmp_path):
    changed = tmp_path / "counter.v"
    changed.write_text(counter.files[0].read_text() + "// killed\n")
    home = build_files([changed], top="counter").directory
    leftover = home.with_name(f"{home.name}.partial-killed")
    home.rename(leftover)
    assert build_files([changed], top="counter").directory.is_dir()
    assert not leftover.exists()


def test_two_processes_that_build_the_same_get_the_same(cache, counter, tmp_path):
    changed = tmp_path / "counter.v"
    changed.write_text(counter.files[0].read_text() + "// both\n")
    script = (
        "import sys, pathlib; from jepa_r_sim.cosim import build_files;"
        "print(build_files([pathlib.Path(sys.argv[1])], top='counter').directory)"
    )
    command = [sys.executable, "-c", script, str(changed)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate(timeout=300)[0].strip() for process in both)
    assert first == second
    assert (Path(first) / "counter").stat().st_mode & 0o111
    assert not list(cache.glob("*.partial-*"))


def test_visible_design_and_waveform(cache, tmp_path):
    simulation = build(Counter(), name="counter", waves=True, visible=True)
    results = simulation.run(BENCH, parameters=PASSING | {"visible": True}, workdir=tmp_path)
    assert "hidden" in results.waves.read_text()


def test_broken_verilog_raises(cache, tmp_path):
    broken = tmp_path / "broken.v"
    broken.write_text("module broken(clk);\n  input clk;\n  wire a = ;\nendmodule\n")
    with pytest.raises(SimulationError, match=r"verilator failed:\n.*syntax error"):
        build_files([broken], top="broken")


def test_unknown_top_is_refused(cache, counter):
    with pytest.raises(ValueError, match=r"^top 'other' is not a module of counter\.v$"):
        build_files(counter.files, top="other")


def test_missing_tools_are_named_with_the_command_that_installs_them(monkeypatch, tmp_path):
    (tmp_path / "make").symlink_to("/bin/true")
    (tmp_path / "perl").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cosim.find_libpython, "find_libpython", lambda: "libpython3.so")
    with pytest.raises(MissingToolError) as caught:
        require_tools()
    assert str(caught.value) == "Not found: g++; install with: apt-get install g++"


def test_verilator_is_the_one_of_the_package():
    environment = verilator_environment()
    first = Path(environment["PATH"].split(os.pathsep)[0])
    assert first == Path(environment["VERILATOR_ROOT"]) / "bin"
    assert (first / "verilator").exists()
