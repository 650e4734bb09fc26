"""Build of the island's firmware: headers from the tables, the compiler, the image, its manifest.

The built image is shipped beside the sources, with a manifest that names them by a sum, so that
nobody needs the compiler: :func:`shipped` reads it, :func:`build` makes it anew. Run as a module,
this file writes both.
"""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import frozen

from jepa_r.safety import map as memory_map
from jepa_r.safety.arm import Settings
from jepa_r.safety.map import ALERTS, KEYS, MEMORIES, REGISTERS, Fault, Stage, State

from .golden.riscv import Machine, Region

__all__ = [
    "COMPILER", "DIRECTORY", "IMAGE", "MANIFEST", "Caller", "Firmware", "FirmwareError", "build",
    "compiler_version", "core_signature", "image", "map_header", "settings_header", "shipped",
    "source_hash", "unpack",
]  # fmt: skip

#: Sources, and the image and its manifest beside them.
DIRECTORY = Path(memory_map.__file__).with_name("firmware")

COMPILER = "riscv64-unknown-elf-gcc"

#: Options of the compiler. The extension of control registers is for the assembler; the linker
#: knows libraries by the plain name.
_OPTIONS = (
    "-march=rv32im_zicsr_zifencei -mabi=ilp32 -Os -std=c11 -ffreestanding -fno-builtin -nostdlib "
    "-fno-tree-loop-distribute-patterns -fno-common -fno-jump-tables "
    "-fno-asynchronous-unwind-tables -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wvla "
    "-Wundef -Wstrict-prototypes -Werror"
).split()

MAGIC, FORMAT, IMAGE_VERSION = 0x4A525346, 1, 1

_HEADER_WORDS = 4


class FirmwareError(ValueError):
    """An image that is refused, or a build that failed."""


@frozen(kw_only=True)
class Firmware:
    """Code of the island's processor.

    Attributes
    ----------
    code
        From address 0.
    symbols
        Addresses by name.
    version
        Of the image, monotonic.
    """

    code: bytes
    symbols: dict[str, int]
    version: int = IMAGE_VERSION


# Headers


def _guard(name: str, lines: list[str]) -> str:
    head = [f"/* {name}: made from the tables of jepa_r/safety; not to be edited. */", ""]
    symbol = name.upper().replace(".", "_")
    return "\n".join([
        *head,
        f"#ifndef {symbol}",
        f"#define {symbol}",
        "",
        *lines,
        "",
        "#endif",
        "",
    ])


def map_header() -> str:
    """``map.h``: memory map, registers, fields, keys, states, faults; for C and the assembler."""
    lines = []

    def define(name: str, value: int) -> None:
        lines.append(f"#define {name} 0x{value:08X}")

    def number(name: str, value: int) -> None:
        lines.append(f"#define {name} {value}")

    number("JOINTS", memory_map.JOINTS)
    number("PERIOD_CYCLES", memory_map.PERIOD_CYCLES)
    number("CYCLES_PER_US", memory_map.PERIOD_CYCLES // 1000)
    for memory in MEMORIES:
        define(f"{memory.name}_BASE", memory.base)
        define(f"{memory.name}_SIZE", memory.size)
    base = next(memory.base for memory in MEMORIES if memory.name == "REGISTERS")
    for register in REGISTERS:
        define(f"REG_{register.name}", base + register.offset)
        if register.count > 1:
            number(f"{register.name}_COUNT", register.count)
        for part in register.fields:
            define(f"{register.name}_{part.name}", part.mask)
            if part.width > 1 or register.name == "ECC_INJECT":
                number(f"{register.name}_{part.name}_SHIFT", part.low)
    define("WATCHDOG_TAPS", memory_map.WATCHDOG_TAPS)
    for name, key in KEYS.items():
        define(f"KEY_{name}", key)
    for kind, values in (("STATE", State), ("STAGE", Stage), ("FAULT", Fault)):
        for value in values:
            define(f"{kind}_{value.name}", value)
    for place, alert in enumerate(ALERTS):
        number(f"ALERT_{alert.name}", place)
    return _guard("map.h", lines)


def settings_header(settings: Settings) -> str:
    """``settings.h``: the structure of the settings, and its initial values."""
    signed = {name for name, count in Settings.names().items() if count > 1}
    lines = ["#include <stdint.h>", "", "struct settings {"]
    for name, count in Settings.names().items():
        kind, suffix = ("int32_t", f"[{count}]") if name in signed else ("uint32_t", "")
        lines.append(f"    {kind} {name}{suffix};")
    lines += ["};", "", "#define SETTINGS \\", "    { \\"]
    for name in Settings.names():
        value = getattr(settings, name)
        text = f"{{{', '.join(map(str, value))}}}" if name in signed else f"{value}u"
        lines.append(f"        .{name} = {text}, \\")
    return _guard("settings.h", [*lines, "    }"])


# Sources


def _sources() -> list[Path]:
    return sorted(path for path in DIRECTORY.iterdir() if path.suffix in {".c", ".h", ".S", ".ld"})


def source_hash(settings: Settings | None = None) -> str:
    """SHA-256 over everything that the code depends on but the compiler."""
    total = hashlib.sha256()
    texts = {path.name: path.read_text() for path in _sources()}
    texts |= {"map.h": map_header(), "settings.h": settings_header(settings or Settings())}
    texts["options"] = " ".join(_OPTIONS)
    for name, text in sorted(texts.items()):
        total.update(f"{name} {len(text)}\n{text}".encode())
    return total.hexdigest()


# The build


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FirmwareError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout


def compiler_version() -> str | None:
    """Version of the compiler, or ``None`` where there is none."""
    if shutil.which(COMPILER) is None:
        return None
    return _run([COMPILER, "-dumpfullversion"], Path()).strip()


def _link(directory: Path, signature: int) -> Firmware:
    sources = [path.name for path in _sources() if path.suffix in {".c", ".S"}]
    # The assembler's file with the reset vector comes first in its own section; order is by name.
    command = [COMPILER, *_OPTIONS, f"-DCORE_SIGNATURE=0x{signature:08X}", "-I.", "-Tlink.ld"]
    _run([*command, "-Wl,--no-warn-rwx-segments", *sources, "-o", "firmware.elf"], directory)
    tools = COMPILER.removesuffix("gcc")
    _run([f"{tools}objcopy", "-O", "binary", "firmware.elf", "firmware.bin"], directory)
    symbols = {}
    for line in _run([f"{tools}nm", "firmware.elf"], directory).splitlines():
        value, _, name = line.split()
        if not name.startswith((".", "$")):
            symbols[name] = int(value, 16)
    return Firmware(
        code=(directory / "firmware.bin").read_bytes(), symbols=dict(sorted(symbols.items()))
    )


def core_signature(firmware: Firmware) -> int:
    """What the core's self test computes, on the instruction-set simulator.

    Raises
    ------
    FirmwareError
        If the test does not return.
    """
    code, data = (
        Region(base=m.base, size=m.size, fetch=m.fetch, load=m.load, store=m.store)
        for m in MEMORIES[:2]
    )
    code.place(firmware.code)
    registers = MEMORIES[2]
    identity = REGISTERS[0].reset

    def refuse(offset: int, word: int) -> None:
        raise FirmwareError(f"the core's self test writes {word:#x} to register {offset:#x}")

    device = Region(
        base=registers.base, size=registers.size, read=lambda offset: identity, write=refuse
    )
    machine = Machine(regions=[code, data, device], reset_vector=firmware.symbols["core_test"])
    back = code.size - 4
    machine.x[1] = back
    machine.run(100_000, until=lambda: machine.pc == back)
    if machine.pc != back:
        raise FirmwareError("the core's self test does not return")
    return machine.x[10]


def build(settings: Settings | None = None) -> Firmware:
    """Build the firmware from its sources.

    The signature of the core's self test comes from running it: the code is linked, run, and linked
    again with the signature in its place, which moves nothing.

    Raises
    ------
    FirmwareError
        If the compiler is missing or fails.
    """
    if shutil.which(COMPILER) is None:
        raise FirmwareError(f"{COMPILER} is not installed")
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for path in _sources():
            shutil.copy(path, directory)
        (directory / "map.h").write_text(map_header())
        (directory / "settings.h").write_text(settings_header(settings or Settings()))
        first = _link(directory, 0)
        return _link(directory, core_signature(first))


class Caller:
    """Functions of the firmware, called one by one on the instruction-set simulator.

    Parameters
    ----------
    firmware
        Whose functions.
    cycles_of
        As of :class:`~jepa_r_sim.golden.riscv.Machine`.

    Attributes
    ----------
    free
        First address of the data memory that the firmware's variables leave.
    machine
        The processor.
    """

    def __init__(self, firmware: Firmware, cycles_of: Callable[[int], int] = lambda word: 1):
        code, data = MEMORIES[:2]
        region = Region(base=code.base, size=code.size, fetch=True, store=False)
        region.place(firmware.code)
        self.machine = Machine(
            regions=[region, Region(base=data.base, size=data.size)], cycles_of=cycles_of
        )
        self.free = firmware.symbols["_end_of_bss"]
        self._symbols = firmware.symbols
        self._stack = data.base + data.size
        self._back = code.base + code.size - 4

    def place(self, address: int, words: Iterable[int]) -> int:
        """Write words to data memory; return the address behind them."""
        for word in words:
            self.machine.write_word(address, word & 0xFFFFFFFF)
            address += 4
        return address

    def words(self, address: int, count: int) -> list[int]:
        """Words of data memory."""
        return [self.machine.read_word(address + 4 * n) for n in range(count)]

    def call(self, name: str, *arguments: int) -> int:
        """Call a function; return its result.

        Raises
        ------
        FirmwareError
            If it does not return.
        """
        machine = self.machine
        machine.x[1], machine.x[2] = self._back, self._stack
        for n, argument in enumerate(arguments):
            machine.x[10 + n] = argument & 0xFFFFFFFF
        machine.pc = self._symbols[name]
        machine.run(100_000, until=lambda: machine.pc == self._back)
        if machine.pc != self._back:
            raise FirmwareError(f"{name} does not return; it is at {machine.pc:#x}")
        return machine.x[10]


# The image


def image(firmware: Firmware) -> bytes:
    """The image file: magic, format, version and length, the code, and a CRC-32 of all that."""
    code = firmware.code + bytes(-len(firmware.code) % 4)
    words = (MAGIC, FORMAT, firmware.version, len(code))
    body = b"".join(word.to_bytes(4, "little") for word in words) + code
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(data: bytes, *, oldest: int = 0) -> tuple[int, bytes]:
    """Version and code of an image file.

    Raises
    ------
    FirmwareError
        If it is not a whole and good image, or older than ``oldest``.
    """
    if len(data) < 4 * _HEADER_WORDS + 4 or len(data) % 4:
        raise FirmwareError(f"image of {len(data)} bytes; it must be whole words, at least 5")
    words = [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]
    magic, form, version, length = words[:_HEADER_WORDS]
    if magic != MAGIC:
        raise FirmwareError(f"magic is {magic:#010x}; it must be {MAGIC:#010x}")
    if form != FORMAT:
        raise FirmwareError(f"format is {form}; it must be {FORMAT}")
    if length != len(data) - 4 * _HEADER_WORDS - 4 or length > MEMORIES[0].size:
        raise FirmwareError(
            f"length is {length} in an image of {len(data)} bytes; it must be what is left and at "
            f"most {MEMORIES[0].size}"
        )
    if words[-1] != zlib.crc32(data[:-4]):
        raise FirmwareError(f"sum is {words[-1]:#010x}; it must be {zlib.crc32(data[:-4]):#010x}")
    if version < oldest:
        raise FirmwareError(f"version is {version}; it must be at least {oldest}")
    return version, data[4 * _HEADER_WORDS : -4]


#: The shipped image and its manifest.
IMAGE, MANIFEST = DIRECTORY / "island.bin", DIRECTORY / "island.json"


def shipped() -> Firmware:
    """The image beside the sources.

    Raises
    ------
    FirmwareError
        If it is damaged.
    """
    manifest = json.loads(MANIFEST.read_text())
    version, code = unpack(IMAGE.read_bytes())
    return Firmware(code=code, symbols=manifest["symbols"], version=version)


def write() -> None:
    """Build, and write image and manifest beside the sources."""
    firmware = build()
    IMAGE.write_bytes(image(firmware))
    manifest = {
        "compiler": f"{COMPILER} {compiler_version()}",
        "sources": source_hash(),
        "image": hashlib.sha256(image(firmware)).hexdigest(),
        "symbols": {
            name: value
            for name, value in firmware.symbols.items()
            if re.fullmatch(r"[a-z_]\w*", name)
        },
    }
    MANIFEST.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    write()
