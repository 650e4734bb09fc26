"""A delay line that is read at several places."""

from amaranth import *

__all__ = ["Taps"]


class Taps:
    """What a value was some cycles ago, with as many registers as the oldest tap needs.

    ``taps[0]`` is the value itself, ``taps[n]`` what it was ``n`` cycles ago. Registers come into
    being when first asked for.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        Where the registers go, in domain ``sync``.
    value : value of any shape
        What to delay.
    reset_less : :class:`bool`
        Whether reset leaves the registers alone: right for data, wrong for ``valid``.
    name : :class:`str`
        Prefix of the registers' names.
    """

    def __init__(self, m, value, *, reset_less=True, name):
        self._m = m
        self._stages = [value]
        self._reset_less = reset_less
        self._name = name

    def __getitem__(self, cycles):
        while len(self._stages) <= cycles:
            newest = self._stages[-1]
            stage = Signal(
                newest.shape(),
                reset_less=self._reset_less,
                name=f"{self._name}_{len(self._stages)}",
            )
            self._m.d.sync += stage.eq(newest)
            self._stages.append(stage)
        return self._stages[cycles]
