"""Instruction words of RV32IM_Zicsr, by the names of the standard."""

__all__ = ["BRANCHES", "CSRS", "IMMEDIATES", "LOADS", "REGISTERS", "SHIFTS", "STORES", "encode"]

#: ``funct3`` of what has an immediate of 12 bits, by name.
IMMEDIATES = {"addi": 0, "slti": 2, "sltiu": 3, "xori": 4, "ori": 6, "andi": 7}
LOADS = {"lb": 0, "lh": 1, "lw": 2, "lbu": 4, "lhu": 5}
STORES = {"sb": 0, "sh": 1, "sw": 2}
BRANCHES = {"beq": 0, "bne": 1, "blt": 4, "bge": 5, "bltu": 6, "bgeu": 7}
CSRS = {"csrrw": 1, "csrrs": 2, "csrrc": 3, "csrrwi": 5, "csrrsi": 6, "csrrci": 7}

#: ``funct7`` and ``funct3``.
SHIFTS = {"slli": (0x00, 1), "srli": (0x00, 5), "srai": (0x20, 5)}
REGISTERS = {
    "add": (0x00, 0), "sub": (0x20, 0), "sll": (0x00, 1), "slt": (0x00, 2), "sltu": (0x00, 3),
    "xor": (0x00, 4), "srl": (0x00, 5), "sra": (0x20, 5), "or": (0x00, 6), "and": (0x00, 7),
    "mul": (0x01, 0), "mulh": (0x01, 1), "mulhsu": (0x01, 2), "mulhu": (0x01, 3),
    "div": (0x01, 4), "divu": (0x01, 5), "rem": (0x01, 6), "remu": (0x01, 7),
}  # fmt: skip

_WORDS = {
    "ecall": 0x00000073, "ebreak": 0x00100073, "mret": 0x30200073, "wfi": 0x10500073,
    "fence": 0x0FF0000F, "fence.i": 0x0000100F,
}  # fmt: skip


def encode(
    name: str, *, rd: int = 0, rs1: int = 0, rs2: int = 0, imm: int = 0, csr: int = 0
) -> int:
    """An instruction word.

    Parameters
    ----------
    name
        Of the standard, in small letters.
    rd, rs1, rs2
        Registers; of ``csrrwi`` and its kin ``rs1`` is the operand.
    imm
        Signed immediate; of ``lui`` and ``auipc`` the upper 20 bits, unsigned.
    csr
        Number of the register.

    Raises
    ------
    ValueError
        If there is no such instruction.
    """
    low = rd << 7 | rs1 << 15
    immediate = (imm & 0xFFF) << 20
    if name in _WORDS:
        return _WORDS[name]
    if name in REGISTERS:
        funct7, funct3 = REGISTERS[name]
        return funct7 << 25 | rs2 << 20 | funct3 << 12 | low | 0x33
    if name in IMMEDIATES:
        return immediate | IMMEDIATES[name] << 12 | low | 0x13
    if name in SHIFTS:
        funct7, funct3 = SHIFTS[name]
        return funct7 << 25 | (imm & 31) << 20 | funct3 << 12 | low | 0x13
    if name in LOADS:
        return immediate | LOADS[name] << 12 | low | 0x03
    if name in STORES:
        place = (imm >> 5 & 0x7F) << 25 | (imm & 31) << 7
        return place | rs2 << 20 | rs1 << 15 | STORES[name] << 12 | 0x23
    if name in BRANCHES:
        place = (imm >> 12 & 1) << 31 | (imm >> 5 & 0x3F) << 25
        place |= (imm >> 1 & 0xF) << 8 | (imm >> 11 & 1) << 7
        return place | rs2 << 20 | rs1 << 15 | BRANCHES[name] << 12 | 0x63
    if name in CSRS:
        return csr << 20 | CSRS[name] << 12 | low | 0x73
    if name == "jal":
        place = (imm >> 20 & 1) << 31 | (imm >> 1 & 0x3FF) << 21
        place |= (imm >> 11 & 1) << 20 | (imm >> 12 & 0xFF) << 12
        return place | rd << 7 | 0x6F
    if name == "jalr":
        return immediate | low | 0x67
    if name in ("lui", "auipc"):
        return (imm & 0xFFFFF) << 12 | rd << 7 | (0x37 if name == "lui" else 0x17)
    raise ValueError(f"{name!r} is no instruction of RV32IM_Zicsr")
