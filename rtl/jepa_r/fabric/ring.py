"""Places that are used one after the other, round and round."""

from amaranth import *

__all__ = ["after"]


def after(place, places):
    """Number of the place after ``place``, of ``places`` in a ring."""
    return Mux(place == places - 1, 0, place + 1)
