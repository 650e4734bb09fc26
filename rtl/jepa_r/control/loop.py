"""What happens when: commands to runs of the encoder, of the predictor and of the planner."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Loop"]


class Loop(Macro):
    """Take commands, and begin what they ask for as soon as it may begin.

    =========  ====================================================================================
    command    what it does
    =========  ====================================================================================
    ``load``   fetches both programs, the encoder's first; observation and goal are void
    ``goal``   encodes the goal's picture
    ``observe``  encodes the picture
    ``plan``   copies observation and goal to the predictor's tiles, and plans
    ``tick``   is ``observe`` and ``plan``
    =========  ====================================================================================

    **Order.** Every command is remembered once, while it waits; the same again is refused. LOAD
    waits for all that is under way, and all others for it. GOAL begins before OBSERVE; PLAN waits
    for the observations and goals that were commanded before or with it, and then goes first. So
    all four may be written at once. Without ``concurrent``, nothing begins while anything is
    under way; with it, a picture may be encoded while a plan is made, but for the cycles in which
    latents are copied.

    **Refusal.** What cannot be done when its turn comes is refused: an encoder's run without an
    encoder's program, a plan without a predictor's program, an observation or a goal, and anything
    that a cluster with a fault would be needed for. No plan is made from an old observation when
    the encoder has failed.

    **Slots.** Observations are kept in slots 0 and 1 in turn, goals in 2 and 3: a plan reads the
    two that were the newest when it began. A run that fails leaves the newest as they were.

    **Deadline.** ``trigger`` is when a plan is commanded, or, if one is under way, when that ends.

    Parameters
    ----------
    concurrent : :class:`bool`
        Whether both clusters may run at once.

    Members
    -------
    load, goal, observe, plan, tick : ``In(1)``
        Commands, for one cycle each.
    ready : ``In(1)``
        Memories beside the clusters' are cleared.
    frame, goal_frame : ``In(32)``
        Pictures of ``observe`` and ``goal``; taken when the run begins.
    encoder_ready, encoder_loaded, encoder_fits, encoder_failed : ``In(1)``
        The encoder's cluster may be started; has a program; which is an encoder's; has a fault.
    encoder_load, encoder_run : ``Out(1)``
        Fetch its program; run it.
    picture, slot : ``Out(32)``, ``Out(2)``
        What it encodes, and the slot for it; steady while it runs.
    predictor_ready, predictor_loaded, predictor_fits, predictor_failed : ``In(1)``
        The same of the predictor's cluster.
    predictor_load, predictor_run : ``Out(1)``
        Fetch its program; run it.
    feed, feed_slot, feed_goal : ``Out(1)``, ``Out(2)``, ``Out(1)``
        Copy a latent to the tiles; whether it is the goal.
    fed, feed_failed : ``In(1)``
        The copy has ended; not well.
    start : ``Out(1)``
        Plan.
    barred : ``Out(1)``
        The planner must not trust the predictor: it, or a copy, has failed.
    roll : ``In(1)``
        The planner wants a rollout.
    rolled : ``Out(1)``
        It has ended.
    planner_done, planner_failed : ``In(1)``
        A plan has ended; with a fault.
    clamped : ``In(1)``
        The control period is not the one that was asked for, which is a fault as well.
    loaded, observed, goal_set, planning : ``Out(1)``
        Both programs are there, an observation, a goal; a plan is being made.
    load_done, observe_done, goal_done, plan_done : ``Out(1)``
        For one cycle: it is complete.
    trigger : ``Out(1)``
        For one cycle: the deadline of a plan counts from here.
    fault : ``Out(1)``
        For one cycle: there is a new fault, or a plan has ended with one.
    refused : ``Out(1)``
        For one cycle: a command is refused. More than one in a cycle count as one.
    """

    def __init__(self, *, concurrent):
        self._concurrent = concurrent
        commands = ("load", "goal", "observe", "plan", "tick")
        clusters = ("encoder", "predictor")
        super().__init__(
            {
                **{name: In(1) for name in commands},
                "ready": In(1),
                "frame": In(32),
                "goal_frame": In(32),
                **{
                    f"{name}_{state}": In(1)
                    for name in clusters
                    for state in ("ready", "loaded", "fits", "failed")
                },
                **{f"{name}_{order}": Out(1) for name in clusters for order in ("load", "run")},
                "picture": Out(32),
                "slot": Out(2),
                "feed": Out(1),
                "feed_slot": Out(2),
                "feed_goal": Out(1),
                "fed": In(1),
                "feed_failed": In(1),
                "start": Out(1),
                "barred": Out(1),
                "roll": In(1),
                "rolled": Out(1),
                "planner_done": In(1),
                "planner_failed": In(1),
                "clamped": In(1),
                "loaded": Out(1),
                "observed": Out(1),
                "goal_set": Out(1),
                "planning": Out(1),
                "load_done": Out(1),
                "observe_done": Out(1),
                "goal_done": Out(1),
                "plan_done": Out(1),
                "trigger": Out(1),
                "fault": Out(1),
                "refused": Out(1),
            },
            macro_name="loop" + ("_concurrent" if concurrent else ""),
        )

    def build(self, platform):
        m = Module()
        names = ("load", "goal", "observe", "plan")
        wanted = {name: Signal(name=f"{name}_wanted") for name in names}
        begin = {name: Signal(name=f"{name}_begin") for name in names}
        able = {name: Signal(name=f"{name}_able") for name in names}
        idle = {name: Signal(name=f"{name}_idle") for name in ("load", "encode", "plan")}
        feeding = Signal()

        self._take(m, wanted, begin, able)
        self._choose(m, wanted, begin, able, idle, feeding)
        go = {name: begin[name] & able[name] for name in names}
        self._load(m, go["load"], idle["load"])
        newest = self._encode(m, go["goal"], go["observe"], idle["encode"])
        self._plan(m, go["plan"], idle["plan"], feeding, newest)
        with m.If(go["load"]):
            m.d.sync += [self.observed.eq(0), self.goal_set.eq(0)]

        failed = Cat(self.encoder_failed, self.predictor_failed, self.clamped)
        before = Signal.like(failed)
        m.d.sync += before.eq(failed)
        m.d.comb += [
            self.loaded.eq(self.encoder_loaded & self.predictor_loaded & idle["load"]),
            self.planning.eq(~idle["plan"]),
            self.fault.eq((failed & ~before).any() | (self.planner_done & self.planner_failed)),
        ]
        return m

    def _take(self, m, wanted, begin, able):
        """Remember commands until they begin."""
        given = {
            "load": self.load,
            "goal": self.goal,
            "observe": self.observe | self.tick,
            "plan": self.plan | self.tick,
        }
        refusals = []
        for name, command in given.items():
            with m.If(begin[name]):
                m.d.sync += wanted[name].eq(0)
            with m.If(command):
                m.d.sync += wanted[name].eq(1)
            refusals += [command & wanted[name] & ~begin[name], begin[name] & ~able[name]]
        m.d.comb += self.refused.eq(Cat(refusals).any())

        # The deadline of a plan that waits for another counts from that one's end.
        fresh = given["plan"] & ~wanted["plan"] & ~self.planning
        m.d.comb += self.trigger.eq(fresh | (self.planner_done & (wanted["plan"] | given["plan"])))

    def _choose(self, m, wanted, begin, able, idle, feeding):
        """Say what begins, and whether it can be done."""
        # A plan waits for what was commanded before it.
        before = {name: Signal(name=f"plan_after_{name}") for name in ("observe", "goal")}
        encoding_goal = self.slot[1]
        for name, done in (("observe", self.observe_done), ("goal", self.goal_done)):
            mine = encoding_goal if name == "goal" else ~encoding_goal
            pending = getattr(self, name) | wanted[name]
            if name == "observe":
                pending |= self.tick
            ended = done | (~idle["encode"] & self.encoder_failed) | (begin[name] & ~able[name])
            active = ~idle["encode"] & mine & ~ended
            # One that runs may have one behind it; the plan waits for both.
            behind = Signal(name=f"{name}_behind")
            with m.If((self.plan | self.tick) & ~(wanted["plan"] & ~begin["plan"])):
                m.d.sync += [
                    before[name].eq(active | (pending & ~(begin[name] & ~able[name]))),
                    behind.eq(active & pending),
                ]
            with m.Elif(ended):
                m.d.sync += [before[name].eq(behind), behind.eq(0)]

        rest = self.ready & ~wanted["load"] & idle["load"]
        alone = {name: C(1, 1) if self._concurrent else idle[name] for name in ("encode", "plan")}
        encoder = self.encoder_ready | self.encoder_failed
        predictor = self.predictor_ready | self.predictor_failed
        both = idle["encode"] & idle["plan"]
        may_encode = Signal()
        sound = ~self.encoder_failed & ~self.predictor_failed
        m.d.comb += [
            begin["load"].eq(
                wanted["load"] & self.ready & idle["load"] & both & encoder & predictor
            ),
            able["load"].eq(sound),
            begin["plan"].eq(
                wanted["plan"] & ~before["observe"] & ~before["goal"]
                & rest & idle["plan"] & alone["encode"] & predictor
            ),
            able["plan"].eq(
                sound & self.predictor_loaded & self.predictor_fits & self.observed & self.goal_set
            ),
            may_encode.eq(rest & idle["encode"] & alone["plan"] & encoder & ~feeding),
            begin["goal"].eq(wanted["goal"] & may_encode & ~begin["plan"]),
            begin["observe"].eq(
                wanted["observe"] & ~wanted["goal"] & may_encode & ~begin["plan"]
            ),
        ]  # fmt: skip
        for name in ("goal", "observe"):
            m.d.comb += able[name].eq(
                ~self.encoder_failed & self.encoder_loaded & self.encoder_fits
            )

    def _load(self, m, go, idle):
        with m.FSM(name="load") as fsm:
            m.d.comb += idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                with m.If(go):
                    m.next = "ENCODER"
            with m.State("ENCODER"):
                m.d.comb += self.encoder_load.eq(1)
                m.next = "ENCODER WAITS"
            with m.State("ENCODER WAITS"):
                with m.If(self.encoder_failed):
                    m.next = "IDLE"
                with m.Elif(self.encoder_ready):
                    m.next = "PREDICTOR"
            with m.State("PREDICTOR"):
                m.d.comb += self.predictor_load.eq(1)
                m.next = "PREDICTOR WAITS"
            with m.State("PREDICTOR WAITS"):
                with m.If(self.predictor_failed):
                    m.next = "IDLE"
                with m.Elif(self.predictor_ready):
                    m.d.comb += self.load_done.eq(1)
                    m.next = "IDLE"

    def _encode(self, m, goal, observe, idle):
        """Run the encoder. Returns which slot of each pair holds the newest."""
        newest = Signal(2)
        with m.FSM(name="encode") as fsm:
            m.d.comb += idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                with m.If(goal | observe):
                    m.d.sync += [
                        self.slot.eq(Cat(~Mux(goal, newest[1], newest[0]), goal)),
                        self.picture.eq(Mux(goal, self.goal_frame, self.frame)),
                    ]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.encoder_run.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(self.encoder_failed):
                    m.next = "IDLE"
                with m.Elif(self.encoder_ready):
                    with m.If(self.slot[1]):
                        m.d.comb += self.goal_done.eq(1)
                        m.d.sync += [self.goal_set.eq(1), newest[1].eq(self.slot[0])]
                    with m.Else():
                        m.d.comb += self.observe_done.eq(1)
                        m.d.sync += [self.observed.eq(1), newest[0].eq(self.slot[0])]
                    m.next = "IDLE"
        return newest

    def _plan(self, m, go, idle, feeding, newest):
        slots = Signal(2, name="plan_slots")
        torn, rolling = Signal(), Signal()
        m.d.comb += [
            self.feed_slot.eq(Cat(Mux(self.feed_goal, slots[1], slots[0]), self.feed_goal)),
            self.barred.eq(self.predictor_failed | torn),
            self.predictor_run.eq(self.roll),
            self.rolled.eq(rolling & self.predictor_ready),
            self.plan_done.eq(self.planner_done & ~self.planner_failed),
        ]
        with m.If(self.roll):
            m.d.sync += rolling.eq(1)
        with m.Elif(self.rolled):
            m.d.sync += rolling.eq(0)
        with m.If(self.fed & self.feed_failed):
            m.d.sync += torn.eq(1)
        with m.FSM(name="plan") as fsm:
            m.d.comb += [
                idle.eq(fsm.ongoing("IDLE")),
                feeding.eq(~fsm.ongoing("IDLE") & ~fsm.ongoing("PLAN")),
            ]
            with m.State("IDLE"):
                with m.If(go):
                    m.d.sync += [slots.eq(newest), torn.eq(0), rolling.eq(0)]
                    m.next = "OBSERVATION"
            for name, following in (("OBSERVATION", "GOAL"), ("GOAL", "BEGIN")):
                with m.State(name):
                    m.d.comb += [self.feed.eq(1), self.feed_goal.eq(name == "GOAL")]
                    m.next = f"{name} FED"
                with m.State(f"{name} FED"):
                    m.d.comb += self.feed_goal.eq(name == "GOAL")
                    with m.If(self.fed):
                        m.next = following
            with m.State("BEGIN"):
                m.d.comb += self.start.eq(1)
                m.next = "PLAN"
            with m.State("PLAN"):
                with m.If(self.planner_done):
                    m.next = "IDLE"
