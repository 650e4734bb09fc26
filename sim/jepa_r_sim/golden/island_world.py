"""Golden world of the firmware: an arm at rest and a controller, around the model of the island."""

from collections.abc import Callable, Sequence

from jepa_r.safety.arm import ONE, Settings
from jepa_r.safety.map import BY_NAME, JOINTS, PERIOD_CYCLES, State

from ..firmware import Firmware
from .impedance import impedance
from .island_devices import Island, packet

__all__ = ["COMMAND_AT", "DONE_AT", "JOINTS_AT", "REST", "World"]

#: Where the arm is, in Q16.16 rad.
REST = (0, 0, 0, -ONE, 0, ONE, 0)

#: When packets come in a period, and when the period's pass is surely over.
JOINTS_AT, COMMAND_AT, DONE_AT = 60_000, 70_000, 30_000

_INPUTS = {part.name: part.mask for part in BY_NAME["INPUTS"].fields}
_RELEASED, _ARM = _INPUTS["ESTOP_A"], _INPUTS["ARM"]

Hook = Callable[[list[int]], list[int] | None]


def _same(words: list[int]) -> list[int] | None:
    return words


class World:
    """An island, an arm and its controller; the two send a packet each period.

    Parameters
    ----------
    firmware
        What runs on the island.
    cycles_of
        Cycles of an instruction by its word.
    faults
        Attributes of the island to be set.

    Attributes
    ----------
    island
        The island.
    position, velocity
        What the encoders send.
    target, feed
        What the controller asks for: positions and torques.
    sequence, sample_sequence
        Numbers of the next packets.
    command_hook, sample_hook
        Make of a packet's words others, or ``None`` if none is to come; for the next period only.
    period
        Count of periods.
    """

    def __init__(
        self,
        firmware: Firmware,
        cycles_of: Callable[[int], int] = lambda word: 4,
        **faults: object,
    ):
        self.settings = Settings()
        places = sorted(firmware.symbols.values())
        loop = firmware.symbols["cycle"]
        idle = range(loop, min(place for place in places if place > loop))
        self.island = Island(firmware.code, idle=idle, cycles_of=cycles_of)
        for name, value in faults.items():
            setattr(self.island, name, value)
        self.sequence = 0xFFFFFFF0
        self.sample_sequence = 0xFFFFFFF8
        self.position, self.velocity = list(REST), [0] * JOINTS
        self.target, self.feed = list(REST), [0] * JOINTS
        self.command_hook: Hook = _same
        self.sample_hook: Hook = _same
        self.period = 0

    def start(self, limit: int = 20) -> "World":
        """Run to the end of the start."""
        for n in range(1, limit):
            self.island.run_to(n * PERIOD_CYCLES + DONE_AT)
            if self.island.state is not State.SELFTEST:
                break
        self.period = n
        return self

    def turn(self, periods: int = 1) -> "World":
        """Packets come, and the next period's pass is done."""
        for _ in range(periods):
            island, begin = self.island, self.period * PERIOD_CYCLES
            island.run_to(begin + JOINTS_AT)
            words = packet([self.sample_sequence, *self.position, *self.velocity])
            sent = self.sample_hook(words)
            self.sample_hook = _same
            if sent is not None:
                island.send_joints(sent)
            self.sample_sequence = (self.sample_sequence + 1) & 0xFFFFFFFF
            island.run_to(begin + COMMAND_AT)
            words = packet([self.sequence, 500, 0, *self.target, *[0] * JOINTS, *self.feed])
            sent = self.command_hook(words)
            self.command_hook = _same
            if sent is not None:
                island.send_command(sent)
            self.sequence = (self.sequence + 1) & 0xFFFFFFFF
            self.period += 1
            island.run_to(self.period * PERIOD_CYCLES + DONE_AT)
        return self

    def arm(self) -> "World":
        """Run to RUN.

        Raises
        ------
        RuntimeError
            If the island does not go there.
        """
        self.island.inputs = _RELEASED
        self.turn(2)
        self.island.inputs = _RELEASED | _ARM
        self.turn(2)
        if self.island.state is not State.RUN:
            raise RuntimeError(f"the island is in {self.island.state.name} and not in RUN")
        return self

    @property
    def torques(self) -> list[int]:
        """Torques that went out last."""
        return list(self.island.commits[-1].torques)

    def expected(self, target: Sequence[int], feed: Sequence[int]) -> list[int]:
        """Torques that follow the last."""
        return impedance(
            self.settings,
            target=target,
            feed_forward=feed,
            position=self.position,
            velocity=self.velocity,
            last=self.torques,
        ).tolist()  # type: ignore[no-any-return]
