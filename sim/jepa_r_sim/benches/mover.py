"""cocotb bench of :class:`jepa_r.dma.mover.Mover`.

Parameters: ``hardware`` (arguments of the mover), ``seed`` and ``scenarios``: contract, mode,
windows, transfers with the cycle from which each is offered, and what is expected (``complete`` and
``fault``, as for the reader's bench).
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from jepa_r.config import MemoryContract
from jepa_r.dma.axi import Fault
from jepa_r.dma.bound import WriteBound
from jepa_r.dma.mover import MoveDescriptor, Mover
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.memory import Memory, Mode

BASE = 0x4000_0000
LENGTH = 1 << 16
FILL = 0xEE


def word_at(source, tile, address, size):
    """Contents of the tiles' memories: any word is as good as another, if it is its own."""
    return random.Random(f"{source}/{tile}/{address}").randbytes(size)


def source_words(transfer, size):
    """Words that a transfer reads, by row."""
    return [
        [
            word_at(
                transfer["source"],
                transfer["tile"],
                (transfer["src_addr"] + row * transfer["src_stride"] + n) % 2**20,
                size,
            )
            for n in range(transfer["words"])
        ]
        for row in range(transfer["rows"])
    ]


def expect_memory(transfer, size, width, image):
    """Write to ``image`` what a transfer must write to memory."""
    for row, words in enumerate(source_words(transfer, size)):
        packed = bytearray()
        for word in words:
            if size > width:
                packed += word + bytes(-size % width)
            else:
                if len(packed) % width + size > width:
                    packed += bytes(-len(packed) % width)
                packed += word
        packed += bytes(-len(packed) % width)
        at = transfer["address"] + row * transfer["stride"] - BASE
        image[at : at + len(packed)] = packed


def expect_shared(transfer, size, row_bytes, lanes):
    """Writes to the shared memory: address, enables, and the bytes that are enabled."""
    count = row_bytes // lanes
    used = transfer["segments"] or count
    writes = []
    for row, words in enumerate(source_words(transfer, size)):
        for n, word in enumerate(words):
            word = (word + bytes(row_bytes))[:row_bytes]
            parts = {}
            for segment in range(used):
                parts[(segment + transfer["dst_seg"]) % count] = word[segment * lanes :][:lanes]
            address = (transfer["address"] + row * transfer["stride"] + n) % 2**20
            writes.append((address, parts))
    return writes


class Watch:
    """Everything that the mover does, the memories it reads, and the rules of its bus."""

    def __init__(self, dut, memory, hardware):
        self.dut = dut
        self.memory = memory
        self.latency = hardware["read_latency"]
        self.sizes = (hardware["row_bytes"], 2 * hardware["lanes"])
        self.shared = []
        self.completed = []
        self.faults = []
        self.code = None

    async def run(self):
        dut, edge = self.dut, RisingEdge(self.dut.clk)
        rng = random.Random(1)
        noise = len(dut.r_data)
        coming = [None] * (self.latency - 1)
        waiting = {"aw": None, "w": None}
        while True:
            await edge
            asked = None
            if dut.r_en.value:
                source = int(dut.r_source.value)
                where = (source, int(dut.r_tile.value), int(dut.r_addr.value))
                asked = int.from_bytes(word_at(*where, self.sizes[source]), "little")
            coming.append(asked)
            data = coming.pop(0)
            dut.r_data.value = rng.getrandbits(noise) if data is None else data
            if enables := int(dut.sw_en.value):
                self.shared.append((int(dut.sw_addr.value), enables, int(dut.sw_data.value)))
            if dut.completed.value:
                self.completed.append((self.memory.now(), len(self.shared)))
            if dut.fault.value:
                self.faults.append(self.memory.now())
                self.code = int(dut.fault_code.value)
            for name, fields in (("aw", ("awaddr", "awlen")), ("w", ("wdata", "wlast"))):
                valid = bool(getattr(dut, f"axi__{name}valid").value)
                payload = None
                if valid:
                    payload = tuple(int(getattr(dut, f"axi__{part}").value) for part in fields)
                if waiting[name] is not None:
                    assert payload == waiting[name], f"{name} changed before it was taken"
                ready = bool(getattr(dut, f"axi__{name}ready").value)
                waiting[name] = payload if valid and not ready else None


async def run_scenario(dut, memory, scenario, hardware, image):
    """Run one scenario and compare. Returns how far each completion was before its bound."""
    contract = MemoryContract(**scenario["contract"])
    width = contract.data_bytes
    transfers = scenario["transfers"]
    image[:] = bytes([FILL]) * LENGTH

    dut.rst.value = 1
    dut.i__valid.value = 0
    await FallingEdge(dut.clk)
    memory.restart(mode=Mode.made_by(scenario["mode"]), contract=contract)
    await FallingEdge(dut.clk)
    windows = scenario.get("windows", [[BASE, BASE + LENGTH]])
    dut.stop.value = 0
    dut.windows.value = sum((low | high << 32) << 64 * n for n, (low, high) in enumerate(windows))
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)

    watch = Watch(dut, memory, hardware)
    task = cocotb.start_soon(watch.run())
    start = memory.now()
    issued = []
    expected = scenario.get("complete", len(transfers))
    for transfer in transfers:
        while memory.now() < start + transfer["after"]:
            await FallingEdge(dut.clk)
        fields = {name: transfer[name] for name in MoveDescriptor().members}
        dut.i__payload.value = MoveDescriptor().const(fields).as_value().value
        dut.i__valid.value = 1
        while not watch.faults:
            await RisingEdge(dut.clk)
            if dut.i__ready.value:
                issued.append(memory.now())
                break
        await FallingEdge(dut.clk)
        dut.i__valid.value = 0
    idle, progress = 0, None
    while idle < 3 * contract.latency + 200:
        await FallingEdge(dut.clk)
        now = (len(watch.shared), len(watch.completed), len(memory.write_bursts))
        idle = idle + 1 if now == progress else 0
        progress = now
        if len(watch.completed) == len(transfers) and idle > 40:
            break
    task.cancel()

    if "fault" in scenario:
        assert watch.code == Fault[scenario["fault"]].value, f"fault {watch.code}"
        assert len(watch.faults) == 1, "a fault is told once"
    else:
        assert not watch.faults, f"fault {watch.code}"
    assert len(watch.completed) == expected, f"{len(watch.completed)} of {expected} complete"
    for _, address, length in memory.write_bursts:
        assert any(low <= address and address + length <= high for low, high in windows), (
            f"burst at {address:#x} outside all windows"
        )

    sizes = (hardware["row_bytes"], 2 * hardware["lanes"])
    mover = Mover(**hardware)
    bound = WriteBound(mover=mover, contract=contract)
    good = bytearray([FILL]) * LENGTH
    shared = []
    slack = []
    for n, transfer in enumerate(transfers[:expected]):
        size = sizes[transfer["source"]]
        if transfer["to_shared"]:
            shared += expect_shared(transfer, size, hardware["row_bytes"], hardware["lanes"])
            assert watch.completed[n][1] >= len(shared), f"transfer {n} complete too early"
        else:
            expect_memory(transfer, size, width, good)
        latest = bound.transfer(
            issue=issued[n],
            **{
                k: transfer[k]
                for k in ("source", "words", "rows", "to_shared", "address", "stride")
            },
        )
        slack.append(latest - watch.completed[n][0])
        if transfer["to_shared"] and (n == 0 or issued[n] > watch.completed[n - 1][0]):
            cycles = mover.shared_cycles(words=transfer["words"], rows=transfer["rows"])
            assert watch.completed[n][0] - issued[n] == cycles, f"transfer {n}: shared_cycles"
    if "fault" not in scenario:
        assert len(shared) == len(watch.shared), "words of the shared memory"
        assert good == image, "contents of memory"
    for (address, parts), (at, enables, data) in zip(shared, watch.shared, strict=False):
        assert at == address
        assert enables == sum(1 << segment for segment in parts)
        lanes = hardware["lanes"]
        word = data.to_bytes(hardware["row_bytes"], "little")
        for segment, part in parts.items():
            assert word[segment * lanes :][:lanes] == part
    if not memory.mode.stalls:
        assert min(slack, default=0) >= 0, f"later than the bound: {slack}"
    return slack


@cocotb.test()
async def scenarios(dut):
    """Every scenario: the right contents, in time, or the right fault."""
    given = parameters()
    image = bytearray(LENGTH)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    dut.i__valid.value = 0
    first = MemoryContract(**given["scenarios"][0]["contract"])
    memory = Memory(dut, "axi_", contract=first, regions={BASE: image}, reads=False, writes=True)
    results = []
    for number, scenario in enumerate(given["scenarios"]):
        try:
            slack = await run_scenario(dut, memory, scenario, given["hardware"], image)
        except AssertionError as error:
            raise AssertionError(f"scenario {number}: {error}") from error
        results.append({"slack": slack, "bursts": len(memory.write_bursts)})
    report(results=results)
