"""cocotb bench of :class:`jepa_r.chip.Chip`: a host that follows a script.

Parameters: ``contract`` (fields of the memory contract), ``memory`` (files with its contents, by
address), ``mode`` (constructor calls), and ``script``, a list of calls of :class:`Host`: the name
of a method and its arguments. :mod:`jepa_r_sim.chip` makes it, and reads the report: ``actions``
(cycle and words of each packet), ``elites`` (iteration, rank, candidate, cost of each, as they
came), ``reads``, ``waits`` and ``violations``.

Nothing here runs every cycle: all that waits does so for an edge of a signal.
"""

import itertools
import struct
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer, ValueChange
from cocotb.utils import get_sim_time
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from jepa_r.config import MemoryContract
from jepa_r.planner.layouts import EliteTrace
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.memory import Memory, Mode
from jepa_r_sim.drivers.packets import state_packet
from jepa_r_sim.registers import RegisterModel, Software

#: Period of the clock, in nanoseconds.
PERIOD = 10


class Host:
    """What software on the host can do, and the world around the chip."""

    def __init__(self, dut, memory, regions, model):
        self.dut, self.memory, self.regions, self.model = dut, memory, regions, model
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "lite_"), dut.clk, dut.rst)
        self.states = AxiStreamSource(AxiStreamBus.from_prefix(dut, "state_"), dut.clk, dut.rst)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "action_"), dut.clk, dut.rst)
        self.software = Software(model, self._read, self._write)
        self.sequence = 0
        self.actions, self.elites, self.reads, self.waits = [], [], [], []

    async def _read(self, address):
        answer = await self.lite.read(address, 4)
        if answer.resp != AxiResp.OKAY:
            raise AssertionError(f"read at {address:#x}: {answer.resp.name}")
        return int.from_bytes(answer.data, "little")

    async def _write(self, address, word):
        answer = await self.lite.write(address, word.to_bytes(4, "little"))
        self.answer = answer.resp

    def now(self):
        """Number of the current cycle."""
        return int(get_sim_time("ns")) // PERIOD

    async def collect_actions(self):
        """Keep every packet, and when its last word came."""
        while True:
            frame = await self.sink.recv()
            words = struct.unpack(f"<{len(frame.tdata) // 4}I", bytes(frame.tdata))
            self.actions.append([self.now(), list(words)])

    async def collect_elites(self):
        """Keep every elite; two that follow one another differ in their rank."""
        layout = EliteTrace()
        while True:
            await ValueChange(self.dut.elite)
            elite = layout.from_bits(self.dut.elite.value.to_unsigned())
            if elite.valid:
                self.elites.append([elite.iteration, elite.rank, elite.candidate, elite.cost])

    # Steps of a script.

    async def reset(self, mode=None):
        """Hold the reset for some cycles, and let memory forget what was under way."""
        self.dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(self.dut.clk)
        self.memory.restart(mode=Mode.made_by(mode) if mode else None)
        await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def write(self, name, values, expect="OKAY"):
        """Write a register: a number, or values of its fields."""
        if isinstance(values, dict):
            await self.software.write(name, **values)
        else:
            await self.software.write(name, values)
        if self.answer.name != expect:
            raise AssertionError(f"write to {name}: {self.answer.name}, not {expect}")

    async def read(self, *names):
        """Report the fields of registers, in one dictionary."""
        found = {}
        for name in names:
            values = await self.software.read_all(name)
            found[name] = values["value"] if set(values) == {"value"} else values
        self.reads.append(found)

    async def wait(self, events, limit):
        """Wait until each of these bits of INTERRUPT_STATUS was set once, and clear them.

        Ends early with a fault, and after ``limit`` cycles. Reports all bits that were seen, the
        cycle of the last one, and whether it was in time.
        """
        edge = RisingEdge(self.dut.interrupt)
        seen, late = set(), Timer(limit * PERIOD, "ns")
        enabled = dict.fromkeys({*events, "fault"}, 1)
        await self.software.write("INTERRUPT_ENABLE", **enabled)
        cycle, ended = self.now(), False
        while not (seen.issuperset(events) or "fault" in seen or ended):
            if not self.dut.interrupt.value:
                ended = await First(edge, late) is late
            cycle = self.now()
            status = await self.software.read_all("INTERRUPT_STATUS")
            new = {name for name in enabled if status[name]}
            if new:
                await self.software.write("INTERRUPT_STATUS", **dict.fromkeys(new, 1))
            seen |= new
        self.waits.append({"seen": sorted(seen), "cycle": cycle, "in_time": not ended})

    async def state(self, pose, timestamp=0, spoil=0):
        """Send a state packet, with some bits of its last word inverted."""
        *words, last = state_packet(self.sequence, pose, timestamp)
        self.sequence += 1
        await self.states.send(AxiStreamFrame(struct.pack("<7I", *words, last ^ spoil)))
        await self.states.wait()

    async def patch(self, address, contents):
        """Write to memory: a file, or bytes in hexadecimal."""
        path = Path(contents)
        raw = path.read_bytes() if path.is_absolute() else bytes.fromhex(contents)
        base, region = self._region(address)
        region[address - base : address - base + len(raw)] = raw

    async def dump(self, file, address, length):
        """Keep a part of memory in a file."""
        base, region = self._region(address)
        Path(file).write_bytes(region[address - base : address - base + length])

    def _region(self, address):
        return next(
            (base, region)
            for base, region in self.regions.items()
            if base <= address < base + len(region)
        )

    async def cycles(self, count):
        """Let time pass."""
        await Timer(count * PERIOD, "ns")

    async def inject(self, bits):
        """Invert bits of what is written to memories from now on."""
        await FallingEdge(self.dut.clk)
        self.dut.inject.value = bits

    async def hold_actions(self, held):
        """Take no action packets, or take them again."""
        self.sink.pause = bool(held)


@cocotb.test()
async def script(dut):
    """Do what the script says; the caller judges."""
    given = parameters()
    regions = {
        int(base): bytearray(Path(file).read_bytes()) for base, file in given["memory"].items()
    }
    dut.rst.value = 1
    dut.inject.value = 0
    Clock(dut.clk, PERIOD, "ns").start()
    memory = Memory(
        dut, "axi_", contract=MemoryContract(**given["contract"]), regions=regions, writes=True,
        mode=Mode.made_by(given["mode"]), period_ns=PERIOD,
    )  # fmt: skip
    host = Host(dut, memory, regions, RegisterModel.compile(**given["registers"]))
    cocotb.start_soon(host.collect_actions())
    cocotb.start_soon(host.collect_elites())
    await host.reset(given["mode"])
    for number, (name, *arguments) in zip(itertools.count(), given["script"], strict=False):
        try:
            await getattr(host, name)(*arguments)
        except AssertionError as error:
            raise AssertionError(f"step {number}, {name}: {error}") from error
    report(
        actions=host.actions, elites=host.elites, reads=host.reads, waits=host.waits,
        read_bytes=sum(count for _cycle, _address, count in memory.read_bursts),
    )  # fmt: skip
