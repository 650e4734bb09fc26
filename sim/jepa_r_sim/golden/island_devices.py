"""Golden model of what the island's processor sees: registers, packets, monitors and the state.

It models the promises of :mod:`jepa_r.safety.map`, not the blocks: a cycle is the time at which an
instruction begins, crossings between clocks take none, and what happens between two accesses of the
processor is found at the second.
"""

import zlib
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from jepa_r.safety.map import (
    ALERTS,
    BY_NAME,
    COMMAND_WORDS,
    DRY_DEADLINE,
    DRY_OPEN,
    JOINT_WORDS,
    JOINTS,
    KEYS,
    MEMORIES,
    PERIOD_CYCLES,
    REGISTERS,
    WATCHDOG_TAPS,
    Access,
    Fault,
    Register,
    State,
)

from .riscv import BusError, Machine, Region

__all__ = ["Commit", "Island", "Mailbox", "packet"]

_MASK = 0xFFFFFFFF

#: Guard cycles in island cycles: 32 MHz of 100.
_GUARD = (32, 100)


def packet(words: Sequence[int]) -> list[int]:
    """Words of a packet with its sum behind them; numbers may be negative."""
    body = [word & _MASK for word in words]
    return [*body, zlib.crc32(b"".join(word.to_bytes(4, "little") for word in body))]


def _next_token(value: int) -> int:
    return value >> 1 ^ (WATCHDOG_TAPS if value & 1 else 0)


@frozen
class Commit:
    """Torques that the firmware committed, as signed numbers, and when."""

    cycle: int
    torques: tuple[int, ...]


@define
class Mailbox:
    """The newest packet of a sender, and the one that was taken."""

    length: int
    newest: list[int] = field(factory=list)
    arrived: int = 0
    waiting: int = 0
    visible: list[int] = field(factory=list)
    since: int = 0
    fresh: bool = False
    lost: int = 0

    def put(self, words: Sequence[int], cycle: int) -> None:
        """A packet came."""
        self.newest, self.arrived = list(words), cycle
        self.waiting += 1

    def take(self) -> None:
        """Make the newest visible."""
        self.fresh, self.lost = self.waiting > 0, max(self.waiting - 1, 0)
        self.visible, self.since, self.waiting = list(self.newest), self.arrived, 0

    def word(self, n: int) -> int:
        """A word of the visible packet."""
        return self.visible[n] if n < len(self.visible) else 0

    @property
    def good(self) -> bool:
        """Whether the sum of the visible packet agrees."""
        return len(self.visible) == self.length and packet(self.visible[:-1]) == self.visible

    @property
    def status(self) -> int:
        """Its register."""
        good_length = len(self.visible) == self.length
        return self.fresh | self.good << 1 | good_length << 2 | min(self.lost, 255) << 8


class Island:
    """The processor with its memories and registers, and the firmware's image.

    Parameters
    ----------
    code
        From address 0.
    cycles_of, trap_cycles
        As of :class:`~jepa_r_sim.golden.riscv.Machine`.
    idle
        Addresses of a loop that only waits for registers to change.

    Attributes
    ----------
    machine
        The processor.
    state
        Of the island.
    inputs
        Register ``INPUTS``: pair of the emergency stop, and wishes of the operator.
    commands, joints
        Where packets are put; use :meth:`send_command` and :meth:`send_joints`.
    commits
        Torques that went out.
    alerts
        Names of the alerts, in the order they came.
    words
        What was written last to each register of kind ``WORD`` or ``SETTING``, by name and element.
    verdict
        Register ``AI_VERDICT``.
    comparator_good, watchdog_dead, clocks
        Faults of the hardware for tests of the start: the comparator's test fails, dry runs of the
        watchdog never end, register ``CLOCKS``.
    deadline_monitor
        Whether the deadline monitor works.
    released
        The accelerator was released from reset.
    """

    def __init__(
        self,
        code: bytes,
        *,
        cycles_of: Callable[[int], int] = lambda word: 4,
        trap_cycles: int = 4,
        idle: range = range(0),
    ):
        self._idle = idle
        memory = {part.name: part for part in MEMORIES}
        data, registers = memory["DATA"], memory["REGISTERS"]
        self._code = Region(base=0, size=memory["CODE"].size, fetch=True, load=True, store=False)
        self._code.place(code)
        self._data = [0] * (data.size // 4)
        self._wrong: dict[int, int] = {}
        self.machine = Machine(
            regions=[
                self._code,
                Region(
                    base=data.base, size=data.size, read=self._load_data, write=self._store_data
                ),
                Region(
                    base=registers.base, size=registers.size, read=self._read, write=self._write
                ),
            ],
            cycles_of=cycles_of,
            trap_cycles=trap_cycles,
        )
        self._places: dict[int, tuple[Register, int]] = {}
        for register in REGISTERS:
            for n in range(register.count):
                self._places[register.offset + 4 * n] = register, n
        self.inputs = 1
        self.verdict = 1
        self.clocks = 0
        self.comparator_good = True
        self.watchdog_dead = False
        self.deadline_monitor = True
        self.commands, self.joints = Mailbox(COMMAND_WORDS), Mailbox(JOINT_WORDS)
        self.commits: list[Commit] = []
        self.alerts: list[str] = []
        self.restarts = 0
        self._reset()

    def _reset(self) -> None:
        self.state = State.SELFTEST
        self.words: dict[tuple[str, int], int] = {}
        self._inverses: dict[tuple[str, int], int] = {}
        self.locked = False
        self.released = False
        self._tested = False
        self._corrected = self._uncorrectable = 0
        self._injection = 0
        self._armed = False
        self._challenge = 0x1D872B41
        self._served = 0
        self._dry: int | None = None
        self._dry_result = 0
        self._sequence = 0
        self._action: int | None = None
        self._deadline_status = 0
        self._fallback_tick = 0
        self._last_commit = 0
        self._last_torques = (0,) * JOINTS
        self._refused = 0
        self._tick_done = 0

    # What the world does

    def send_command(self, words: Sequence[int]) -> None:
        """A packet of the arm's controller comes, with its sum."""
        self._advance()
        self.commands.put(words, self.machine.time)
        if len(words) != COMMAND_WORDS or packet(words[:-1]) != list(words):
            return
        if self.state is State.RUN and self._action is not None:
            since = self.machine.time - self._action
            early = since < self.words["DEADLINE_OPEN", 0]
            wrong = words[0] != self._sequence
            if early or wrong:
                self._miss(early << 1 | wrong << 3)
        self._sequence = (words[0] + 1) & _MASK
        self._action = self.machine.time

    def send_joints(self, words: Sequence[int]) -> None:
        """A packet of the encoders comes, with its sum."""
        self.joints.put(words, self.machine.time)

    # Monitors

    def alert(self, name: str) -> None:
        """Raise an alert, and do what its class asks for."""
        severity = next(alert.severity.value for alert in ALERTS if alert.name == name)
        if name not in self.alerts:
            self.alerts.append(name)
        if severity == "trip":
            self.state = State.TRIP
        elif severity == "fallback" and self.state is State.RUN:
            self._fall_back()

    def _fall_back(self) -> None:
        self.state, self._fallback_tick = State.FALLBACK, self.tick

    def _miss(self, status: int) -> None:
        if not self.deadline_monitor:
            return
        self._deadline_status |= status
        self.alert("DEADLINE")

    @property
    def tick(self) -> int:
        """Control periods that have begun."""
        return self.machine.time // PERIOD_CYCLES

    def _guard(self) -> int:
        return self.machine.time * _GUARD[0] // _GUARD[1]

    def _advance(self) -> None:
        """Find what happened since the last access."""
        if (
            self.state is State.RUN
            and self._action is not None
            and self.machine.time - self._action > self.words["DEADLINE_LIMIT", 0]
        ):
            self._miss(4)
        if self.locked and self._guard() - self._served > self.words["WATCHDOG_DEADLINE", 0]:
            self.alert("WATCHDOG")
        if self.inputs & 3 != 1 and self.state in (State.RUN, State.FALLBACK):
            self.alert("ESTOP")
        if (
            self.state is State.FALLBACK
            and self.tick - self._fallback_tick > self.words["LIMIT_FALLBACK", 0]
        ):
            self.state = State.STOP
        if self._dry is not None and self._guard() - self._dry > DRY_DEADLINE:
            self._end_dry(4)

    def _end_dry(self, result: int) -> None:
        if not self.watchdog_dead:
            self._dry, self._dry_result = None, result

    def _serve(self, token: int) -> None:
        now, good = self._guard(), _next_token(self._challenge)
        if self._dry is not None:
            if now - self._dry < DRY_OPEN:
                self._end_dry(2)
            elif token != good:
                self._end_dry(8)
            else:
                self._challenge = good
                self._end_dry(32)
        elif self.locked:
            if now - self._served < self.words["WATCHDOG_OPEN", 0] or token != good:
                self.alert("WATCHDOG")
            self._challenge, self._served = good, now

    def _commit(self, word: int) -> None:
        torques = tuple(self._signed("TORQUE", n) for n in range(JOINTS))
        refused = 0
        for n, torque in enumerate(torques):
            refused |= abs(torque) > self.words.get(("LIMIT_TORQUE", n), 0)
            slew = self.words.get(("LIMIT_SLEW", n), 0)
            refused |= (abs(torque - self._last_torques[n]) > slew) << 1
        age = self.machine.time - self.joints.since
        moving = self.state in (State.RUN, State.FALLBACK)
        refused |= (moving and age > self.words.get(("LIMIT_SAMPLE_AGE", 0), 0)) << 2
        sequence = (self._last_commit + 1) & 0xFFFF
        refused |= (word != sequence | (sequence ^ 0xFFFF) << 16) << 3
        self._last_commit = sequence
        self._refused |= refused
        if refused and moving:
            self.alert("LIMITER")
        if not refused:
            self._last_torques = torques
            self.commits.append(Commit(self.machine.time, torques))

    def _signed(self, name: str, n: int) -> int:
        word = self.words.get((name, n), 0)
        return word - (word >> 31 << 32)

    def _request(self, name: str) -> None:
        state = self.state
        match name:
            case "REQUEST_LOCKED" if state is State.SELFTEST and self.locked and self._tested:
                self.state = State.LOCKED
            case "REQUEST_RUN" if state is State.LOCKED and self.inputs & 3 == 1:
                self.state = State.RUN
            case "REQUEST_FALLBACK" if state is State.RUN:
                self._fall_back()
            case "REQUEST_FALLBACK" if state is State.FALLBACK:
                pass
            case "REQUEST_STOP" if state in (State.LOCKED, State.RUN, State.FALLBACK):
                self.state = State.STOP
            case "REQUEST_TRIP":
                self.alert("REQUEST")
            case "REQUEST_RESTART" if state is State.STOP:
                self.restarts += 1
            case _:
                raise BusError(f"{name} in {state.name}")

    # Data memory

    def _load_data(self, offset: int) -> int:
        wrong = self._wrong.get(offset, 0)
        if wrong == 2:
            self._uncorrectable += 1
            if self._injection >> 16 & 3 != 2:
                self.alert("UNCORRECTABLE")
            raise BusError("uncorrectable")
        self._corrected += wrong
        return self._data[offset // 4]

    def _store_data(self, offset: int, word: int) -> None:
        self._data[offset // 4] = word
        count = self._injection >> 16 & 3 if self._armed else 0
        self._armed = False
        if count:
            self._wrong[offset] = count
        else:
            self._wrong.pop(offset, None)

    # Registers

    def _read(self, offset: int) -> int:
        self._advance()
        if offset not in self._places:
            raise BusError(f"no register at {offset:#x}")
        register, n = self._places[offset]
        if register.access in (Access.WORD, Access.SETTING):
            return self.words.get((register.name, n), register.reset)
        return self._value(register.name, n)

    def _value(self, name: str, n: int) -> int:
        cycle, commands, joints = self.machine.time, self.commands, self.joints
        match name:
            case "IDENTITY":
                return BY_NAME[name].reset
            case "STATE":
                return self.state
            case "ALERTS" | "FIRST_ALERT":
                places = {alert.name: 1 << place for place, alert in enumerate(ALERTS)}
                seen = self.alerts if name == "ALERTS" else self.alerts[:1]
                return sum(places[alert] for alert in seen)
            case "INPUTS":
                return self.inputs
            case "TICK":
                return self.tick & _MASK
            case "PHASE":
                return cycle % PERIOD_CYCLES
            case "WATCHDOG_CHALLENGE":
                return self._challenge
            case "WATCHDOG_STATUS":
                dry = self._dry is not None
                begin = self._dry if self._dry is not None else self._served
                opens = DRY_OPEN if dry else self.words.get(("WATCHDOG_OPEN", 0), 0)
                return (self._guard() - begin >= opens) | dry << 4 | self._dry_result
            case "DEADLINE_STATUS":
                return (self.state is State.RUN) | self._deadline_status
            case "DEADLINE_SEQUENCE":
                return self._sequence
            case "COMPARATOR_STATUS":
                return self._tested << 1 | (self._tested and self.comparator_good) << 2
            case "DATA_CORRECTED":
                return min(self._corrected, 0xFFFF)
            case "DATA_UNCORRECTABLE":
                return min(self._uncorrectable, 0xFFFF)
            case "CLOCKS":
                return self.clocks
            case "AI_VERDICT":
                return self.verdict
            case "LOCK":
                return self.locked | self._settings_good << 1
            case "COMMAND_STATUS":
                return commands.status
            case "COMMAND_AGE":
                return min(cycle - commands.since, _MASK)
            case "JOINT_STATUS":
                return joints.status
            case "JOINT_AGE":
                return min(cycle - joints.since, _MASK)
            case "TORQUE_STATUS":
                return self._refused
            case "COMMAND":
                return commands.word(n)
            case "JOINT":
                return joints.word(n)
        return 0

    @property
    def _settings_good(self) -> bool:
        return all(
            self.words.get((register.name, n), 0)
            == ~self._inverses.get((register.name, n), 0) & _MASK
            for register in REGISTERS
            if register.access is Access.SETTING
            for n in range(register.count)
        )

    def _write(self, offset: int, word: int) -> None:
        self._advance()
        if offset not in self._places:
            raise BusError(f"no register at {offset:#x}")
        register, n = self._places[offset]
        name = register.name
        if register.selftest and self.state is not State.SELFTEST:
            raise BusError(f"{name} in {self.state.name}")
        match register.access:
            case Access.CONSTANT | Access.VALUE:
                raise BusError(f"{name} is not writable")
            case Access.SETTING:
                self._set(name, n, word)
            case Access.WORD:
                self.words[name, n] = word
                if name == "INTERRUPT_TEST":
                    self.machine.irq_timer = bool(word & 1)
                    self.machine.irq_external = bool(word & 2)
            case Access.KEY:
                keys = {KEYS[key]: key for key in register.keys}
                if word not in keys:
                    raise BusError(f"{name} does not take {word:#x}")
                self._key(keys[word])
            case Access.COMMAND:
                self._command(name, word)

    def _set(self, name: str, n: int, word: int) -> None:
        if self.locked:
            self.alert("SETTING")
            raise BusError(f"{name} is locked")
        if (name, n) in self.words:
            self._inverses[name, n] = word
        else:
            self.words[name, n] = word

    def _key(self, key: str) -> None:
        match key:
            case "LOCK":
                if not self._settings_good:
                    raise BusError("settings are not complete")
                self.locked, self._served = True, self._guard()
            case "RELEASE_AI":
                self.released = True
            case "TEST_COMPARATOR":
                self._tested = True
            case "TEST_WATCHDOG":
                self._dry, self._dry_result = self._guard(), 0
            case _:
                self._request(key)

    def _command(self, name: str, word: int) -> None:
        match name:
            case "ECC_INJECT":
                self._injection, self._armed = word, True
            case "TAKE":
                if word & 1:
                    self.commands.take()
                if word & 2:
                    self.joints.take()
            case "TORQUE_COMMIT":
                self._commit(word)
            case "TICK_DONE":
                self._tick_done = self.tick
            case "WATCHDOG_TOKEN":
                self._serve(word)

    @property
    def fault(self) -> Fault:
        """First fault that the firmware logged."""
        return Fault(self.words.get(("FAULT", 0), 0))

    # Running

    def run_to(self, cycle: int) -> None:
        """Run until an instruction would begin at ``cycle`` or later.

        While the processor is in ``idle``, time that nothing happens in is left out.
        """
        machine = self.machine
        while machine.time < cycle:
            if machine.pc in self._idle:
                begin, end = self._quiet()
                if machine.time >= begin:
                    machine.skip(max(min(end, cycle) - 256 - machine.time, 0))
            # No instruction takes as much as 64 cycles, so this never goes beyond.
            machine.run(min(max((cycle - machine.time) // 64, 1), 64))

    def _quiet(self) -> tuple[int, int]:
        """Cycles between which no register changes but those that count time.

        The first is late enough for the processor to have seen what changed before.
        """
        changes = [self.tick * PERIOD_CYCLES, (self.tick + 1) * PERIOD_CYCLES]
        if self.state in (State.RUN, State.FALLBACK) and self._action is not None:
            changes.append(self._action + self.words["DEADLINE_LIMIT", 0])
        now = self.machine.time
        begin = max(change for change in changes if change <= now) + 1000
        return begin, min(change for change in changes if change > now)
