"""The safety island: a block diagram, and nothing else."""

from math import ceil

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..clocking import AI, CROSSINGS, GUARD, PIN, SAFE, add_domains, cross
from ..fabric.axi_stream import AxiStream
from .alert import AlertClass, AlertSender, AlertUnit
from .bus import Bus
from .clock_monitor import ClockFaults, ClockLimits, ClockMonitor, ClockToggle
from .coded import CodedBank
from .commit import TorqueCommit
from .comparator import Comparator
from .core import Core
from .deadline import DeadlineFaults, DeadlineMonitor
from .gate import OPEN_KEY, Gate
from .limiter import Limiter
from .loader import Loader, LoadFault
from .lockstep import Lockstep
from .map import (
    ALERTS,
    COMMAND_WORDS,
    JOINT_WORDS,
    JOINTS,
    KEYS,
    MEMORIES,
    PERIOD_CYCLES,
    WATCHDOG_BITS,
    State,
)
from .memory_test import MemoryTest
from .packets import PacketIn
from .register_block import RegisterBlock
from .setup import Setup
from .state import REQUESTS, RESET, StateMachine
from .timer import PeriodTimer
from .trip import TripMachine
from .watchdog_port import WatchdogPort

__all__ = ["Island"]

#: Domain of all that a session begins anew: the island's clock, with a reset that is also ``hold``.
SESSION = "session"

#: Ports that follow no clock, and outputs of the second one.
_PINS = {"arm", "restart", "estop_a", "estop_b", "feedback_a", "feedback_b"}
_GUARD_OUTPUTS = {"sto_a", "sto_b", "trip_sources", "trip_cause"}

#: Cycles of a monitor's own clock between two edges of the level it counts, at least: fewer would
#: be lost in the synchroniser, more would find a stop later.
_SPACING = 5

#: States without energy.
_STOPPED = (RESET, State.STOP, State.TRIP)

_CLASSES = {"trip": AlertClass.TRIP, "fallback": AlertClass.FALLBACK, "log": AlertClass.LOG}


def _divide(own_mhz, other_mhz):
    """Divider of a clock's level for a monitor on another clock."""
    return ceil(_SPACING * other_mhz / own_mhz)


class Island(wiring.Component):
    """From images, commands and joints to torques, or to none.

    .. code-block:: text

        image ─ loader ─► code ┐                                  ┌─ watchdog ─┐
                               ├─ bus ─ lockstep pair             │            ├─ trip ─► sto, brake
        commands ─ queue ─ in ─┤   │                     channel B│ clock mon. ─┘     │
        joints ────────── in ──┤  registers ─ commit ─ limiter ───│──── gate ─► torque│
                               └─ data     └─ state machine ──────│──────┴────────────┘
        deadline, clocks, ... ─ alert unit ───────────────────────┘

    Channel A is on ``safe_clk``: loader, processors, registers, monitors, state machine, limiter.
    Channel B is on ``guard_clk``, without any processor: watchdog, monitor of the first clock, trip
    machine. The gate is last and wants both. All paths between clocks are in
    :mod:`jepa_r.clocking`.

    Parameters
    ----------
    config : :class:`jepa_r.config.SafetyConfig`
        Clocks, sizes and times.
    ai_mhz : number
        Frequency of the accelerator's clock.

    Members
    -------
    safe_clk, safe_rst, guard_clk, guard_rst, ai_clk : ``In(1)``
        Clocks and asynchronous resets of both channels; the accelerator's clock.
    image, image_request : ``In(AxiStream())``, ``Out(1)``
        Images of the firmware, and that one is to be sent; island's clock.
    commands : ``In(AxiStream())``
        Packets of the arm's controller; accelerator's clock.
    joints : ``In(AxiStream())``
        Packets of the encoders; island's clock.
    panel : ``In(stream.Signature(9))``
        Keys of the operator, which re-arm channel B (:class:`~.trip.TripMachine`); with bit 8, that
        the cause is being read instead. Island's clock.
    arm, restart : ``In(1)``
        Wishes of the operator: motion, a new start. They follow no clock.
    estop_a, estop_b : ``In(1)``
        Emergency stop: released is (1, 0). They follow no clock.
    feedback_a, feedback_b : ``In(1)``
        Read-back of the drives. They follow no clock.
    ai_verdict : ``In(2)``
        On the accelerator's image: bit 0 good, bit 1 bad; accelerator's clock.
    ai_load : ``Out(1)``
        The accelerator may leave reset to fetch its image and check it: low while a session of the
        island begins.
    ai_release : ``Out(1)``
        The accelerator may act: its image is good, and the firmware has said so. Never before
        ``ai_load``, and low with it.
    torque, torque_valid, alive : ``Out``
        To the motors: Q16.16 Nm, and zeros while the gate is closed; new ones; a level that changes
        with each that passes.
    is_open : ``Out(1)``
        The gate is open.
    sto_a, sto_b : ``Out(1)``
        Energy of the drives; low: none.
    brake : ``Out(1)``
        The brake is to hold, since torques do not pass: also while the drives have energy, but the
        gate has not opened yet, when nothing else would hold the arm.
    state, alerts, first_alert : ``Out(16)``, ``Out(len(ALERTS))``, ``Out(len(ALERTS))``
        For the host to read: state of channel A, its alerts since the session began, the first.
    load_fault : ``Out(LoadFault)``
        Why the last image was refused.
    fault : ``Out(8)``
        First :class:`~.map.Fault` that the firmware logged since the session began.
    deadline_faults, ai_clock_faults : ``Out(DeadlineFaults)``, ``Out(ClockFaults)``
        What was wrong with the commands' time or number; with the accelerator's clock.
    trip_sources, trip_cause : ``Out(5)``, ``Out(6)``
        Why channel B tripped. Guard clock.
    """

    def __init__(self, *, config, ai_mhz):
        self._config = config
        self._ai_mhz = ai_mhz
        super().__init__({
            "safe_clk": In(1),
            "safe_rst": In(1),
            "guard_clk": In(1),
            "guard_rst": In(1),
            "ai_clk": In(1),
            "image": In(AxiStream()),
            "image_request": Out(1),
            "commands": In(AxiStream()),
            "joints": In(AxiStream()),
            "panel": In(stream.Signature(9)),
            "arm": In(1),
            "restart": In(1),
            "estop_a": In(1),
            "estop_b": In(1),
            "feedback_a": In(1),
            "feedback_b": In(1),
            "ai_verdict": In(2),
            "ai_load": Out(1),
            "ai_release": Out(1),
            "torque": Out(data.ArrayLayout(signed(32), JOINTS)),
            "torque_valid": Out(1),
            "alive": Out(1),
            "is_open": Out(1),
            "sto_a": Out(1),
            "sto_b": Out(1),
            "brake": Out(1),
            "state": Out(16),
            "alerts": Out(len(ALERTS)),
            "first_alert": Out(len(ALERTS)),
            "load_fault": Out(LoadFault),
            "fault": Out(8),
            "deadline_faults": Out(DeadlineFaults),
            "ai_clock_faults": Out(ClockFaults),
            "trip_sources": Out(5),
            "trip_cause": Out(6),
        })

    @property
    def crossings(self):
        """All paths between clocks."""
        return tuple(CROSSINGS.values())

    def port_clock(self, name):
        """Domain that a port belongs to, or :data:`~jepa_r.clocking.PIN`."""
        if name in {"safe_clk", "guard_clk", "ai_clk"}:
            return name.removesuffix("_clk")
        if name.endswith("_rst") or name in _PINS:
            return PIN
        if name.startswith("commands") or name == "ai_verdict":
            return AI
        return GUARD if name in _GUARD_OUTPUTS else SAFE

    def elaborate(self, platform):
        m = Module()
        # The accelerator's side of the crossings is reset by the island alone.
        add_domains(
            m,
            {
                SAFE: (self.safe_clk, self.safe_rst),
                GUARD: (self.guard_clk, self.guard_rst),
                AI: (self.ai_clk, self.safe_rst),
            },
        )
        session = ClockDomain(SESSION)
        session.clk = self.safe_clk
        m.domains += session
        self._m = m

        self._inputs()
        self._processors()
        self._monitors()
        self._torques()
        self._second_channel()
        self._values()
        return m

    def _add(self, name, unit, domain=SESSION):
        """Make a block, in its domain."""
        self._m.submodules[name] = DomainRenamer(domain)(unit)
        return unit

    def _cross(self, name):
        return cross(self._m, name)

    def _setup(self, name, unit, values, begin, domain=SESSION):
        """Give a block its settings; ``start`` of what does it."""
        setup = self._add(f"{name}_setup", Setup(count=len(values)), domain)
        self._m.d.comb += [
            setup.begin.eq(begin),
            unit.w_en.eq(setup.w_en),
            unit.w_data.eq(setup.w_data),
            *(setup.values[n].eq(value) for n, value in enumerate(values)),
        ]
        return setup.start

    def _inputs(self):
        """What comes from outside: packets, pins, the accelerator's verdict."""
        m = self._m
        queue = self._cross("command_queue")
        self.command_in = commands = self._add("command_in", PacketIn(words=COMMAND_WORDS))
        self.joint_in = joints = self._add("joint_in", PacketIn(words=JOINT_WORDS))
        wiring.connect(m, wiring.flipped(self.joints), joints.i)
        m.d.comb += [
            queue.i.payload.eq(Cat(self.commands.tdata, self.commands.tlast)),
            queue.i.valid.eq(self.commands.tvalid),
            self.commands.tready.eq(queue.i.ready),
            Cat(commands.i.tdata, commands.i.tlast).eq(queue.o.payload),
            commands.i.tvalid.eq(queue.o.valid),
            queue.o.ready.eq(commands.i.tready),
        ]
        self._pins = {}
        for name, pins in {
            "safe_estop": (self.estop_a, self.estop_b),
            "guard_estop": (self.estop_a, self.estop_b),
            "operator": (self.arm, self.restart),
            "feedback": (self.feedback_a, self.feedback_b),
            "ai_image": (self.ai_verdict,),
        }.items():
            self._pins[name] = unit = self._cross(name)
            m.d.comb += unit.i.eq(Cat(pins))

    def _processors(self):
        """Loader, memories, lockstep pair, registers, state machine."""
        m, config = self._m, self._config
        code_map, data_map, _ = MEMORIES
        words = {memory.name: memory.size // 4 for memory in MEMORIES}
        self.loader = loader = self._add("loader", Loader(words=words["CODE"]), SAFE)
        self.code = code = self._add(
            "code_bank",
            CodedBank(words=words["CODE"], base=code_map.base, interval=config.scrub_interval),
            SAFE,
        )
        self.data = memory = self._add(
            "data_bank",
            CodedBank(words=words["DATA"], base=data_map.base, interval=config.scrub_interval),
            SAFE,
        )
        self.bus = bus = self._add("bus", Bus())
        self.pair = pair = self._add("pair", Lockstep(core=Core, skew=config.skew))
        self.registers = registers = self._add("registers", RegisterBlock())
        self.machine = machine = self._add("machine", StateMachine(), SAFE)
        self.timer = timer = self._add("timer", PeriodTimer(period=PERIOD_CYCLES))
        self.memory_test = test = self._add(
            "memory_test", MemoryTest(sweep_cycles=memory.sweep_cycles)
        )

        wiring.connect(m, wiring.flipped(self.image), loader.i)
        m.d.comb += [
            ResetSignal(SESSION).eq(machine.hold),
            self.image_request.eq(loader.request),
            self.load_fault.eq(loader.fault),
            loader.ready.eq(code.ready & memory.ready),
            loader.oldest.eq(config.oldest_image),
            loader.load_rcode.eq(code.rcode),
            machine.loaded.eq(loader.loaded),
            machine.load_failed.eq(loader.failed),
            # The bus is held in reset while the code is loaded, but what it lets pass is not.
            bus.loading.eq(loader.loading),
            bus.load_en.eq(loader.load_en),
            bus.load_write.eq(loader.load_write),
            bus.load_word.eq(loader.load_word),
            bus.load_data.eq(loader.load_data),
            *(getattr(bus, name).eq(getattr(pair, name)) for name in (
                "r_en", "r_fetch", "r_addr", "q_write", "q_data", "w_en", "w_en_n", "w_addr",
                "w_code",
            )),
            pair.r_code.eq(bus.r_code),
            pair.r_error.eq(bus.r_error),
        ]  # fmt: skip
        for name, bank in {"code": code, "data": memory}.items():
            m.d.comb += [
                *(
                    getattr(bank, port).eq(getattr(bus, f"{name}_{port}"))
                    for port in ("en", "write", "addr", "wcode")
                ),
                getattr(bus, f"{name}_rcode").eq(bank.rcode),
            ]
        m.d.comb += [
            *(
                getattr(registers, name).eq(getattr(bus, f"register_{name}"))
                for name in (
                    "r_en", "r_offset", "q_en", "q_offset", "q_data", "w_en", "w_offset", "w_data",
                )
            ),
            bus.register_r_data.eq(registers.r_data),
            bus.register_error.eq(registers.error),
            memory.inject.eq(test.mask),
            test.selftest.eq(machine.selftest),
            test.inject.eq(registers.ecc_inject),
            test.word.eq(registers.ecc_inject_data),
            test.store.eq(bus.data_write),
            test.of_code.eq(bus.of_code),
            test.of_data.eq(bus.of_data),
            test.corrected.eq(pair.corrected),
            test.uncorrectable.eq(pair.uncorrectable),
            test.code_corrected.eq(code.corrected),
            test.code_uncorrectable.eq(code.uncorrectable),
            test.data_corrected.eq(memory.corrected),
            test.data_uncorrectable.eq(memory.uncorrectable),
        ]  # fmt: skip

        # Keys, requests, interrupts, the comparator's test.
        self._key = {name: registers.key[n] for n, name in enumerate(KEYS)}
        inject, estop = registers.interrupt_test, self._pins["safe_estop"].o
        energised = self._energised = self._cross("energised")
        released = Signal()
        m.d.comb += [
            released.eq(estop == 0b01),
            registers.selftest.eq(machine.selftest),
            *(
                registers.allowed[list(KEYS).index(f"REQUEST_{name.upper()}")].eq(
                    machine.allowed[n]
                )
                for n, name in enumerate(REQUESTS)
            ),
            machine.request.eq(Cat(self._key[f"REQUEST_{name.upper()}"] for name in REQUESTS)),
            machine.settings_locked.eq(registers.locked & registers.settings_good),
            machine.comparator_good.eq(pair.test_good),
            # Without energy, the gate would not open, and the firmware not know it.
            machine.estop_released.eq(released & energised.o.all()),
            machine.period.eq(timer.begin),
            machine.limit.eq(registers.limit_fallback),
            timer.done.eq(registers.tick_done),
            pair.irq_timer.eq(inject[0] | (timer.interrupt & ~inject[2])),
            pair.irq_external.eq(inject[1] | (machine.interrupt & ~inject[2])),
            pair.test_allowed.eq(machine.selftest),
            pair.test_start.eq(self._key["TEST_COMPARATOR"]),
            pair.test_key.eq(Comparator.KEY),
            registers.comparator_status_busy.eq(pair.test_forced),
            registers.comparator_status_done.eq(pair.test_done),
            registers.comparator_status_good.eq(pair.test_good),
            self.state.eq(machine.state),
            *(packet.take.eq(registers.take & registers.take_data[n])
              for n, packet in enumerate((self.command_in, self.joint_in))),
            self.command_in.r_addr.eq(registers.window_address),
            self.joint_in.r_addr.eq(registers.window_address),
            registers.command.eq(self.command_in.r_data),
            registers.joint.eq(self.joint_in.r_data),
        ]  # fmt: skip
        m.d[SESSION] += self.ai_load.eq(1)
        with m.If(self._key["RELEASE_AI"]):
            m.d[SESSION] += self.ai_release.eq(1)

    def _clock_monitor(self, name, own_mhz, other_mhz, domain):
        """A monitor on one clock; level and monitor."""
        limits = ClockLimits.of(
            own_hz=own_mhz * 1_000_000,
            other_hz=other_mhz * 1_000_000,
            divide=_divide(own_mhz, other_mhz),
        )
        monitor = self._add(name, ClockMonitor(), domain)
        values = [getattr(limits, field) for field in monitor.fields]
        self._m.d.comb += monitor.start.eq(
            self._setup(name, monitor, values, begin=1, domain=domain)
        )
        return monitor

    def _monitors(self):
        """Deadline, clocks, and the unit that hears all alerts of channel A."""
        m, config, registers = self._m, self._config, self.registers
        # In its self test, and only there, the comparator shows an alert on purpose.
        pair = self.pair
        shows = pair.test_forced & self.machine.selftest
        self._lockstep = alert_p, alert_n = Signal(name="lockstep_p"), Signal(name="lockstep_n")
        m.d.comb += [alert_p.eq(pair.alert_p & ~shows), alert_n.eq(pair.alert_n | shows)]
        commands, machine = self.command_in, self.machine
        self.deadline = deadline = self._add("deadline", DeadlineMonitor())
        last = Signal(32)
        with m.If(commands.checked & commands.good):
            m.d[SESSION] += last.eq(commands.sequence)
        values = {
            "open": registers.deadline_open,
            "deadline": registers.deadline_limit,
            "grace": registers.deadline_limit,
            # Ages are the firmware's to check: they are in microseconds, and it adds its own.
            "max_age": 0xFFFF_FFFF,
            "first_sequence": last + 1,
        }
        m.d.comb += [
            deadline.start.eq(
                self._setup("deadline", deadline, list(values.values()), machine.open)
            ),
            deadline.action.eq(commands.checked),
            deadline.good.eq(commands.good),
            deadline.sequence.eq(commands.sequence),
        ]

        clocks = {"ai": (self._ai_mhz, AI), "guard": (config.guard_mhz, GUARD)}
        self.clocks = {}
        for name, (mhz, domain) in clocks.items():
            toggle = self._add(
                f"{name}_toggle", ClockToggle(divide=_divide(config.clock_mhz, mhz)), domain
            )
            beat = self._cross(f"{name}_beat")
            self.clocks[name] = monitor = self._clock_monitor(
                f"{name}_clock", config.clock_mhz, mhz, SESSION
            )
            m.d.comb += [beat.i.eq(toggle.toggle), monitor.toggle.eq(beat.o)]

        self.limiter = self._add("limiter", Limiter(joints=JOINTS))
        self.watchdog_alert = self._cross("guard_watchdog")
        self.unit = unit = self._add(
            "alert_unit", AlertUnit(inputs=len(ALERTS), round_cycles=config.ping_cycles)
        )
        classes = sum(
            _CLASSES[alert.severity.value].value << 2 * n for n, alert in enumerate(ALERTS)
        )
        # Logged alerts are seen at once, in the register. How long a fallback lasts is the state
        # machine's, with a setting of its own.
        m.d.comb += unit.lock.eq(
            self._setup("alert_unit", unit, [classes, 0xFFFF_FFFF, 0xFFFF_FFFF], begin=1)
        )
        m.d.comb += [
            unit.acknowledge.eq(~0),
            unit.power_on.eq(ResetSignal(SAFE)),
            unit.clear.eq(machine.hold),
            unit.cause_read.eq(self.panel.valid & self.panel.payload[8]),
            machine.fallback.eq(
                # The shorter way of the one that has a bound in cycles.
                unit.fallback_p | ~unit.fallback_n | deadline.alert_p | ~deadline.alert_n
            ),
            machine.trip.eq(unit.trip_p | ~unit.trip_n),
            machine.rearm.eq(unit.was_read & self._pins["operator"].o[1]),
            self.alerts.eq(unit.alerts),
            self.first_alert.eq(unit.cause.alerts),
            self.fault.eq(registers.fault),
            self.deadline_faults.eq(deadline.faults),
            self.ai_clock_faults.eq(self.clocks["ai"].faults),
        ]

        bus, test = self.bus, self.memory_test
        moves = (machine.state == State.RUN) | (machine.state == State.FALLBACK)
        pulses = {
            "UNCORRECTABLE": (pair.uncorrectable & ~test.expected)
            | (self.code.broken | (self.data.broken & ~test.expected))
            | self.code.refused
            | self.data.refused
            | bus.broken,
            "SETTING": registers.mismatch | registers.late,
            # The second channel may have had a reason of its own; this one is not to go on then.
            "ESTOP": moves & ~machine.estop_released,
            "REQUEST": self._key["REQUEST_TRIP"],
            "TRAP": pair.trap,
            "CORRECTED": pair.corrected | self.code.late | self.data.late,
        }
        rails = {
            "LOCKSTEP": self._lockstep,
            "WATCHDOG": (self.watchdog_alert.o[0], self.watchdog_alert.o[1]),
            "CLOCK": (self.clocks["guard"].alert_p, self.clocks["guard"].alert_n),
            "LIMITER": (self.limiter.alert_p, self.limiter.alert_n),
            "DEADLINE": (deadline.alert_p, deadline.alert_n),
            "AI_CLOCK": (self.clocks["ai"].alert_p, self.clocks["ai"].alert_n),
        } | {name: (pulse, ~pulse) for name, pulse in pulses.items()}
        for n, alert in enumerate(ALERTS):
            sender = self._add(f"sender_{alert.name.lower()}", AlertSender())
            m.d.comb += [
                Cat(sender.alert_p, sender.alert_n).eq(Cat(rails[alert.name])),
                sender.ping.eq(unit.ping[n]),
                unit.p[n].eq(sender.p),
                unit.n[n].eq(sender.n),
            ]

    def _torques(self):
        """From the registers through the limiter to the gate."""
        m, registers, limiter = self._m, self.registers, self.limiter
        machine, unit = self.machine, self.unit
        commit = self._add("commit", TorqueCommit())
        locked = registers.locked & registers.settings_good
        settings = [
            *(registers.limit_torque[n] for n in range(JOINTS)),
            *(registers.limit_slew[n] for n in range(JOINTS)),
            registers.limit_sample_age,
        ]
        self.gate = gate = self._add("gate", Gate(joints=JOINTS, alerts=2), SAFE)
        energised = self._energised
        m.d.comb += [
            limiter.lock.eq(self._setup("limiter", limiter, settings, locked)),
            commit.commit.eq(registers.torque_commit),
            commit.word.eq(registers.torque_commit_data),
            limiter.i_valid.eq(commit.valid),
            limiter.torque.eq(registers.torque),
            limiter.age.eq(self.joint_in.age),
            limiter.stop.eq(machine.enable_n | ~machine.enable_p),
            registers.torque_status_range.eq(limiter.faults.range | limiter.faults.invalid),
            registers.torque_status_slew.eq(limiter.faults.slew),
            registers.torque_status_age.eq(limiter.faults.stale),
            registers.torque_status_sequence.eq(commit.wrong),
            gate.i_valid.eq(limiter.o_valid),
            gate.torque.eq(limiter.released),
            gate.enable_p.eq(machine.enable_p),
            gate.enable_n.eq(machine.enable_n),
            gate.seen_a.eq(energised.o[0]),
            gate.seen_b.eq(energised.o[1]),
            gate.alert_p.eq(Cat(self._lockstep[0], unit.trip_p)),
            gate.alert_n.eq(Cat(self._lockstep[1], unit.trip_n)),
            gate.open.eq(machine.open),
            gate.key.eq(OPEN_KEY),
            self.torque.eq(gate.released),
            self.torque_valid.eq(gate.o_valid),
            self.alive.eq(gate.alive),
            self.is_open.eq(gate.is_open),
            self.brake.eq(~gate.is_open),
        ]

    def _second_channel(self):
        """Channel B: watchdog, monitor of the island's clock, trip machine."""
        m, config, registers = self._m, self._config, self.registers
        machine, unit = self.machine, self.unit

        # The watchdog and what it needs of the processor.
        port = self._add("watchdog", WatchdogPort(), GUARD)
        tokens, window = self._cross("tokens"), self._cross("window")
        challenge, dry = self._cross("next_challenge"), self._cross("dry_run")
        restart = self._cross("session_begin")
        serves, tests = registers.watchdog_token, self._key["TEST_WATCHDOG"]
        sent, known = Signal(), Signal(32)
        # A token, or a test, waits while one is under way; a test shows as a dry run at once.
        waits, waiting, begins = Signal(), Signal(33), Signal()
        m.d.comb += [
            tokens.i.valid.eq(waits),
            tokens.i.payload.eq(waiting),
            window.i.valid.eq(registers.locked & registers.settings_good & ~sent),
            window.i.payload.eq(
                Cat(
                    registers.watchdog_open[:WATCHDOG_BITS],
                    registers.watchdog_deadline[:WATCHDOG_BITS],
                )
            ),
            port.begin.eq(window.arrived),
            Cat(port.open, port.deadline).eq(window.o),
            port.kick.eq(tokens.arrived & ~tokens.o[32]),
            port.test.eq(tokens.arrived & tokens.o[32]),
            port.token.eq(tokens.o),
            restart.i.eq(machine.hold),
            port.restart.eq(restart.o),
            challenge.i.valid.eq(port.challenge != known),
            challenge.i.payload.eq(port.challenge),
            registers.watchdog_challenge_value.eq(challenge.o),
            dry.i.eq(Cat(port.is_open, port.early, port.late, port.wrong, port.dry, port.served)),
            Cat(
                registers.watchdog_status_open,
                registers.watchdog_status_early,
                registers.watchdog_status_late,
                registers.watchdog_status_wrong,
                registers.watchdog_status_dry,
                registers.watchdog_status_served,
            ).eq(dry.o | begins << 4),
        ]
        with m.If(serves | tests):
            m.d[SESSION] += [waits.eq(1), waiting.eq(Cat(registers.watchdog_token_data, tests))]
        with m.Elif(tokens.i.ready):
            m.d[SESSION] += waits.eq(0)
        with m.If(tests):
            m.d[SESSION] += begins.eq(1)
        with m.Elif(dry.o[4]):
            m.d[SESSION] += begins.eq(0)
        with m.If(window.i.valid & window.i.ready):
            m.d[SESSION] += sent.eq(1)
        with m.If(challenge.i.valid & challenge.i.ready):
            m.d[GUARD] += known.eq(port.challenge)

        # The island's clock, watched from here.
        toggle = self._add(
            "safe_toggle", ClockToggle(divide=_divide(config.guard_mhz, config.clock_mhz)), SAFE
        )
        beat = self._cross("safe_beat")
        clock = self._clock_monitor("safe_clock", config.guard_mhz, config.clock_mhz, GUARD)
        m.d.comb += [beat.i.eq(toggle.toggle), clock.toggle.eq(beat.o)]

        # Alerts of channel A, the operator, and the machine that hears them.
        keys, heartbeat = self._cross("panel_keys"), self._cross("alert_heartbeat")
        trip, lockstep = self._cross("safe_trip"), self._cross("safe_lockstep")
        stop = self._cross("safe_stop")
        stopped = Signal(2, init=0b01)
        m.d[SAFE] += stopped.eq(
            Mux(Cat(machine.state == state for state in _STOPPED).any(), 0b01, 0b10)
        )
        sources = [
            (trip.o[0], trip.o[1]),
            (lockstep.o[0], lockstep.o[1]),
            (stop.o[0], stop.o[1]),
            (port.alert_p, port.alert_n),
            (clock.alert_p, clock.alert_n),
        ]
        machine_b = self._add(
            "trip",
            TripMachine(
                sources=len(sources),
                test_period=config.drive_test_cycles,
                test_cycles=config.drive_pulse_cycles,
                follow=config.drive_follow_cycles,
                discrepancy=config.discrepancy_cycles,
                rearm_min=config.rearm_min_cycles,
                rearm_max=config.rearm_max_cycles,
                heartbeat=config.heartbeat_cycles,
            ),
            GUARD,
        )
        m.d.comb += [
            trip.i.eq(Cat(unit.trip_p, unit.trip_n)),
            lockstep.i.eq(Cat(self._lockstep)),
            stop.i.eq(stopped),
            heartbeat.i.eq(unit.heartbeat),
            self.watchdog_alert.i.eq(Cat(port.alert_p, port.alert_n)),
            keys.i.valid.eq(self.panel.valid),
            keys.i.payload.eq(self.panel.payload),
            self.panel.ready.eq(keys.i.ready),
            machine_b.alert_p.eq(Cat(p for p, _ in sources)),
            machine_b.alert_n.eq(Cat(n for _, n in sources)),
            Cat(machine_b.stop_a, machine_b.stop_b).eq(self._pins["guard_estop"].o),
            Cat(machine_b.feedback_a, machine_b.feedback_b).eq(self._pins["feedback"].o),
            machine_b.heartbeat.eq(heartbeat.o),
            machine_b.cause_read.eq(keys.arrived & keys.o[8]),
            machine_b.rearm.eq(keys.arrived & ~keys.o[8]),
            machine_b.key.eq(keys.o),
            self._energised.i.eq(Cat(machine_b.energise_a, machine_b.energise_b)),
            self.gate.energise_a.eq(machine_b.energise_a),
            self.gate.energise_b.eq(machine_b.energise_b),
            self.sto_a.eq(machine_b.drive_a),
            self.sto_b.eq(machine_b.drive_b),
            self.trip_sources.eq(machine_b.sources),
            self.trip_cause.eq(machine_b.cause),
        ]

    def _values(self):
        """What the processor reads of all this."""
        m, registers, deadline = self._m, self.registers, self.deadline
        test, timer = self.memory_test, self.timer
        guard, ai = self.clocks["guard"].faults, self.clocks["ai"].faults
        values = {
            "state_state": self.machine.state,
            "tick": timer.tick,
            "phase": timer.phase,
            "inputs_estop_a": self._pins["safe_estop"].o[0],
            "inputs_estop_b": self._pins["safe_estop"].o[1],
            "inputs_arm": self._pins["operator"].o[0],
            "inputs_restart": self._pins["operator"].o[1],
            "deadline_status_running": deadline.running,
            "deadline_status_early": deadline.faults.early,
            "deadline_status_late": deadline.faults.late,
            "deadline_status_wrong": deadline.faults.sequence | deadline.faults.check,
            "deadline_sequence": deadline.expected,
            "code_corrected_count": test.code_corrected_all,
            "code_uncorrectable_count": test.code_uncorrectable_all,
            "data_corrected_count": test.data_corrected_all,
            "data_uncorrectable_count": test.data_uncorrectable_all,
            "sweeps": test.sweeps,
            "clocks_guard_slow": guard.slow,
            "clocks_guard_fast": guard.fast | guard.glitch,
            "clocks_guard_stopped": guard.stopped,
            "clocks_ai_slow": ai.slow,
            "clocks_ai_fast": ai.fast | ai.glitch,
            "clocks_ai_stopped": ai.stopped,
            "ai_verdict_good": self._pins["ai_image"].o[0],
            "ai_verdict_bad": self._pins["ai_image"].o[1],
        }
        for n, alert in enumerate(ALERTS):
            values[f"alerts_{alert.name.lower()}"] = self.unit.alerts[n]
            values[f"first_alert_{alert.name.lower()}"] = self.unit.cause.alerts[n]
        for name, packet in {"command": self.command_in, "joint": self.joint_in}.items():
            values |= {
                f"{name}_status_fresh": packet.fresh,
                f"{name}_status_crc_good": packet.sum_good,
                f"{name}_status_length_good": packet.length_good,
                f"{name}_status_lost": packet.lost,
                f"{name}_age": packet.age,
            }
        m.d.comb += [getattr(registers, name).eq(value) for name, value in values.items()]
