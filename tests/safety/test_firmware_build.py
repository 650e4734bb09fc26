"""The shipped image is that of the sources; damaged images are refused."""

import hashlib
import json
import re

import pytest

from jepa_r.safety.arm import Settings
from jepa_r.safety.map import BY_NAME, MEMORIES
from jepa_r_sim import firmware
from jepa_r_sim.firmware import FirmwareError

MANIFEST = json.loads(firmware.MANIFEST.read_text())


def test_the_shipped_image_is_that_of_the_sources():
    assert MANIFEST["sources"] == firmware.source_hash()
    assert MANIFEST["image"] == hashlib.sha256(firmware.IMAGE.read_bytes()).hexdigest()


@pytest.mark.skipif(
    f"{firmware.COMPILER} {firmware.compiler_version()}" != MANIFEST["compiler"],
    reason="the compiler of the shipped image is not installed",
)
def test_the_compiler_gives_the_shipped_image_again():
    assert firmware.image(firmware.build()) == firmware.IMAGE.read_bytes()


def test_settings_and_sources_change_the_sum():
    assert firmware.source_hash(Settings(command_misses=2)) != firmware.source_hash()


def test_the_signature_in_the_image_is_what_the_core_computes():
    shipped = firmware.shipped()
    place = shipped.symbols["core_signature"]
    word = int.from_bytes(shipped.code[place : place + 4], "little")
    assert word == firmware.core_signature(shipped)


def test_the_settings_in_the_image_are_the_defaults():
    shipped = firmware.shipped()
    place = shipped.symbols["settings"]
    words = Settings().words()
    data = shipped.code[place : place + 4 * len(words)]
    assert [int.from_bytes(data[4 * n : 4 * n + 4], "little") for n in range(len(words))] == words


def test_code_and_variables_fit_and_leave_a_stack():
    shipped = firmware.shipped()
    assert len(shipped.code) <= MEMORIES[0].size
    assert shipped.symbols["_stack"] - shipped.symbols["_end_of_bss"] >= 4096


def test_the_header_has_the_map():
    header = firmware.map_header()
    values = dict(re.findall(r"^#define (\w+) (\w+)$", header, re.MULTILINE))
    base = MEMORIES[2].base
    assert {f"REG_{name}" for name in BY_NAME} <= values.keys()
    for name, register in BY_NAME.items():
        assert int(values[f"REG_{name}"], 0) == base + register.offset
        for part in register.fields:
            assert int(values[f"{name}_{part.name}"], 0) == part.mask


def test_an_image_unpacks_to_its_code():
    shipped = firmware.shipped()
    version, code = firmware.unpack(firmware.image(shipped))
    assert (version, code) == (firmware.IMAGE_VERSION, shipped.code)
    assert firmware.unpack(firmware.IMAGE.read_bytes(), oldest=version)[0] == version


def test_every_flipped_bit_of_an_image_is_found():
    data = firmware.image(firmware.Firmware(code=bytes(range(64)), symbols={}))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FirmwareError):
            firmware.unpack(bytes(flipped))


def test_images_that_are_cut_or_old_are_refused():
    data = firmware.image(firmware.Firmware(code=bytes(64), symbols={}, version=3))
    for cut in range(1, len(data)):
        with pytest.raises(FirmwareError):
            firmware.unpack(data[:-cut])
    with pytest.raises(FirmwareError, match=r"^version is 3; it must be at least 4$"):
        firmware.unpack(data, oldest=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stiffness": (1,) * 6}, "stiffness has 6 numbers; there are 7 joints"),
        ({"damping": (-1,) * 7}, r"damping\[0\] is -1; it must be from 0 to 2147483647"),
        ({"position_low": (1 << 31,) * 7}, r"position_low\[0\] is 2147483648; it must be from "
         "-2147483647 to 2147483647"),
        ({"position_low": (200000,) * 7}, r"position_low\[0\] is 200000, above position_high\[0\], "
         "183501"),
        ({"command_age_us": 0}, "command_age_us is 0; it must be from 1 to 10000000"),
        ({"watchdog_open": 42_000}, "watchdog_open is 42000; it must be below watchdog_deadline, "
         "42000"),
        ({"fallback_periods": 510}, "fallback_periods is 510; it must be below "
         "fallback_periods_hardware, 510"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Settings(**settings)
