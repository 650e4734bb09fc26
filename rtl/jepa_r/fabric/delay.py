"""Registers in a row: delay lines, and the triangles that skew and de-skew a vector."""

from amaranth import *

__all__ = ["delay", "deskew", "skew"]


def delay(m, signal, cycles, *, reset_less=True, name):
    """Delay a value by a fixed number of cycles.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        Where the registers go, in domain ``sync``.
    signal : value of any shape
        What to delay.
    cycles : :class:`int`
        Number of registers. With 0 the value itself is returned.
    reset_less : :class:`bool`
        Whether reset leaves the registers alone: right for data, wrong for ``valid``.
    name : :class:`str`
        The registers are ``<name>_1`` to ``<name>_<cycles>``.

    Returns
    -------
    value of the shape of ``signal``
        ``signal`` as it was ``cycles`` cycles ago.

    Raises
    ------
    :exc:`ValueError`
        If ``cycles`` is negative.
    """
    if cycles < 0:
        raise ValueError(f"delay of {cycles} cycles is not 0 or more")
    for n in range(1, cycles + 1):
        stage = Signal(signal.shape(), reset_less=reset_less, name=f"{name}_{n}")
        m.d.sync += stage.eq(signal)
        signal = stage
    return signal


def skew(m, lanes, *, name):
    """Delay lane ``n`` by ``n`` cycles.

    A register holds all lanes that are still on their way, the next one to leave at the top, so
    that a stage is a truncated copy of the one before it: as many registers as lanes, not a delay
    line a lane.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        Where the registers go, in domain ``sync``; they are not reset.
    lanes : sequence of values of equal width
        Lane 0 first.
    name : :class:`str`
        Prefix of the registers' names.

    Returns
    -------
    :class:`list` of values
        Bits of the lanes, unsigned, in the order given.
    """
    lanes = [Value.cast(lane) for lane in lanes]
    width = len(lanes[0])
    delayed, rest = [lanes[0].as_unsigned()], Cat(reversed(lanes[1:]))
    for n in range(1, len(lanes)):
        stage = Signal(len(rest), reset_less=True, name=f"{name}_{n}")
        m.d.sync += stage.eq(rest)
        delayed.append(stage[len(stage) - width :])
        rest = stage[: len(stage) - width]
    return delayed


def deskew(m, lanes, *, name):
    """Delay lane ``n`` so that it leaves with the last one, which is not delayed.

    Undoes :func:`skew`; each stage takes up one lane more.

    Parameters
    ----------
    m : :class:`amaranth.hdl.Module`
        Where the registers go, in domain ``sync``; they are not reset.
    lanes : sequence of values of equal width
        Lane 0, the earliest, first.
    name : :class:`str`
        Prefix of the registers' names.

    Returns
    -------
    :class:`list` of values
        Bits of the lanes, unsigned, in the order given.
    """
    lanes = [Value.cast(lane) for lane in lanes]
    width = len(lanes[0])
    held = lanes[0].as_unsigned()
    for n in range(1, len(lanes)):
        stage = Signal(len(held), reset_less=True, name=f"{name}_{n}")
        m.d.sync += stage.eq(held)
        held = Cat(stage, lanes[n])
    return [held[n * width : (n + 1) * width] for n in range(len(lanes))]
