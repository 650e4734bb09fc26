"""No code runs that has not been summed twice, and no more than three images are taken.

That images are loaded, and refused for each reason, is simulated in
``tests/safety/test_loader.py``.
"""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.safety.bus import Bus
from jepa_r.safety.loader import FORMAT, HEADER, MAGIC, Loader, LoadFault
from jepa_r.safety.map import MEMORIES
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, first_is_fast, past

#: Words of the island's code memory.
REAL = next(memory.size // 4 for memory in MEMORIES if memory.name == "CODE")
SHORT = 2


def add(total, word):
    """Sum with one more word, which depends on all words and on their order."""
    return total.rotate_left(1) ^ word


def of_memory(dut):
    """Whether the fault is that of what is stored."""
    return Value.cast(dut.fault) == LoadFault.STORED.value


class LightSum(wiring.Component):
    """Stands for :class:`jepa_r.fabric.crc.Crc32`: another sum, as late.

    What is shown is that the right words are summed in their order and that the result is looked at
    when it is there; any sum will do.
    """

    LATENCY = 3
    ONES = 0xFFFF_FFFF

    def __init__(self, *, data_bytes):
        width = 8 * data_bytes
        super().__init__({"en": In(1), "first": In(1), "data": In(width), "crc": Out(width)})
        self.steps = [[Signal(), Signal(), Signal(width)] for _ in range(self.LATENCY - 1)]

    def elaborate(self, platform):
        m = Module()
        before = [self.en, self.first, self.data]
        for step in self.steps:
            m.d.sync += [ours.eq(theirs) for ours, theirs in zip(step, before, strict=True)]
            before = step
        m.d.sync += self.crc.eq(self.after(self.crc, self.steps[-1:]))
        return m

    def after(self, total, steps):
        """What a sum becomes by the last of these steps, then the one before, and so on."""
        for en, first, data in reversed(steps):
            total = Mux(en, add(Mux(first, self.ONES, total), data), total)
        return total

    @property
    def comes(self):
        """The sum when all that is under way has arrived."""
        return self.after(self.crc, self.steps)


class LoaderSpec(Spec):
    """A packet judged as it comes, the memory's answers summed as they come, a row followed."""

    def specify(self, m, dut):
        self.words = 1 << len(dut.load_word)
        self.at = Signal.like(dut.load_word)
        m.d.comb += self.at.eq(AnyConst(len(self.at)))
        self._packet(m, dut)
        self._memory(m, dut)
        going = past(m, ~ResetSignal())
        reads = dut.load_en & ~dut.load_write
        same = self.back == self.given
        m.d.comb += [
            Assert(~dut.loaded | self.good, "loaded means that the image was good"),
            Assert(
                ~dut.loaded | ((self.read == self.length[2:]) & ~self.pending & same),
                "loaded means that what is stored has the image's sum",
            ),
            Assert(
                ~dut.loaded | (self.written & (self.value == self._due())),
                "loaded means that each row got its word, or zero behind the code",
            ),
            Assert(~reads | (dut.load_word == self.read), "it is read in order"),
            Assert(dut.loading == ~dut.loaded, "the memory is the loader's until then"),
            Assert(~(dut.loaded & dut.failed), "there is one end"),
            Assert(dut.failed == (dut.attempts == dut.ATTEMPTS), "failed after the attempts"),
            Assert(self.packets <= dut.ATTEMPTS, "no more images are taken"),
            Assert(
                ~(dut.loaded | dut.failed) | ~(dut.i.tready | dut.request | dut.load_en),
                "the end is quiet",
            ),
            Assert(dut.loaded | ~past(m, dut.loaded) | ~going, "loaded stays"),
            Assert(dut.failed | ~past(m, dut.failed) | ~going, "failed stays"),
            Assert(
                ~dut.doing["REFUSE"] | (of_memory(dut) == self.good),
                "a good image is refused for what is stored alone",
            ),
            Assert(~dut.doing["REFUSE"] | ~self.good | ~same, "and that has another sum"),
        ]
        self._link_packet(m, dut)
        self._link_memory(m, dut)

    def _packet(self, m, dut):
        """Words of a packet, whether all were good so far, and the sum of all but the last."""
        oldest, word = AnyConst(32), dut.i.tdata
        taken = self.taken = dut.i.tvalid & dut.i.tready
        n = self.n = Signal(range(self.words + HEADER + 3))
        self.packets = Signal(8)
        self.clean, self.good, fine = Signal(), Signal(), Signal()
        self.version, self.length, self.given, self.total = (Signal(32) for _ in range(4))
        self.sent = Signal(32)
        end = self.length[2:] + HEADER
        length_good = (word[:2] == 0) & (word != 0) & (word <= 4 * self.words)
        m.d.comb += [
            Assume(dut.oldest == oldest),
            fine.eq(
                ((n == 0) | self.clean)
                & ((n != 0) | (word == MAGIC))
                & ((n != 1) | (word == FORMAT))
                & ((n != 2) | (word >= oldest))
                & ((n != 3) | length_good)
                & ((n < HEADER) | (n <= end))
            ),
        ]
        is_last = (n >= HEADER) & (n == end)
        with m.If(taken):
            m.d.sync += [
                self.clean.eq(fine),
                self.given.eq(word),
                n.eq(Mux(dut.i.tlast, 0, Mux(n == self.words + HEADER + 2, n, n + 1))),
                self.good.eq(dut.i.tlast & fine & is_last & (self.total == word)),
                self.packets.eq(self.packets + dut.i.tlast),
            ]
            with m.If(n == 2):
                m.d.sync += self.version.eq(word)
            with m.If(n == 3):
                m.d.sync += self.length.eq(word)
            with m.If(~is_last):
                m.d.sync += self.total.eq(add(Mux(n == 0, LightSum.ONES, self.total), word))
            with m.If(n == self.at + HEADER):
                m.d.sync += self.sent.eq(word)

    def _memory(self, m, dut):
        """What was read in order since the last write, its sum, and what one row holds."""
        self.read, self.pending, self.back = Signal(range(self.words + 1)), Signal(), Signal(32)
        self.value, self.written = Signal(32), Signal()
        self.partial = [C(LightSum.ONES, 32)]
        for part in (C(MAGIC, 32), C(FORMAT, 32), self.version, self.length):
            self.partial.append(add(self.partial[-1], part))
        reads, writes = dut.load_en & ~dut.load_write, dut.load_en & dut.load_write
        m.d.sync += self.pending.eq(reads)
        with m.If(self.pending):
            m.d.sync += self.back.eq(add(self.back, dut.load_rcode[:32]))
        with m.If(writes | self.taken):
            m.d.sync += self.read.eq(0)
        with m.Elif(reads):
            m.d.sync += self.read.eq(self.read + 1)
            with m.If(self.read == 0):
                m.d.sync += self.back.eq(self.partial[-1])
        with m.If(writes & (dut.load_word == self.at)):
            m.d.sync += [self.value.eq(dut.load_data), self.written.eq(1)]

    def _due(self):
        """What the row is to hold."""
        return Mux(self.at < self.length[2:], self.sent, 0)

    def _link_packet(self, m, dut):
        """What holds while a packet comes, and of it until the end."""
        doing, crc, n, code = dut.doing, dut.crc, self.n, self.length[2:]
        whole = Cat(doing[step] for step in ("FILL", "HEADER", "VERIFY", "STORED", "LOADED")).any()
        taken = whole | doing["SUM"]
        in_packet, in_code = doing["WORDS"] & (n > 0), doing["WORDS"] & (n >= HEADER)
        busy = [step[0] for step in crc.steps]
        links = {
            "most": n <= self.words + HEADER + 2,
            "a step": Cat(doing.values()).any(),
            "loaded": dut.loaded == doing["LOADED"],
            "failed": dut.failed == doing["FAILED"],
            "packets": self.packets == dut.attempts + (taken | doing["REFUSE"]),
            "between packets": doing["WORDS"] | doing["DRAIN"] | (n == 0),
            "first word": ~doing["CLEAR"] | (dut.place == 0),
            "place": ~doing["WORDS"] | (dut.place == Mux(n > HEADER, HEADER, n)),
            "clean": ~in_packet | self.clean,
            "drains": ~doing["DRAIN"] | (n > 0),
            "why it drains": ~doing["DRAIN"] | ~self.clean | (n > code + HEADER),
            "drained": ~doing["DRAIN"] | ~of_memory(dut),
            "row": ~in_code | ((dut.row + HEADER == n) & (dut.row <= code)),
            "length": ~(taken | in_code) | (dut.length == self.length),
            "capacity": ~(taken | in_code)
            | ((code <= self.words) & (code > 0) & ~self.length[:2].any()),
            "version": ~(taken | doing["WORDS"] & (n > 2)) | (dut.version == self.version),
            "given": ~taken | (dut.given == self.given),
            "sum": ~(in_packet | doing["SUM"]) | (crc.comes == self.total),
            "good": ~doing["SUM"] | (self.good == (self.total == self.given)),
            "good image": ~whole | self.good,
            "nothing more comes": ~(doing["SUM"] | doing["FILL"]) | ~busy[0],
            "it is there": ~(doing["SUM"] | doing["FILL"])
            | ~busy[1]
            | doing["SUM"] & (dut.summed == crc.LATENCY),
            "end of the code": ~doing["SUM"] | (dut.row == code),
        }
        m.d.comb += [Assert(link, f"link: {name}") for name, link in links.items()]

    def _link_memory(self, m, dut):
        """What holds of the row that is followed, and of the sum of what is stored."""
        doing, crc, code, at = dut.doing, dut.crc, self.length[2:], self.at
        filling, header, verifies = doing["FILL"], doing["HEADER"], doing["VERIFY"]
        sums, done = doing["STORED"], doing["STORED"] | doing["LOADED"]
        whole = filling | header | verifies | done
        stored, zero = self.written & (self.value == self.sent), self.written & (self.value == 0)
        in_packet, in_code = (doing["WORDS"] & (self.n >= least) for least in (1, HEADER))
        busy = [step[0] for step in crc.steps]
        links = {
            "code that came": ~in_code | (at >= dut.row) | stored,
            "code": ~(whole | doing["SUM"]) | (at >= code) | stored,
            "rows": ~filling | ((dut.row >= code) & (dut.row <= self.words)),
            "zeros that came": ~filling | (at < code) | (at >= dut.row) | zero,
            "zeros": ~(header | verifies | done) | (at < code) | zero,
            "nothing comes": verifies | ~self.pending,
            "nothing is read": ~(in_packet | doing["SUM"] | filling | header) | (self.read == 0),
            "header": ~header | (dut.place == 0) | (crc.comes == Array(self.partial)[dut.place]),
            "in the header": ~header | ((dut.place < HEADER) & (dut.row == 0)),
            "it reads": ~verifies | (self.pending & (dut.row == self.read)),
            "in the sum": ~verifies | (dut.place == HEADER),
            "rows read": ~verifies | ((self.read > 0) & (self.read <= code)),
            "sum of what is stored": ~(verifies | sums) | (crc.comes == self.back),
            "all is read": ~done | ((self.read == code) & ~self.pending),
            "the first step": ~sums | ~busy[0] | (dut.summed == crc.LATENCY),
            "the second step": ~sums | ~busy[1] | (dut.summed >= crc.LATENCY - 1),
        }
        m.d.comb += [Assert(link, f"link: {name}") for name, link in links.items()]


class ClosedSpec(Spec):
    """While the code is loaded, the bus answers no fetch; the loader alone writes code."""

    def specify(self, m, dut):
        fetched = past(m, dut.r_en & dut.r_fetch & dut.loading)
        ours = Cat(dut.load_en, dut.load_write, dut.load_word, dut.load_data)
        theirs = Cat(dut.code_en, dut.code_write, dut.code_addr, dut.code_wcode[:32])
        m.d.comb += [
            Assert(~fetched | dut.r_error, "a fetch while it is loaded is an error"),
            Assert(~fetched | (dut.r_code == 0), "and brings no word"),
            Assert(dut.loading | ~dut.code_write, "code is written while it is loaded"),
            Assert(~dut.loading | (ours == theirs), "by the loader alone"),
        ]


def light_sum(monkeypatch, cls=Loader):
    """Loader with a sum that is easy."""
    monkeypatch.setitem(cls.build.__globals__, "Crc32", LightSum)
    return cls


@pytest.mark.parametrize("words", [SHORT, pytest.param(REAL, marks=pytest.mark.slow)])
def test_nothing_is_loaded_without_two_good_sums_nor_after_three(words, monkeypatch, tmp_path):
    prove(LoaderSpec(light_sum(monkeypatch)(words=words)), depth=1, workdir=tmp_path)


def test_no_fetch_is_answered_before_that(tmp_path):
    prove(ClosedSpec(Bus()), depth=1, workdir=tmp_path)


#: What the module says, what it says with the bug, and what does not hold then.
BUGS = [
    (
        "with m.If(crc.crc == given):\n                        m.d.sync += [",
        "with m.If(C(1)):\n                        m.d.sync += [",
        "what is stored has",
    ),
    (
        'with m.If(crc.crc == given):\n                        m.next = "FILL"',
        'with m.If(C(1)):\n                        m.next = "FILL"',
        "good image",
    ),
    ("with m.If(self.attempts == self.ATTEMPTS - 1):", "with m.If(C(0)):", "attempts"),
    ("self.attempts + 1", "self.attempts + (self.fault != LoadFault.STORED)", "packets"),
    ("(LoadFault.OLD, (place == 2) & (word < self.oldest))", "(LoadFault.OLD, C(0))", "clean"),
    ("(LoadFault.MAGIC, (place == 0) & (word != MAGIC))", "(LoadFault.MAGIC, C(0))", "clean"),
    ("word > 4 * self._words)", "word > 8 * self._words)", "clean|capacity"),
    ("(LoadFault.LONG, ends & ~self.i.tlast)", "(LoadFault.LONG, C(0))", "between packets"),
    (
        'm.d.sync += summed.eq(Crc32.LATENCY)\n                        m.next = "SUM"',
        'm.d.sync += summed.eq(0)\n                        m.next = "SUM"',
        "it is there|good image",
    ),
    ("with m.Elif(~ends):", "with m.Elif(C(1)):", "sum|nothing more comes"),
    ("self.load_write.eq(1), self.load_data.eq(0),", "self.load_write.eq(1),", "zeros"),
    ("with m.If(row[-1]):", "with m.If(C(1)):", "zeros"),
    ("self.load_en.eq(row < code_words),", "self.load_en.eq(row + 1 < code_words),", "it reads"),
    ("crc.data.eq(self.load_rcode)", "crc.data.eq(given)", "sum of what is stored"),
    ("self.loading.eq(0), self.loaded", "self.loaded", "the loader's until then"),
    (
        'with m.State("FAILED"):\n                pass',
        'with m.State("FAILED"):\n                m.d.comb += self.i.tready.eq(1)',
        "quiet|no more",
    ),
    (
        'with m.State("LOADED"):\n                pass',
        'with m.State("LOADED"):\n                m.d.comb += self.load_en.eq(self.i.tvalid)',
        "quiet",
    ),
]


@pytest.mark.parametrize(("old", "new", "found"), first_is_fast(BUGS))
def test_planted_bugs_are_found(old, new, found, monkeypatch, tmp_path):
    cls = light_sum(monkeypatch, mutant(Loader, old, new))
    with pytest.raises(ProofError, match=found):
        prove(LoaderSpec(cls(words=SHORT)), depth=1, workdir=tmp_path)


OPEN = [
    ("| (self.r_en & reads[\"CODE\"] & self.loading)\n", "\n", "is an error"),
    ("self.of_code.eq(reads[\"CODE\"] & ~self.loading)", "self.of_code.eq(reads[\"CODE\"])",
     "brings no word"),
    ("self.loading & self.load_write", "self.load_write", "while it is loaded"),
    ("Mux(self.loading, self.load_word, self.r_addr[2:])", "self.load_word | self.r_addr[2:]",
     "by the loader alone"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "found"), OPEN)
def test_a_bus_that_is_not_closed_is_found(old, new, found, tmp_path):
    with pytest.raises(ProofError, match=found):
        prove(ClosedSpec(mutant(Bus, old, new)()), depth=1, workdir=tmp_path)
