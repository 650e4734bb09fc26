"""A program that injects faults: compiled once, and run on lists of faults by any process.

Everything it needs is in one value that can be sent to another machine, which compiles for itself.
"""

import fcntl
import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import frozen

from ..cosim import MissingToolError, SimulationError, cache_root

__all__ = ["EVENT", "Engine", "Program"]

#: Cycles of what happened first, -1 if never; ``struct Event`` of ``events.hh`` says which.
EVENT = np.dtype([
    *((name, "<i4") for name in (
        "diverged", "requested", "alert", "stopped", "omitted", "released", "matched", "end",
        "place",
    )),
    ("expected", "<u4"),
    ("found", "<u4"),
])  # fmt: skip

_COMPILER = ("g++", "-std=c++17", "-march=native", "-DNDEBUG", "-Wno-psabi")


@frozen(kw_only=True)
class Program:
    """C++ that becomes a program.

    Attributes
    ----------
    main : :class:`str`
        Name of the file with ``main``.
    sources : :class:`dict` from :class:`str` to :class:`str`
        Texts of all files.
    includes : :class:`str` or ``None``
        Where else headers are, below the directory of ``pyosys``.
    optimise : :class:`str`
        How much the compiler does; no part of the hash, since it changes nothing but time.
    """

    main: str
    sources: Mapping[str, str]
    includes: str | None = None
    optimise: str = "-O2"

    def path(self) -> Path:
        """Compile, unless the same was compiled before on such a processor.

        Raises
        ------
        MissingToolError
            If there is no compiler.
        SimulationError
            If the text does not compile.
        """
        key = _hash([_compiler_and_processor(), self.main, sorted(self.sources.items())])
        home = cache_root() / f"faults-{Path(self.main).stem}-{key}"
        if home.is_dir():
            return home / "program"
        with home.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not home.is_dir():
                self._compile(home)
        return home / "program"

    def _compile(self, home: Path) -> None:
        partial = Path(tempfile.mkdtemp(prefix=f"{home.name}.partial-", dir=home.parent))
        try:
            for name, text in self.sources.items():
                (partial / name).write_text(text)
            command = [*_COMPILER, self.optimise, "-I."]
            if self.includes is not None:
                command += ["-isystem", str(_pyosys_share() / self.includes)]
            done = subprocess.run(
                [*command, self.main, "-o", "program"],
                cwd=partial,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line]
                raise SimulationError("\n".join(["g++ failed:", *errors[:20]]))
            # Under its name only now, so that it is whole wherever it exists.
            partial.rename(home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@frozen(kw_only=True)
class Engine:
    """A program with what it reads.

    Attributes
    ----------
    program : :class:`Program`
        Called with a directory, ``golden`` or ``run``, and ``arguments``.
    files : :class:`dict` from :class:`str` to :class:`bytes`
        What it finds in the directory, besides the faults.
    arguments : :class:`tuple` of :class:`str`
        More arguments.
    """

    program: Program
    files: Mapping[str, bytes]
    arguments: tuple[str, ...]

    @property
    def key(self) -> str:
        """Hash of all that decides what a fault does."""
        return _hash([
            self.program.main,
            sorted(self.program.sources.items()),
            [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(self.files.items())],
            self.arguments,
        ])

    def run(self, faults: npt.NDArray[np.uint32]) -> npt.NDArray[np.void]:
        """Inject faults, one after the other, each into an unharmed run.

        Parameters
        ----------
        faults
            UINT32 ``[faults, 2]``: bit and cycle, or site and polarity.

        Returns
        -------
        numpy.ndarray
            :data:`EVENT` ``[faults]``.
        """
        given = np.ascontiguousarray(faults, "<u4").tobytes()
        left = self._execute("run", {"faults.bin": given}, ("events.bin",))
        return np.frombuffer(left["events.bin"], EVENT)

    def golden(self, *names: str) -> dict[str, bytes]:
        """Run without a fault; returns files that the program leaves."""
        return self._execute("golden", {}, names)

    def _execute(
        self, mode: str, more: Mapping[str, bytes], names: tuple[str, ...]
    ) -> dict[str, bytes]:
        program = self.program.path()
        with tempfile.TemporaryDirectory(prefix="jepa-r-faults-") as directory:
            for name, data in {**self.files, **more}.items():
                (Path(directory) / name).write_bytes(data)
            done = subprocess.run(
                [program, directory, mode, *self.arguments],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SimulationError(
                    f"{self.program.main}: exit code {done.returncode}: {done.stderr[-2000:]}"
                )
            return {name: (Path(directory) / name).read_bytes() for name in names}


def _pyosys_share() -> Path:
    spec = find_spec("pyosys")  # not imported, which would load yosys
    if spec is None or spec.origin is None:
        raise MissingToolError("not found: yosys as a Python module; pip install pyosys")
    return Path(spec.origin).parent / "share"


@functools.cache
def _compiler_and_processor() -> str:
    """What ``-march=native`` means here."""
    if shutil.which("g++") is None:
        raise MissingToolError("Not found: g++; install with: apt-get install g++")
    done = subprocess.run(
        [*_COMPILER, "-Q", "--help=target", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
