"""Memory outside the chip: an AXI4 slave on an address space, as late as its contract allows.

``cocotbext-axi`` brings the address space, the slave and its channels; what is added here is when
things happen. Each burst is read from the address space at once, and its beats are offered when the
:class:`Mode` says so. The model measures what it did against the contract of
:mod:`jepa_r.dma.bound` and fails if it was late without having been asked to be.

Masters that share a port have IDs of their own, and the contract is one for all of them together:
dues follow one another in the order of the requests, whoever made them. Answers keep the order of
each ID; where there is time, :meth:`Mode.random` lets those of one overtake the other's, and puts
them between the beats of the other's bursts.

Beats without any strobe are not written; those with some of them are against the rules. Addresses
that no region holds are answered with DECERR. (``AxiRam`` would wrap them silently.)
"""

import logging
import random
from collections import deque
from typing import Any

from attrs import evolve, frozen
from cocotb.triggers import Event, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import (
    AddressSpace,
    AxiReadBus,
    AxiSlaveRead,
    AxiSlaveWrite,
    AxiWriteBus,
    MemoryRegion,
)

__all__ = ["DECERR", "OKAY", "SLVERR", "ContractError", "Memory", "Mode"]

#: Answers.
OKAY, SLVERR, DECERR = 0, 2, 3


class ContractError(AssertionError):
    """The memory model was later than its contract, or was asked for more than it."""


@frozen
class Mode:
    """How memory behaves. Made by the class methods, changed by the others, which return a copy.

    :meth:`worst` is as late as the contract allows, :meth:`fast` answers at once, :meth:`random`
    does anything between, pauses and bursts of beats included.
    """

    kind: str
    seed: int = 0
    stalls: bool = False
    late_from: int | None = None
    late_by: int = 0
    errors: tuple[tuple[int, int, int], ...] = ()
    flips: tuple[tuple[int, int], ...] = ()

    @classmethod
    def made_by(cls, calls) -> "Mode":
        """Mode from its construction as JSON holds it: ``[["random", 3], ["flip", 5]]``."""
        mode: Any = cls
        for name, *arguments in calls:
            keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
            mode = getattr(mode, name)(*arguments, **keywords)
        return mode

    @classmethod
    def worst(cls) -> "Mode":
        """Everything in the last cycle that the contract allows."""
        return cls("worst")

    @classmethod
    def fast(cls) -> "Mode":
        """Everything at once."""
        return cls("fast")

    @classmethod
    def random(cls, seed: int) -> "Mode":
        """Anything that the contract allows."""
        return cls("random", seed)

    def stalling(self) -> "Mode":
        """Let requests wait, too, which the contract does not allow."""
        return evolve(self, stalls=True)

    def broken(self, *, burst: int, by: int) -> "Mode":
        """Break the contract: from the given read burst on (0 is the first), ``by`` cycles late."""
        return evolve(self, late_from=burst, late_by=by)

    def error(self, address: int, *, length: int = 1, response: int = SLVERR) -> "Mode":
        """Answer accesses of these bytes with an error."""
        return evolve(self, errors=(*self.errors, (address, address + length, response)))

    def flip(self, address: int, *, bit: int = 0) -> "Mode":
        """Read one bit wrong."""
        return evolve(self, flips=(*self.flips, (address, bit)))

    def lateness(self, burst: int) -> int:
        """Cycles by which a read burst breaks the contract."""
        return self.late_by if self.late_from is not None and burst >= self.late_from else 0


class Memory:
    """An AXI4 memory that keeps a contract.

    A reset of the design needs a :meth:`restart` of the memory.

    Parameters
    ----------
    dut
        Handle that has ``clk``, ``rst`` and the ports ``<prefix>_araddr`` and so on.
    prefix : :class:`str`
        Prefix of the ports; ``"axi_"`` for a member called ``axi``.
    contract : :class:`jepa_r.config.MemoryContract`
        What the memory promises.
    mode : :class:`Mode`
        How it behaves.
    regions : :class:`dict` from :class:`int` to :class:`bytes` or :class:`bytearray`
        Contents by address. They are copied unless they are a :class:`bytearray`.
    reads, writes : :class:`bool`
        Which channels there are.
    period_ns : :class:`int`
        Period of the clock.

    Attributes
    ----------
    space : :class:`cocotbext.axi.AddressSpace`
        Contents.
    read_bursts, write_bursts : :class:`list` of :class:`tuple`
        Cycle of the request, address and bytes of each burst.
    violations : :class:`int`
        Beats that were later than promised, because :meth:`Mode.broken` asked for it.
    """

    def __init__(
        self, dut, prefix, *, contract, mode=None, regions, reads=True, writes=False, period_ns=10
    ):  # fmt: skip
        # The channels report every burst and every reset.
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.mode = Mode.worst() if mode is None else mode
        self.contract = contract
        self.space = AddressSpace(2**32)
        for base, contents in regions.items():
            data = contents if isinstance(contents, bytearray) else bytearray(contents)
            self.space.register_region(MemoryRegion(len(data), mem=data), base)
        self.read_bursts = []
        self.write_bursts = []
        self.violations = 0
        self._period = period_ns
        self._slaves = []
        if reads:
            bus = AxiReadBus.from_prefix(dut, prefix)
            self._slaves.append(_ReadSlave(bus, dut.clk, memory=self))
        if writes:
            bus = AxiWriteBus.from_prefix(dut, prefix)
            self._slaves.append(_WriteSlave(bus, dut.clk, memory=self))

    def restart(self, *, mode=None, contract=None) -> None:
        """Forget all that is under way, while the design is in reset, and maybe change."""
        self.mode = self.mode if mode is None else mode
        self.contract = self.contract if contract is None else contract
        self.violations = 0
        for bursts in (self.read_bursts, self.write_bursts):
            bursts.clear()
        for slave in self._slaves:
            slave.restart()

    def now(self) -> int:
        """Number of the cycle that ends with this clock edge."""
        return int(get_sim_time("ns")) // self._period

    async def contents(self, address: int, length: int) -> bytes | None:
        """Bytes as they are stored, or nothing where some do not exist."""
        try:
            return await self.space.read(address, length)
        except Exception:  # the address space has no exception of its own
            return None

    def response(self, address: int, length: int) -> int:
        """Answer to an access of these bytes, if they exist."""
        for low, high, code in self.mode.errors:
            if low < address + length and address < high:
                return code
        return OKAY

    def check_burst(self, address: int, beats: int, size: int, burst: int, under_way: int) -> None:
        """Fail if a request breaks a rule of AXI4 or asks for more than the contract."""
        width = self.contract.data_bytes
        if 1 << size != width or burst != 1:
            raise ContractError(f"burst at {address:#x}: size {size}, type {burst}")
        if address % width:
            raise ContractError(f"burst at {address:#x} is not aligned to beats of {width} bytes")
        if address % 4096 + beats * width > 4096:
            raise ContractError(f"burst at {address:#x} of {beats} beats crosses 4 KB")
        if beats > self.contract.burst_beats:
            raise ContractError(f"burst at {address:#x} has {beats} beats")
        if under_way > self.contract.outstanding:
            raise ContractError(f"{under_way} bursts are under way")


@frozen(eq=False)
class _ReadBurst:
    """Beats that wait to be offered."""

    id: int
    number: int
    asked: int
    words: list[int]
    responses: list[int]


@frozen(eq=False)
class _Answer:
    """Answer to a write that waits to be offered."""

    id: int
    taken: int
    response: int


class _ReadSlave(AxiSlaveRead):
    """Slave that reads whole bursts and times each beat."""

    def __init__(self, bus, clock, *, memory):
        self.memory = memory
        self._bursts = deque()
        self._arrived = Event()
        self._random = random.Random()
        super().__init__(bus, clock, target=memory.space)
        self.r_channel._run = self._offer
        self.restart()

    def restart(self):
        """Forget all bursts."""
        self._bursts.clear()
        self._under_way = 0
        self._random.seed(self.memory.mode.seed)
        for part in (self.ar_channel, self.r_channel, self):
            part.assert_reset()
        _set_pauses(self.ar_channel, self.memory.mode)

    async def _process_read(self):
        memory = self.memory
        while True:
            request = await self.ar_channel.recv()
            width = memory.contract.data_bytes
            address, beats = int(request.araddr), int(request.arlen) + 1
            memory.check_burst(
                address,
                beats,
                int(request.arsize),
                int(request.arburst),
                len(self._bursts) + 1 + self._under_way,
            )
            contents = await memory.contents(address, beats * width)
            if contents is None:
                words, responses = [0] * beats, [DECERR] * beats
            else:
                words = [
                    int.from_bytes(contents[start : start + width], "little")
                    for start in range(0, beats * width, width)
                ]
                responses = [memory.response(address + n * width, width) for n in range(beats)]
            for byte, bit in memory.mode.flips:
                if address <= byte < address + beats * width:
                    beat, place = divmod(byte - address, width)
                    words[beat] ^= 1 << (8 * place + bit)
            burst = _ReadBurst(
                int(request.arid), len(memory.read_bursts), memory.now(), words, responses
            )
            memory.read_bursts.append((burst.asked, address, beats * width))
            self._bursts.append(burst)
            self._arrived.set()

    async def _offer(self):
        edge, bus, memory = RisingEdge(self.clock), self.r_channel.bus, self.memory
        contract = memory.contract
        unit, width = contract.bytes_per_cycle, contract.data_bytes
        due = 0  # of the beat before, in units of 1 / bytes_per_cycle of a cycle
        bus.rvalid.value = 0
        while True:
            while not self._bursts:
                self._arrived.clear()
                await self._arrived.wait()
            burst = self._bursts.popleft()
            self._under_way = 1
            late = memory.mode.lateness(burst.number)
            due = max(due, (burst.asked + contract.latency) * unit)
            planned = self._first(burst, due // unit)
            for n in range(len(burst.words)):
                if await self._overtake(burst, (due + width) // unit):
                    # The master made the other burst wait, and this one with it.
                    due = max(due, memory.now() * unit)
                due += width
                promised = -(-due // unit)
                cycle = memory.now()
                # What is driven at an edge is seen at the next.
                while cycle + 1 < min(planned, promised) + late:
                    await edge
                    cycle += 1
                offered = cycle + 1
                if offered > promised:
                    if not late:
                        raise ContractError(f"beat offered in {offered}, promised for {promised}")
                    memory.violations += 1
                await self._send(burst, n)
                taken = memory.now()
                if taken - late > promised:
                    due = (taken - late) * unit
                planned = self._following(taken, promised)
            self._under_way = 0

    async def _send(self, burst, n):
        """Offer a beat until it is taken."""
        edge, bus = RisingEdge(self.clock), self.r_channel.bus
        bus.rid.value = burst.id
        bus.rdata.value = burst.words[n]
        bus.rresp.value = burst.responses[n]
        bus.rlast.value = n == len(burst.words) - 1
        bus.rvalid.value = 1
        await edge
        while not bus.rready.value:
            await edge
        bus.rvalid.value = 0

    async def _overtake(self, burst, promised):
        """Send a burst of another ID first, now and then, if all of it fits before this beat.

        Returns whether it had to wait for the master.
        """
        memory = self.memory
        others = (other for other in self._bursts if other.id != burst.id)
        other = next(others, None) if memory.mode.kind == "random" else None
        begun = memory.now()
        if (
            other is None
            or other.asked >= begun
            or begun + len(other.words) >= promised
            or self._random.random() < 0.5
        ):
            return False
        self._bursts.remove(other)
        self._under_way += 1
        for n in range(len(other.words)):
            await self._send(other, n)
        self._under_way -= 1
        return memory.now() - begun > len(other.words)

    def _first(self, burst, latest):
        """Cycle in which the first beat should be offered, if the contract allows."""
        mode = self.memory.mode
        if mode.kind == "random":
            self._haste = self._random.random()
            return self._random.randint(burst.asked + 1, max(burst.asked + 1, latest))
        return burst.asked + 1 if mode.kind == "fast" else _NEVER

    def _following(self, taken, promised):
        """Cycle in which the next beat should be offered, if the contract allows."""
        mode = self.memory.mode
        if mode.kind == "random":
            pause = 0 if self._random.random() < self._haste else self._random.randint(0, 8)
            return taken + 1 + pause
        return taken + 1 if mode.kind == "fast" else _NEVER


class _WriteSlave(AxiSlaveWrite):
    """Slave that times each beat it takes and each answer, and writes whole bursts."""

    def __init__(self, bus, clock, *, memory):
        self.memory = memory
        self._answers = deque()
        self._arrived = Event()
        self._random = random.Random()
        super().__init__(bus, clock, target=memory.space)
        self.w_channel._run = self._take
        self.b_channel._run = self._answer
        self.restart()

    def restart(self):
        """Forget all bursts."""
        self._answers.clear()
        self._under_way = 0
        self._random.seed(self.memory.mode.seed)
        for part in (self.aw_channel, self.w_channel, self.b_channel, self):
            part.assert_reset()
        _set_pauses(self.aw_channel, self.memory.mode)

    def _handle_reset(self, state):
        super()._handle_reset(state)
        # Requests are taken as they come, not one after the data of another.
        self.aw_channel.queue_occupancy_limit = self.memory.contract.outstanding

    async def _process_write(self):
        memory = self.memory
        while True:
            request = await self.aw_channel.recv()
            width = memory.contract.data_bytes
            address, beats = int(request.awaddr), int(request.awlen) + 1
            under_way = 1 + len(self._answers) + self.aw_channel.count()
            memory.check_burst(address, beats, int(request.awsize), int(request.awburst), under_way)
            memory.write_bursts.append((memory.now(), address, beats * width))
            response = memory.response(address, beats * width)
            for n in range(beats):
                taken, data, strobe, last = await self.w_channel.recv()
                if last != (n == beats - 1):
                    raise ContractError(f"beat {n} of {beats} at {address:#x}: wlast is {last}")
                if strobe == 0:
                    continue
                if strobe != (1 << width) - 1:
                    raise ContractError(f"beat {n} at {address:#x}: wstrb is {strobe:#x}")
                contents = data.to_bytes(width, "little")
                try:
                    if response == OKAY:
                        await memory.space.write(address + n * width, contents)
                except Exception:  # the address space has no exception of its own
                    response = DECERR
            self._answers.append(_Answer(int(request.awid), taken, response))
            self._arrived.set()

    async def _take(self):
        edge, bus, memory = RisingEdge(self.clock), self.w_channel.bus, self.memory
        offered = RisingEdge(bus.wvalid)
        unit, width = memory.contract.bytes_per_cycle, memory.contract.data_bytes
        due = planned = 0
        bus.wready.value = 0
        await edge
        while True:
            cycle = memory.now()
            while cycle + 1 < planned:
                await edge
                cycle += 1
            bus.wready.value = 1
            await edge
            while not bus.wvalid.value:
                await offered
                await edge
            bus.wready.value = 0
            taken = memory.now()
            last = bool(bus.wlast.value)
            self.w_channel.queue.put_nowait((
                taken,
                int(bus.wdata.value),
                int(bus.wstrb.value),
                last,
            ))
            if taken > -(-due // unit):
                due = taken * unit
            due += width
            planned = self._between(taken + 1, -(-due // unit))

    async def _answer(self):
        edge, bus, memory = RisingEdge(self.clock), self.b_channel.bus, self.memory
        bus.bvalid.value = 0
        while True:
            while not self._answers:
                self._arrived.clear()
                await self._arrived.wait()
            answer = first = self._answers[0]
            cycle = memory.now()
            latest = first.taken + memory.contract.latency
            others = [other for other in self._answers if other.id != first.id]
            if (
                others
                and memory.mode.kind == "random"
                and cycle + 2 < latest
                and self._random.random() < 0.5
            ):
                answer = others[0]
                planned = cycle + 1
            else:
                planned = self._between(cycle + 1, latest)
            while cycle + 1 < planned:
                await edge
                cycle += 1
            bus.bid.value = answer.id
            bus.bresp.value = answer.response
            bus.bvalid.value = 1
            await edge
            while not bus.bready.value:
                await edge
            bus.bvalid.value = 0
            self._answers.remove(answer)

    def _between(self, first, last):
        """Cycle of an event that the contract allows in these."""
        kind = self.memory.mode.kind
        if kind == "random":
            return self._random.randint(first, max(first, last))
        return first if kind == "fast" else last


#: Later than any promise.
_NEVER = 1 << 62


def _set_pauses(channel, mode):
    """Let a channel of requests wait now and then, if the mode has that."""

    def pauses():
        rng = random.Random(mode.seed)
        while True:
            yield rng.random() < 0.4

    if mode.stalls:
        channel.set_pause_generator(pauses())
    else:
        channel.clear_pause_generator()
        channel.pause = False
