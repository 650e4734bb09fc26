"""What a campaign injects faults into, and which of its ports say what came of them.

A subject is a component whose ports are flat, driven by recorded inputs, by a memory, or by both.
The component is usually a wrapper that brings the signals to be observed to ports of its own; it
holds no register, so that every register is one of the design.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from amaranth import Value
from amaranth.lib import wiring
from attrs import field, frozen

__all__ = ["Memory", "Region", "Strobe", "Subject", "SubjectError"]

#: Widest word of the memory, in bits.
_MOST_BITS = 64


class SubjectError(ValueError):
    """A subject that no campaign can run on; the message says which part of it is wrong."""


@frozen(kw_only=True)
class Strobe:
    """Values that mean something in cycles in which another port is high.

    Attributes
    ----------
    valid : :class:`str` or ``None``
        That port; ``None`` if the values always count.
    payload : :class:`tuple` of :class:`str`
        Ports of the values.
    """

    valid: str | None
    payload: tuple[str, ...]


@frozen(kw_only=True)
class Region:
    """Addresses that answer; all others give an error.

    Attributes
    ----------
    base : :class:`int`
        First byte.
    words
        What they hold at first, each with its check bits if it has any: UINT64 ``[words]``.
    fetch, load, store : :class:`bool`
        What is allowed there.
    """

    base: int
    words: npt.NDArray[np.uint64] = field(converter=lambda words: np.asarray(words, np.uint64))
    fetch: bool = True
    load: bool = True
    store: bool = True


@frozen(kw_only=True)
class Memory:
    """Code and data behind the subject, in closed loop: what was stored is read again.

    A read in cycle t is answered in cycle t + ``latency``, with what was stored before t. Answers
    hold until the next. A store that is refused leaves the memory as it is.

    Attributes
    ----------
    regions : :class:`tuple` of :class:`Region`
        All that answers.
    read, address, fetch : :class:`str`
        Outputs: request, its byte address, and whether it is a fetch.
    data, error : :class:`str`
        Inputs: the word, and whether the request was refused.
    latency : :class:`int`
        Cycles from request to answer.
    store : :class:`str`
        Output: what is stored in this cycle, at ``store_address``, is ``store_data``.
    store_address, store_data : :class:`str`
        Outputs.
    check, check_address : :class:`str` or ``None``
        Outputs: an address about to be stored to, whose ``error`` is answered as that of a read.
    """

    regions: tuple[Region, ...]
    read: str
    address: str
    fetch: str
    data: str
    error: str
    latency: int
    store: str
    store_address: str
    store_data: str
    check: str | None = None
    check_address: str | None = None


@frozen(kw_only=True)
class Subject:
    """A design and its observation contract.

    Attributes
    ----------
    name : :class:`str`
        For people.
    design : :class:`amaranth.lib.wiring.Component`
        Clocked by ``clk``, reset by ``rst``.
    inside : :class:`str`
        Name of the submodule that is hurt, if the design around it only observes; names of
        registers and gates are those in it.
    released : :class:`tuple` of :class:`Strobe`
        What leaves, and must never be wrong.
    requested : :class:`tuple` of :class:`Strobe`
        What would leave, were nothing held back.
    compared : :class:`tuple` of :class:`str`
        All outputs of which a difference must raise the alert.
    alerts : :class:`dict` from :class:`str` to :class:`int`
        Ports of the alert, and their values while there is none.
    stops : :class:`tuple` of :class:`str`
        Ports that are high when the design has stopped by itself and named the fault.
    memory : :class:`Memory` or ``None``
        What answers reads.
    inputs : :class:`dict`
        Value of other inputs in each cycle, ``[cycles]``; the last one holds. Inputs that are not
        named are 0.
    ties : :class:`dict` from :class:`str` to :class:`int`
        Nets, by the hierarchical names of the drivers' modules, that are cut from their drivers
        and tied to a constant: a defect that a campaign must show.
    bound : :class:`int` or ``None``
        Cycles from the first wrong output to the alert, at most.
    baseline : :class:`bool`
        Whether escapes are what the campaign is to count, and no failure.
    first : :class:`int`
        First cycle after reset in which faults are injected.

    Raises
    ------
    SubjectError
        If a part names a port that the design does not have, or in the wrong direction.
    """

    name: str
    design: wiring.Component
    released: tuple[Strobe, ...]
    inside: str = ""
    requested: tuple[Strobe, ...] = ()
    compared: tuple[str, ...] = ()
    alerts: Mapping[str, int] = field(factory=dict)
    stops: tuple[str, ...] = ()
    memory: Memory | None = None
    inputs: Mapping[str, npt.ArrayLike] = field(factory=dict)
    ties: Mapping[str, int] = field(factory=dict)
    bound: int | None = None
    baseline: bool = False
    first: int = 0

    def __attrs_post_init__(self) -> None:
        inputs, outputs = self.ports(wiring.In), self.ports(wiring.Out)
        strobes = (*self.released, *self.requested)
        observed = [*self.compared, *self.alerts, *self.stops]
        observed += [port for strobe in strobes for port in (strobe.valid, *strobe.payload) if port]
        driven = [*self.inputs]
        if memory := self.memory:
            observed += [
                memory.read, memory.address, memory.fetch,
                memory.store, memory.store_address, memory.store_data,
            ]  # fmt: skip
            observed += filter(None, (memory.check, memory.check_address))
            driven += [memory.data, memory.error]
            for port in (memory.data, memory.store_data):
                if (width := (inputs | outputs).get(port, 0)) > _MOST_BITS:
                    raise SubjectError(f"{self.name}: {port} has {width} bits, above {_MOST_BITS}")
        for names, known, kind in ((observed, outputs, "output"), (driven, inputs, "input")):
            for name in names:
                if name not in known:
                    raise SubjectError(
                        f"{self.name}: {name!r} is no {kind} of {', '.join(sorted(known))}"
                    )
        if not self.released:
            raise SubjectError(f"{self.name}: nothing is released")

    def within(self, name: str) -> str | None:
        """Name of a register or gate in the part that is hurt; ``None`` if it is outside of it."""
        prefix = f"{self.inside}." if self.inside else ""
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    def ports(self, flow: wiring.Flow) -> dict[str, int]:
        """Widths of the ports of one direction, by name."""
        return {
            "__".join(map(str, path)): len(Value.cast(port))
            for path, member, port in self.design.signature.flatten(self.design)
            if member.flow == flow
        }
