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
    macros : :class:`dict` from :class:`str` to :class:`Macro`
        The first macro of each name that elaboration has met.
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
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, port in macro.signature.flatten(macro):
            direction = "i" if member.flow == wiring.In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(port)
        if macro.keep_hierarchy:
            ports["a_keep_hierarchy"] = 1
        return Instance(name, **ports)
