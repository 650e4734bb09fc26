# amaranth: UnusedElaboratable=no
"""An image is loaded whole and checked twice, or not at all."""

import random
import re

import pytest
from amaranth.sim import Simulator

from jepa_r.safety.loader import Loader, LoadFault
from jepa_r_sim.golden.loader import image, judge, load

CAPACITY = 16
OLDEST = 5


def play(images, *, rng, spoil=None, pause=0.2):
    """Send images while one is asked for; verdicts, memory, what was asked after the end.

    ``spoil`` inverts bits of a word in memory behind the loader's back: word, mask.
    """
    dut = Loader(words=CAPACITY)
    memory = [rng.getrandbits(39) for _ in range(CAPACITY)]
    todo = [[(word, n == len(words) - 1) for n, word in enumerate(words)] for words in images]
    verdicts, result = [], {}

    async def testbench(ctx):
        ctx.set(dut.oldest, OLDEST)
        rcode, attempts, waited = 0, 0, 0
        for cycle in range(3000):
            ctx.set(dut.ready, cycle > 20)
            offered = bool(todo) and (ctx.get(dut.request) or waited) and rng.random() >= pause
            word, last = todo[0][0] if offered else (rng.getrandbits(32), rng.getrandbits(1))
            ctx.set(dut.i.tvalid, offered)
            ctx.set(dut.i.tdata, word)
            ctx.set(dut.i.tlast, last)
            ctx.set(dut.load_rcode, rcode)
            if ctx.get(dut.attempts) != attempts:
                attempts = ctx.get(dut.attempts)
                verdicts.append(LoadFault(ctx.get(dut.fault)).name)
            assert cycle > 20 or not ctx.get(dut.load_en)
            assert not (ctx.get(dut.loaded) and ctx.get(dut.load_en))
            assert ctx.get(dut.loading) == (not ctx.get(dut.loaded))
            if ctx.get(dut.load_en):
                if ctx.get(dut.load_write):
                    memory[ctx.get(dut.load_word)] = ctx.get(dut.load_data)
                    if spoil and ctx.get(dut.load_word) == spoil[0]:
                        memory[spoil[0]] ^= spoil[1]
                else:
                    rcode = memory[ctx.get(dut.load_word)] | rng.getrandbits(7) << 32
            else:
                rcode = rng.getrandbits(39)
            if offered and ctx.get(dut.i.tready):
                waited = not last
                todo[0].pop(0)
                if last:
                    todo.pop(0)
            if ctx.get(dut.loaded) or ctx.get(dut.failed):
                result["end"] = result.get("end", cycle)
                if cycle > result["end"] + 50:
                    break
                assert not ctx.get(dut.request)
            await ctx.tick()
        result.update({
            name: ctx.get(getattr(dut, name))
            for name in ("loaded", "failed", "version", "length", "attempts")
        })
        if result["loaded"]:
            verdicts.append(LoadFault(ctx.get(dut.fault)).name)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return verdicts, memory if result["loaded"] else None, result


def bad_images(rng):
    """Images with one thing wrong each, and what that is."""
    code = [rng.getrandbits(32) for _ in range(6)]
    good = image(code, version=OLDEST)
    cases = {
        "magic": [good[0] ^ 1, *good[1:]],
        "format": [good[0], 2, *good[2:]],
        "older": image(code, version=OLDEST - 1),
        "no code": image([], version=OLDEST),
        "half a word": [*good[:3], 23, *good[4:]],
        "too large": image([0] * (CAPACITY + 1), version=OLDEST),
        "huge": [*good[:3], 0xFFFF_FFFC, *good[4:]],
        "without its sum": good[:-1],
        "a word too many": [*good, 0],
        "twice": good + good,
        "two words swapped": [*good[:5], good[6], good[5], *good[7:]],
    }
    cases |= {f"ends with word {n}": good[: n + 1] for n in range(5)}
    for bit in range(0, 32 * len(good), 29):
        words = list(good)
        words[bit // 32] ^= 1 << bit % 32
        cases[f"bit {bit}"] = words
    return cases


def test_the_first_good_image_of_three_is_loaded():
    rng = random.Random(1)
    cases = list(bad_images(rng).values())
    assert {judge(words, capacity=CAPACITY, oldest=OLDEST) for words in cases} == {
        fault.name for fault in LoadFault if fault not in (LoadFault.NONE, LoadFault.STORED)
    }
    for n in range(0, len(cases), 2):
        longest = image([rng.getrandbits(32) for _ in range(CAPACITY)], version=2**32 - 1)
        good = rng.choice([longest, image([rng.getrandbits(32)], version=OLDEST)])
        images = [*cases[n : n + 2], good][: rng.choice([3, 3, 2])]
        images.append(good)
        verdicts, memory, result = play(images, rng=rng)
        assert (verdicts, memory) == load(images, capacity=CAPACITY, oldest=OLDEST)
        assert result["version"] == good[2]
        assert result["length"] == good[3]


def test_three_bad_images_are_the_end():
    rng = random.Random(2)
    bad = list(bad_images(rng).values())
    images = [*rng.sample(bad, 3), image([1], version=OLDEST)]
    verdicts, memory, result = play(images, rng=rng)
    assert (verdicts, memory) == load(images, capacity=CAPACITY, oldest=OLDEST)
    assert result["failed"]
    assert result["attempts"] == 3


@pytest.mark.parametrize("row", [0, 3, 5])
def test_what_memory_made_of_the_image_is_checked(row):
    rng = random.Random(row)
    good = image([rng.getrandbits(32) for _ in range(6)], version=OLDEST)
    verdicts, _, result = play([good] * 3, rng=rng, spoil=(row, 1 << rng.randrange(32)))
    assert verdicts == ["STORED"] * 3
    assert result["failed"]


def test_sizes_are_checked():
    with pytest.raises(
        ValueError, match=f"^{re.escape('words is 12; it must be a power of two and at least 2')}$"
    ):
        Loader(words=12)
