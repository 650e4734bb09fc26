# amaranth: UnusedElaboratable=no
"""The bus lets pass what the memory map allows, to the place it names, and nothing else."""

import random

from amaranth.sim import Simulator

from jepa_r.safety.bus import Bus
from jepa_r.safety.map import MEMORIES
from jepa_r_sim.golden.code import encode

BASES = {memory.name: memory for memory in MEMORIES}


def target(address, access):
    """Name of the memory that an access reaches, and the offset there; none if it is refused."""
    for memory in MEMORIES:
        if memory.base <= address < memory.base + memory.size and address % 4 == 0:
            return (memory.name, address - memory.base) if getattr(memory, access) else None
    return None


def some_address(rng):
    """Addresses of all memories, their edges, and what one wrong bit makes of them."""
    memory = rng.choice(MEMORIES)
    offset = rng.choice([0, memory.size - 4, rng.randrange(0, memory.size, 4)])
    address = memory.base + offset
    kind = rng.random()
    if kind < 0.2:
        address ^= 1 << rng.randrange(32)
    elif kind < 0.3:
        address = (memory.base + rng.choice([-4, memory.size])) % 2**32
    return address


def test_every_access_goes_where_it_may_and_is_answered_in_the_next_cycle():
    dut, rng = Bus(), random.Random(1)
    seen = dict.fromkeys(("CODE", "DATA", "REGISTERS", "refused", "stored", "broken", "load"), 0)

    async def testbench(ctx):
        expected = None
        for _ in range(1500):
            loading = rng.random() < 0.2
            kind = rng.choice(["fetch", "load", "store", None])
            address, offered, word = some_address(rng), some_address(rng), rng.getrandbits(32)
            store = rng.random() < 0.4
            stored_code = encode(word, offered)
            if rng.random() < 0.2:
                stored_code ^= 1 << rng.randrange(39)
            rails = (1, 0) if store else (0, 1)
            if rng.random() < 0.02:
                rails = rng.choice([(0, 0), (1, 1)])
            answers = {name: rng.getrandbits(39) for name in ("code_rcode", "data_rcode")}
            register, register_error = rng.getrandbits(32), rng.random() < 0.2
            # Reads and stores never meet in one memory: the core keeps them apart.
            to = target(offered, "store") if rails == (1, 0) else None
            at = target(address, kind) if kind else None
            if to and at and to[0] == at[0] == "DATA":
                continue
            load = {"en": rng.random() < 0.5, "write": rng.random() < 0.5}
            load |= {"word": rng.randrange(4096), "data": rng.getrandbits(32)}

            ctx.set(dut.r_en, kind in {"fetch", "load"})
            ctx.set(dut.r_fetch, kind == "fetch")
            ctx.set(dut.q_write, kind == "store")
            ctx.set(dut.r_addr, address)
            ctx.set(dut.q_data, word)
            ctx.set(dut.w_en, rails[0])
            ctx.set(dut.w_en_n, rails[1])
            ctx.set(dut.w_addr, offered)
            ctx.set(dut.w_code, stored_code)
            ctx.set(dut.loading, loading)
            for name, value in load.items():
                ctx.set(getattr(dut, f"load_{name}"), value)
            for name, value in answers.items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.register_r_data, register)
            ctx.set(dut.register_error, register_error)

            if expected is not None:
                name, offset, kind_before, refused_before, late, broken = expected
                error = refused_before or (name == "REGISTERS" and register_error)
                assert ctx.get(dut.r_error) == error
                assert ctx.get(dut.refused) == (error or late)
                assert ctx.get(dut.broken) == broken
                if kind_before in {"fetch", "load"} and not refused_before:
                    code = {
                        "CODE": answers["code_rcode"],
                        "DATA": answers["data_rcode"],
                        "REGISTERS": encode(register, BASES["REGISTERS"].base + offset),
                    }[name]
                    assert ctx.get(dut.r_code) == code
                    seen[name] += 1
                seen["refused"] += error
                seen["broken"] += broken

            reads = at if kind in {"fetch", "load"} else None
            asks = at if kind == "store" else None
            intact = stored_code == encode(word, offered)
            if loading:
                assert ctx.get(dut.code_en) == load["en"]
                assert ctx.get(dut.code_write) == load["write"]
                assert ctx.get(dut.code_addr) == load["word"]
                assert ctx.get(dut.code_wcode) == encode(load["data"], 4 * load["word"])
                seen["load"] += 1
            else:
                assert ctx.get(dut.code_en) == (reads is not None and reads[0] == "CODE")
                assert not ctx.get(dut.code_write)
                if ctx.get(dut.code_en):
                    assert ctx.get(dut.code_addr) == address // 4
            writes_data = to is not None and to[0] == "DATA"
            reads_data = reads is not None and reads[0] == "DATA"
            assert ctx.get(dut.data_en) == (writes_data or reads_data)
            assert ctx.get(dut.data_write) == writes_data
            if writes_data or reads_data:
                assert ctx.get(dut.data_addr) == (to if writes_data else reads)[1] // 4
            if writes_data:
                assert ctx.get(dut.data_wcode) == stored_code
            for port, access in (("r", reads), ("q", asks)):
                here = access is not None and access[0] == "REGISTERS"
                assert ctx.get(getattr(dut, f"register_{port}_en")) == here
                if here:
                    assert ctx.get(getattr(dut, f"register_{port}_offset")) == access[1]
            here = to is not None and to[0] == "REGISTERS"
            assert ctx.get(dut.register_w_en) == (here and intact)
            if here and intact:
                assert ctx.get(dut.register_w_offset) == to[1]
                assert ctx.get(dut.register_w_data) == word
                seen["stored"] += 1

            no_code = loading and reads is not None and reads[0] == "CODE"
            expected = (
                *(at or (None, 0)), kind, kind is not None and (at is None or no_code),
                rails == (1, 0) and to is None, (here and not intact) or rails[0] == rails[1],
            )  # fmt: skip
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert min(seen.values()) > 20, seen
