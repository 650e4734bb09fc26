"""When a transfer is complete at the latest, if memory keeps its contract.

The contract of reads: memory takes a request at once while no more than ``outstanding`` are under
way, and offers each beat no later than

    max(request + latency, beat before) + data_bytes / bytes_per_cycle

where ``beat before`` is when that one had to be offered, or the cycle in which the reader took it
if that is later. Times are rounded up only when a beat is offered, not before the next is added.

The contract of writes: memory takes a request at once while no more than ``outstanding`` are under
way, takes each beat no later than ``data_bytes / bytes_per_cycle`` after the one before or when it
is offered, whichever is later, with the same roundings, and answers a burst within ``latency`` of
its last beat.

All of this is sums and maxima of what happened before, so the latest is what comes of everything
being as late as allowed, and whatever comes earlier only moves later events forward. These classes
run that worst case, one step a burst, in whole numbers.
"""

from collections import deque
from copy import copy

from .bursts import BurstPlanner, beats_of, burst_lengths
from .mover import Mover
from .reader import DmaReader

__all__ = ["ReadBound", "WriteBound"]


class ReadBound:
    """Latest completion of every transfer of a :class:`~.DmaReader`, in the order they are given.

    Times are cycles. A bound is exact but for roundings and a cycle between transfers: memory that
    is always as late as it may reaches it within a few cycles.

    Parameters
    ----------
    words : :class:`dict` from :class:`int` to :class:`int`
        As for :class:`~.DmaReader`.
    contract : :class:`jepa_r.config.MemoryContract`
        What memory promises. The reader must have its width, burst length and outstanding bursts.
    """

    def __init__(self, *, words, contract):
        self._words = dict(words)
        self._contract = contract
        # All in units of 1 / bytes_per_cycle of a cycle, in which a beat is a whole number.
        self._unit = contract.bytes_per_cycle
        self._request = -(10**9) * self._unit
        self._taken = deque([self._request] * contract.outstanding, maxlen=contract.outstanding)
        self._next_beat = self._request

    def copy(self):
        """Another bound with the same past."""
        other = copy(self)
        other._taken = self._taken.copy()
        return other

    def _whole(self, time):
        return -(-time // self._unit) * self._unit

    def transfer(self, *, issue, address, words, rows=1, stride=0, dest, crc=False):
        """Bound of the next transfer.

        Parameters
        ----------
        issue : :class:`int`
            Cycle in which it is taken on ``i``, at the latest.
        address, words, rows, stride, dest, crc
            As in :class:`~.ReadDescriptor`.

        Returns
        -------
        :class:`int`
            Last cycle in which ``completed`` may pulse for it.
        """
        contract, unit = self._contract, self._unit
        size, width = self._words[dest], contract.data_bytes
        share = max(1, width // size)
        beats = beats_of(words, word_bytes=size, data_bytes=width)
        beat = max(width, share * unit)
        last_words = (words - 1) % share + 1
        last_beat = max(width, last_words * unit)
        # The first request of a transfer waits for its issue, the others for the one before.
        earliest = (issue + DmaReader.START) * unit
        gap = BurstPlanner.NEXT_BLOCK
        for row in range(rows):
            extra = crc and row == rows - 1
            left = beats + extra
            for length in burst_lengths(
                address + row * stride, left, data_bytes=width, burst_beats=contract.burst_beats
            ):
                request = max(
                    earliest,
                    self._request + gap * unit,
                    self._taken[0] + DmaReader.RELEASE * unit,
                )
                left -= length
                # Spaces from each beat but the last to the next one; the row's last words may be
                # fewer than those of a beat.
                spaces = (length - 1) * beat
                after = beat
                if left == 0:
                    after = max(width, unit) if extra else last_beat
                    if extra and length > 1:
                        spaces += last_beat - beat
                elif extra and left == 1:
                    after = last_beat
                request = self._whole(request)
                first = max(request + contract.latency * unit + width, self._next_beat)
                if beat > width:
                    # The reader decides when beats are taken, in whole cycles.
                    first = self._whole(first)
                self._request = request
                self._taken.append(first + spaces)
                self._next_beat = first + spaces + after
                gap = BurstPlanner.NEXT
            gap = BurstPlanner.NEXT_ROW
        # The answers' side takes a cycle to turn to the next transfer.
        self._next_beat = self._whole(self._next_beat) + unit
        last = 1 if crc else last_words
        return -(-self._taken[-1] // unit) + last + DmaReader.COMPLETE


class WriteBound:
    """Latest completion of every transfer of a :class:`~.Mover`, in the order they are given.

    Times are cycles. Those of transfers to memory are a few cycles too late.

    Parameters
    ----------
    mover : :class:`~.Mover`
        Hardware.
    contract : :class:`jepa_r.config.MemoryContract`
        What memory promises. The mover must have its width, burst length and outstanding bursts.
    """

    def __init__(self, *, mover, contract):
        self._mover = mover
        self._contract = contract
        self._completed = -(10**9)
        # Of the last beat, in units of 1 / bytes_per_cycle of a cycle.
        self._taken = -(10**9) * contract.bytes_per_cycle

    def copy(self):
        """Another bound with the same past."""
        return copy(self)

    def transfer(self, *, issue, source, words, rows=1, to_shared, address=0, stride=0):
        """Bound of the next transfer.

        Parameters
        ----------
        issue : :class:`int`
            Cycle in which it is taken on ``i``, at the latest.
        source, words, rows, to_shared, address, stride
            As in :class:`~.MoveDescriptor`.

        Returns
        -------
        :class:`int`
            Last cycle in which ``completed`` may pulse for it.
        """
        # A transfer that waits begins in the cycle of the completion before.
        begin = max(issue + Mover.BEGIN, self._completed)
        if to_shared:
            cycles = self._mover.shared_cycles(words=words, rows=rows)
            self._completed = begin - Mover.BEGIN + cycles
        else:
            self._completed = self._to_memory(begin, source, words, rows, address, stride)
        return self._completed

    def _to_memory(self, begin, source, words, rows, address, stride):
        contract, unit, width = (
            self._contract, self._contract.bytes_per_cycle, self._contract.data_bytes,
        )  # fmt: skip
        size = self._mover.word_bytes(source)
        share = max(1, width // size)
        beat = max(width, share * unit)
        beats = beats_of(words, word_bytes=size, data_bytes=width)

        request = begin + Mover.REQUEST - BurstPlanner.NEXT_BLOCK
        # The cycle in which a beat moves to the register at the bus. The last beat of a burst does
        # so before the next request.
        moved = begin + self._mover.read_latency + Mover.PACK
        taken = self._taken
        answers = deque([-(10**9)] * contract.outstanding, maxlen=contract.outstanding)
        left = begin
        gap = BurstPlanner.NEXT_BLOCK
        for row in range(rows):
            for length in burst_lengths(
                address + row * stride, beats, data_bytes=width, burst_beats=contract.burst_beats
            ):
                request = max(request + gap, left + 1, answers[0] + 1)
                moved = max(request + 1, -(-taken // unit), moved + share)
                taken = max((moved + 1) * unit, taken + beat)
                if beat > width:
                    # Packing decides when beats are taken, in whole cycles.
                    taken = -(-taken // unit) * unit
                if length > 1:
                    taken += (length - 1) * beat
                    # It moves when the one before is taken, or when it is packed.
                    moved = -(-(taken - width) // unit) if beat == width else taken // unit - 1
                left = moved
                answers.append(-(-taken // unit) + contract.latency)
                gap = BurstPlanner.NEXT
            gap = BurstPlanner.NEXT_ROW
        self._taken = taken
        return answers[-1] + Mover.COMPLETE
