"""What a component may ask of the place it is built for.

A component that repeats many times is a *macro*: it is emitted once, under a name of its own, and
every use is an instance of that one module. Simulation has no platform and sees plain submodules.

Amaranth copies a submodule for every instance: 128 x 128 cells as submodules are 110 s and 32 MB of
Verilog, as nested macros 2 s and less than 1 MB.
"""

from amaranth import *
from amaranth.lib import wiring
from attrs import frozen

__all__ = ["Macro", "MemoryShape", "VerilogPlatform"]


@frozen(kw_only=True)
class MemoryShape:
    """What a technology must offer to replace a memory.

    Attributes
    ----------
    words, bits : :class:`int`
        Words, and bits of each, check bits included.
    segments : :class:`int`
        Parts of a word that are written alone.
    ports : :class:`str`
        ``"1rw"`` (a read or a write a cycle) or ``"1r1w"`` (both).
    """

    words: int
    bits: int
    segments: int
    ports: str


class Macro(wiring.Component):
    """Component that becomes one Verilog module however often it is used.

    Subclasses define :meth:`build` instead of ``elaborate``. All registers of a macro are in the
    ``sync`` domain, and its interface carries every control it needs.

    Parameters
    ----------
    signature
        Signature, as for :class:`amaranth.lib.wiring.Component`.
    macro_name : :class:`str`
        Name of the Verilog module. It must tell apart macros that are built differently.

    Attributes
    ----------
    keep_hierarchy : :class:`bool`
        Whether synthesis must leave every instance a module of its own, also where it flattens the
        rest: what is there twice on purpose would otherwise be merged.
    """

    keep_hierarchy = False

    def __init__(self, signature, *, macro_name):
        self._macro_name = macro_name
        super().__init__(signature)

    @property
    def macro_name(self):
        return self._macro_name

    def build(self, platform):
        """Describe the contents, as ``elaborate`` would."""
        raise NotImplementedError

    def elaborate(self, platform):
        if hasattr(platform, "get_macro"):
            return platform.get_macro(self)
        return self.build(platform)


class VerilogPlatform:
    """Platform that turns the macros below ``root`` into instances.

    Parameters
    ----------
    root : :class:`amaranth.lib.wiring.Component`
        Component being emitted.

    Attributes
    ----------
    macros : :class:`dict` from :class:`str` to :class:`amaranth.lib.wiring.Component`
        The first macro of each name that elaboration has met, and the parts.
    instances : :class:`dict` from :class:`str` to :class:`int`
        How often ``root`` itself instantiates each of them.
    """

    def __init__(self, root):
        self.root = root
        self.macros = {}
        self.instances = {}

    def get_macro(self, macro):
        if macro is self.root:
            return macro.build(self)
        name = macro.macro_name
        first = self.macros.setdefault(name, macro)
        if type(first) is not type(macro) or first.signature != macro.signature:
            raise TypeError(f"Macro name {name!r} stands for two different components")
        self.instances[name] = self.instances.get(name, 0) + 1
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal(), **_ports(macro)}
        if macro.keep_hierarchy:
            ports["a_keep_hierarchy"] = 1
        return Instance(name, **ports)

    def get_part(self, component, *, name, domains=None):
        """Turn a component with clocks or resets of its own into an instance.

        Parameters
        ----------
        component : :class:`amaranth.lib.wiring.Component`
            The part, which is used once. It elaborates to a :class:`amaranth.hdl.Module`.
        name : :class:`str`
            Name of the Verilog module.
        domains : :class:`dict` from :class:`str` to :class:`str`, optional
            Domains that the component does not declare itself, to those that they are here. All are
            of one clock, which becomes the port ``clk``; their resets become ports, too.
        """
        if name in self.macros:
            raise TypeError(f"Part name {name!r} stands for two components")
        domains = domains or {}
        self.macros[name] = _Part(component, domains)
        self.instances[name] = 1
        ports = _ports(component)
        for inner, outer in domains.items():
            ports["i_clk"] = ClockSignal(outer)
            ports[f"i_{_reset_port(inner)}"] = ResetSignal(outer)
        return Instance(name, **ports)


class _Part(wiring.Component):
    """A part with ports for clock and resets, whose order Amaranth would leave to chance."""

    def __init__(self, component, domains):
        self._component = component
        self._domains = domains
        members = component.signature.members
        super().__init__({
            **members,
            **({"clk": wiring.In(1)} if domains else {}),
            **{_reset_port(name): wiring.In(1) for name in domains},
        })
        # Its very signals: copies of clocks change at another time in simulators.
        for name in members:
            setattr(self, name, getattr(component, name))

    def elaborate(self, platform):
        m = self._component.elaborate(platform)
        for name in self._domains:
            domain = ClockDomain(name)
            domain.clk, domain.rst = self.clk, getattr(self, _reset_port(name))
            m.domains += domain
        return m


def _reset_port(domain):
    return "rst" if domain == "sync" else f"{domain}_rst"


def _ports(component):
    """Connections of an instance of a component, but for its clock."""
    return {
        f"{'i' if member.flow == wiring.In else 'o'}_{'__'.join(map(str, path))}": Value.cast(port)
        for path, member, port in component.signature.flatten(component)
    }
