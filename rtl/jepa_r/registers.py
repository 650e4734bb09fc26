"""Registers: from their description in SystemRDL to an AXI4-Lite decoder.

The description is ``registers.rdl``. What its properties become is in :class:`Kind`; a property
that the decoder does not know is refused, so that nothing is left out in silence.
"""

from pathlib import Path

from amaranth import *
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from attrs import frozen
from systemrdl import AddrmapNode, RDLCompiler, RegNode
from systemrdl.rdltypes import AccessType, OnWriteType, PrecedenceType

from .config import ChipConfig
from .control.axi_lite import AxiLite, AxiLiteTarget
from .dma.axi import Response
from .platform import Macro

__all__ = [
    "DESCRIPTION", "Field", "Kind", "Register", "Registers", "chip_parameters",
    "compile_registers", "describe",
]  # fmt: skip

#: The chip's registers.
DESCRIPTION = Path(__file__).with_name("registers.rdl")

#: What names in all that is made from a description begin with.
NAME = "jepa_r"

#: Width of byte addresses.
ADDRESS_BITS = 12

#: Registers whose values share one register of the read path.
GROUP = 8

#: Properties of fields that the decoder knows. All others are refused.
_FIELD_PROPERTIES = {
    "name", "desc", "sw", "hw", "reset", "singlepulse", "onwrite", "intr", "enable", "precedence",
    "counter", "incrsaturate", "saturate", "swwel", "is_signed", "stickybit",
}  # fmt: skip

#: Properties of registers that the decoder knows.
_REGISTER_PROPERTIES = {"name", "desc", "regwidth", "accesswidth", "latched_by"}


class Kind(enum.Enum):
    """What a field is in hardware, and its members.

    A field's member has the name of its register, and behind it that of the field unless that is
    ``value``, all small and joined by ``_``. An array of registers or register files has one
    member, of as many elements.
    """

    #: No hardware but its reset value: ``sw = r; hw = na``. No member.
    CONSTANT = 0
    #: Something that hardware shows: ``sw = r; hw = w``. Member: ``In``.
    VALUE = 1
    #: ``sw = rw``, or ``w``: reads give zero. Member, unless ``hw = na``: ``Out``.
    SETTING = 2
    #: ``sw = w; singlepulse``. Member: ``Out``, one for the cycle after a one was written.
    PULSE = 3
    #: ``onwrite = woset``. Member: ``Out``, one from the cycle after a one was written until reset.
    SET = 4
    #: ``intr; onwrite = woclr``. Member: ``In``; once one, the field is one until a one is written,
    #: unless the member is one in that cycle too. A register that has such fields has a member
    #: ``<register>_intr``: ``Out``, one in the cycle after any of them is one with its ``enable``.
    EVENT = 5
    #: ``counter``. Member ``<field>_incr``: ``In``, counts; and, unless ``hw = na``, the value:
    #: ``Out``. A write of software wins.
    COUNTER = 6


@frozen(kw_only=True)
class Field:
    """A field of a register.

    Attributes
    ----------
    name
        As described.
    kind
        What it is in hardware.
    low, width
        Its bits.
    reset
        Value after reset.
    signed
        Whether its member is a signed number.
    saturate
        Whether a counter stays at its highest value.
    driven
        Whether hardware reads it.
    readable, writable
        Whether software does.
    enable
        Register and field that enable it as an interrupt, or ``None``.
    """

    name: str
    kind: Kind
    low: int
    width: int
    reset: int
    signed: bool
    saturate: bool
    driven: bool
    readable: bool
    writable: bool
    enable: tuple[str, str] | None


@frozen(kw_only=True)
class Register:
    """A register.

    Attributes
    ----------
    name
        Path below the address map, such as ``ENCODER_WINDOW[0].BASE``.
    member
        Prefix of its members.
    index, count
        Which element of its member's array it is, and of how many; ``None`` if of none.
    address
        Of its first byte.
    access_bytes
        A write enables all or none of so many bytes.
    fields
        From bit 0.
    latched_by
        Name of the register whose read takes a copy, or ``None``.
    lock
        Register and field that keep it from being written, or ``None``.
    """

    name: str
    member: str
    index: int | None
    count: int | None
    address: int
    access_bytes: int
    fields: tuple[Field, ...]
    latched_by: str | None
    lock: tuple[str, str] | None

    @property
    def writable(self) -> bool:
        """Whether software may write to any of its fields."""
        return any(field.writable for field in self.fields)

    def member_of(self, field: Field) -> str:
        """Name of the member of a field."""
        return self.member if field.name == "value" else f"{self.member}_{field.name.lower()}"


def compile_registers(path: Path = DESCRIPTION, **parameters: int) -> AddrmapNode:
    """Compile a description.

    Parameters
    ----------
    path
        The description.
    parameters
        Parameters of its address map.

    Raises
    ------
    systemrdl.RDLCompileError
        If it is wrong; the compiler has said why on standard error.
    """
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    # Without a name given here the top would be called after its parameters, too.
    return compiler.elaborate(inst_name=NAME, parameters=parameters).top


def chip_parameters(config: ChipConfig) -> dict[str, int]:
    """Parameters of the chip's description that follow from its configuration."""
    return {"CONFIG_HASH": int(config.hash, 16), "CYCLES_PER_MS": 1000 * config.clock_mhz}


def describe(top: AddrmapNode) -> tuple[Register, ...]:
    """List what a compiled description has, by address.

    Raises
    ------
    ValueError
        If something of it has no meaning in this decoder.
    """
    found = [_register(node) for node in top.descendants(unroll=True) if isinstance(node, RegNode)]
    for register in found:
        if register.address >= 1 << ADDRESS_BITS:
            raise ValueError(
                f"{register.name} is at {register.address:#x}; addresses have {ADDRESS_BITS} bits"
            )
    return tuple(sorted(found, key=lambda register: register.address))


def _name(node):
    return node.get_rel_path(node.owning_addrmap)


def _reference(field):
    return (_name(field.parent), field.inst_name)


def _register(node):
    name = _name(node)
    _refuse(name, node, _REGISTER_PROPERTIES)
    if node.get_property("regwidth") != 32:
        raise ValueError(f"{name} has {node.get_property('regwidth')} bits; all registers have 32")
    arrays, path = [], []
    at = node
    while at is not node.owning_addrmap:
        path.insert(0, at.inst_name.lower())
        if at.is_array:
            arrays += zip(at.current_idx, at.array_dimensions, strict=True)
        at = at.parent
    if len(arrays) > 1:
        raise ValueError(f"{name} is in {len(arrays)} arrays; at most one has a meaning")
    index, count = arrays[0] if arrays else (None, None)
    fields = tuple(_field(name, field) for field in node.fields())
    swwel = [field.get_property("swwel") for field in node.fields() if field.is_sw_writable]
    locks = {_reference(lock) if lock else None for lock in swwel}
    if len(locks) > 1:
        raise ValueError(f"{name} has fields of different swwel; a register is locked as a whole")
    latched_by = node.get_property("latched_by")
    return Register(
        name=name,
        member="_".join(path),
        index=index,
        count=count,
        address=node.absolute_address,
        access_bytes=node.get_property("accesswidth") // 8,
        fields=fields,
        latched_by=_name(latched_by) if latched_by else None,
        lock=locks.pop() if locks else None,
    )


def _refuse(name, node, known):
    for extra in sorted(set(node.list_properties()) - known):
        raise ValueError(f"{name} has the property {extra}; the decoder knows {sorted(known)}")


def _field(register, node):
    name = f"{register}.{node.inst_name}"
    _refuse(name, node, _FIELD_PROPERTIES)
    kind = _kind(name, node)
    enable = node.get_property("enable")
    return Field(
        name=node.inst_name,
        kind=kind,
        low=node.low,
        width=node.width,
        reset=node.get_property("reset") or 0,
        signed=bool(node.get_property("is_signed")),
        saturate=bool(node.get_property("incrsaturate")),
        driven=node.is_hw_readable,
        readable=node.is_sw_readable,
        writable=node.is_sw_writable,
        enable=_reference(enable) if enable else None,
    )


def _kind(name, node):
    def has(key):
        return node.get_property(key)

    software = has("sw")
    if has("counter"):
        if software == AccessType.rw and has("precedence") != PrecedenceType.sw:
            raise ValueError(f"{name} is a counter with precedence of hw; that of sw has a meaning")
        if has("onwrite") or software not in {AccessType.r, AccessType.rw}:
            raise ValueError(f"{name} is a counter with other sw than r or rw")
        return Kind.COUNTER
    if has("intr"):
        if has("onwrite") != OnWriteType.woclr or has("precedence") != PrecedenceType.hw:
            raise ValueError(f"{name} has intr without onwrite = woclr and precedence = hw")
        return Kind.EVENT
    if has("onwrite"):
        if has("onwrite") != OnWriteType.woset or node.is_hw_writable:
            raise ValueError(f"{name} has an onwrite that has no meaning here")
        return Kind.SET
    if has("singlepulse"):
        return Kind.PULSE
    if software == AccessType.r:
        if node.is_hw_writable:
            return Kind.VALUE
        if has("hw") == AccessType.na:
            return Kind.CONSTANT
    if software in {AccessType.rw, AccessType.w} and not node.is_hw_writable:
        return Kind.SETTING
    raise ValueError(f"{name} has sw = {software.name}, hw = {has('hw').name}: no kind of field")


class Registers(Macro):
    """Decoder of the registers that a description has, behind AXI4-Lite.

    Answers: ``DECERR`` where there is no register; ``SLVERR`` for a write to a register that
    software cannot write or that is locked, or one that enables a part of its access width. Nothing
    changes by a write that is refused. The low two bits of an address are ignored.

    The read path has two registers: one for each :data:`GROUP` addresses, and one for all.
    Latencies are those of :class:`.control.axi_lite.AxiLiteTarget`; a setting has its new value in
    the cycle after ``write``, one before the answer is offered.

    Parameters
    ----------
    path : :class:`pathlib.Path`
        The description.
    parameters : :class:`int`
        Parameters of its address map: reset values that depend on the chip.

    Members
    -------
    lite : ``In(AxiLite(...))``
        The manager.
    others
        Those of each field, named and shaped as :class:`Kind` says.

    Attributes
    ----------
    registers : :class:`tuple` of :class:`Register`
        What there is, by address.

    Raises
    ------
    :exc:`ValueError`
        If something of the description has no meaning in this decoder.
    """

    def __init__(self, *, path=DESCRIPTION, **parameters):
        self._registers = describe(compile_registers(path, **parameters))
        members = {"lite": In(AxiLite(address_bits=ADDRESS_BITS))}
        for register in self._registers:
            for field in register.fields:
                shape = signed(field.width) if field.signed else unsigned(field.width)
                name = register.member_of(field)
                if field.kind in {Kind.VALUE, Kind.EVENT}:
                    members[name] = In(_array(shape, register.count))
                elif field.kind != Kind.CONSTANT and field.driven:
                    members[name] = Out(_array(shape, register.count))
                if field.kind == Kind.COUNTER:
                    members[f"{name}_incr"] = In(_array(unsigned(1), register.count))
                if field.kind == Kind.EVENT:
                    members[f"{register.member}_intr"] = Out(unsigned(1))
        super().__init__(members, macro_name="registers")

    @property
    def registers(self):
        return self._registers

    def build(self, platform):
        m = Module()
        m.submodules.target = target = AxiLiteTarget(address_bits=ADDRESS_BITS)
        wiring.connect(m, wiring.flipped(self.lite), target.lite)

        stored = {
            (register.name, field.name): Signal(
                field.width, init=field.reset, name=_flat(register.name, field.name)
            )
            for register, field in self._fields()
            if field.kind not in {Kind.VALUE, Kind.CONSTANT}
        }
        self._answer(m, target, stored)
        self._update(m, target, stored)
        self._interrupt(m, stored)
        shown = {}
        for register, field in self._fields():
            if (register.name, field.name) in stored and field.kind != Kind.EVENT and field.driven:
                value = stored[register.name, field.name]
                shown.setdefault(register.member_of(field), []).append(value)
        # Elements of an array are driven together.
        for name, values in shown.items():
            m.d.comb += Value.cast(getattr(self, name)).eq(Cat(values))
        self._read(m, target, stored)
        return m

    def _fields(self):
        return ((register, field) for register in self._registers for field in register.fields)

    def _input(self, register, name):
        """Bits of an input, or of the register's part of it."""
        value = getattr(self, name)
        return Value.cast(value if register.index is None else value[register.index]).as_unsigned()

    def _answer(self, m, target, stored):
        """Say whether a write may be done."""
        strobe = target.write_strobe
        rules = {}
        for register in self._registers:
            rule = (register.access_bytes, register.lock) if register.writable else None
            rules.setdefault(rule, []).append(register.address // 4)
        with m.Switch(target.write_address):
            for rule, addresses in rules.items():
                with m.Case(*addresses):
                    if rule is None:
                        m.d.comb += target.write_response.eq(Response.SLVERR)
                    else:
                        size, lock = rule
                        parts = [strobe[n : n + size] for n in range(0, len(strobe), size)]
                        torn = Cat(part.any() & ~part.all() for part in parts).any()
                        refused = torn | stored[lock] if lock else torn
                        m.d.comb += target.write_response.eq(
                            Mux(refused, Response.SLVERR, Response.OKAY)
                        )
            with m.Default():
                m.d.comb += target.write_response.eq(Response.DECERR)

    def _update(self, m, target, stored):
        """Change fields, by software and by hardware."""
        bits, ones = Signal(32, name="written_bits"), Signal(32, name="written_ones")
        m.d.comb += [
            bits.eq(Cat(enabled.replicate(8) for enabled in target.write_strobe)),
            ones.eq(target.write_data & bits),
        ]
        for register in self._registers:
            select = Signal(name=f"select_{_flat(register.name)}")
            if register.writable:
                m.d.comb += select.eq(
                    target.write & (target.write_address == register.address // 4)
                )
            for field in register.fields:
                if field.kind in {Kind.VALUE, Kind.CONSTANT}:
                    continue
                value = stored[register.name, field.name]
                part = slice(field.low, field.low + field.width)
                changed = value & ~bits[part] | ones[part]
                if field.kind == Kind.PULSE:
                    m.d.sync += value.eq(Mux(select, ones[part], 0))
                elif field.kind == Kind.SETTING:
                    with m.If(select):
                        m.d.sync += value.eq(changed)
                elif field.kind == Kind.SET:
                    with m.If(select):
                        m.d.sync += value.eq(value | ones[part])
                elif field.kind == Kind.EVENT:
                    cleared = Mux(select, ones[part], 0)
                    event = self._input(register, register.member_of(field))
                    m.d.sync += value.eq(value & ~cleared | event)
                else:
                    count = self._input(register, f"{register.member_of(field)}_incr")
                    highest = value.all() if field.saturate else C(0)
                    with m.If(count & ~highest):
                        m.d.sync += value.eq(value + 1)
                    if field.writable:
                        with m.If(select):
                            m.d.sync += value.eq(changed)

    def _interrupt(self, m, stored):
        pending = {}
        for register, field in self._fields():
            if field.kind == Kind.EVENT:
                enable = stored[field.enable] if field.enable else C(1).replicate(field.width)
                pending.setdefault(f"{register.member}_intr", []).append(
                    stored[register.name, field.name] & enable
                )
        for name, bits in pending.items():
            line = Signal(name=name)
            m.d.sync += line.eq(Cat(bits).any())
            m.d.comb += getattr(self, name).eq(line)

    def _read(self, m, target, stored):
        """Take the word of an address, and copies of those that it latches."""
        place, group = (
            target.read_address[: GROUP.bit_length() - 1],
            Signal(len(target.read_address) - GROUP.bit_length() + 1),
        )
        m.d.comb += group.eq(target.read_address[GROUP.bit_length() - 1 :])
        groups = {}
        for register in self._registers:
            word = self._word(m, target, stored, register)
            at, offset = divmod(register.address // 4, GROUP)
            groups.setdefault(at, []).append((offset, word))
        taken = {}
        for at, words in groups.items():
            taken[at] = Signal(32, reset_less=True, name=f"taken_{at}")
            with m.If(target.read & (group == at)), m.Switch(place):
                for offset, word in words:
                    with m.Case(offset):
                        m.d.sync += taken[at].eq(word)
                if len(words) < GROUP:
                    with m.Default():
                        m.d.sync += taken[at].eq(0)
        with m.Switch(group):
            for at, word in taken.items():
                with m.Case(at):
                    m.d.comb += target.read_data.eq(word)
        m.d.comb += target.read_response.eq(Response.DECERR)
        with m.Switch(target.read_address):
            with m.Case(*(register.address // 4 for register in self._registers)):
                m.d.comb += target.read_response.eq(Response.OKAY)

    def _word(self, m, target, stored, register):
        """What reads of a register give."""
        parts, end = [], 0
        for field in register.fields:
            if field.kind == Kind.CONSTANT:
                value = C(field.reset, field.width)
            elif field.kind == Kind.VALUE:
                value = self._input(register, register.member_of(field))
            else:
                value = stored[register.name, field.name]
            if register.latched_by:
                copy = Signal(field.width, name=f"copy_{_flat(register.name, field.name)}")
                by = next(r.address for r in self._registers if r.name == register.latched_by)
                with m.If(target.read & (target.read_address == by // 4)):
                    m.d.sync += copy.eq(value)
                value = copy
            if not field.readable:
                value = C(0, field.width)
            parts += [C(0, field.low - end), value]
            end = field.low + field.width
        return Cat(parts, C(0, 32 - end))


def _array(shape, count):
    return shape if count is None else data.ArrayLayout(shape, count)


def _flat(*names):
    """Name of a signal."""
    text = "_".join(name for name in names if name != "value")
    return text.lower().replace("[", "_").replace("]", "").replace(".", "_")
