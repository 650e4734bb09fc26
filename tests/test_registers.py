# amaranth: UnusedElaboratable=no
"""What the decoder refuses, each with its sentence, and the members that it has."""

import re

import pytest
from amaranth import signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from jepa_r.registers import Registers

#: A register's inside, and what is said about it.
REFUSED = {
    "field { sw = rw; hw = r; rclr; } value[32] = 0;": "R.value has the property rclr; ",
    "field { sw = rw; hw = w; } value[32] = 0;": ("R.value has sw = rw, hw = w: no kind of field"),
    "field { sw = r; hw = r; } value[32] = 0;": "R.value has sw = r, hw = r: no kind of field",
    "field { sw = rw; hw = r; onwrite = wot; } value[32] = 0;": (
        "R.value has an onwrite that has no meaning here"
    ),
    "field { sw = rw; hw = w; intr; } value[1:0] = 0;": (
        "R.value has intr without onwrite = woclr and precedence = hw"
    ),
    "field { sw = rw; hw = w; intr; onwrite = woclr; } value[1:0] = 0;": (
        "R.value has intr without onwrite = woclr and precedence = hw"
    ),
    "field { sw = rw; hw = r; counter; precedence = hw; } value[32] = 0;": (
        "R.value is a counter with precedence of hw; that of sw has a meaning"
    ),
    "field { sw = rw; hw = r; counter; onwrite = woclr; } value[32] = 0;": (
        "R.value is a counter with other sw than r or rw"
    ),
    "field { sw = r; hw = na; counter; decrsaturate; } value[32] = 0;": (
        "R.value has the property decrsaturate; "
    ),
    "shared; field { sw = rw; hw = r; } value[32] = 0;": "R has the property shared; ",
}


def registers(tmp_path, text):
    path = tmp_path / "some.rdl"
    path.write_text(text)
    return Registers(path=path)


def wrap(inside):
    # A field may use what the decoder itself needs to know.
    return (
        "property latched_by { type = ref; component = reg; };\n"
        "property is_signed { type = boolean; component = field; };\n"
        f"addrmap some {{ {inside} }};\n"
    )


@pytest.mark.parametrize("inside", REFUSED)
def test_what_has_no_meaning_is_refused(inside, tmp_path):
    with pytest.raises(ValueError, match=f"^{re.escape(REFUSED[inside])}"):
        registers(tmp_path, wrap(f"reg {{ {inside} }} R;"))


def test_registers_have_a_size_and_an_address(tmp_path):
    field = "field { sw = rw; hw = r; } value[8] = 0;"
    with pytest.raises(ValueError, match=r"^R has 16 bits; all registers have 32$"):
        registers(tmp_path, wrap(f"reg {{ regwidth = 16; {field} }} R;"))
    with pytest.raises(ValueError, match=r"^R is at 0x1000; addresses have 12 bits$"):
        registers(tmp_path, wrap(f"reg {{ {field} }} R @ 0x1000;"))


def test_arrays_have_one_dimension(tmp_path):
    field = "field { sw = rw; hw = r; } value[8] = 0;"
    with pytest.raises(ValueError, match=r"^A\[0\]\.R\[0\] is in 2 arrays; at most one has a"):
        registers(tmp_path, wrap(f"regfile {{ reg {{ {field} }} R[2]; }} A[2];"))


def test_register_is_locked_as_a_whole(tmp_path):
    lock = "reg { field { sw = rw; hw = r; onwrite = woset; } value[1] = 0; } LOCK;"
    fields = "field { sw = rw; hw = r; } a[8] = 0; field { sw = rw; hw = r; } b[8] = 0;"
    text = f"{lock} reg {{ {fields} }} R; R.a->swwel = LOCK.value;"
    with pytest.raises(ValueError, match=r"^R has fields of different swwel; a register is locked"):
        registers(tmp_path, wrap(text))


def test_members_are_those_of_the_chip():
    """The parent connects them by these names."""
    members = Registers().signature.members

    def out(name):
        assert members[name].flow == Out
        return members[name].shape

    def in_(name):
        assert members[name].flow == In
        return members[name].shape

    assert out("control_observe") == unsigned(1)
    assert out("control_auto") == unsigned(1)
    assert in_("status_loaded") == unsigned(1)
    assert in_("interrupt_status_deadline") == unsigned(1)
    assert out("interrupt_status_intr") == unsigned(1)
    assert in_("state_gaps_incr") == unsigned(1)
    assert "state_gaps" not in members
    assert out("next_plan") == unsigned(32)
    assert in_("next_plan_incr") == unsigned(1)
    assert out("clip_xyz") == data.ArrayLayout(16, 3)
    assert out("encoder_window_base") == data.ArrayLayout(32, 4)
    assert in_("pose") == data.ArrayLayout(signed(16), 7)
    assert in_("best_cost_high") == unsigned(16)
    assert not {"id", "version", "config_hash_low", "interrupt_enable_fault"} & members.keys()
