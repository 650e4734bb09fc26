"""Golden model of the lockstep pair: when there is an alert, and which stores leave.

In terms of what the two processors put out, cycle by cycle: nothing of registers or rails.
"""

from collections.abc import Collection, Sequence

__all__ = ["first_alert", "released", "self_test_cycles"]


def first_alert(main: Sequence[int], checker: Sequence[int], skew: int) -> int | None:
    """First cycle with an alert, of outputs from the first cycle after reset on.

    The checker's cycle ``t + skew`` is main's cycle ``t``.
    """
    for cycle in range(skew, len(checker)):
        if checker[cycle] != main[cycle - skew]:
            return cycle + 1
    return None


def released(
    stores: Sequence[tuple[int, int]], refused: Collection[int], alert: int | None, skew: int
) -> list[tuple[int, int]]:
    """Cycle and content of the stores that leave, of those made.

    Parameters
    ----------
    stores
        Cycle and content of each.
    refused
        Cycles of stores that the bus refuses.
    alert
        First cycle with an alert.
    skew
        Cycles between the processors.
    """
    last = None if alert is None else alert - skew - 1
    return [
        (cycle + skew + 2, content)
        for cycle, content in stores
        if cycle not in refused and (last is None or cycle < last)
    ]


def self_test_cycles(width: int) -> int:
    """Cycles from the start of a self test to its end.

    Each of two rails: a quiet cycle, every bit in both ways, one that is forced and two in which
    it shows; then a last look, and the result.
    """
    return sum(1 + 2 * width + 1 + 2 for _rail in "pn") + 1 + 1
