"""Program words, and the image that holds them."""

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from attrs import frozen

from jepa_r.cluster.boot import MAGIC, Header
from jepa_r.cluster.isa import (
    ADDS,
    ARGUMENTS,
    LAYOUTS,
    OPERANDS,
    POINTERS,
    VERSION,
    WORD_BYTES,
    Control,
    Engine,
)  # fmt: skip
from jepa_r.cluster.sequencer import Sequencer
from jepa_r.config import ClusterConfig, ConfigError

from ..golden.rows import NormProfile
from .image import pack_words
from .loops import Loop, Node, Single, flat, roll, unroll
from .operations import Operation

__all__ = ["Program", "assemble", "assemble_words", "encode"]


def encode(layout: Any, fields: Mapping[str, Any]) -> int:
    """A word from its fields; those that are missing are zero.

    Raises
    ------
    ConfigError
        If a value does not fit its field: the model is too large for the instruction set.
    """
    word = 0
    for name, value in fields.items():
        slot = layout[name]
        value = int(getattr(value, "value", value))
        if not 0 <= value < 1 << slot.width:
            raise ConfigError(f"{name} is {value}; a program word has {slot.width} bits for it")
        word |= value << slot.offset
    return word


@frozen
class Program:
    """A program and what is known of it.

    Attributes
    ----------
    words
        Program words.
    bundles
        Different start cycles of operations, loops unrolled.
    operations
        Operations, loops unrolled.
    cycles
        Length of the run.
    """

    words: list[int]
    bundles: int
    operations: int
    cycles: int

    def image(
        self,
        config: ClusterConfig,
        *,
        config_hash: int | None = None,
        about: Mapping[str, int] = MappingProxyType({}),
    ) -> bytes:
        """Header, program and their checksums, as :class:`jepa_r.cluster.boot.Boot` reads them.

        ``about`` has the header's fields for whoever feeds the program.
        """
        width = config.memory.data_bytes
        header = encode(
            Header,
            {
                "magic": MAGIC, "version": VERSION,
                "config": config.hash if config_hash is None else config_hash,
                "words": len(self.words), **about,
            },
        )  # fmt: skip
        return _checked([header], width) + _checked(self.words, width)


def _checked(words: Sequence[int], data_bytes: int) -> bytes:
    raw = b"".join(word.to_bytes(WORD_BYTES, "little") for word in words)
    body = pack_words(np.frombuffer(raw, np.uint8).reshape(-1, WORD_BYTES), data_bytes)
    return body + zlib.crc32(body).to_bytes(4, "little").ljust(data_bytes, b"\0")


#: Pointer: for each loop around a value in which it grows, its depth and a number among those that
#: start from the same pointer.
_Name = tuple[tuple[int, int], ...]


class _Writer:
    """Words of rolled-up operations, with pointers for the loops' strides."""

    def __init__(self, pointers: int) -> None:
        # Zero and the arguments are taken.
        self._most = pointers - 1 - len(ARGUMENTS)
        self.words: list[int] = []
        self.time = 0
        self._numbers: dict[_Name, int] = {}
        #: Pointers used so far in each of the loops that are open, the program itself first.
        self._used: list[set[_Name]] = [set()]

    def control(self, control: Control, wait: int = 0, **fields: int) -> None:
        layout = LAYOUTS[control]
        header = {"engine": Engine.CONTROL, "control": control, "wait": wait}
        self.words.append(encode(layout, header | fields))

    def add(self, steps: dict[int, int]) -> None:
        """Change pointers."""
        entries = [(pointer, step) for pointer, step in steps.items() if step]
        layout = LAYOUTS[Control.ADD]
        entry = layout["adds"].shape.elem_shape
        for at in range(0, len(entries), ADDS):
            adds = 0
            for n, (pointer, step) in enumerate(entries[at : at + ADDS]):
                fields = {"ptr": pointer, "value": step & 0xFFFFFFFF}
                adds |= encode(entry, fields) << n * entry.size
            self.control(Control.ADD, adds=adds)

    def nodes(self, nodes: Sequence[Node], names: Sequence[_Name]) -> None:
        """Write nodes; ``names`` has the pointer of each value."""
        at = 0
        for node in nodes:
            part = names[at : at + len(node.values)]
            if isinstance(node, Loop):
                self._loop(node, part)
            else:
                self._single(node, part)
            at += len(node.values)

    def top(self, nodes: Sequence[Node]) -> None:
        """Write a whole program's nodes."""
        self.nodes(nodes, [()] * sum(len(node.values) for node in nodes))

    def _pointer(self, name: _Name) -> int:
        """Number of the register that holds a pointer."""
        if not name:
            return 0
        self._used[-1].add(name)
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        if number > self._most:
            raise ConfigError(f"the program's loops need more than {self._most} pointers")
        return number

    def _single(self, node: Single, names: Sequence[_Name]) -> None:
        op = node.operation
        fields: dict[str, Any] = dict(op.fields)
        operands = OPERANDS[op.engine]
        for (field, pointer), value, name in zip(operands, node.values, names, strict=True):
            fields[field] = value
            # Operations with an argument are in no loop.
            fields[pointer] = fields[pointer] or self._pointer(name)
        fields |= {"engine": op.engine, "wait": node.start - self.time}
        self.words.append(encode(LAYOUTS[op.engine], fields))
        self.time = node.start

    def _loop(self, node: Loop, outer: Sequence[_Name]) -> None:
        self.control(Control.LOOP, wait=node.start - self.time, count=node.count)
        self.time = node.start
        # A value that grows here has a pointer below the one it had outside, so that loops one
        # after the other share registers.
        strides: dict[_Name, int] = {}
        known: dict[tuple[_Name, int], _Name] = {}
        names: list[_Name] = []
        for name, stride in zip(outer, node.strides, strict=True):
            if not stride:
                names.append(name)
                continue
            if (name, stride) not in known:
                ordinal = sum(other == name for other, _stride in known)
                known[name, stride] = (*name, (len(self._used), ordinal))
                strides[known[name, stride]] = stride
            names.append(known[name, stride])
        self._used.append(set())
        self.nodes(node.body, names)
        used = self._used.pop()
        self._used[-1] |= used
        # Pointers of loops inside grow with the pointer that they start from.
        grows: dict[int, int] = {}
        for name in sorted(used):
            for length in range(1, len(name) + 1):
                if name[:length] in strides:
                    grows[self._numbers[name]] = strides[name[:length]]
        self.add(grows)
        self.control(Control.END, wait=node.start + node.period - self.time)
        self.add({pointer: -stride * node.count for pointer, stride in grows.items()})
        self.time += (node.count - 1) * node.period


def assemble(
    operations: Sequence[Operation],
    *,
    profiles: Sequence[NormProfile],
    end: int,
    config: ClusterConfig,
    turns: Sequence[int] = (),
) -> Program:
    """Make a program of scheduled operations, in order of their starts.

    Parameters
    ----------
    operations
        With start cycles and ``in_flight``.
    profiles
        Constants of LayerNorms.
    end
        Cycle in which everything is visible.
    config
        The cluster.
    turns
        Operations of one layer, of each kind of layer.

    Raises
    ------
    ConfigError
        If the program does not fit, or the sequencer cannot keep up with it.
    """
    words = assemble_words(
        operations,
        end=end,
        profiles=profiles,
        queue=config.queue,
        pointers=config.pointers,
        turns=turns,
    )
    if len(words) > config.program_words:
        raise ConfigError(
            f"program_words is {config.program_words}; this program needs {len(words)}"
        )
    return Program(words, len({op.start for op in operations}), len(operations), end)


def assemble_words(
    operations: Sequence[Operation],
    *,
    end: int,
    profiles: Sequence[NormProfile] = (),
    queue: int = 4,
    pointers: int = POINTERS,
    turns: Sequence[int] = (),
    check: bool = True,
) -> list[int]:
    """Program words of scheduled operations.

    Parameters
    ----------
    operations, end, profiles
        As for :func:`assemble`.
    queue
        Operations that wait for each engine.
    pointers
        Pointers that the sequencer has.
    turns
        As for :func:`~jepa_r_sim.compiler.loops.roll`.
    check
        Whether to refuse a program that the sequencer cannot keep up with.
    """
    nodes = roll(operations, turns=turns)
    assert list(unroll(nodes)) == list(flat(operations)), "rolling up has changed the schedule"
    writer = _Writer(pointers)
    for index, profile in enumerate(profiles):
        writer.control(
            Control.PROFILE, index=index,
            **{name: getattr(profile, name) for name in
               ("width", "inv_mul", "inv_shift", "width_log", "floor", "shift_base")},
        )  # fmt: skip
    writer.top(nodes)
    # The end is reached in its cycle, the last of the run.
    writer.control(Control.HALT, wait=end - 1 - writer.time)
    if check:
        _check_pace(writer.words, queue)
    return writer.words


def _check_pace(words: Sequence[int], depth: int) -> None:
    """Refuse a program in which the sequencer meets an operation too late for its cycle.

    This runs the sequencer's own timing: a word every ``WORD_CYCLES``, a jump every
    ``JUMP_CYCLES``, a full queue holds everything up.
    """
    header = LAYOUTS[Control.HALT]

    def get(word: int, layout, name: str) -> int:
        slot = layout[name]
        return word >> slot.offset & ((1 << slot.width) - 1)

    decoded = [
        (get(w, header, "engine"), get(w, header, "wait"), get(w, header, "control"), w)
        for w in words
    ]
    loop = LAYOUTS[Control.LOOP]
    now = Sequencer.FIRST_CYCLES
    time = at = 0
    stack: list[list[int]] = []
    fired: dict[int, list[int]] = {}
    while True:
        engine, wait, control, word = decoded[at]
        if engine != Engine.CONTROL.value:
            time += wait
            queue = fired.setdefault(engine, [])
            if len(queue) >= depth:
                now = max(now, queue[-depth] + 2)
            if now + Sequencer.QUEUE_CYCLES > time:
                raise ConfigError(
                    f"the sequencer meets word {at} in cycle {now}, too late for its start in "
                    f"cycle {time}"
                )
            queue.append(time)
        elif control == Control.HALT.value:
            return
        elif control == Control.LOOP.value:
            time += wait
            stack.append([at + 1, get(word, loop, "count")])
        elif control == Control.END.value:
            if stack[-1][1] > 1:
                stack[-1][1] -= 1
                time += wait
                at = stack[-1][0]
                # END itself takes no word's time: its jump does.
                now += Sequencer.JUMP_CYCLES - Sequencer.WORD_CYCLES
                continue
            stack.pop()
        at += 1
        now += Sequencer.WORD_CYCLES
