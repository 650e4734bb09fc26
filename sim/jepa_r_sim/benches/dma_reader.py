"""cocotb bench of :class:`jepa_r.dma.reader.DmaReader`.

Parameters: ``words`` (bytes of a word by destination), ``image`` (length and seed of the memory's
contents), and ``scenarios``: contract, mode, windows, transfers with the cycle from which each is
offered, and what is expected (``complete``: all of them; else the number that complete and the
fault that stops them).
"""

import random
import zlib

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from jepa_r.config import MemoryContract
from jepa_r.dma.axi import Fault
from jepa_r.dma.bound import ReadBound
from jepa_r.dma.reader import ReadDescriptor
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.memory import Memory, Mode

BASE = 0x8000_0000


def beats_of_rows(transfer, size, width):
    """For each row, addresses of its beats; by the words of the contract, one after another."""
    rows = []
    for row in range(transfer["rows"]):
        start = transfer["address"] + row * transfer["stride"]
        if size > width:
            count = transfer["words"] * -(-size // width)
        else:
            count = -(-transfer["words"] // (width // size))
        rows.append([start + n * width for n in range(count)])
    return rows


def words_of(transfer, size, width, read):
    """Words that a transfer must write, in order."""
    words = []
    for beats in beats_of_rows(transfer, size, width):
        if size > width:
            each = -(-size // width)
            for n in range(transfer["words"]):
                data = b"".join(read(at, width) for at in beats[n * each : (n + 1) * each])
                words.append(data[:size])
        else:
            share = width // size
            for n in range(transfer["words"]):
                beat = read(beats[n // share], width)
                words.append(beat[n % share * size :][:size])
    return words


def place_sum(transfer, size, width, image):
    """Write the sum of a transfer behind it, as the compiler does."""
    rows = beats_of_rows(transfer, size, width)
    total = 0
    for beats in rows:
        for at in beats:
            total = zlib.crc32(image[at - BASE : at - BASE + width], total)
    at = rows[-1][-1] + width - BASE
    image[at : at + width] = total.to_bytes(4, "little") + bytes([0xA5]) * (width - 4)


class Watch:
    """Everything that the reader does, and the rules of its bus."""

    def __init__(self, dut, memory):
        self.dut = dut
        self.memory = memory
        self.words = []
        self.completed = []
        self.faults = []
        self.code = None
        self.cycles = 0

    async def run(self):
        dut, edge = self.dut, RisingEdge(self.dut.clk)
        waiting = None
        while True:
            await edge
            self.cycles += 1
            if dut.w_en.value:
                self.words.append((
                    int(dut.w_dest.value),
                    int(dut.w_addr.value),
                    int(dut.w_tiles.value),
                    int(dut.w_data.value),
                ))
            if dut.completed.value:
                self.completed.append((self.memory.now(), len(self.words)))
            if dut.fault.value:
                self.faults.append(self.memory.now())
                self.code = int(dut.fault_code.value)
            valid = bool(dut.axi__arvalid.value)
            if waiting is not None:
                payload = (int(dut.axi__araddr.value), int(dut.axi__arlen.value))
                assert valid, "a request was withdrawn before it was taken"
                assert payload == waiting, "a request changed before it was taken"
                waiting = None
            if valid and not dut.axi__arready.value:
                waiting = (int(dut.axi__araddr.value), int(dut.axi__arlen.value))


async def run_scenario(dut, memory, scenario, words, image):
    """Run one scenario and compare. Returns how far each completion was before its bound."""
    contract = MemoryContract(**scenario["contract"])
    width = contract.data_bytes
    transfers = scenario["transfers"]
    for transfer in transfers:
        if transfer["crc"] and not transfer.get("spoilt"):
            place_sum(transfer, words[transfer["dest"]], width, image)

    dut.rst.value = 1
    dut.i__valid.value = 0
    await FallingEdge(dut.clk)
    memory.restart(mode=Mode.made_by(scenario["mode"]), contract=contract)
    await FallingEdge(dut.clk)
    windows = scenario.get("windows", [[BASE, BASE + len(image)]])
    dut.stop.value = 0
    dut.windows.value = sum((low | high << 32) << 64 * n for n, (low, high) in enumerate(windows))
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)

    watch = Watch(dut, memory)
    task = cocotb.start_soon(watch.run())
    start = memory.now()
    issued = []
    expected = scenario.get("complete", len(transfers))
    for transfer in transfers:
        while memory.now() < start + transfer["after"]:
            await FallingEdge(dut.clk)
        fields = {name: transfer[name] for name in ReadDescriptor().members}
        dut.i__payload.value = ReadDescriptor().const(fields).as_value().value
        dut.i__valid.value = 1
        for _ in range(20_000):
            await RisingEdge(dut.clk)
            if dut.i__ready.value:
                issued.append(memory.now())
                break
            if watch.faults:
                break
        await FallingEdge(dut.clk)
        dut.i__valid.value = 0
        if watch.faults:
            break
    # Memory that was early may pause for as long as all of it would have taken.
    most = sum(
        width * sum(map(len, beats_of_rows(transfer, words.get(transfer["dest"], width), width)))
        for transfer in transfers
    )
    patience = 2 * contract.latency + 200 + most // contract.bytes_per_cycle
    idle = 0
    progress = None
    while idle < patience:
        await FallingEdge(dut.clk)
        now = (len(watch.words), len(watch.completed), len(memory.read_bursts))
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
    for _, address, length in memory.read_bursts:
        assert any(low <= address and address + length <= high for low, high in windows), (
            f"burst at {address:#x} outside all windows"
        )

    slack = []
    total = 0
    bound = ReadBound(words=words, contract=contract)
    for n, transfer in enumerate(transfers[:expected]):
        size = words[transfer["dest"]]
        read = lambda at, length: bytes(image[at - BASE : at - BASE + length])
        good = [
            (transfer["dest"], (transfer["dest_addr"] + k) % 2**20, transfer["tiles"], word)
            for k, word in enumerate(words_of(transfer, size, width, read))
        ]
        mask = (1 << 8 * size) - 1
        got = [(*where, data & mask) for *where, data in watch.words[total : total + len(good)]]
        assert got == [(*where, int.from_bytes(word, "little")) for *where, word in good], (
            f"transfer {n}"
        )
        total += len(good)
        cycle, written = watch.completed[n]
        assert written >= total, f"transfer {n} complete in cycle {cycle} before its last word"
        latest = bound.transfer(
            issue=issued[n],
            **{k: transfer[k] for k in ("address", "words", "rows", "stride", "dest", "crc")},
        )
        slack.append(latest - cycle)
    if "fault" not in scenario:
        assert total == len(watch.words), "more words than asked for"
    if not memory.violations and not memory.mode.stalls:
        assert min(slack, default=0) >= 0, f"later than the bound: {slack}"
    return watch.cycles, slack


@cocotb.test()
async def scenarios(dut):
    """Every scenario: the right words, in time, or the right fault."""
    given = parameters()
    words = {int(dest): size for dest, size in given["words"].items()}
    image = bytearray(random.Random(given["seed"]).randbytes(given["length"]))
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    dut.i__valid.value = 0
    first = given["scenarios"][0]
    memory = Memory(
        dut, "axi_", contract=MemoryContract(**first["contract"]), regions={BASE: image}
    )
    results = []
    for number, scenario in enumerate(given["scenarios"]):
        try:
            cycles, slack = await run_scenario(dut, memory, scenario, words, image)
        except AssertionError as error:
            raise AssertionError(f"scenario {number}: {error}") from error
        results.append({"cycles": cycles, "slack": slack, "violations": memory.violations})
    report(results=results)
