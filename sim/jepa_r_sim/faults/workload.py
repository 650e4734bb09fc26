"""The program that runs while faults are injected: impedance control of a simulated arm.

Seven joints, each with a spring and a damper in Q16.16, a torque that saturates, and a mass that
moves; then counters of all widths, so that every kind of instruction is used. It never ends. All
that it computes is stored: 25 stores in some 3,400 cycles.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..riscv.encoding import BRANCHES, encode

__all__ = ["DATA", "assemble", "impedance_data", "impedance_program"]

#: Address of the data.
DATA = 0x1_0000

_JOINTS, _RECORD, _LIMIT = 7, 32, 7 * 32
_MTVEC, _MCYCLE = 0x305, 0xB00
_RETURN, _BASE, _COUNT, _JOINT = 1, 8, 9, 18
_TARGET, _POSITION, _VELOCITY, _FORWARD, _STIFFNESS, _DAMPING, _TORQUE, _LEAST = range(10, 18)
_MOST, _A, _B, _C = range(21, 25)

Line = str | tuple[str, Mapping[str, int | str]]


def assemble(lines: Sequence[Line]) -> npt.NDArray[np.uint32]:
    """Words of a program from address 0.

    Parameters
    ----------
    lines
        Labels, and instructions as (name, arguments of :func:`~jepa_r_sim.riscv.encoding.encode`);
        ``imm`` of a branch or a jump may be a label.
    """
    labels, count = {}, 0
    for line in lines:
        if isinstance(line, str):
            labels[line] = 4 * count
        else:
            count += 1
    words: list[int] = []
    for line in lines:
        if isinstance(line, str):
            continue
        name, given = line
        target = given.get("imm", 0)
        if isinstance(target, str):
            away = 4 * len(words) if name in BRANCHES or name == "jal" else 0
            given = {**given, "imm": labels[target] - away}
        words.append(encode(name, **{key: int(value) for key, value in given.items()}))
    return np.array(words, np.uint32)


def impedance_program() -> npt.NDArray[np.uint32]:
    """Words of the program, from the reset vector."""

    def scaled(into: int, a: int, b: int) -> list[Line]:
        """``into`` = a * b / 2**16."""
        return [
            ("mulh", {"rd": _A, "rs1": a, "rs2": b}),
            ("mul", {"rd": into, "rs1": a, "rs2": b}),
            ("srli", {"rd": into, "rs1": into, "imm": 16}),
            ("slli", {"rd": _A, "rs1": _A, "imm": 16}),
            ("or", {"rd": into, "rs1": into, "rs2": _A}),
        ]

    record = (_TARGET, _POSITION, _VELOCITY, _FORWARD, _STIFFNESS, _DAMPING)
    return assemble([
        ("lui", {"rd": _BASE, "imm": DATA >> 12}),
        ("addi", {"rd": _A, "imm": "trap"}),
        ("csrrw", {"rs1": _A, "csr": _MTVEC}),
        "round",
        ("addi", {"rd": _COUNT, "imm": _JOINTS}),
        ("addi", {"rd": _JOINT, "rs1": _BASE}),
        "joint",
        *(("lw", {"rd": rd, "rs1": _JOINT, "imm": 4 * n}) for n, rd in enumerate(record)),
        ("sub", {"rd": _TARGET, "rs1": _TARGET, "rs2": _POSITION}),
        *scaled(_TORQUE, _TARGET, _STIFFNESS),
        *scaled(_B, _VELOCITY, _DAMPING),
        ("sub", {"rd": _TORQUE, "rs1": _TORQUE, "rs2": _B}),
        ("add", {"rd": _TORQUE, "rs1": _TORQUE, "rs2": _FORWARD}),
        ("lw", {"rd": _MOST, "rs1": _BASE, "imm": _LIMIT}),
        ("jal", {"rd": _RETURN, "imm": "saturate"}),
        ("sw", {"rs1": _JOINT, "rs2": _TORQUE, "imm": 24}),
        ("srai", {"rd": _A, "rs1": _TORQUE, "imm": 5}),
        ("add", {"rd": _VELOCITY, "rs1": _VELOCITY, "rs2": _A}),
        ("srai", {"rd": _A, "rs1": _VELOCITY, "imm": 4}),
        ("add", {"rd": _POSITION, "rs1": _POSITION, "rs2": _A}),
        ("sw", {"rs1": _JOINT, "rs2": _POSITION, "imm": 4}),
        ("sw", {"rs1": _JOINT, "rs2": _VELOCITY, "imm": 8}),
        ("addi", {"rd": _JOINT, "rs1": _JOINT, "imm": _RECORD}),
        ("addi", {"rd": _COUNT, "rs1": _COUNT, "imm": -1}),
        ("bne", {"rs1": _COUNT, "imm": "joint"}),
        ("csrrs", {"rd": _A, "csr": _MCYCLE}),
        ("sw", {"rs1": _BASE, "rs2": _A, "imm": _LIMIT + 4}),
        ("lbu", {"rd": _B, "rs1": _BASE, "imm": _LIMIT + 9}),
        ("addi", {"rd": _B, "rs1": _B, "imm": 1}),
        ("sb", {"rs1": _BASE, "rs2": _B, "imm": _LIMIT + 9}),
        ("divu", {"rd": _C, "rs1": _A, "rs2": _B}),
        ("rem", {"rd": _A, "rs1": _A, "rs2": _TORQUE}),
        ("sh", {"rs1": _BASE, "rs2": _C, "imm": _LIMIT + 10}),
        ("add", {"rd": _A, "rs1": _A, "rs2": _C}),
        ("sw", {"rs1": _BASE, "rs2": _A, "imm": _LIMIT + 12}),
        ("jal", {"imm": "round"}),
        "saturate",
        ("sub", {"rd": _LEAST, "rs2": _MOST}),
        ("blt", {"rs1": _TORQUE, "rs2": _MOST, "imm": "not above"}),
        ("addi", {"rd": _TORQUE, "rs1": _MOST}),
        "not above",
        ("bge", {"rs1": _TORQUE, "rs2": _LEAST, "imm": "not below"}),
        ("addi", {"rd": _TORQUE, "rs1": _LEAST}),
        "not below",
        ("jalr", {"rs1": _RETURN}),
        # Nobody is told: what follows of a trap is not the program's to decide.
        "trap",
        ("jal", {"imm": "trap"}),
    ])


def impedance_data(words: int) -> npt.NDArray[np.uint32]:
    """What the data holds at first: joints away from their targets."""
    data = np.zeros(words, np.uint32)
    one = 1 << 16
    for joint in range(_JOINTS):
        at = joint * _RECORD // 4
        data[at : at + 6] = (
            one * (joint + 1) // 4, one * (7 - joint) // 5, 0, one // 8,
            (12 - joint) * one, (3 + joint) * one // 4,
        )  # fmt: skip
    data[_LIMIT // 4] = 10 * one
    return data
