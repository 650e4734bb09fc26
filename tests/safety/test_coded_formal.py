"""Proofs on codes and on the bank: no word changes by scrubbing, and all are scrubbed in time."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.fabric.delay import delay
from jepa_r.safety.code import CODE_BITS, CodeDecoder, CodeEncoder
from jepa_r.safety.coded import CodedBank, Step
from jepa_r_sim.formal import ProofError, free_inputs, mutant, prove
from jepa_r_sim.golden.code import address_check, parity_matrix

from .light_code import LightEncoder, light

BASE = 0x1_0000


class Rows(wiring.Component):
    """The array of the bank as flip-flops, which a specification can name."""

    def __init__(self, *, width, depth):
        super().__init__({
            "r_en": In(1),
            "r_addr": In(range(depth)),
            "r_data": Out(width),
            "w_en": In(1),
            "w_addr": In(range(depth)),
            "w_data": In(width),
        })
        self.rows = [Signal(width, name=f"row_{n}") for n in range(depth)]

    def elaborate(self, platform):
        m = Module()
        rows = Array(self.rows)
        with m.If(self.r_en):
            m.d.sync += self.r_data.eq(rows[self.r_addr])
        with m.If(self.w_en):
            m.d.sync += rows[self.w_addr].eq(self.w_data)
        return m


class Kept(Elaboratable):
    """A word of the bank is what was written to it last, with a wrong bit or without.

    The port writes code words, of which one bit may flip on the way into the
    array, and rests at least every other cycle.
    """

    def __init__(self, cls=CodedBank, *, words=2, interval=8):
        self.bank = cls(words=words, base=BASE, interval=interval)
        self.words = words

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = self.bank
        free_inputs(m, bank, besides={"wcode", "inject"})
        m.submodules.written = written = LightEncoder()
        m.submodules.held = held = LightEncoder()
        word, flip, clean = AnySeq(13), AnySeq(range(64)), AnySeq(1)
        at = Signal(range(self.words))
        m.d.comb += at.eq(AnyConst(range(self.words)))
        bank_address = lambda row: Cat(C(0, 2), row, C(BASE >> 3, 32))[:32]
        m.d.comb += [
            written.data.eq(word),
            written.address.eq(bank_address(bank.addr)),
            bank.wcode.eq(written.code),
            bank.inject.eq(Mux(clean, 0, 1 << flip)),
            Assume(bank.ready | ~bank.en),
        ]
        rested = Signal()
        m.d.sync += rested.eq(bank.en)
        m.d.comb += Assume(~rested | ~bank.en)

        # What the row holds by right, and its code word.
        value = Signal(13)
        here = Signal()
        m.d.comb += here.eq(bank.en & bank.write & (bank.addr == at))
        with m.If(here):
            m.d.sync += value.eq(word)
        m.d.comb += [held.data.eq(value), held.address.eq(bank_address(at))]
        wrong = Signal(CODE_BITS)
        m.d.comb += wrong.eq(Array(bank.array.rows)[at] ^ held.code)
        one_at_most = ~(wrong & (wrong - 1)).any()
        # The row is clear as soon as the clearing has passed it.
        cleared = Signal()
        m.d.comb += cleared.eq(bank.ready | (bank.row > at))
        m.d.comb += [
            Assert(~cleared | one_at_most, "a row has one wrong bit at most"),
            Assert(bank.ready | ~value.any(), "a row is zero while rows are cleared"),
            Assert((bank.step != Step.WRITE) | bank.stale | (bank.row != at)
                   | (bank.fixed == held.code), "what is written back is the word"),
            Assert(bank.step < len(Step), "the scrubber knows what it does"),
            Assert(~bank.refused, "nothing that fits is refused"),
            Assert(~bank.broken, "no word is found broken"),
            Assert(~bank.late, "a word's scrubbing is over before the next one's turn"),
        ]  # fmt: skip

        # A row is right again when the scrubber has passed it, if nothing was written since.
        untouched = Signal()
        passed = Signal()
        m.d.comb += passed.eq(bank.finished & (bank.row == at))
        begins = Signal()
        m.d.comb += begins.eq(bank.look & (bank.row == at))
        with m.If(here):
            m.d.sync += untouched.eq(0)
        with m.Elif(begins):
            m.d.sync += untouched.eq(1)
        healed = Signal()
        m.d.sync += healed.eq(passed & untouched & ~here)
        m.d.comb += Assert(~healed | ~wrong.any(), "a row that was passed has no wrong bit")
        m.d.comb += [
            Cover(healed & delay(m, wrong.any(), 1, name="was_wrong"), "a row heals"),
            Cover((bank.step == Step.WRITE) & bank.stale, "a write comes between"),
        ]
        return m


def eased(monkeypatch, cls=CodedBank):
    """Bank with an array that can be named, and a code that is easy: any will do here."""
    monkeypatch.setitem(cls.__init__.__globals__, "SramArray", Rows)
    light(monkeypatch, cls)
    return cls


@pytest.mark.slow
def test_scrubbing_changes_no_word_and_is_in_time(monkeypatch, tmp_path):
    prove(Kept(eased(monkeypatch)), depth=10, workdir=tmp_path, timeout_seconds=900)


@pytest.mark.slow
def test_a_row_can_heal_and_a_write_can_come_between(monkeypatch, tmp_path):
    prove(Kept(eased(monkeypatch)), depth=24, mode="cover", workdir=tmp_path)


#: What the bank says, what it says with the bug, and what does not hold then.
BUGS = {
    "write conflict": (
        "self.put.eq(~self.stale)", "self.put.eq(1)", {"a row has one wrong bit at most"},
    ),
    "a word of another row": (
        "decoder.address.eq(self._address(self.row))",
        "decoder.address.eq(self._address(~self.row))",
        {"what is written back is the word"},
    ),
    "a scrubber that does not yield": (
        "with m.If(self.stale | ~self.en):", "with m.If(C(1)):",
        {"a row has one wrong bit at most"},
    ),
    "a scrubber that waits": (
        "with m.If(self.due & ~self.en):", "with m.If(self.due & self.en):",
        {"a word's scrubbing is over before the next one's turn"},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch, tmp_path):
    old, new, broken = BUGS[bug]
    cls = eased(monkeypatch, mutant(CodedBank, old, new))
    with pytest.raises(ProofError, match="fails in cycle") as error:
        prove(Kept(cls), depth=22, mode="bmc", workdir=tmp_path)
    assert set(error.value.properties) == broken


COLUMNS = [int("".join(map(str, column[::-1])), 2) for column in parity_matrix().T]
ADDRESS_COLUMNS = [address_check(4 << bit) ^ address_check(0) for bit in range(16)]


def sums(bits, columns):
    """Sum of the columns of the bits that are set, row by row."""
    return Cat(
        Cat(bit for bit, column in zip(bits, columns, strict=True) if column >> row & 1).xor()
        for row in range(7)
    )


class Decoded(Elaboratable):
    """Encoder and decoder are as the golden matrix says, for any word, code word and address.

    So check bits and syndrome are sums of columns, and what the decoder does depends on the columns
    of what is wrong alone; that these allow to correct one and to flag two is a matter of numbers
    (:func:`.test_code.test_columns_have_distance_four`).
    """

    def __init__(self, decoder=CodeDecoder):
        self.decoder = decoder

    def elaborate(self, platform):
        m = Module()
        m.submodules.encoder = encoder = CodeEncoder()
        m.submodules.decoder = decoder = self.decoder()
        word, address, code = AnyConst(32), AnyConst(32), AnyConst(CODE_BITS)
        m.d.comb += [
            encoder.data.eq(word),
            encoder.address.eq(address),
            decoder.address.eq(address),
            decoder.code.eq(code),
        ]
        bound = sums(address[2:18], ADDRESS_COLUMNS) ^ address_check(0)
        syndrome = decoder.syndrome
        one = Cat(syndrome == column for column in COLUMNS)
        told = Signal(2)
        m.d.sync += told.eq(Cat(1, told))
        ready = told[-1]
        m.d.comb += [
            Assert(encoder.code[:32] == word, "the word is in the code word"),
            Assert(encoder.code[32:] == sums(word, COLUMNS[:32]) ^ bound, "check bits are sums"),
            Assert(~ready | (syndrome == sums(code, COLUMNS) ^ bound), "the syndrome is a sum"),
            Assert(~ready | (decoder.corrected == one.any()), "what looks like one is told"),
            Assert(
                ~ready | (decoder.uncorrectable == (syndrome.any() & ~one.any())),
                "what looks like more is flagged",
            ),
            Assert(~ready | (decoder.data == code[:32] ^ one[:32]), "that one is inverted"),
        ]
        return m


@pytest.mark.slow
def test_encoder_and_decoder_are_as_the_matrix_says_for_all_words_and_addresses(tmp_path):
    prove(Decoded(), depth=3, workdir=tmp_path)


CODE_BUGS = {
    "a column twice": ("25, 37, 26", "25, 37, 25", "the syndrome is a sum"),
    "zero is one wrong bit": (
        "self.corrected.eq(wrong.any())", "self.corrected.eq(~self.uncorrectable)",
        "what looks like one is told",
    ),
    "two wrong bits are not flagged": (
        "syndrome.any() & ~wrong.any()", "syndrome.all() & ~wrong.any()",
        "what looks like more is flagged",
    ),
    "check bits are not corrected apart": ("word ^ wrong[:32]", "word ^ wrong[7:]",
                                           "that one is inverted"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bug", CODE_BUGS)
def test_a_decoder_with_a_bug_is_found(bug, tmp_path):
    old, new, message = CODE_BUGS[bug]
    with pytest.raises(ProofError, match="fails in cycle") as error:
        prove(
            Decoded(mutant(CodeDecoder, old, new)),
            depth=3, mode="bmc", workdir=tmp_path,
        )  # fmt: skip
    assert message in error.value.properties
