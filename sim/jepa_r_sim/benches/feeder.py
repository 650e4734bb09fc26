"""cocotb bench of :class:`jepa_r.latent.feeder.Feeder`.

Parameters: ``words``, ``from_bytes`` and ``to_bytes`` of the feeder, ``seed``, and ``latents``: for
each slot, address, rows and blocks, and whether it fits.
"""

import random
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge

from jepa_r.latent.feeder import Feeder
from jepa_r.latent.store import SLOTS, LatentStore
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start


def expected_words(memory, given, latent):
    """Words of the destination, by address: as the README has them."""
    parts = given["from_bytes"] // given["to_bytes"]
    found = {}
    for kb in range(latent["blocks"]):
        for token in range(latent["rows"]):
            at = latent["slot"] * given["words"] + kb // parts * latent["rows"] + token
            piece = memory[at][kb % parts * given["to_bytes"] :][: given["to_bytes"]]
            place = latent["address"] + kb * latent["rows"] + token
            found[place % (1 << 20)] = int.from_bytes(piece, "little")
    return found


@cocotb.test()
async def copies(dut):
    """Each latent arrives whole and in time, or is refused."""
    given = parameters()
    rng = random.Random(given["seed"])
    memory = [rng.randbytes(given["from_bytes"]) for _ in range(SLOTS * given["words"])]
    for port in (dut.start, dut.slot, dut.address, dut.rows, dut.blocks, dut.r_data):
        port.value = 0
    await start(dut)
    await FallingEdge(dut.clk)
    coming = deque([None] * LatentStore.READ_LATENCY)
    cycles = []
    for latent in given["latents"]:
        for name in ("slot", "address", "rows", "blocks"):
            getattr(dut, name).value = latent[name]
        dut.start.value = 1
        found, cycle = {}, 0
        while True:
            coming.append(int(dut.r_addr.value) if dut.r_en.value else None)
            coming.popleft()
            noise = rng.randbytes(given["from_bytes"])
            await FallingEdge(dut.clk)
            cycle += 1
            dut.start.value = 0
            for name in ("slot", "address", "rows", "blocks"):
                getattr(dut, name).value = rng.getrandbits(2)
            word = noise if coming[0] is None else memory[coming[0]]
            dut.r_data.value = int.from_bytes(word, "little")
            if dut.feed_en.value:
                found[int(dut.feed_addr.value)] = int(dut.feed_data.value)
            if dut.done.value:
                break
            assert dut.busy.value
            assert cycle < 10_000
        assert bool(dut.failed.value) != latent["fits"]
        if latent["fits"]:
            assert found == expected_words(memory, given, latent)
            assert cycle == Feeder.cycles(rows=latent["rows"], blocks=latent["blocks"])
        cycles.append(cycle)
        await FallingEdge(dut.clk)
        assert not dut.busy.value
    report(cycles=cycles)
