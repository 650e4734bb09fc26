"""Emitted Verilog of the host's side, by unit: no warnings, latches, loops, second drivers."""

import pytest

from jepa_r.control.action_out import ActionOut
from jepa_r.control.state_in import StateIn
from jepa_r.control.timers import Timers
from jepa_r.emit import emit_verilog
from jepa_r.registers import Registers

from .test_verilog import examine, lint

UNITS = {
    "action_out": ActionOut, "registers": Registers, "state_in": StateIn, "timers": Timers,
}  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_clean(unit, tmp_path):
    files = emit_verilog(UNITS[unit](), name=unit, into=tmp_path).files
    lint(files, unit)
    examine(files, unit)
