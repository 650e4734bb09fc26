"""The state of a cluster over time, as the scheduler sees it.

Every word of every memory knows when it was last written and read, so that an operation can be
placed at the first cycle in which everything it reads is there and everything it overwrites has
been used. Ports know when they are taken.

In an elastic run starts move apart, never closer, and what has started runs on. Such a run stays
right if operations that meet anywhere also start in the order in which they meet: an ``ordered``
machine sees to that.
"""

from bisect import bisect_left, insort

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

__all__ = ["Access", "Bank", "Machine", "Window"]

Cycles = npt.NDArray[np.int64]

#: Before time began.
_NEVER = -(1 << 40)


@frozen(eq=False)
class Access:
    """What an operation does to words of a memory, at times relative to its start.

    Attributes
    ----------
    memory
        Name of the memory.
    words
        Addresses.
    first, last
        Cycles of the first and of the last access to each word; for writes, readable after the
        last.
    write
        Whether the words are written.
    """

    memory: str
    words: Cycles
    first: Cycles
    last: Cycles
    write: bool


@frozen
class Window:
    """Cycles ``[begin, end)``, relative to an operation's start, in which ``owner`` uses a port.

    One owner's windows never harm each other: its engine works in order.
    """

    port: str
    owner: str
    begin: int
    end: int


@define
class Bank:
    """Times of a memory's words."""

    written: Cycles
    read: Cycles
    #: Latest start of an operation that writes, or reads, the word.
    writer: Cycles
    reader: Cycles
    #: Number of the transfer that wrote the word last, -1 for none.
    transfer: npt.NDArray[np.int64]

    @classmethod
    def of(cls, words: int) -> "Bank":
        """Bank of ``words`` that nobody has touched."""
        written, read, writer, reader = (np.full(words, _NEVER, np.int64) for _ in range(4))
        return cls(written, read, writer, reader, np.full(words, -1, np.int64))


@define
class Machine:
    """All memories and ports of a cluster.

    Attributes
    ----------
    banks
        Memories by name.
    ordered
        Whether operations that meet at a word or a port start in the order in which they meet.
    """

    banks: dict[str, Bank]
    ordered: bool = False
    #: Begin, end and start of the operation, by port and owner.
    _taken: dict[str, dict[str, list[tuple[int, int, int]]]] = field(factory=dict)

    def earliest(
        self,
        accesses: list[Access],
        windows: list[Window],
        start: int,
        *,
        transfer: bool = False,
    ) -> int:
        """First cycle from ``start`` on in which an operation harms nothing and lacks nothing.

        A ``transfer`` comes after all transfers before it, whatever they write.
        """
        for access in accesses:
            bank = self.banks[access.memory]
            written = bank.written[access.words]
            if access.write:
                # What a read sees that starts with the write is not defined.
                if transfer:
                    written = np.where(bank.transfer[access.words] >= 0, _NEVER, written)
                bound = np.maximum(bank.read[access.words], written) + 1 - access.first
                if self.ordered:
                    bound = np.maximum(bound, bank.reader[access.words])
            else:
                # The sequencer asks for transfers when the operation starts, however late it reads.
                arrived = bank.transfer[access.words] >= 0
                bound = written + 1 - np.where(arrived, np.minimum(access.first, 1), access.first)
            if self.ordered and not transfer:
                bound = np.maximum(bound, bank.writer[access.words])
            if len(bound):
                start = max(start, int(bound.max()))
        moved = True
        while moved:
            moved = False
            for window in windows:
                clash = self._clash(window, start)
                if clash is not None:
                    start = clash
                    moved = True
        return start

    def commit(
        self, accesses: list[Access], windows: list[Window], start: int, transfer: int = -1
    ) -> int:
        """Place an operation; returns the last transfer that it depends on, or -1."""
        needs = -1
        for access in accesses:
            bank = self.banks[access.memory]
            if not access.write:
                if len(access.words):
                    needs = max(needs, int(bank.transfer[access.words].max()))
                np.maximum.at(bank.read, access.words, start + access.last)
                np.maximum.at(bank.reader, access.words, start)
        for access in accesses:
            if access.write:
                bank = self.banks[access.memory]
                np.maximum.at(bank.written, access.words, start + access.last)
                np.maximum.at(bank.writer, access.words, start)
                bank.transfer[access.words] = transfer
        for window in windows:
            owners = self._taken.setdefault(window.port, {})
            span = (start + window.begin, start + window.end, start)
            insort(owners.setdefault(window.owner, []), span)
        return needs

    def forget(self, before: int) -> None:
        """Drop what no operation that starts from ``before`` on can meet."""
        for owners in self._taken.values():
            for owner, taken in owners.items():
                owners[owner] = [span for span in taken if span[1] > before]

    def _clash(self, window: Window, start: int) -> int | None:
        """Later start to try if another owner has the port, or would have it in another order."""
        for owner, taken in self._taken.get(window.port, {}).items():
            if owner == window.owner:
                continue
            # An owner's spans end in the order in which they begin and in which they started.
            at = bisect_left(taken, (start + window.end,))
            if at and taken[at - 1][1] > start + window.begin:
                return taken[at - 1][1] - window.begin
            if not self.ordered:
                continue
            if at and taken[at - 1][2] > start:
                return taken[at - 1][2]
            if at < len(taken) and taken[at][2] < start:
                return taken[at][1] - window.begin
        return None
