"""The chip: a block diagram, and nothing else."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cluster.cluster import Cluster
from .cluster.isa import Fault
from .config import ConfigError
from .control.action_out import ActionOut
from .control.axi_lite import AxiLite
from .control.loop import Loop
from .control.record import PlanRecord
from .control.state_in import StateIn
from .control.timers import Timers
from .control.trace import TracePointer
from .dma.arbiter import Arbiter
from .dma.axi import AxiSignature
from .fabric.axi_stream import AxiStream
from .latent.feeder import Feeder
from .latent.store import LatentStore
from .planner.layouts import EliteTrace, PlannerFault
from .planner.planner import Planner
from .registers import ADDRESS_BITS, Registers

__all__ = ["Chip"]

#: Kinds of programs, as their images' headers have it.
_KINDS = {"encoder": 0, "predictor": 1}


class Chip(wiring.Component):
    """From pictures in memory and the joint state to actions.

    .. code-block:: text

                         axi
                          │
                       arbiter ──────────────┐
                          │                  │
        lite ─ registers  │ 0                │ 1
                 │     encoder ─ store ─ feeder ─► predictor ◄─► planner ─► record
                 │        ▲        (latents)         ▲              ▲          │
                 └──────► loop ──────────────────────┴──────────────┘          ▼
        state ─ state_in ─ pose ────────────────────────────────────►     action_out ─ action
                         timers

    Everything is controlled by the registers of ``registers.rdl``; :class:`~.control.loop.Loop`
    says what happens when. A cluster runs elastic if the image of its program says so.

    Parameters
    ----------
    config : :class:`jepa_r.config.ChipConfig`
        Sizes.
    acting : :class:`str`
        Domain of planner, timers, record and action packets, of the same clock. While it is in
        reset and the rest is not, programs are fetched and checked but not run: every command but
        LOAD is refused, no time passes and no packet leaves. Whatever resets the rest must reset
        it.

    Members
    -------
    axi : ``Out(AxiSignature(...))``
        Memory. The encoder has ID 0, the predictor ID 1.
    lite : ``In(AxiLite(...))``
        Registers.
    state : ``In(AxiStream())``
        Packets with the joint state; :class:`~.control.state_in.StateIn` has their format.
    action : ``Out(AxiStream())``
        Packets with actions; :class:`~.control.action_out.ActionOut` has their format.
    interrupt : ``Out(1)``
        An enabled bit of INTERRUPT_STATUS is set.
    elite : ``Out(EliteTrace())``
        The elites of each iteration, for logic analysers.
    inject : ``In(2)``
        Bits to flip in what is written to memories, for tests.
    verdict : ``Out(2)``
        What the boot checks of both clusters say, each bit a register. Bit 0, good: LOAD has ended,
        and both program memories hold programs whose images have the right magic, version of the
        instruction set, hash of this configuration, length, sums (CRC-32 of header and of program)
        and kind, and no cluster has a fault. Bit 1, bad, until reset: a cluster has a fault, be it
        an image that was refused or any other, or LOAD has ended with a program of the wrong kind.
        Neither: not loaded yet. It says nothing of weights, whose sums are checked as they are
        read, nor of where an image comes from: a sum is no signature.

    Raises
    ------
    :exc:`jepa_r.config.ConfigError`
        If the configuration has no predictor.
    """

    def __init__(self, *, config, acting="sync"):
        if config.predictor is None:
            raise ConfigError(
                f"predictor is none; the chip needs one, and {config.name!r} only encodes"
            )
        self._config = config
        self._acting = acting
        super().__init__({
            "axi": Out(AxiSignature(data_bytes=config.memory.data_bytes)),
            "lite": In(AxiLite(address_bits=ADDRESS_BITS)),
            "state": In(AxiStream()),
            "action": Out(AxiStream()),
            "interrupt": Out(1),
            "elite": Out(EliteTrace()),
            "inject": In(2),
            "verdict": Out(2),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        config, acting = self._config, DomainRenamer(self._acting)
        encoder_rows, predictor_rows = config.encoder.tile.rows, config.predictor.tile.rows

        m.submodules.registers = registers = Registers(
            CONFIG_HASH=int(config.hash, 16), CYCLES_PER_MS=1000 * config.clock_mhz
        )
        m.submodules.loop = loop = Loop(concurrent=config.concurrent)
        timers, record, action_out = Timers(), PlanRecord(), ActionOut()
        m.submodules.timers = acting(timers)
        m.submodules.arbiter = arbiter = Arbiter(
            memory=config.memory,
            masters=(config.encoder.memory, config.predictor.memory),
            concurrent=config.concurrent,
            ecc=config.encoder.ecc,
        )
        m.submodules.encoder = encoder = Cluster(config=config.encoder, name="encoder")
        m.submodules.store = store = LatentStore(
            words=config.latent_words, row_bytes=encoder_rows, ecc=config.encoder.ecc
        )
        m.submodules.feeder = feeder = Feeder(
            words=config.latent_words, from_bytes=encoder_rows, to_bytes=predictor_rows
        )
        m.submodules.predictor = predictor = Cluster(config=config.predictor, name="predictor")
        planner = Planner(
            tiles=config.predictor.tiles,
            elites=config.planner.elites,
            steps=config.planner.steps,
            row_bytes=predictor_rows,
        )
        m.submodules.planner = acting(planner)
        m.submodules.record = acting(record)
        m.submodules.trace = trace = TracePointer()
        m.submodules.state_in = state_in = StateIn()
        m.submodules.action_out = acting(action_out)

        # The world outside.
        wiring.connect(m, wiring.flipped(self.axi), arbiter.axi)
        wiring.connect(m, wiring.flipped(self.lite), registers.lite)
        wiring.connect(m, wiring.flipped(self.state), state_in.i)
        wiring.connect(m, wiring.flipped(self.action), action_out.o)
        m.d.comb += [
            self.interrupt.eq(registers.interrupt_status_intr),
            self.elite.eq(planner.elite),
            *(unit.inject.eq(self.inject) for unit in (arbiter, encoder, store, predictor)),
        ]

        # A register, since it comes late: of the timers' tick and of all that a command may need.
        refused = Signal()
        m.d.sync += refused.eq(loop.refused)

        # No program fits a chip whose acting half is in reset.
        awake = Signal()
        m.d[self._acting] += awake.eq(1)

        # Both clusters: memory, programs, and who starts them.
        encoder_fault, predictor_fault = Signal(Fault), Signal(Fault)
        of_kind = {}
        m.d.comb += [
            encoder_fault.eq(
                Mux(store.outside & (encoder.fault == Fault.NONE), Fault.ADDRESS, encoder.fault)
            ),
            predictor_fault.eq(
                Mux(store.broken & (predictor.fault == Fault.NONE), Fault.ECC, predictor.fault)
            ),
        ]
        for n, (name, cluster, fault) in enumerate((
            ("encoder", encoder, encoder_fault),
            ("predictor", predictor, predictor_fault),
        )):
            wiring.connect(m, cluster.axi, arbiter.masters[n])
            of_kind[name] = Signal(name=f"{name}_of_kind")
            bases = getattr(registers, f"{name}_window_base")
            limits = getattr(registers, f"{name}_window_limit")
            windows = [part[k] for k in range(len(cluster.windows)) for part in (bases, limits)]
            m.d.comb += [
                cluster.windows.as_value().eq(Cat(windows)),
                cluster.program_address.eq(getattr(registers, f"{name}_program")),
                cluster.elastic.eq(cluster.header.elastic.any()),
                cluster.load.eq(getattr(loop, f"{name}_load")),
                cluster.again.eq(getattr(loop, f"{name}_run")),
                getattr(loop, f"{name}_ready").eq(cluster.ready),
                getattr(loop, f"{name}_loaded").eq(cluster.loaded),
                of_kind[name].eq(cluster.header.kind == _KINDS[name]),
                getattr(loop, f"{name}_fits").eq(awake & of_kind[name]),
                getattr(loop, f"{name}_failed").eq(fault != Fault.NONE),
                getattr(registers, f"status_{name}_busy").eq(cluster.running),
                getattr(registers, f"fault_{name}").eq(fault),
            ]
        failed = (encoder_fault != Fault.NONE) | (predictor_fault != Fault.NONE)
        both_fit = of_kind["encoder"] & of_kind["predictor"]
        m.d.sync += [
            self.verdict[0].eq(loop.loaded & both_fit & ~failed),
            self.verdict[1].eq(self.verdict[1] | failed | (loop.loaded & ~both_fit)),
        ]
        m.d.comb += [
            encoder.arguments.as_value().eq(
                Cat(loop.picture, (loop.slot * config.latent_words + C(0, 32))[:32])
            ),
            trace.begin.eq(loop.start),
            trace.base.eq(registers.trace_base),
            trace.next.eq(loop.rolled),
            trace.step.eq(predictor.header.trace),
            predictor.arguments.as_value().eq(Cat(trace.address, C(0, 32))),
        ]

        # Latents: from the encoder to the store, and from there to all tiles of the predictor.
        header = predictor.header
        all_tiles = C((1 << config.predictor.tiles) - 1, 16)
        m.d.comb += [
            store.slot.eq(loop.slot),
            store.w_en.eq(encoder.latent_en),
            store.w_addr.eq(encoder.latent_addr),
            store.w_data.eq(encoder.latent_data),
            store.r_en.eq(feeder.r_en),
            store.r_addr.eq(feeder.r_addr),
            feeder.r_data.eq(store.r_data),
            feeder.start.eq(loop.feed),
            feeder.slot.eq(loop.feed_slot),
            feeder.address.eq(Mux(loop.feed_goal, header.goal, header.latent)),
            feeder.rows.eq(header.rows),
            feeder.blocks.eq(header.blocks),
            loop.fed.eq(feeder.done),
            loop.feed_failed.eq(feeder.failed),
            # Latents come before a plan begins, and candidates while it is made.
            predictor.feed_en.eq(feeder.feed_en | planner.feed_en),
            predictor.feed_tiles.eq(Mux(feeder.feed_en, all_tiles, planner.feed_tiles)),
            predictor.feed_addr.eq(Mux(feeder.feed_en, feeder.feed_addr, planner.feed_addr)),
            predictor.feed_data.eq(Mux(feeder.feed_en, feeder.feed_data, planner.feed_data)),
        ]

        # The planner, its rollouts, and what it has found.
        three, gripper = registers.deviation_xyz, registers.deviation_gripper
        settings = {
            "plan": registers.next_plan,
            "deviation": Cat(three, gripper),
            "clip": Cat(registers.clip_xyz, registers.clip_gripper),
        }
        m.d.comb += [
            planner.settings.as_value().eq(
                Cat(
                    settings[name] if name in settings else getattr(registers, name)
                    for name in planner.settings.shape().members
                )
            ),
            planner.pose.eq(state_in.pose),
            planner.start.eq(loop.start),
            planner.failed.eq(loop.barred),
            planner.program_steps.eq(header.steps),
            planner.inputs.eq(header.inputs),
            planner.distances.eq(predictor.distances),
            loop.roll.eq(planner.roll),
            planner.rolled.eq(loop.rolled),
            loop.planner_done.eq(planner.done),
            loop.planner_failed.eq(planner.fault != PlannerFault.NONE),
            record.begin.eq(loop.start),
            record.next_plan.eq(registers.next_plan),
            record.elite_valid.eq(planner.elite.valid),
            record.elite_rank.eq(planner.elite.rank),
            record.elite_cost.eq(planner.elite.cost),
            record.done.eq(loop.plan_done),
            record.moves.eq(planner.action),
            record.length.eq(planner.cycles),
        ]

        # Time, and what goes out with it.
        m.d.comb += [
            timers.periodic.eq(registers.control_auto),
            timers.plan_period.eq(registers.plan_period),
            timers.plan_deadline.eq(registers.plan_deadline),
            timers.max_age.eq(registers.max_age),
            timers.trigger.eq(loop.trigger),
            timers.done.eq(loop.plan_done),
            action_out.period.eq(registers.control_period),
            action_out.time.eq(timers.time),
            action_out.age.eq(timers.age),
            action_out.planned.eq(timers.planned),
            action_out.stale.eq(timers.stale),
            action_out.plan.eq(record.plan),
            action_out.action.eq(record.action),
        ]

        # Commands, and the rest of what software reads.
        m.d.comb += [
            loop.load.eq(registers.control_load),
            loop.goal.eq(registers.control_goal),
            loop.observe.eq(registers.control_observe),
            loop.plan.eq(registers.control_plan),
            loop.tick.eq(timers.tick),
            loop.ready.eq(arbiter.ready & store.ready),
            loop.frame.eq(registers.frame),
            loop.goal_frame.eq(registers.goal_frame),
            loop.clamped.eq(action_out.clamped),
        ]
        m.d.comb += [
            getattr(registers, name).eq(value)
            for name, value in {
                "status_planner_busy": loop.planning,
                "status_loaded": loop.loaded,
                "status_observed": loop.observed,
                "status_goal_set": loop.goal_set,
                "status_planned": timers.planned,
                "status_stale": timers.stale,
                "interrupt_status_observed": loop.observe_done,
                "interrupt_status_goal": loop.goal_done,
                "interrupt_status_planned": loop.plan_done,
                "interrupt_status_loaded": loop.load_done,
                "interrupt_status_fault": loop.fault,
                "interrupt_status_deadline": timers.missed,
                "interrupt_status_overrun": action_out.overrun,
                "interrupt_status_state_dropped": state_in.dropped,
                "interrupt_status_state_updated": state_in.updated,
                "interrupt_status_refused": refused,
                "fault_planner": planner.fault,
                "fault_period": action_out.clamped,
                "corrected": sum(unit.corrected for unit in (encoder, predictor, arbiter, store)),
                "slipped": encoder.slipped + predictor.slipped,
                "states_received_incr": state_in.updated,
                "states_dropped_incr": state_in.dropped,
                "state_gaps_incr": state_in.gap,
                "action_overruns_incr": action_out.overrun,
                "deadlines_missed_incr": timers.missed,
                "commands_refused_incr": refused,
                "time_low": timers.time[:32],
                "time_high": timers.time[32:],
                "next_plan_incr": loop.start,
                "state_sequence": state_in.sequence,
                "state_time": state_in.timestamp,
                "pose": state_in.pose,
                "plan": record.plan,
                "plan_age": timers.age,
                "action": record.action,
                "plan_cycles": record.cycles,
                "best_cost_low": record.best_cost[:32],
                "best_cost_high": record.best_cost[32:],
                "encoder_cycles": encoder.cycles,
            }.items()
        ]
        return m
