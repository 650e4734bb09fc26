"""cocotb bench of :class:`jepa_r.dma.arbiter.Arbiter`: two masters that hold it to their contracts.

Parameters: ``memory`` and ``masters`` (fields of their contracts; the masters' latencies are what
is checked), and ``scenarios``. Each has a ``mode`` of the memory as constructor calls, ``inject``
(bits that are flipped in the buffers), ``errors`` (whether answers may be errors), and ``traffic``:
for each master ``reads`` and ``writes``, lists of ``[first cycle, address, beats]``, and
``haste``, the chance with which it takes a beat that is read, or offers one to write, in a cycle.

A master asks as early as it may, and counts by itself when everything must happen at the latest.
"""

import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from jepa_r.config import MemoryContract
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.memory import OKAY, SLVERR, Memory, Mode

LENGTH = 1 << 18


class Port:
    """The signals of one master's port."""

    def __init__(self, dut, number):
        self._dut = dut
        self._prefix = f"masters__{number}__"

    def __getattr__(self, name):
        return getattr(self._dut, self._prefix + name)


class Due:
    """When the next beat is due: the sums of :mod:`jepa_r.dma.bound`, in parts of a cycle."""

    def __init__(self, contract):
        self.unit, self.width = contract.bytes_per_cycle, contract.data_bytes
        self.parts = 0

    @property
    def cycle(self):
        return -(-self.parts // self.unit)

    def not_before(self, cycle):
        self.parts = max(self.parts, cycle * self.unit)

    def add(self):
        self.parts += self.width


class Reads:
    """Reads of one master, cycle by cycle."""

    def __init__(self, port, contract, bursts, haste, rng, image, result):
        self.port, self.contract, self.result = port, contract, result
        self.haste, self.rng, self.image = haste, rng, image
        self.bursts = deque(bursts)
        self.under_way = deque()  # what is still expected of each burst: cycle, address, beats
        self.asking = None
        self.due = Due(contract)
        self.new_burst = True
        self.fresh = True  # the next beat has not been offered yet
        port.arvalid.value = 0
        port.arsize.value = (contract.data_bytes - 1).bit_length()
        port.arburst.value = 1
        port.rready.value = 0

    @property
    def done(self):
        return not (self.bursts or self.under_way or self.asking)

    def step(self, now, start):
        port, width = self.port, self.contract.data_bytes
        if self.asking:
            assert port.arready.value, f"read asked for in {now} is not taken at once"
            self.under_way.append([now, *self.asking])
            self.asking = None
        if port.rvalid.value:
            assert self.under_way, "an answer that nothing asked for"
            asked, address, beats = self.under_way[0]
            if self.fresh:
                if self.new_burst:
                    self.due.not_before(asked + self.contract.latency)
                    self.new_burst = False
                self.due.add()
                late = self.due.cycle - now
                self.result["read"] = min(self.result["read"], late)
                assert late >= 0, f"beat of burst asked for in {asked}: {now}, due {self.due.cycle}"
                self.fresh = False
            if port.rready.value:
                response = int(port.rresp.value)
                self.result["errors"] += response == SLVERR
                if response == OKAY:
                    expected = self.image[address : address + width]
                    data = int(port.rdata.value)
                    assert data == int.from_bytes(expected, "little"), f"data at {address:#x}"
                assert port.rlast.value == (beats == 1)
                if now > self.due.cycle:
                    self.due.not_before(now)
                self.under_way[0][1:] = address + width, beats - 1
                self.fresh = True
                if beats == 1:
                    self.under_way.popleft()
                    self.new_burst = True
        port.rready.value = self.rng.random() < self.haste
        port.arvalid.value = 0
        if (
            self.bursts
            and now + 1 >= start + self.bursts[0][0]
            and len(self.under_way) < self.contract.outstanding
        ):
            _, address, beats = self.bursts.popleft()
            self.asking = (address, beats)
            port.araddr.value = address
            port.arlen.value = beats - 1
            port.arvalid.value = 1


class Writes:
    """Writes of one master, cycle by cycle."""

    def __init__(self, port, contract, bursts, haste, rng, expected, result):
        self.port, self.contract, self.result = port, contract, result
        self.haste, self.rng, self.expected = haste, rng, expected
        self.bursts = deque(bursts)
        self.beats = deque()  # to be offered: word, whether it is the last
        self.answers = deque()  # bursts under way: None, or the cycle that took the last beat
        self.asking = None
        self.offered = None
        self.due = Due(contract)
        port.awvalid.value = 0
        port.awsize.value = (contract.data_bytes - 1).bit_length()
        port.awburst.value = 1
        port.wvalid.value = 0
        port.wstrb.value = (1 << contract.data_bytes) - 1
        port.bready.value = 1

    @property
    def done(self):
        return not (self.bursts or self.beats or self.answers or self.asking)

    def step(self, now, start):
        port, width = self.port, self.contract.data_bytes
        if self.asking:
            assert port.awready.value, f"write asked for in {now} is not taken at once"
            address, beats = self.asking
            self.asking = None
            self.answers.append(None)
            for n in range(beats):
                word = self.rng.randbytes(width)
                at = address + n * width
                self.expected[at : at + width] = word
                self.beats.append((int.from_bytes(word, "little"), n == beats - 1))
        if self.offered is not None:
            late = max(self.due.cycle, self.offered) - now
            self.result["take"] = min(self.result["take"], late)
            assert late >= 0, f"beat offered in {self.offered}, due {self.due.cycle}: {now}"
            if port.wready.value:
                if self.offered > self.due.cycle:
                    self.due.not_before(self.offered)
                self.due.add()
                self.offered = None
                if self.beats.popleft()[1]:
                    self.answers[self.answers.index(None)] = now
        waiting = self.answers and self.answers[0] is not None
        if port.bvalid.value:
            assert waiting, "an answer that nothing asked for"
            self.result["errors"] += int(port.bresp.value) == SLVERR
            taken = self.answers.popleft()
            late = taken + self.contract.latency - now
            self.result["write"] = min(self.result["write"], late)
            assert late >= 0, f"last beat taken in {taken}, answered in {now}"
        port.awvalid.value = 0
        if (
            self.bursts
            and now + 1 >= start + self.bursts[0][0]
            and len(self.answers) < self.contract.outstanding
        ):
            _, *self.asking = self.bursts.popleft()
            port.awaddr.value = self.asking[0]
            port.awlen.value = self.asking[1] - 1
            port.awvalid.value = 1
        if self.offered is None:
            port.wvalid.value = 0
            if self.beats and self.rng.random() < self.haste:
                word, last = self.beats[0]
                port.wvalid.value = 1
                port.wdata.value = word
                port.wlast.value = last
                self.offered = now + 1


async def run_scenario(dut, memory, contracts, scenario, image, seed):
    """Reset, and let both masters do all they want."""
    rng = random.Random(seed)
    dut.rst.value = 1
    dut.inject.value = scenario.get("inject", 0)
    result = {"read": 1 << 30, "write": 1 << 30, "take": 1 << 30, "errors": 0}
    expected = bytearray(image)
    agents = []
    for number, (contract, traffic) in enumerate(zip(contracts, scenario["traffic"], strict=True)):
        port, haste = Port(dut, number), traffic.get("haste", 1)
        agents += [
            Reads(port, contract, traffic["reads"], haste, rng, bytes(image), result),
            Writes(port, contract, traffic["writes"], haste, rng, expected, result),
        ]
    await FallingEdge(dut.clk)
    memory.restart(mode=Mode.made_by(scenario["mode"]))
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    while not dut.ready.value:
        await FallingEdge(dut.clk)

    edge = RisingEdge(dut.clk)
    await edge
    start = memory.now()
    while not all(agent.done for agent in agents):
        await edge
        now = memory.now()
        assert now < start + 200_000, "some burst was never answered"
        for agent in agents:
            agent.step(now, start)
    if result["errors"]:
        assert scenario.get("errors"), "an answer is an error"
    else:
        assert image == expected, "contents of memory"
    image[:] = expected
    return result | {"cycles": now - start, "corrected": int(dut.corrected.value)}


@cocotb.test()
async def scenarios(dut):
    """Every scenario: the right data, and nothing later than promised."""
    given = parameters()
    contracts = [MemoryContract(**fields) for fields in given["masters"]]
    image = bytearray(random.Random(1).randbytes(LENGTH))
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    memory = Memory(
        dut, "axi_", contract=MemoryContract(**given["memory"]), regions={0: image}, writes=True
    )
    results = []
    for number, scenario in enumerate(given["scenarios"]):
        try:
            found = await run_scenario(dut, memory, contracts, scenario, image, number)
        except AssertionError as error:
            raise AssertionError(f"scenario {number}: {error}") from error
        results.append(found)
    report(results=results)
