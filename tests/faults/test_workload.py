"""The program of the campaigns, on the golden model of the processor."""

import pytest

from jepa_r.safety.core import Core
from jepa_r_sim.faults.workload import DATA, assemble, impedance_data, impedance_program
from jepa_r_sim.golden.riscv import Machine, Region

JOINTS, WORDS = 7, 1024


def signed(word):
    return word - (1 << 32) if word >> 31 else word


def machine():
    code = Region(base=0, size=4096, fetch=True, store=False)
    data = Region(base=DATA, size=4 * WORDS)
    code.place(impedance_program().tobytes())
    data.place(impedance_data(WORDS).tobytes())
    return Machine(regions=[code, data], cycles_of=Core.cycles_of), data


def law(record, limit):
    """Torque, position and velocity behind one step of a joint."""
    target, position, velocity, forward, stiffness, damping = map(signed, record)
    torque = ((target - position) * stiffness >> 16) - (velocity * damping >> 16) + forward
    torque = max(-limit, min(limit, torque))
    velocity += torque >> 5
    return torque, position + (velocity >> 4), velocity


def test_joints_move_as_the_law_says():
    hart, data = machine()
    limit = signed(data.words[8 * JOINTS])
    torques = set()
    for _ in range(40):
        wanted = [law(data.words[8 * n : 8 * n + 6], limit) for n in range(JOINTS)]
        stored = data.words[8 * JOINTS + 3]
        hart.run(2000, until=lambda stored=stored: data.words[8 * JOINTS + 3] != stored)
        for n in range(JOINTS):
            row = data.words[8 * n : 8 * n + 8]
            assert (signed(row[6]), signed(row[1]), signed(row[2])) == wanted[n]
            torques.add(wanted[n][0])
    assert limit in torques
    assert len(torques) > 100


def test_it_never_ends_and_stores_all_the_time():
    hart, _ = machine()
    stores = []
    while hart.cycle < 3 * 4096:
        done = hart.step()
        assert not done.trap
        if done.mem_wmask:
            stores.append(hart.cycle)
    gaps = [after - before for before, after in zip([0, *stores], stores, strict=False)]
    assert len(stores) > 60
    # Less than half of the shortest window that a campaign should have.
    assert max(gaps) < 512


def test_labels_are_addresses():
    words = assemble(["start", ("addi", {"rd": 1, "imm": "end"}), ("jal", {"imm": "start"}), "end"])
    assert [hex(word) for word in words] == ["0x800093", "0xffdff06f"]
    with pytest.raises(KeyError, match="nowhere"):
        assemble([("jal", {"imm": "nowhere"})])
