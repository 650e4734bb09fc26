"""Files about a chip's registers, for those who write software for it."""

import re
import shutil
from pathlib import Path

from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter

from jepa_r.config import ChipConfig
from jepa_r.registers import DESCRIPTION, chip_parameters, compile_registers

__all__ = ["write_registers"]

#: C header, page and description in the directory of results.
_HEADER, _PAGE, _DESCRIPTION = "registers.h", "registers.html", "registers.rdl"


def write_registers(config: ChipConfig, directory: Path) -> list[str]:
    """Write C header, HTML page and description of a chip's registers.

    The header has a structure of all registers (``jepa_r_t``) and, of each field, mask, position,
    width and reset value. The page is a directory to be served, or opened with one of the launchers
    in it: browsers do not let a local file read its neighbours.

    Returns
    -------
    list of str
        What to open, relative to ``directory``.
    """
    top = compile_registers(DESCRIPTION, **chip_parameters(config))
    # Types are called after where they are used: shared ones would have names with a hash.
    CHeaderExporter().export(top, str(directory / _HEADER), reuse_typedefs=False)
    HTMLExporter(extra_doc_properties=["latched_by", "is_signed"]).export(
        top, str(directory / _PAGE), title=f"Registers of {config.name}"
    )
    # The page carries the time of its making, so that browsers read a newer one again. The
    # configuration's hash does that, too, and equal configurations give equal files.
    page = directory / _PAGE / "index.html"
    stamp = str(int(config.hash[:8], 16))
    page.write_text(re.sub(r"(BUILD_TS = |\?ts=)\d+", rf"\g<1>{stamp}", page.read_text()))
    shutil.copyfile(DESCRIPTION, directory / _DESCRIPTION)
    return [_HEADER, f"{_PAGE}/index.html", _DESCRIPTION]
