"""Random words that are a function of a counter."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Threefry"]


class Threefry(Macro):
    """Threefry-2x32 with 20 rounds, a round or an injection of the key a cycle.

    The golden model is :func:`jepa_r_sim.golden.threefry.threefry`; the source is Salmon et al.,
    "Parallel random numbers: as easy as 1, 2, 3", SC11. A cycle has one addition of 32 bits and the
    choice of a rotation beside it.

    Members
    -------
    start : ``In(1)``
        Take key and counter; at most every :attr:`latency` cycles.
    key, counter : ``In(ArrayLayout(32, 2))``
        What the words are a function of, in the cycle of ``start``.
    valid : ``Out(1)``
        For one cycle, :attr:`latency` cycles after ``start``.
    words : ``Out(ArrayLayout(32, 2))``
        Two random words, with ``valid``.
    """

    ROUNDS = 20

    #: Rounds between two injections.
    GROUP = 4

    #: How far the second word is rotated in each round, eight rounds a cycle.
    ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)

    #: The third word of the key schedule makes the parity of all three this number.
    PARITY = 0x1BD11BDA

    # The first injection, then the rounds, and an injection after every four.
    latency = 1 + ROUNDS + ROUNDS // GROUP

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "key": In(data.ArrayLayout(32, 2)),
                "counter": In(data.ArrayLayout(32, 2)),
                "valid": Out(1),
                "words": Out(data.ArrayLayout(32, 2)),
            },
            macro_name="threefry",
        )

    def build(self, platform):
        m = Module()
        first, second = Signal(32, reset_less=True), Signal(32, reset_less=True)
        # The key's words in the order in which the next injections take them.
        now, then, last = (Signal(32, reset_less=True, name=f"key_{n}") for n in range(3))
        group = Signal(range(self.ROUNDS // self.GROUP), reset_less=True)
        place = Signal(range(self.GROUP + 1), reset_less=True)
        running = Signal()
        m.d.comb += self.words.as_value().eq(Cat(first, second))

        total = Signal(32)
        m.d.comb += total.eq(first + second)
        turned = Signal(32)
        with m.Switch(Cat(place[:2], group[0])):
            for n, amount in enumerate(self.ROTATIONS):
                with m.Case(n):
                    m.d.comb += turned.eq(second.rotate_left(amount))
        # The number of an injection is added to the key while the rounds before it run.
        numbered = Signal(32, reset_less=True)
        m.d.sync += numbered.eq(then + group + 1)

        m.d.sync += self.valid.eq(0)
        with m.If(running):
            with m.If(place != self.GROUP):
                m.d.sync += [first.eq(total), second.eq(turned ^ total), place.eq(place + 1)]
            with m.Else():
                m.d.sync += [
                    first.eq(first + now),
                    second.eq(second + numbered),
                    Cat(now, then, last).eq(Cat(then, last, now)),
                    place.eq(0),
                    group.eq(group + 1),
                ]
                with m.If(group == self.ROUNDS // self.GROUP - 1):
                    m.d.sync += [running.eq(0), self.valid.eq(1)]
        with m.If(self.start):
            m.d.sync += [
                first.eq(self.counter[0] + self.key[0]),
                second.eq(self.counter[1] + self.key[1]),
                now.eq(self.key[1]),
                then.eq(self.key[0] ^ self.key[1] ^ self.PARITY),
                last.eq(self.key[0]),
                group.eq(0),
                place.eq(0),
                running.eq(1),
            ]
        return m
