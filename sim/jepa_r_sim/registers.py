"""Registers as software sees them, from the description that the hardware is made from.

:class:`RegisterModel` turns names into addresses and fields into words; :class:`Software` does what
a driver on the host would, through any pair of functions that read and write words.
"""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from attrs import field, frozen
from systemrdl import AddrmapNode, FieldNode, RegNode

from jepa_r.registers import DESCRIPTION, compile_registers

__all__ = ["RegisterModel", "Software"]


@frozen
class RegisterModel:
    """Addresses, fields and reset values by name.

    Names are paths below the address map: ``SEED``, ``POSE[6]``, ``ENCODER_WINDOW[0].BASE``.

    Attributes
    ----------
    top
        The compiled description.
    nodes
        Its registers by name, in the order of their addresses.
    """

    top: AddrmapNode
    nodes: dict[str, RegNode] = field(repr=False)

    @classmethod
    def compile(cls, path: Path = DESCRIPTION, **parameters: int) -> "RegisterModel":
        """Compile a description with the parameters of its address map."""
        top = compile_registers(path, **parameters)
        found = [node for node in top.descendants(unroll=True) if isinstance(node, RegNode)]
        found.sort(key=lambda node: node.absolute_address)
        return cls(top, {node.get_rel_path(top): node for node in found})

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def address(self, name: str) -> int:
        """Address of a register's first byte."""
        return self._node(name).absolute_address

    def reset(self, name: str) -> int:
        """Word after reset; fields that hardware shows count as zero."""
        word = 0
        for part in self._node(name).fields():
            value = part.get_property("reset")
            if part.is_sw_readable and isinstance(value, int):
                word |= value << part.low
        return word

    def mask(self, name: str, part: str = "value") -> int:
        """Bits of a field, in place."""
        found = self._field(name, part)
        return ((1 << found.width) - 1) << found.low

    def encode(self, name: str, word: int = 0, **values: int) -> int:
        """Word with the values of some fields, the others as in ``word``.

        Raises
        ------
        ValueError
            If a value does not fit its field.
        """
        for part, value in values.items():
            found = self._field(name, part)
            low, high = _range(found)
            if not low <= value <= high:
                raise ValueError(f"{name}.{part} is {value}; it must be from {low} to {high}")
            mask = self.mask(name, part)
            word = (word & ~mask) | ((value << found.low) & mask)
        return word

    def decode(self, name: str, word: int) -> dict[str, int]:
        """Values of all fields of a word."""
        values = {}
        for part in self._node(name).fields():
            value = (word >> part.low) & ((1 << part.width) - 1)
            if part.get_property("is_signed") and value >> (part.width - 1):
                value -= 1 << part.width
            values[part.inst_name] = value
        return values

    def _node(self, name: str) -> RegNode:
        if name not in self.nodes:
            raise KeyError(f"there is no register {name}")
        return self.nodes[name]

    def _field(self, name: str, part: str) -> FieldNode:
        found = self._node(name).get_child_by_name(part)
        if not isinstance(found, FieldNode):
            raise KeyError(f"register {name} has no field {part}")
        return found


def _range(part: FieldNode) -> tuple[int, int]:
    if part.get_property("is_signed"):
        return -(1 << (part.width - 1)), (1 << (part.width - 1)) - 1
    return 0, (1 << part.width) - 1


@frozen
class Software:
    """Registers by name, for benches.

    Attributes
    ----------
    model
        What there is.
    read_word
        Reads the word at an address.
    write_word
        Writes a word to an address.
    """

    model: RegisterModel
    read_word: Callable[[int], Awaitable[int]]
    write_word: Callable[[int, int], Awaitable[None]]

    async def read(self, name: str, part: str = "value") -> int:
        """Value of one field."""
        return (await self.read_all(name))[part]

    async def read_all(self, name: str) -> dict[str, int]:
        """Values of all fields of a register, from one read."""
        return self.model.decode(name, await self.read_word(self.model.address(name)))

    async def write(self, name: str, value: int | None = None, /, **values: int) -> None:
        """Write a register: the field ``value``, or fields by name; the others are written as 0."""
        if value is not None:
            values["value"] = value
        word = self.model.encode(name, **values)
        await self.write_word(self.model.address(name), word)

    async def time(self) -> int:
        """Cycles since reset, in one piece: the low half's read takes a copy of the high half."""
        low = await self.read("TIME_LOW")
        return low | await self.read("TIME_HIGH") << 32
