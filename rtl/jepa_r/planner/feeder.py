"""Actions and poses on their way to the predictor."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .layouts import FEATURES, LIMIT

__all__ = ["Feeder", "Pose"]

#: Feature that is clipped to 0..1, and its one.
GRIPPER, GRIPPER_ONE = 6, 1 << 14


class Pose(Macro):
    """Where a candidate's actions lead: the saturated sum, the gripper in 0..1.

    The golden model is :func:`jepa_r_sim.golden.planner.advance`.

    Members
    -------
    pose : ``In(ArrayLayout(signed(16), 7))``
        Where a plan begins; steady.
    load : ``In(1)``
        Go back there, saturated: for one cycle, :attr:`latency` cycles before ``state`` counts.
    advance, action : ``In(1)``, ``In(ArrayLayout(signed(16), 7))``
        Take a step, in one cycle.
    state : ``Out(ArrayLayout(signed(16), 7))``
        The pose, :attr:`latency` cycles after ``load`` and ``advance``.
    """

    # Sums, then what is out of range.
    latency = 2

    def __init__(self):
        features = data.ArrayLayout(signed(16), FEATURES)
        super().__init__(
            {
                "pose": In(features),
                "load": In(1),
                "advance": In(1),
                "action": In(features),
                "state": Out(features),
            },
            macro_name="pose",
        )

    def build(self, platform):
        m = Module()
        moved, loaded = Signal(), Signal()
        m.d.sync += [moved.eq(self.load | self.advance), loaded.eq(self.load)]
        states = []
        for n in range(FEATURES):
            total = Signal(signed(17), reset_less=True, name=f"total_{n}")
            state = Signal(signed(16), reset_less=True, name=f"state_{n}")
            with m.If(self.load):
                m.d.sync += total.eq(self.pose[n])
            with m.Elif(self.advance):
                m.d.sync += total.eq(state + self.action[n])
            # What is measured is only brought into the range of a pose, as it is.
            low = Mux(loaded, -LIMIT, 0) if n == GRIPPER else -LIMIT
            high = Mux(loaded, LIMIT, GRIPPER_ONE) if n == GRIPPER else LIMIT
            with m.If(moved):
                m.d.sync += state.eq(Mux(total > high, high, Mux(total < low, low, total)))
            states.append(state)
        m.d.comb += self.state.as_value().eq(Cat(states))
        return m


class Feeder(Macro):
    """A step's action and pose as words of the tiles' activation memory.

    A step is ``4 * blocks`` words, a word a cycle: first the action, then the pose; of each, blocks
    of ``row_bytes`` features; of each, the high bytes, then the balanced low bytes. Steps of a
    candidate follow each other in memory.

    Parameters
    ----------
    row_bytes : :class:`int`, positive
        Bytes of a word.

    Members
    -------
    inputs : ``In(20)``
        Address of a candidate's first word; steady.
    start : ``In(1)``
        Take a step; at most every :meth:`latency_of` cycles.
    first : ``In(1)``
        It is a candidate's first step.
    tile : ``In(16)``
        Tiles that it is for.
    action, state : ``In(ArrayLayout(signed(16), 7))``
        The step; magnitudes of at most 32639.
    feed_en, feed_tiles, feed_addr, feed_data : ``Out(1)``, ``Out(16)``, ``Out(20)``, \
    ``Out(8 * row_bytes)``
        Words, in the cycles 1 to :meth:`latency_of` after ``start``.
    """

    def __init__(self, *, row_bytes):
        self._row_bytes = row_bytes
        features = data.ArrayLayout(signed(16), FEATURES)
        super().__init__(
            {
                "inputs": In(20),
                "start": In(1),
                "first": In(1),
                "tile": In(16),
                "action": In(features),
                "state": In(features),
                "feed_en": Out(1),
                "feed_tiles": Out(16),
                "feed_addr": Out(20),
                "feed_data": Out(8 * row_bytes),
            },
            macro_name=f"planner_feeder_{row_bytes}",
        )

    @staticmethod
    def latency_of(row_bytes):
        """Cycles from a step to its last word."""
        return 4 * -(-FEATURES // row_bytes)

    def build(self, platform):
        m = Module()
        count = self.latency_of(self._row_bytes)
        used = min(self._row_bytes, FEATURES)
        halves = [
            part
            for vector in (self.action, self.state)
            # v = 256 * high + low with a signed low byte, so a set sign there is added back.
            for part in (
                [(feature[8:] + feature[7])[:8] for feature in vector],
                [feature[:8] for feature in vector],
            )
        ]
        words = []
        for high, low in (halves[:2], halves[2:]):
            for block in range(0, FEATURES, used):
                words += [Cat(part[block : block + used]) for part in (high, low)]
        width = 8 * used
        padded = Cat(Cat(word, C(0, width - len(word))) for word in words)

        rest = Signal(count * width, reset_less=True)
        left = Signal(range(count + 1))
        m.d.comb += [self.feed_en.eq(left != 0), self.feed_data.eq(rest[:width])]
        with m.If(self.start):
            m.d.sync += [rest.eq(padded), left.eq(count), self.feed_tiles.eq(self.tile)]
        with m.Elif(self.feed_en):
            m.d.sync += [rest.eq(rest >> width), left.eq(left - 1)]
        with m.If(self.start & self.first):
            m.d.sync += self.feed_addr.eq(self.inputs)
        with m.Elif(self.feed_en):
            m.d.sync += self.feed_addr.eq(self.feed_addr + 1)
        return m
