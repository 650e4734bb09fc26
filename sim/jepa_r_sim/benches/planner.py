"""cocotb bench of :class:`jepa_r.planner.planner.Planner`: a predictor that sums up its inputs.

Parameters: ``tiles``, ``row_bytes`` and ``runs``, each with ``settings`` (fields by name),
``pose``, ``program_steps``, ``inputs``, ``distance`` (the modulus of all costs, by which they tie)
and ``seed``. If wanted: ``reset`` before the run, and when the cluster gets a fault: ``fails``, so
many cycles after ``start``, ``fails_in``, in that rollout (of 1, 2, ...), or ``fails_after``, a few
cycles after it.

The stub's cost of a candidate is :func:`cost_of` the words in its tile, from ``inputs`` on; the
distances are there only from ``rolled`` to the next ``roll``, and those of tiles that were fed
nothing are the best of all. Whatever is taken with ``start`` changes after it.

Reports for each run: ``fault``, ``action``, ``cycles`` (as counted here), ``counted`` (as the
planner counts), ``elites`` as (iteration, rank, candidate, cost), ``rollouts`` (cycles of each) and
``batches`` (candidates in each).
"""

import random
import zlib

import cocotb
from cocotb.triggers import FallingEdge

from jepa_r.planner.layouts import EliteTrace, PlannerFault, PlannerSettings
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import pack, start, unpack

__all__ = ["COST_BITS", "cost_of"]

FEATURES, COST_BITS = 7, 48

#: Most cycles of a rollout.
LONGEST = 30


def cost_of(words: bytes, modulus: int) -> int:
    """A number of 48 bits in which every bit of a candidate's words counts."""
    return (zlib.crc32(words) << 16 | zlib.crc32(words[::-1]) & 0xFFFF) % modulus


class Bench:
    """Planner and predictor, one run after the other."""

    def __init__(self, dut, *, tiles: int, row_bytes: int):
        self._dut = dut
        self._tiles = tiles
        self._row_bytes = row_bytes

    async def reset(self) -> None:
        """As after power-on."""
        self._dut.rst.value = 1
        await FallingEdge(self._dut.clk)
        self._dut.rst.value = 0

    def _evaluate(self, memory, inputs, count, modulus) -> tuple[list[int], int]:
        """Distances of all tiles, and how many of them were fed."""
        distances, fed = [], 0
        for tile in range(self._tiles):
            words = memory[tile]
            if not words:
                distances.append(0)
                continue
            assert fed == tile, f"tile {tile} is fed, one before it is not"
            fed += 1
            assert words.keys() == {(inputs + n) % 2**20 for n in range(count)}, sorted(words)
            block = b"".join(
                words[(inputs + n) % 2**20].to_bytes(self._row_bytes, "little")
                for n in range(count)
            )
            distances.append(cost_of(block, modulus))
        return distances, fed

    async def run(
        self, *, settings, pose, program_steps, inputs, distance, seed, fails=None, fails_in=None,
        fails_after=None,
    ) -> dict:  # fmt: skip
        """Plan once."""
        dut, rng = self._dut, random.Random(seed)
        words = settings["horizon"] * 4 * -(-FEATURES // self._row_bytes)
        garbage = rng.getrandbits
        dut.settings.value = PlannerSettings().const(settings).as_bits()
        dut.pose.value = pack(pose, [16] * FEATURES)
        dut.program_steps.value, dut.inputs.value = program_steps, inputs
        dut.start.value, dut.rolled.value, dut.failed.value = 1, 0, int(fails == 0)

        memory: list[dict[int, int]] = [{} for _ in range(self._tiles)]
        elites, rollouts, batches, due, answer = [], [], [], None, None
        layout = EliteTrace()
        failing = fails
        cycle = 0
        while True:
            await FallingEdge(dut.clk)
            cycle += 1
            if dut.done.value:
                break
            assert dut.busy.value, f"cycle {cycle}"
            assert cycle < 2 * 10**5, "the plan does not end"
            if cycle == 1:
                dut.start.value = 0
                dut.settings.value = garbage(PlannerSettings().size)
                dut.pose.value = garbage(16 * FEATURES)
            elif cycle % 100 == 50:
                # A plan under way hears nothing of another.
                dut.start.value = 1
            elif cycle % 100 == 51:
                dut.start.value = 0
            if failing is not None and cycle >= failing:
                dut.failed.value = 1
            if dut.feed_en.value:
                assert due is None, f"fed during a rollout, cycle {cycle}"
                tiles = dut.feed_tiles.value.to_unsigned()
                assert tiles & (tiles - 1) == 0, f"several tiles in cycle {cycle}"
                tile, address = tiles.bit_length() - 1, dut.feed_addr.value.to_unsigned()
                assert address not in memory[tile], f"address {address} twice, cycle {cycle}"
                memory[tile][address] = dut.feed_data.value.to_unsigned()
            if dut.elite.value.to_unsigned() & 1:
                trace = dut.elite.value.to_unsigned()
                fields = [trace >> slot.offset & (1 << slot.width) - 1 for _name, slot in layout]
                elites.append(fields[1:])
            dut.rolled.value = 0
            if dut.roll.value:
                assert due is None, f"two rollouts at once, cycle {cycle}"
                rollouts.append(rng.randint(1, LONGEST))
                due = cycle + rollouts[-1]
                dut.distances.value = garbage(COST_BITS * self._tiles)
                answer, fed = self._evaluate(memory, inputs, words, distance)
                batches.append(fed)
                memory = [{} for _ in range(self._tiles)]
                if fails_after == len(rollouts):
                    failing = due + 5
                if fails_in == len(rollouts):
                    due, failing = None, cycle + 3
            if due == cycle:
                dut.rolled.value = 1
                dut.distances.value = pack(answer, [COST_BITS] * self._tiles)
                due = None
        dut.start.value = dut.rolled.value = dut.failed.value = 0
        assert not dut.busy.value
        result = {
            "fault": PlannerFault(int(dut.fault.value)).name,
            "action": unpack(dut.action.value.to_unsigned(), [16] * FEATURES),
            "cycles": cycle,
            "counted": dut.cycles.value.to_unsigned(),
            "elites": elites,
            "rollouts": rollouts,
            "batches": batches,
        }
        # The pulse is one cycle, and everything else stays.
        for _ in range(rng.randint(0, 3)):
            await FallingEdge(dut.clk)
            assert not dut.done.value
            assert not dut.busy.value
            assert PlannerFault(int(dut.fault.value)).name == result["fault"]
            assert unpack(dut.action.value.to_unsigned(), [16] * FEATURES) == result["action"]
            assert dut.cycles.value.to_unsigned() == result["counted"]
        return result


@cocotb.test()
async def plans(dut):
    """Make every plan that is asked for; the caller judges."""
    given = parameters()
    for port in (dut.start, dut.rolled, dut.failed, dut.distances, dut.settings, dut.pose):
        port.value = 0
    dut.program_steps.value = dut.inputs.value = 0
    await start(dut)
    bench = Bench(dut, tiles=given["tiles"], row_bytes=given["row_bytes"])
    results = []
    for run in given["runs"]:
        if run.pop("reset", False):
            await bench.reset()
        results.append(await bench.run(**run))
    report(runs=results)
