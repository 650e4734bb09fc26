"""Damaged images, other chips' images, failing memory: each a named fault, and no harm done."""

import zlib

import numpy as np
import pytest

from jepa_r.cluster.boot import image_offset
from jepa_r_sim.system import Run

MAGIC, VERSION, CONFIG, WORDS = 0, 4, 8, 12  # bytes of the header's fields
SLVERR, DECERR = 2, 3


def flipped(image, byte, bit):
    """Bytes of an image from ``byte`` on, with one bit inverted."""
    return bytes([image[byte] ^ 1 << bit])


def header_with(compiled, at, value):
    """Header with another word at byte ``at``, and the checksum that belongs to it."""
    width = compiled.config.memory.data_bytes
    size = image_offset(width) - width
    header = bytearray(compiled.program_image[:size])
    header[at : at + 4] = value.to_bytes(4, "little")
    return bytes(header) + zlib.crc32(header).to_bytes(4, "little")


def refuse(nano, workdir, bad):
    """Run ``bad``, {what: (run, fault)}, with a good run behind each."""
    runs = [run for what, _fault in bad.values() for run in (what, Run())]
    results = nano.run(workdir, runs)
    found = {
        name: (result.done, result.fault) for name, result in zip(bad, results[::2], strict=True)
    }
    assert found == {name: (False, fault) for name, (_run, fault) in bad.items()}
    nano.assert_exact(results[1::2], bad)
    return results[::2]


def test_an_image_with_a_flipped_bit_is_refused(nano, tmp_path):
    compiled = nano.compiled
    image, base = compiled.program_image, compiled.program_address
    width = compiled.config.memory.data_bytes
    body = image_offset(width)
    places = {
        "magic": MAGIC, "version": VERSION, "config": CONFIG, "words": WORDS,
        "unused part of the header": 40, "last byte of the header": body - width - 1,
        "checksum of the header": body - width, "its last byte": body - width + 3,
        "first byte of the program": body, "middle": (body + len(image)) // 2,
        "last byte of the program": len(image) - width - 1,
        "checksum of the program": len(image) - width,
        "its last byte, too": len(image) - width + 3,
    }  # fmt: skip
    rng = np.random.default_rng(1)
    for _ in range(4):
        at = int(rng.integers(body, len(image) - width))
        places[f"byte {at}"] = at
    bad = {}
    for n, (name, at) in enumerate(places.items()):
        bit = n % 8
        if n % 2:
            run = Run(mode=[("worst",), ("flip", base + at, {"bit": bit})])
        else:
            run = Run(patches={base + at: flipped(image, at, bit)})
        bad[name] = run, "IMAGE_CRC"
    for result in refuse(nano, tmp_path, bad):
        assert result.cycles == 0


def test_an_image_that_is_not_for_this_chip_is_refused(nano, tmp_path):
    compiled = nano.compiled
    base, count = compiled.program_address, len(compiled.program.words)
    room = compiled.config.program_words
    other = compiled.program.image(compiled.config, config_hash=compiled.config.hash ^ 1)

    def header(at, value):
        return Run(patches={base: header_with(compiled, at, value)})

    bad = {
        "magic": (header(MAGIC, int.from_bytes(b"PRPJ", "little")), "IMAGE_MAGIC"),
        "zeros": (header(MAGIC, 0), "IMAGE_MAGIC"),
        "older": (header(VERSION, 1), "IMAGE_VERSION"),
        "newer": (header(VERSION, 3), "IMAGE_VERSION"),
        "hash": (Run(patches={base: other}), "IMAGE_CONFIG"),
        "hash, high bit": (header(CONFIG, compiled.config.hash ^ 1 << 31), "IMAGE_CONFIG"),
        "empty": (header(WORDS, 0), "IMAGE_LENGTH"),
        "too long": (header(WORDS, room + 1), "IMAGE_LENGTH"),
        "far too long": (header(WORDS, count | 1 << 31), "IMAGE_LENGTH"),
        "elastic, but not compiled for it": (Run(elastic=True), "IMAGE_ELASTIC"),
        "cut short": (header(WORDS, count - 1), "IMAGE_CRC"),
        # It ends where the memory ends.
        "longer than it is": (header(WORDS, count + 1), "READ_BUS"),
    }
    for result in refuse(nano, tmp_path, bad):
        assert result.cycles == 0


def test_damaged_weights_and_failing_memory_stop_the_run(nano, tmp_path):
    compiled = nano.compiled
    weights, size = compiled.encoder.image.base, len(compiled.weight_image)
    out = compiled.encoder.output_address
    second = out + compiled.encoder.output_bytes
    base = compiled.program_address
    # Layers start at pages, behind a gap that nobody reads.
    middle = next(
        at for at in range(size // 2, size) if any(compiled.weight_image[at : at + 64])
    )  # fmt: skip

    def flip(at):
        return Run(patches={weights + at: flipped(compiled.weight_image, at, at % 8)})

    def error(at, response):
        return Run(mode=[("worst",), ("error", at, {"response": response})])

    bad = {
        "first weight": (flip(0), "DATA_CRC"),
        "weight in the middle": (flip(middle), "DATA_CRC"),
        "read on its way": (
            Run(mode=[("fast",), ("flip", weights + middle, {"bit": 3})]), "DATA_CRC",
        ),
        "SLVERR, header": (error(base, SLVERR), "READ_BUS"),
        "DECERR, program": (error(base + len(compiled.program_image) - 1, DECERR), "READ_BUS"),
        "SLVERR, frame": (error(0, SLVERR), "READ_BUS"),
        "DECERR, weights": (error(weights + middle, DECERR), "READ_BUS"),
        "SLVERR, first tile's latents": (error(out, SLVERR), "WRITE_BUS"),
        "DECERR, second tile's latents": (error(second, DECERR), "WRITE_BUS"),
    }  # fmt: skip
    refuse(nano, tmp_path, bad)


def test_addresses_outside_the_windows_are_not_used(nano, tmp_path):
    compiled = nano.compiled
    weights, size = compiled.encoder.image.base, len(compiled.weight_image)
    out, base = compiled.encoder.output_address, compiled.program_address
    end = (1 << 32) - 1
    half = weights + size // 2
    bad = {
        "nothing": (), "not the program": ((0, base),),
        "not the program's end": ((0, base + len(compiled.program_image) - 1),),
        "not the frame": ((1, end),), "not all weights": ((0, half), (base, end)),
        "not the latents": ((0, out), (weights, end)),
        "not their first byte": ((0, out), (out + 1, end)),
    }  # fmt: skip
    results = refuse(nano, tmp_path, {name: (Run(windows=w), "WINDOW") for name, w in bad.items()})
    # What is outside has not been written.
    for result in results[-2:]:
        assert not result.latents.any()
    enough = [(0, out), (out, weights), (weights, base), (base, compiled.memory_bytes)]
    nano.assert_exact(nano.run(tmp_path, [Run(windows=enough)]), ["enough"])


@pytest.mark.parametrize(("first", "cycles"), [(0, 1 << 20), (9000, 3000)])
def test_one_wrong_bit_is_corrected_and_two_are_a_fault(nano, tmp_path, first, cycles):
    once, other, both, good = nano.run(
        tmp_path, [*(Run(inject=(bits, first, cycles)) for bits in (1, 2, 3)), Run()]
    )
    nano.assert_exact([once, other, good], ["bit 0", "bit 1", "good"])
    assert once.corrected > 0
    assert other.corrected > 0
    assert (both.done, both.fault) == (False, "ECC")
    assert both.cycles > first
    assert good.corrected == 0
