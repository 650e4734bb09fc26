"""cocotb bench of :class:`jepa_r.registers.Registers`, held to a model of the description.

``randomly`` drives the channels one by one with any byte enables. Its parameters: ``path`` of the
description and ``description`` (arguments of its address map), ``seed``, ``cycles``, ``pauses``
(probabilities, of which each channel gets one, that it idles for a cycle), ``often`` (registers
that are met often) and ``lock``, which is let alone until ``unlocked`` things have happened.
``manager`` uses cocotbext-axi on the chip's own registers for ``reads`` rounds. In both, everything
that the component does is compared with the model in every cycle. Reports counts of what was seen.
"""

import collections
import random
from pathlib import Path

import cocotb
from attrs import frozen
from cocotb.triggers import FallingEdge, ReadOnly
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp
from systemrdl.rdltypes import OnWriteType

from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start
from jepa_r_sim.registers import RegisterModel, Software

OKAY, SLVERR, DECERR = 0, 2, 3

#: Cycles from address and data of a write to its effect and its answer, and of a read.
WRITE, WRITE_ANSWER, READ, READ_ANSWER = 2, 3, 1, 3


def member_of(name, part):
    """Name of a field's port, and which element of it the register has."""
    head, _, rest = name.partition("[")
    index, _, tail = rest.partition("]")
    text = (head + tail.replace(".", "_") + ("" if part == "value" else f"_{part}")).lower()
    return text, int(index) if index else None


@frozen
class Part:
    """A field, as its properties say."""

    name: str
    part: str
    low: int
    width: int
    reset: int
    port: str
    index: int
    read: bool
    written: bool
    stored: bool
    shown: bool
    pulse: bool
    event: bool
    counter: bool
    saturate: bool
    effect: OnWriteType | None
    enable: tuple[str, str] | None
    lock: tuple[str, str] | None
    latched_by: str | None

    @classmethod
    def of(cls, top, register, node):
        name = register.get_rel_path(top)

        def refer(key):
            found = node.get_property(key)
            return (found.parent.get_rel_path(top), found.inst_name) if found else None

        port, index = member_of(name, node.inst_name)
        latched_by = register.get_property("latched_by")
        event, counter = node.get_property("intr"), node.get_property("counter")
        return cls(
            name=name,
            part=node.inst_name,
            low=node.low,
            width=node.width,
            reset=node.get_property("reset") or 0,
            port=port,
            index=index or 0,
            read=node.is_sw_readable,
            written=node.is_sw_writable,
            stored=event or counter or not node.is_hw_writable,
            shown=node.is_hw_readable,
            pulse=node.get_property("singlepulse"),
            event=event,
            counter=counter,
            saturate=bool(node.get_property("incrsaturate")),
            effect=node.get_property("onwrite"),
            enable=refer("enable"),
            lock=refer("swwel"),
            latched_by=latched_by.get_rel_path(top) if latched_by else None,
        )

    @property
    def key(self):
        return (self.name, self.part)


class Reference:
    """What software and hardware see, cycle by cycle."""

    def __init__(self, model):
        self.at = {model.address(name): name for name in model}
        self.parts = {
            name: [Part.of(model.top, node, field) for field in node.fields()]
            for name, node in model.nodes.items()
        }
        self.all = [part for parts in self.parts.values() for part in parts]
        self.bytes = {
            name: node.get_property("accesswidth") // 8 for name, node in model.nodes.items()
        }
        self.stored = {part.key: part.reset for part in self.all}
        self.copies = {part.key: 0 for part in self.all if part.latched_by}
        self.lines = {part.name.lower() + "_intr": 0 for part in self.all if part.event}

    def inputs(self):
        """Fields that hardware drives, port and width of each."""
        for part in self.all:
            if part.counter:
                yield part, f"{part.port}_incr", 1
            elif part.event or not part.stored:
                yield part, part.port, part.width

    def outputs(self):
        """Ports that hardware reads, and what they must be."""
        found = collections.Counter()
        for part in self.all:
            if part.shown:
                found[part.port] += self.stored[part.key] << part.width * part.index
        return found | self.lines

    def answer(self, address, strobe):
        """Answer to a write."""
        name = self.at.get(address & ~3)
        if name is None:
            return DECERR
        parts = self.parts[name]
        if not any(part.written for part in parts):
            return SLVERR
        if any(part.lock and self.stored[part.lock] for part in parts):
            return SLVERR
        size = self.bytes[name]
        for low in range(0, 4, size):
            if strobe >> low & (1 << size) - 1 not in (0, (1 << size) - 1):
                return SLVERR
        return OKAY

    def live(self, part, driven):
        return self.stored[part.key] if part.stored else driven[part.key]

    def read(self, address, driven):
        """Word and answer; takes copies."""
        name = self.at.get(address & ~3)
        if name is None:
            return 0, DECERR
        word = 0
        for part in self.parts[name]:
            if part.read:
                copied = part.key in self.copies
                word |= (self.copies[part.key] if copied else self.live(part, driven)) << part.low
        for part in self.all:
            if part.latched_by == name:
                self.copies[part.key] = self.live(part, driven)
        return word, OKAY

    def step(self, driven, write):
        """Go on by one cycle, in which ``write`` (address, data, strobe) is done, or none."""
        for name in self.lines:
            self.lines[name] = int(
                any(
                    part.event
                    and part.name.lower() + "_intr" == name
                    and self.stored[part.key]
                    and (part.enable is None or self.stored[part.enable])
                    for part in self.all
                )
            )
        address, data, strobe = write or (None, 0, 0)
        written = self.at[address & ~3] if write else None
        bits = sum(0xFF << 8 * n for n in range(4) if strobe >> n & 1)
        for part in self.all:
            if not part.stored:
                continue
            old, full = self.stored[part.key], (1 << part.width) - 1
            value = old
            hit = part.name == written and part.written
            mask = bits >> part.low & full if hit else 0
            ones = data >> part.low & mask
            if part.counter and driven[part.key]:
                value = min(old + 1, full) if part.saturate else old + 1 & full
            if part.pulse:
                value = ones
            elif part.effect == OnWriteType.woclr:
                value = old & ~ones
            elif part.effect == OnWriteType.woset:
                value = old | ones
            elif hit:
                # A write, if it enables nothing too, is instead of a count.
                value = old & ~mask | ones
            if part.event:
                value |= driven[part.key]
            self.stored[part.key] = value


class Monitor:
    """Compares every cycle with the reference; ``count`` tells what was seen."""

    def __init__(self, dut, reference, rng):
        self.dut, self.reference, self.rng = dut, reference, rng
        self.count = collections.Counter()
        self.inputs = list(reference.inputs())
        self.driven = {}
        self.address = self.data = self.write_at = self.write_answer_at = None
        self.where = self.read_at = self.read_answer_at = None
        self.response = self.reading = None
        for port in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            getattr(dut, f"lite__{port}").value = 0
        self.drive()

    def drive(self):
        """Put new values on what hardware drives; most of them stay."""
        rng, ports = self.rng, collections.Counter()
        for part, port, width in self.inputs:
            if part.event or part.counter:
                self.driven[part.key] = int(rng.random() < 0.03)
            elif part.key not in self.driven or rng.random() < 0.3:
                self.driven[part.key] = rng.getrandbits(width)
            ports[port] += self.driven[part.key] << width * part.index
        for member, word in ports.items():
            getattr(self.dut, member).value = word

    def get(self, port):
        return int(getattr(self.dut, f"lite__{port}").value)

    async def run(self, cycles):
        for cycle in range(cycles):
            self.drive()
            await ReadOnly()
            for name, expected in self.reference.outputs().items():
                seen = int(getattr(self.dut, name).value)
                assert seen == expected, f"cycle {cycle}: {name} is {seen:x}, not {expected:x}"
            write = self.follow_write(cycle)
            self.follow_read(cycle)
            self.reference.step(self.driven, write)
            await FallingEdge(self.dut.clk)

    def check(self, cycle, **ports):
        for port, expected in ports.items():
            seen = self.get(port)
            assert seen == expected, f"cycle {cycle}: {port} is {seen:x}, not {expected:x}"

    def follow_write(self, cycle):
        """Check the channels of writes; what is written in this cycle."""
        answering = self.write_answer_at is not None and cycle >= self.write_answer_at
        self.check(cycle, awready=self.address is None, wready=self.data is None, bvalid=answering)
        write = None
        if answering:
            self.check(cycle, bresp=self.response)
            if self.get("bready"):
                self.count[f"write {AxiResp(self.response).name}"] += 1
                self.write_answer_at = self.write_at = None
        elif self.write_at is None and self.address is not None and self.data is not None:
            self.write_at = cycle - 1 + WRITE
            self.write_answer_at = cycle - 1 + WRITE_ANSWER
        if self.write_at == cycle + 1:
            self.response = self.reference.answer(self.address, self.data[1])
        if self.write_at == cycle:
            if self.response == OKAY:
                write = (self.address, *self.data)
            self.address = self.data = None
        elif self.get("awvalid") and self.address is None:
            self.count["data first"] += self.data is not None
            self.address = self.get("awaddr")
        if self.write_at != cycle and self.get("wvalid") and self.data is None:
            self.count["address first"] += self.address is not None
            self.data = (self.get("wdata"), self.get("wstrb"))
        return write

    def follow_read(self, cycle):
        """Check the channels of reads."""
        answering = self.read_answer_at is not None and cycle >= self.read_answer_at
        self.check(cycle, arready=self.read_answer_at is None, rvalid=answering)
        if self.read_at == cycle:
            self.reading = self.reference.read(self.where, self.driven)
            self.count["both at once"] += self.write_at == cycle
        if answering:
            self.check(cycle, rdata=self.reading[0], rresp=self.reading[1])
            if self.get("rready"):
                self.count[f"read {AxiResp(self.reading[1]).name}"] += 1
                self.read_answer_at = None
        elif self.read_answer_at is None and self.get("arvalid"):
            self.where = self.get("araddr")
            self.read_at, self.read_answer_at = cycle + READ, cycle + READ_ANSWER


async def channel(dut, name, payload, rng, pause):
    """Send payloads (ports and values) for ever, with gaps."""
    valid, ready = getattr(dut, f"lite__{name}valid"), getattr(dut, f"lite__{name}ready")
    while True:
        while rng.random() < pause:
            await FallingEdge(dut.clk)
        for port, value in payload().items():
            getattr(dut, f"lite__{port}").value = value
        valid.value = 1
        taken = False
        while not taken:
            await ReadOnly()
            taken = bool(ready.value)
            await FallingEdge(dut.clk)
        valid.value = 0


async def sink(dut, name, rng, pause):
    """Be ready now and then."""
    while True:
        getattr(dut, f"lite__{name}ready").value = rng.random() >= pause
        await FallingEdge(dut.clk)


def prepare(dut):
    """Reference, monitor, generator of random numbers, and a choice of addresses."""
    given = parameters()
    rng = random.Random(given["seed"])
    model = RegisterModel.compile(Path(given["path"]), **given["description"])
    monitor = Monitor(dut, Reference(model), rng)
    mapped = [model.address(name) for name in model]
    often = [model.address(name) for name in given["often"]]

    def address():
        kind = rng.random()
        if kind < 0.1:
            return rng.getrandbits(12)
        chosen = rng.choice(often if kind < 0.3 else mapped) + rng.choice([0, 0, 0, 1, 2, 3])
        # Not before the other registers have been written.
        locks = chosen & ~3 == model.address(given["lock"])
        return 0 if locks and sum(monitor.count.values()) < given["unlocked"] else chosen

    return given, rng, monitor, address


@cocotb.test()
async def randomly(dut):
    """Every channel on its own, with any byte enables."""
    await start(dut)
    given, rng, monitor, address = prepare(dut)

    def write_address():
        return {"awaddr": address(), "awprot": rng.getrandbits(3)}

    def write_data():
        strobe = 15 if rng.random() < 0.6 else rng.getrandbits(4)
        return {"wdata": rng.getrandbits(32), "wstrb": strobe}

    def read_address():
        return {"araddr": address(), "arprot": rng.getrandbits(3)}

    drivers = {"aw": write_address, "w": write_data, "ar": read_address}
    for name, payload in drivers.items():
        pause = rng.choice(given["pauses"])
        cocotb.start_soon(channel(dut, name, payload, random.Random(rng.random()), pause))
    for name in "br":
        pause = rng.choice(given["pauses"])
        cocotb.start_soon(sink(dut, name, random.Random(rng.random()), pause))
    await monitor.run(given["cycles"])
    report(**monitor.count)


@cocotb.test()
async def manager(dut):
    """A manager of cocotbext-axi, reads and writes at once, and software that uses names."""
    given = parameters()
    rng = random.Random(given["seed"])
    model = RegisterModel.compile(**given["description"])
    await start(dut)
    monitor = Monitor(dut, Reference(model), rng)
    lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "lite_"), dut.clk, dut.rst)
    channels = [
        lite.write_if.aw_channel, lite.write_if.w_channel, lite.write_if.b_channel,
        lite.read_if.ar_channel, lite.read_if.r_channel,
    ]  # fmt: skip
    for n, one in enumerate(channels):
        source = random.Random(given["seed"] + n)
        one.set_pause_generator(iter(lambda source=source: source.random() < 0.4, None))
    watching = cocotb.start_soon(monitor.run(10**9))

    async def read_word(at):
        answer = await lite.read(at, 4)
        assert answer.resp == AxiResp.OKAY, f"read of {at:x}"
        return int.from_bytes(answer.data, "little")

    async def write_word(at, word):
        answer = await lite.write(at, word.to_bytes(4, "little"))
        assert answer.resp == AxiResp.OKAY, f"write of {at:x}"

    software = Software(model, read_word, write_word)

    async def reader():
        for _ in range(given["reads"]):
            await software.read_all(rng.choice(list(model)))
            assert (await lite.read(0xFFC, 4)).resp == AxiResp.DECERR

    reading = cocotb.start_soon(reader())
    for _ in range(given["reads"]):
        value = rng.getrandbits(16)
        await software.write("SAMPLES", value)
        assert await software.read("SAMPLES") == value
        await software.write("ENCODER_WINDOW[3].LIMIT", value)
        # Bytes of a register that is written as a whole, and of one that is not.
        assert (await lite.write(model.address("SEED") + 1, b"x")).resp == AxiResp.SLVERR
        enable = model.address("INTERRUPT_ENABLE")
        assert (await lite.write(enable + 1, bytes([value & 3]))).resp == AxiResp.OKAY
        assert await read_word(enable) & 0xFF00 == (value & 3) << 8
        await software.time()
    await software.write("LOCK", 1)
    assert (await lite.write(model.address("FRAME"), bytes(4))).resp == AxiResp.SLVERR
    await reading
    watching.cancel()
    report(**monitor.count)
