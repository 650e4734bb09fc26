"""Directories of results that are whole or not there."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["RESULT", "OutputError", "replaced", "write_result"]

#: File of every directory of results: what the command printed with ``--json``. It also marks a
#: directory as one that a later run may replace.
RESULT = "jepa-r.json"


class OutputError(ValueError):
    """Results cannot be written where the user wants them."""


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Directory to write results into, which becomes ``path`` if nothing goes wrong.

    Raises
    ------
    OutputError
        If ``path`` is something that is not a directory of earlier results, or cannot be written.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - a link given by the user stays a link
    check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"output {path} cannot be written: {error.strerror}") from None
    try:
        partial.chmod(0o755)
        yield partial
        # Looked at again: somebody may have put something there while the command ran.
        check_replaceable(path)
        if path.exists():
            old = partial.with_name(partial.name.replace(".partial-", ".old-"))
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_replaceable(path: Path) -> None:
    """Refuse to replace anything but an empty directory or earlier results."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"output {path} is not a directory; choose another with -o")
    if path.is_dir() and any(path.iterdir()) and not (path / RESULT).is_file():
        raise OutputError(
            f"output {path} holds files that are not results of jepa-r (it has no {RESULT}); "
            f"choose another directory with -o, or remove it"
        )


def write_result(directory: Path, command: str, result: dict[str, Any]) -> None:
    """Leave in a directory of results what the command found."""
    text = json.dumps({"command": command, **result}, indent=2)
    (directory / RESULT).write_text(f"{text}\n")
