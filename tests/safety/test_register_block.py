# amaranth: UnusedElaboratable=no
"""The register block does what the map says, access by access."""

import random

import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from jepa_r.safety.map import BY_NAME, KEYS, REGISTERS, Access
from jepa_r.safety.register_block import WINDOWS, RegisterBlock
from jepa_r_sim.golden.register_block import RegisterBlock as Golden

SETTINGS = [
    register.offset + 4 * n
    for register in REGISTERS
    if register.access is Access.SETTING
    for n in range(register.count)
]

OFFSETS = [register.offset + 4 * n for register in REGISTERS for n in range(register.count)]


def show(ctx, dut, rng):
    """Give all values of hardware random words; what reads are to see, by offset."""
    shown = {}
    for register in REGISTERS:
        name = register.name.lower()
        if register.name in WINDOWS:
            word = rng.getrandbits(32)
            ctx.set(getattr(dut, name), word)
            shown |= {register.offset + 4 * n: word for n in range(register.count)}
        elif register.access is Access.VALUE and not register.fields:
            shown[register.offset] = rng.getrandbits(32)
            ctx.set(getattr(dut, name), shown[register.offset])
        elif register.access in (Access.VALUE, Access.KEY) and register.name != "LOCK":
            shown[register.offset] = 0
            for field in register.fields:
                value = rng.getrandbits(field.width)
                ctx.set(getattr(dut, f"{name}_{field.name.lower()}"), value)
                shown[register.offset] |= value << field.low
    return shown


def some_word(rng, offset, golden):
    """A word that is not always refused."""
    if offset in SETTINGS and golden.writes.get(offset, 0) % 2:
        return golden.words[offset] ^ (0xFFFF_FFFF if rng.random() < 0.9 else 0xFFFF_FFFE)
    return rng.choice([*KEYS.values(), rng.getrandbits(32)])


def play(cycle_of, seed, cycles):
    """Random accesses, after the stores of ``cycle_of``; how many of each kind, and the model."""
    dut, golden, rng = RegisterBlock(), Golden(), random.Random(seed)
    seen = {"refused": 0, "done": 0, "read": 0, "mismatch": 0}

    async def testbench(ctx):
        shown = show(ctx, dut, rng)
        expected = None
        for cycle in range(cycles):
            selftest = cycle % 64 < 48
            allowed = frozenset(key for key in KEYS if rng.random() < 0.5)
            read = rng.random() < 0.4
            ask = not read and rng.random() < 0.5
            store = cycle > max(cycle_of, default=-1) and rng.random() < 0.5
            offsets = [rng.choice([*OFFSETS, rng.randrange(0, 1 << 12, 4)]) for _ in range(3)]
            words = [some_word(rng, offset, golden) for offset in offsets]
            if cycle in cycle_of:
                store, (offsets[2], words[2]) = True, cycle_of[cycle]
            ctx.set(dut.selftest, selftest)
            ctx.set(dut.allowed, sum(1 << n for n, key in enumerate(KEYS) if key in allowed))
            for n, (port, en) in enumerate((("r", read), ("q", ask), ("w", store))):
                ctx.set(getattr(dut, f"{port}_en"), en)
                ctx.set(getattr(dut, f"{port}_offset"), offsets[n])
                if port != "r":
                    ctx.set(getattr(dut, f"{port}_data"), words[n])
            if expected is not None:
                assert ctx.get(dut.r_data) == expected["data"], hex(expected["offset"])
                assert ctx.get(dut.error) == expected["error"], hex(expected["offset"])
                assert ctx.get(dut.key) == expected["key"]
                for name in expected["commands"]:
                    assert ctx.get(getattr(dut, name)) == (name == expected["command"])
                if expected["command"]:
                    assert ctx.get(getattr(dut, f"{expected['command']}_data")) == expected["word"]
                assert ctx.get(dut.late) == expected["late"]
            assert ctx.get(dut.mismatch) == golden.mismatch
            assert ctx.get(dut.locked) == golden.locked
            assert ctx.get(dut.settings_good) == golden.settings_good
            seen["mismatch"] += golden.mismatch

            data, error = golden.read(offsets[0], shown) if read else (0, False)
            rules = {"selftest": selftest, "allowed": allowed}
            error |= ask and golden.refuses(offsets[1], words[1], **rules)
            late = store and golden.locked and offsets[2] in SETTINGS
            done = store and golden.store(offsets[2], words[2], **rules)
            golden.tick(selftest=selftest)
            seen["read"] += read and not error
            seen["refused"] += store and not done
            seen["done"] += done
            register = next(
                (r for r in REGISTERS if 0 <= offsets[2] - r.offset < 4 * r.count), None
            )
            command = done and register.access is Access.COMMAND and register.name.lower()
            keys = [KEYS[key] for key in KEYS]
            key = done and register.access is Access.KEY and 1 << keys.index(words[2])
            expected = {
                "offset": offsets[0], "data": data, "error": error, "key": key, "late": late,
                "command": command, "word": words[2],
                "commands": [r.name.lower() for r in REGISTERS if r.access is Access.COMMAND],
            }  # fmt: skip
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return seen, golden


def all_settings(begin):
    """Stores that write every setting twice, and the lock, from cycle ``begin`` on."""
    stores = [
        (offset, word) for offset in SETTINGS for word in (0x1234 + offset, ~(0x1234 + offset))
    ]
    stores.append((BY_NAME["LOCK"].offset, KEYS["LOCK"]))
    return {begin + n: (offset, word & 0xFFFF_FFFF) for n, (offset, word) in enumerate(stores)}


@pytest.mark.parametrize("seed", range(2))
def test_every_access_is_as_the_golden_model_has_it(seed):
    seen, _ = play({}, seed, 400)
    assert min(seen.values()) > 20


def test_settings_are_frozen_by_the_lock_and_only_when_all_are_good():
    first = dict.fromkeys((3, 4), (BY_NAME["LOCK"].offset, KEYS["LOCK"]))
    _, golden = play(first | all_settings(10), 5, 250)
    assert golden.locked
    assert all(golden.words[offset] == 0x1234 + offset for offset in SETTINGS)


def test_a_flipped_bit_of_any_copy_is_a_mismatch():
    dut = RegisterBlock()

    async def testbench(ctx):
        for cycle in sorted(stores := all_settings(0)):
            offset, word = stores[cycle]
            ctx.set(dut.w_en, 1)
            ctx.set(dut.w_offset, offset)
            ctx.set(dut.w_data, word)
            await ctx.tick()
        ctx.set(dut.w_en, 0)
        assert ctx.get(dut.locked)
        for register in REGISTERS:
            if register.access is Access.SETTING:
                value = Value.cast(getattr(dut, register.name.lower()))
                before = ctx.get(value)
                ctx.set(value, before ^ 1 << len(value) - 1)
                assert ctx.get(dut.mismatch)
                ctx.set(value, before)
                assert not ctx.get(dut.mismatch)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
