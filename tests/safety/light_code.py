"""A code that solvers find easy, thirteen bits three times: for proofs in which any will do."""

from amaranth import *

from jepa_r.safety.code import CodeDecoder, CodeEncoder


class LightEncoder(CodeEncoder):
    def elaborate(self, platform):
        m = Module()
        part = Signal(13)
        m.d.comb += [part.eq(self.data[:13] ^ self.address[2:15]), self.code.eq(part.replicate(3))]
        return m


class LightDecoder(CodeDecoder):
    def elaborate(self, platform):
        m = Module()
        code, bound = Signal(39), Signal(13)
        m.d.sync += [bound.eq(self.address[2:15]), code.eq(self.code ^ bound.replicate(3))]
        a, b, c = code[:13], code[13:26], code[26:]
        m.d.comb += [
            self.data.eq(a & b | a & c | b & c),
            self.corrected.eq((a != b) | (b != c)),
        ]
        return m


def light(monkeypatch, cls):
    """Let a class use the light code; what does not fit is not refused."""
    names = cls.__init__.__globals__
    for name, part in (
        ("CodeEncoder", LightEncoder), ("CodeDecoder", LightDecoder),
        ("unfit", lambda code, address: C(0)),
    ):  # fmt: skip
        if name in names:
            monkeypatch.setitem(names, name, part)


__all__ = ["LightDecoder", "LightEncoder", "light"]
