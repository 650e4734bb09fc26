"""A multiplier in small steps."""

from math import ceil

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.taps import taps
from ..platform import Macro

__all__ = ["PipelinedMultiplier"]


class PipelinedMultiplier(Macro):
    """Signed times signed, eight bits of the second factor a stage.

    ``b`` is cut into chunks of 8 bits, the last, signed one of up to 9. A stage multiplies ``a`` by
    one chunk while the one before adds the previous product in. What a chunk adds to starts where
    that chunk starts: the bits below are final. So a stage has a product by at most 9 bits or an
    addition of ``a_width + 9`` bits, never both.

    Parameters
    ----------
    a_width, b_width : :class:`int`, 2 or more
        Widths of the factors; the latency depends on ``b_width``.

    Members
    -------
    a : ``In(signed(a_width))``
        First factor.
    b : ``In(signed(b_width))``
        Second factor.
    product : ``Out(signed(a_width + b_width))``
        ``a * b``, :attr:`latency` cycles later.

    Raises
    ------
    :exc:`ValueError`
        If a width is less than 2.
    """

    CHUNK = 8

    def __init__(self, *, a_width, b_width):
        for name, width in ("a_width", a_width), ("b_width", b_width):
            if width < 2:
                raise ValueError(f"{name} {width} is not 2 or more")
        self._a_width = a_width
        self._b_width = b_width
        super().__init__(
            {
                "a": In(signed(a_width)),
                "b": In(signed(b_width)),
                "product": Out(signed(a_width + b_width)),
            },
            macro_name=f"multiplier_{a_width}x{b_width}",
        )

    @staticmethod
    def chunks_of(b_width):
        """Number of chunks of the second factor."""
        return max(1, ceil((b_width - 1) / PipelinedMultiplier.CHUNK))

    @staticmethod
    def latency_of(b_width):
        """Cycles from the factors to their product."""
        chunks = PipelinedMultiplier.chunks_of(b_width)
        return 1 if chunks == 1 else chunks + 1

    @property
    def latency(self):
        return self.latency_of(self._b_width)

    def build(self, platform):
        m = Module()
        chunks = self.chunks_of(self._b_width)
        a, rest = taps(m, self.a, chunks - 1, name="a"), self.b

        partials = []
        for n in range(chunks):
            last = n == chunks - 1
            chunk = rest.as_signed() if last else rest[: self.CHUNK]
            partial = Signal(
                signed(self._a_width + len(chunk)), reset_less=True, name=f"partial_{n}"
            )
            m.d.sync += partial.eq(a[n] * chunk)
            partials.append(partial)
            if not last:
                # Only the bits that later stages still need travel on.
                rest, above = (
                    Signal(len(rest) - self.CHUNK, reset_less=True, name=f"b_{n + 1}"),
                    rest[self.CHUNK :],
                )
                m.d.sync += rest.eq(above)

        # A cycle after it was made, each partial product is added to what the chunks below it gave.
        total, final = partials[0], Const(0, 0)
        for n, partial in enumerate(partials[1:], 1):
            if n == 1:
                first = Signal.like(total, reset_less=True, name="sum_0")
                m.d.sync += first.eq(total)
                total = first
            low = Cat(final, total[: self.CHUNK])
            final = Signal(len(low), reset_less=True, name=f"final_{n}")
            # As wide as the partial product: it is `a` times a number of so many bits.
            summed = Signal.like(partial, reset_less=True, name=f"sum_{n}")
            m.d.sync += [
                final.eq(low),
                summed.eq(total[self.CHUNK :].as_signed() + partial),
            ]
            total = summed

        m.d.comb += self.product.eq(Cat(final, total).as_signed())
        return m
