"""A delay line that is read at several places."""

from .delay import delay

__all__ = ["taps"]


def taps(m, value, cycles, *, reset_less=True, name):
    """What a value was 0, 1, ... up to so many cycles ago.

    All registers are made at once, where this is called: it is not called inside ``m.If``.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        Where the registers go, in domain ``sync``.
    value : value of any shape
        What to delay.
    cycles : :class:`int`
        Number of registers.
    reset_less : :class:`bool`
        Whether reset leaves the registers alone: right for data, wrong for ``valid``.
    name : :class:`str`
        Prefix of the registers' names.

    Returns
    -------
    :class:`list` of values of the shape of ``value``
        ``cycles + 1`` of them, the value itself first.
    """
    stages = [value]
    for n in range(1, cycles + 1):
        stages.append(delay(m, stages[-1], 1, reset_less=reset_less, name=f"{name}_ago_{n}"))
    return stages
