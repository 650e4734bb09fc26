"""From the latent store to the activation memories of the predictor's tiles."""

from amaranth import *
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..fabric.delay import delay
from ..platform import Macro
from .store import ADDRESS, SLOTS, LatentStore

__all__ = ["Feeder"]


class Feeder(Macro):
    """Copy a latent from a slot of the store, one word of the predictor a cycle.

    A latent has words (kb, token): K-block kb of a token. The store holds the encoder's, of E
    bytes, at ``kb * rows + token`` of its slot, the tiles the predictor's, of P bytes, at
    ``address + kb * rows + token``. Predictor words ``E / P * kb`` and following are the parts of
    encoder word kb, its low bytes first. The source is read once for each part, so that the words
    of the destination come in order.

    Parameters
    ----------
    words : :class:`int`
        Words of a slot of the store.
    from_bytes, to_bytes : :class:`int`
        Bytes E and P of the two words.

    Members
    -------
    start : ``In(1)``
        Begin; ignored while ``busy``.
    slot, address, rows, blocks : ``In(range(4))``, ``In(20)``, ``In(16)``, ``In(16)``
        With ``start``: where the latent is and goes to, tokens, and K-blocks of P bytes.
    busy : ``Out(1)``
        Words are being read.
    reading : ``Out(range(4))``
        The slot they are read from.
    done : ``Out(1)``
        Pulse, :meth:`cycles` after ``start``: all words are written.
    failed : ``Out(1)``
        With ``done``: there is no such latent, since it is empty or larger than a slot.
    r_en, r_addr, r_data
        The store's.
    feed_en, feed_addr, feed_data : ``Out(1)``, ``Out(20)``, ``Out(8 * to_bytes)``
        A word for all tiles.

    Raises
    ------
    :exc:`ValueError`
        If ``to_bytes`` does not divide ``from_bytes``.
    """

    #: Cycles from ``start`` to ``done`` besides one for each word: check, read, write and tell.
    OVERHEAD = LatentStore.READ_LATENCY + 3

    def __init__(self, *, words, from_bytes, to_bytes):
        if to_bytes < 1 or from_bytes % to_bytes:
            raise ValueError(
                f"to_bytes is {to_bytes}; it must divide from_bytes, which is {from_bytes}"
            )
        self._words = words
        self._parts = from_bytes // to_bytes
        super().__init__(
            {
                "start": In(1),
                "slot": In(range(SLOTS)),
                "address": In(ADDRESS),
                "rows": In(16),
                "blocks": In(16),
                "busy": Out(1),
                "reading": Out(range(SLOTS)),
                "done": Out(1),
                "failed": Out(1),
                "r_en": Out(1),
                "r_addr": Out(ceil_log2(SLOTS * words)),
                "r_data": In(8 * from_bytes),
                "feed_en": Out(1),
                "feed_addr": Out(ADDRESS),
                "feed_data": Out(8 * to_bytes),
            },
            macro_name=f"latent_feeder_{words}_{from_bytes}_{to_bytes}",
        )

    @classmethod
    def cycles(cls, *, rows, blocks):
        """Cycles from ``start`` to ``done`` for a latent that there is."""
        return rows * blocks + cls.OVERHEAD

    def build(self, platform):
        m = Module()

        rows, blocks = Signal(16), Signal(16)
        token, block = Signal(16), Signal(16)
        part = Signal(range(max(self._parts, 2)))
        # One bit more: the end of the last slot.
        first, source, limit = (Signal(ADDRESS + 1, name=n) for n in ("first", "source", "limit"))
        target = Signal(ADDRESS)
        last, inside = Signal(), Signal()
        m.d.comb += [
            last.eq((token == rows - 1) & (block == blocks - 1)),
            inside.eq(source != limit),
        ]

        read, end, refused = Signal(), Signal(), Signal()
        m.d.comb += [self.r_en.eq(read), self.r_addr.eq(source)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [
                        self.busy.eq(1),
                        self.reading.eq(self.slot),
                        rows.eq(self.rows),
                        blocks.eq(self.blocks),
                        first.eq(self.slot * self._words),
                        source.eq(self.slot * self._words),
                        limit.eq(self.slot * self._words + self._words),
                        target.eq(self.address),
                        token.eq(0),
                        block.eq(0),
                        part.eq(0),
                    ]
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "READ"
                with m.If((rows == 0) | (blocks == 0)):
                    m.d.comb += refused.eq(1)
                    m.next = "WAIT"
            with m.State("READ"):
                m.d.comb += [read.eq(inside), refused.eq(~inside), end.eq(last)]
                m.d.sync += [source.eq(source + 1), token.eq(token + 1), target.eq(target + 1)]
                with m.If(token == rows - 1):
                    m.d.sync += [
                        token.eq(0),
                        block.eq(block + 1),
                        part.eq(part + 1),
                        source.eq(first),
                    ]
                    with m.If(part == self._parts - 1):
                        m.d.sync += [part.eq(0), source.eq(source + 1), first.eq(source + 1)]
                with m.If(last | ~inside):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(self.done):
                    m.d.sync += self.busy.eq(0)
                    m.next = "IDLE"

        way = LatentStore.READ_LATENCY
        arrives = delay(m, read, way, reset_less=False, name="arrives")
        ended = delay(m, end | refused, way + 1, reset_less=False, name="ended")
        failed = delay(m, refused, way + 1, reset_less=False, name="refused")
        place = delay(m, target, way, name="place")
        piece = delay(m, part, way, name="piece")
        m.d.sync += [
            self.feed_en.eq(arrives),
            self.feed_addr.eq(place),
            self.feed_data.eq(self.r_data.word_select(piece, len(self.feed_data))),
            self.done.eq(ended),
            self.failed.eq(failed),
        ]
        return m
