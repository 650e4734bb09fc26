"""The Cross-Entropy Method: sample, feed, roll out, keep the best, refit."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .check import SettingsCheck
from .distribution import Distribution
from .draw import Draw
from .elites import EliteList
from .feeder import Feeder, Pose
from .layouts import (
    DIMENSIONS,
    FEATURES,
    FINE,
    MAX_ELITES,
    EliteTrace,
    PlannerFault,
    PlannerSettings,
    number,
)
from .refit import Refit

__all__ = ["Planner"]


class Planner(Macro):
    """A plan: some iterations of sampling, rollouts and refitting, and its first action.

    The golden model is :func:`jepa_r_sim.golden.planner.plan`. Everything takes its time as a
    function of the settings and of the rollouts alone; :meth:`cycles_of` is that function.

    Settings and pose are taken with ``start``. Candidates are drawn and fed in batches of as many
    as there are tiles; tiles that the last batch does not need keep what they had, and their
    distances are ignored. Elites' actions are drawn again for the refit instead of being stored.
    A plan that is refused leaves everything as it was; one that the predictor fails takes the means
    for the next warm start with it.

    Parameters
    ----------
    tiles : :class:`int`, 1..16
        Rollouts at once.
    elites : :class:`int`, 1..64
        Most elites.
    steps : :class:`int`, 1..255
        Most steps.
    row_bytes : :class:`int`, positive
        Bytes of a word of the tiles' activation memory.

    Members
    -------
    settings : ``In(PlannerSettings())``
        What to do.
    pose : ``In(ArrayLayout(signed(16), 7))``
        Where the arm is.
    start : ``In(1)``
        Plan; ignored while ``busy``.
    busy : ``Out(1)``
        A plan is under way.
    done : ``Out(1)``
        For one cycle: it has ended, with ``fault`` or a new ``action``.
    fault : ``Out(PlannerFault)``
        Why there is no new action; kept until the next ``start``.
    action : ``Out(ArrayLayout(signed(16), 7))``
        First step of the last plan without a fault.
    program_steps : ``In(8)``
        Steps of the loaded rollout program.
    inputs : ``In(20)``
        Address of a candidate's actions and poses in the tiles; steady while ``busy``.
    feed_en, feed_tiles, feed_addr, feed_data : ``Out(1)``, ``Out(16)``, ``Out(20)``, \
    ``Out(8 * row_bytes)``
        Words for the activation memories; see :class:`jepa_r.planner.feeder.Feeder`.
    roll : ``Out(1)``
        For one cycle: run the rollout program.
    rolled : ``In(1)``
        For one cycle, at least one later: it has ended.
    failed : ``In(1)``
        The cluster has a fault. It ends the plan when a rollout is awaited, and at either end.
    distances : ``In(ArrayLayout(48, tiles))``
        Costs of the tiles' candidates, from ``rolled`` to the next ``roll``.
    elite : ``Out(EliteTrace())``
        The elites of an iteration, one a cycle, the best first.
    cycles : ``Out(32)``
        Cycles from ``start`` to ``done``; counts while a plan is under way.

    Raises
    ------
    :exc:`ValueError`
        If a size is not in its range.
    """

    # Cycles from the end of a draw's turn to the one in which its actions are there.
    _LATE = Draw.latency - Draw.period + 1

    # Cycles from the last elite's turn to the refit, and from the last insertion to its telling.
    _SETTLE = _LATE + Refit.settle
    _LOOK = EliteList.latency - EliteList.period + 1

    def __init__(self, *, tiles, elites, steps, row_bytes):
        for name, value, most in (
            ("tiles", tiles, 16),
            ("elites", elites, MAX_ELITES),
            ("steps", steps, 255),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}; it must be from 1 to {most}")
        if row_bytes < 1:
            raise ValueError(f"row_bytes is {row_bytes}; it must be 1 or more")
        self._tiles = tiles
        self._elites = elites
        self._steps = steps
        self._row_bytes = row_bytes
        features = data.ArrayLayout(signed(16), FEATURES)
        super().__init__(
            {
                "settings": In(PlannerSettings()),
                "pose": In(features),
                "start": In(1),
                "busy": Out(1),
                "done": Out(1),
                "fault": Out(PlannerFault),
                "action": Out(features),
                "program_steps": In(8),
                "inputs": In(20),
                "feed_en": Out(1),
                "feed_tiles": Out(16),
                "feed_addr": Out(20),
                "feed_data": Out(8 * row_bytes),
                "roll": Out(1),
                "rolled": In(1),
                "failed": In(1),
                "distances": In(data.ArrayLayout(48, tiles)),
                "elite": Out(EliteTrace()),
                "cycles": Out(32),
            },
            macro_name=f"planner_{tiles}_{elites}_{steps}_{row_bytes}",
        )

    #: Cycles of a plan that is refused.
    REFUSED = 2

    @classmethod
    def _drain_of(cls, row_bytes):
        """Cycles from the last turn of a batch to its rollout."""
        return cls._LATE + Feeder.latency_of(row_bytes)

    @classmethod
    def batch_cycles(cls, *, candidates, horizon, row_bytes, rollout):
        """Cycles of a batch: draw and feed the candidates, roll them out, insert them."""
        draws = 2 * horizon * candidates * Draw.period
        return draws + cls._drain_of(row_bytes) + 1 + rollout + EliteList.period * candidates

    @classmethod
    def refit_cycles(cls, *, elites, horizon):
        """Cycles from the last insertion to the next iteration: tell, draw again, refit."""
        half = elites * Draw.period + cls._SETTLE + Refit.latency
        return elites + cls._LOOK + 2 * horizon * half

    @classmethod
    def cycles_of(cls, *, samples, elites, iterations, horizon, tiles, row_bytes, rollout):
        """Cycles from ``start`` to ``done`` of a plan without a fault.

        ``rollout`` is the cycles from ``roll`` to ``rolled``, the same each time.
        """

        def batch(candidates):
            return cls.batch_cycles(
                candidates=candidates, horizon=horizon, row_bytes=row_bytes, rollout=rollout
            )

        whole, rest = divmod(samples, tiles)
        sampling = whole * batch(tiles) + (batch(rest) if rest else 0)
        iteration = sampling + cls.refit_cycles(elites=elites, horizon=horizon)
        # The check, the end, and the cycle of the pulse.
        return Distribution.latency_of(horizon) + iterations * iteration + 3

    def build(self, platform):
        m = Module()
        m.submodules.check = check = SettingsCheck(elites=self._elites, steps=self._steps)
        m.submodules.distribution = distribution = Distribution(steps=self._steps)
        m.submodules.draw = draw = Draw(steps=self._steps)
        m.submodules.elite_list = elite_list = EliteList(elites=self._elites)
        m.submodules.refit = refit = Refit()

        settings = Signal(PlannerSettings(), reset_less=True)
        iteration = Signal(8, reset_less=True)
        # First candidate of the batch, and which of the batch, step and half have their turn.
        first = Signal(16, reset_less=True)
        index = Signal(number(self._tiles), reset_less=True)
        step = Signal(number(self._steps), reset_less=True)
        half, rank = Signal(reset_less=True), Signal(number(self._elites), reset_less=True)
        candidate, refitting = Signal(16), Signal()
        # Means are good for a warm start after a plan, and for as many steps as it had.
        kept, kept_horizon = Signal(), Signal(8, reset_less=True)
        warm = Signal(reset_less=True)
        m.d.comb += [
            candidate.eq(first + index),
            check.settings.eq(settings),
            check.program_steps.eq(self.program_steps),
            draw.key.as_value().eq(Cat(settings.seed, settings.plan)),
            draw.iteration.eq(iteration),
            draw.candidate.eq(Mux(refitting, elite_list.selected.candidate, candidate)),
            draw.step.eq(step),
            draw.half.eq(half),
            draw.clip.eq(settings.clip),
            draw.r_data.eq(distribution.r_data),
            elite_list.candidate.eq(candidate),
            elite_list.cost.eq(self.distances[index]),
            elite_list.rank.eq(rank),
            refit.add.eq(draw.valid & refitting),
            refit.actions.eq(draw.actions),
            refit.elites.eq(settings.elites),
            refit.momentum_mean.eq(settings.momentum_mean),
            refit.momentum_deviation.eq(settings.momentum_deviation),
            refit.r_data.eq(distribution.r_data),
        ]
        fitted = Signal(range(DIMENSIONS * self._steps))
        m.d.comb += [
            fitted.eq(Cat(refit.word, half, step)),
            distribution.warm.eq(warm),
            distribution.horizon.eq(settings.horizon),
            distribution.deviation.eq(settings.deviation),
            distribution.r_en.eq(draw.r_en | refit.r_en),
            distribution.r_addr.eq(Mux(draw.r_en, draw.r_addr, fitted)),
            distribution.w_en.eq(refit.w_en),
            distribution.w_addr.eq(fitted),
            distribution.w_data.eq(refit.w_data),
        ]
        self._feed(m, draw, settings, fed=draw.valid & ~refitting)
        answer = self._answer(m, refit, settings, word=Cat(refit.word, half), wanted=step == 0)

        # Of the last step, candidate, elite, and iteration.
        last_step, last_rank, last_iteration = Signal(), Signal(), Signal()
        last_sample, last_index = Signal(), Signal()
        m.d.comb += [
            last_step.eq(step + 1 == settings.horizon),
            last_rank.eq(rank + 1 == settings.elites),
            last_iteration.eq(iteration + 1 == settings.iterations),
            last_sample.eq(candidate + 1 == settings.samples),
            last_index.eq(last_sample | (index == self._tiles - 1)),
        ]
        next_rank = Mux(last_rank, 0, rank + 1)
        shown = Signal(8, reset_less=True)
        telling = Signal()
        m.d.sync += shown.eq(rank)
        best = elite_list.selected
        m.d.comb += self.elite.as_value().eq(
            Mux(telling, Cat(C(1, 1), iteration, shown, best.candidate, best.cost), 0)
        )

        drain = self._drain_of(self._row_bytes)
        time = Signal(range(max(drain, self._SETTLE, Draw.period, self._elites + self._LOOK)))
        turned, told = Signal(), Signal()
        m.d.comb += [
            turned.eq(time == Draw.period - 1),
            told.eq(time == settings.elites + self._LOOK - 1),
            self.busy.eq(1),
        ]
        m.d.sync += [time.eq(time + 1), self.cycles.eq(self.cycles + 1), self.done.eq(0)]

        def end(fault):
            m.d.sync += [self.fault.eq(fault), self.done.eq(1)]
            m.next = "IDLE"

        with m.FSM(name="plan") as fsm:
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += self.cycles.eq(self.cycles)
                with m.If(self.start):
                    m.d.sync += [
                        settings.eq(self.settings),
                        self.fault.eq(PlannerFault.NONE),
                        self.cycles.eq(1),
                    ]
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    *(signal.eq(0) for signal in (iteration, first, index, step, half, rank)),
                    warm.eq(settings.warm & kept & (kept_horizon == settings.horizon)),
                ]
                with m.If(check.fault != PlannerFault.NONE):
                    end(check.fault)
                with m.Elif(self.failed):
                    end(PlannerFault.PREDICTOR)
                with m.Else():
                    m.d.comb += [distribution.start.eq(1), elite_list.clear.eq(1)]
                    m.d.sync += kept.eq(0)
                    m.next = "SETUP"
            with m.State("SETUP"):
                m.d.sync += time.eq(0)
                with m.If(distribution.done):
                    m.next = "SAMPLE"
            with m.State("SAMPLE"):
                m.d.comb += draw.start.eq(time == 0)
                with m.If(turned):
                    m.d.sync += [time.eq(0), half.eq(~half)]
                    with m.If(half):
                        m.d.sync += step.eq(Mux(last_step, 0, step + 1))
                        with m.If(last_step):
                            m.d.sync += index.eq(index + 1)
                            with m.If(last_index):
                                m.d.sync += index.eq(0)
                                m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(time == drain - 1):
                    m.next = "ROLL"
            with m.State("ROLL"):
                m.d.comb += self.roll.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += time.eq(0)
                with m.If(self.failed):
                    end(PlannerFault.PREDICTOR)
                with m.Elif(self.rolled):
                    m.next = "INSERT"
            with m.State("INSERT"):
                m.d.comb += elite_list.offer.eq(time == 0)
                with m.If(time == EliteList.period - 1):
                    m.d.sync += [time.eq(0), index.eq(index + 1)]
                    with m.If(last_index):
                        m.d.sync += [index.eq(0), first.eq(candidate + 1)]
                        m.next = "SAMPLE"
                    with m.If(last_sample):
                        m.d.sync += first.eq(0)
                        m.next = "REPORT"
            with m.State("REPORT"):
                # An entry is seen a cycle after its rank; the last insertion takes one more.
                m.d.comb += telling.eq(time >= self._LOOK)
                with m.If((time != 0) & ~told):
                    m.d.sync += rank.eq(next_rank)
                with m.If(told):
                    m.d.comb += refit.clear.eq(1)
                    m.d.sync += time.eq(0)
                    m.next = "REDRAW"
            with m.State("REDRAW"):
                m.d.comb += draw.start.eq(time == 0)
                with m.If(time == 0):
                    m.d.sync += rank.eq(next_rank)
                with m.If(turned):
                    m.d.sync += time.eq(0)
                    # The rank is that of the next elite.
                    with m.If(rank == 0):
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(time == self._SETTLE - 1):
                    m.d.comb += refit.start.eq(1)
                    m.next = "REFIT"
            with m.State("REFIT"):
                m.d.sync += time.eq(0)
                with m.If(refit.done):
                    m.d.comb += refit.clear.eq(1)
                    m.d.sync += half.eq(~half)
                    m.next = "REDRAW"
                    with m.If(half):
                        m.d.sync += step.eq(Mux(last_step, 0, step + 1))
                        with m.If(last_step):
                            m.d.comb += elite_list.clear.eq(1)
                            m.d.sync += iteration.eq(iteration + 1)
                            m.next = "SAMPLE"
                            with m.If(last_iteration):
                                m.next = "FINISH"
            with m.State("FINISH"):
                with m.If(self.failed):
                    end(PlannerFault.PREDICTOR)
                with m.Else():
                    end(PlannerFault.NONE)
                    m.d.sync += [
                        self.action.as_value().eq(answer),
                        kept.eq(1),
                        kept_horizon.eq(settings.horizon),
                    ]
        m.d.comb += refitting.eq(fsm.ongoing("REDRAW") | fsm.ongoing("SETTLE"))
        return m

    def _feed(self, m, draw, settings, *, fed):
        """Put the two halves of a step together, follow the pose, and hand both to the feeder."""
        m.submodules.pose_unit = pose = Pose()
        m.submodules.feeder = feeder = Feeder(row_bytes=self._row_bytes)
        begins = Signal(data.ArrayLayout(signed(16), FEATURES), reset_less=True)
        with m.If(self.start & ~self.busy):
            m.d.sync += begins.eq(self.pose)

        plane = Signal(data.ArrayLayout(signed(16), 2), reset_less=True)
        with m.If(draw.valid):
            m.d.sync += plane.eq(draw.actions)
        action = Cat(plane, draw.actions[0], C(0, 3 * 16), draw.actions[1])
        first, whole, tile = Signal(), Signal(), Signal(self._tiles)
        m.d.comb += [
            first.eq(draw.valid_step == 0),
            whole.eq(fed & draw.valid_half),
            pose.pose.eq(begins),
            pose.load.eq(fed & ~draw.valid_half & first),
            pose.advance.eq(whole),
            pose.action.as_value().eq(action),
            feeder.inputs.eq(self.inputs),
            feeder.start.eq(whole),
            feeder.first.eq(first),
            feeder.tile.eq(tile),
            feeder.action.as_value().eq(action),
            feeder.state.eq(pose.state),
            self.feed_en.eq(feeder.feed_en),
            self.feed_tiles.eq(feeder.feed_tiles),
            self.feed_addr.eq(feeder.feed_addr),
            self.feed_data.eq(feeder.feed_data),
        ]
        with m.If(self.roll | ~self.busy):
            m.d.sync += tile.eq(1)
        with m.Elif(whole & (draw.valid_step + 1 == settings.horizon)):
            m.d.sync += tile.eq(tile << 1)

    def _answer(self, m, refit, settings, *, word, wanted):
        """Means of the first step as an action, a small gripper move as none."""
        rounded = Signal(signed(25))
        m.d.comb += rounded.eq(refit.w_data.mean + (1 << (FINE - 1)))
        moves = Signal(data.ArrayLayout(signed(16), DIMENSIONS), reset_less=True)
        with m.If(refit.w_en & wanted):
            m.d.sync += moves[word].eq(rounded >> FINE)
        gripper, size = moves[DIMENSIONS - 1], Signal(16)
        m.d.comb += size.eq(Mux(gripper < 0, -gripper, gripper))
        grips = Mux(size < settings.threshold, 0, gripper)[:16]
        return Cat(moves[0], moves[1], moves[2], C(0, 3 * 16), grips)
