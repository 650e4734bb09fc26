# amaranth: UnusedElaboratable=no

from itertools import product

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.vector.lane import Lane
from jepa_r.vector.layouts import Mode, Second, Stat
from jepa_r.vector.rows import RowUnit
from jepa_r.vector.unit import VectorUnit
from jepa_r_sim.drivers.vector_steps import random_operation, random_step
from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.golden.unit import Step

from .harness import PROFILES, check

MODES = [mode.value for mode in Mode]
SECONDS = [second.value for second in Second]
TABLE = np.random.default_rng(0).integers(-128, 128, 256).tolist()
I16 = (-(2**15), 2**15 - 1)
I32 = (-(2**31), 2**31 - 1)


def step(lanes, **fields):
    """Step that requantises by 1, with operands that are the same in all lanes."""
    values = {"src": 0, "other": 0, "add": 0, "mul": 1, "shift": 0, "cos": 0, "sin": 0}
    for name in values:
        value = fields.pop(name, values[name])
        values[name] = [value] * lanes if isinstance(value, int) else list(value)
    return Step(**{"wide": 1} | values | fields)


def plain(z, **fields):
    """Step whose results are ``z``."""
    return step(len(z), src=z, **fields)


class TestParameters:
    @pytest.mark.parametrize("lanes", [0, 1, 3, -2])
    def test_lanes_come_in_pairs(self, lanes):
        with pytest.raises(
            ValueError, match=rf"^lanes {lanes} is not an even number of 2 or more$"
        ):
            VectorUnit(lanes=lanes, rows=8)

    def test_running_memory_has_rows(self):
        with pytest.raises(ValueError, match=r"^rows 1 is not 2 or more$"):
            VectorUnit(lanes=2, rows=1)

    def test_row_unit_has_lanes(self):
        with pytest.raises(ValueError, match=r"^lanes 0 is not 1 or more$"):
            RowUnit(lanes=0, rows=8)

    @pytest.mark.parametrize("lanes", [2, 8, 32])
    def test_latencies_are_known_without_hardware(self, lanes):
        unit = VectorUnit(lanes=lanes, rows=8)
        assert unit.latency == VectorUnit.latency == Lane.latency == 23
        assert unit.row_latency == VectorUnit.row_latency_of(lanes) == 65 + lanes.bit_length()
        assert unit.distance_latency == VectorUnit.distance_latency_of(lanes)


class TestResults:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("second", SECONDS)
    def test_every_pair_of_stages(self, mode, second):
        rng = np.random.default_rng([mode, second])
        steps = [random_step(rng, 4, mode=mode, second=second) for _ in range(150)]
        check(steps, lanes=4, table=TABLE)

    @pytest.mark.parametrize("lanes", [2, 4, 6, 8])
    @settings(max_examples=8, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        kinds=st.lists(
            st.none()
            | st.fixed_dictionaries({
                "mode": st.sampled_from(MODES),
                "second": st.sampled_from(SECONDS),
                "wide": st.integers(0, 1),
                "table": st.integers(0, 1),
            }),
            min_size=1,
            max_size=40,
        ),
    )
    def test_settings_change_every_cycle_with_gaps(self, lanes, seed, kinds):
        rng = np.random.default_rng(seed)
        steps = [None if kind is None else random_step(rng, lanes, **kind) for kind in kinds]
        check(steps, lanes=lanes, table=TABLE)

    @settings(max_examples=10, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(*I32) | st.sampled_from([*I32, 0, -1, 1]),
                st.integers(*I32) | st.sampled_from([*I32, 0, -1, 1]),
                st.integers(*I16) | st.sampled_from([*I16, 0, -1, 1]),
                st.integers(0, 63),
                st.integers(0, 1),
            ),
            min_size=1,
            max_size=60,
        )
    )
    def test_requantising_is_the_formula_in_integers(self, cases):
        """The definition written out, apart from the golden model."""
        steps = [
            step(2, src=src, add=add, mul=mul, shift=shift, wide=wide)
            for src, add, mul, shift, wide in cases
        ]
        check(steps, lanes=2)

    def test_ties_go_up(self):
        sources = [5, -5, 1, -1, 3, -3, 7, -7]
        check([plain(sources, shift=1)], lanes=8)
        check([step(8, src=sources, second=Second.COLUMN.value, mul=1, shift2=1)], lanes=8)

    def test_ends_of_the_ranges(self):
        edges = [*I16, *I32, 127, -128, 128, -129]
        steps = [
            plain(edges, wide=wide, second=second, other=other, cos=other, sin=other, mul=mul)
            for wide in (0, 1)
            for second in SECONDS
            for other in I16
            for mul in (1, *I16)
        ]
        steps += [
            step(8, src=src, add=add, mul=mul, shift=shift)
            for src in I32
            for add in I32
            for mul in I16
            for shift in (0, 45, 46, 47, 48, 62, 63, 64, 128, 255)
        ]
        steps += [
            step(8, mode=1, src=src, offset=offset, row_mul=65535, row_shift=shift)
            for src in I32
            for offset in I32
            for shift in (0, 32, 33, 46, 47, 48, 49, 62, 63)
        ]
        check(steps, lanes=8)

    def test_every_distance_of_an_exponential(self):
        steps = [
            step(4, mode=Mode.EXP.value, src=[offset - d for d in range(n, n + 4)], offset=offset)
            for offset in (0, I16[0] + 300, I16[1], I32[1] - 4, I32[0] + 270)
            for n in range(-4, 264, 4)
        ]
        steps += [
            step(4, mode=Mode.EXP.value, src=src, offset=offset) for src in I32 for offset in I32
        ]
        check(steps, lanes=4)

    def test_every_entry_of_the_table(self):
        steps = [
            plain(range(n, n + 4), wide=wide, table=1)
            for wide in (0, 1)
            for n in range(-128, 128, 4)
        ]
        check(steps, lanes=4, table=TABLE)

    def test_partners_exchange_in_pairs(self):
        steps = [
            plain(
                [1, 2, 3, 4], second=Second.ROTATE.value, cos=[10, 20, 30, 40], sin=[1, -1, 2, -2]
            )
        ]
        check(steps, lanes=4)


def exponentials(rng, lanes):
    return rng.integers(0, 128, lanes).tolist()


class TestRows:
    STATS = (Stat.MAX.value, Stat.MOMENTS.value, Stat.SUM.value)

    def test_rows_of_one_segment_in_every_cycle_of_changing_kind(self):
        rng = np.random.default_rng(1)
        steps = [
            plain(
                exponentials(rng, 8) if n % 4 == 2 else rng.integers(*I16, 8).tolist(),
                stat=[*self.STATS, Stat.NONE.value][n % 4],
                stat_row=int(rng.integers(2**16)),
                profile=int(rng.integers(4)),
            )
            for n in range(200)
        ]
        assert len(check(steps, lanes=8)) == 150

    @pytest.mark.parametrize("lanes", [2, 4, 6, 8])
    @settings(max_examples=8, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        operations=st.lists(
            st.fixed_dictionaries({
                "stat": st.sampled_from([*STATS, Stat.NONE.value, Stat.L1.value]),
                "segments": st.integers(1, 5),
                "rows": st.integers(1, 4),
                "gap": st.integers(0, 3),
            }),
            min_size=1,
            max_size=8,
        ),
    )
    def test_rows_with_gaps_and_any_settings(self, lanes, seed, operations):
        rng = np.random.default_rng(seed)
        steps = []
        for operation in operations:
            for one in random_operation(
                rng,
                lanes,
                row_numbers=rng.permutation(8)[: operation["rows"]].tolist(),
                segments=operation["segments"],
                stat=operation["stat"],
                profile=int(rng.integers(4)),
            ):
                steps += [None] * int(rng.integers(operation["gap"] + 1))
                steps.append(one)
        check(steps, lanes=lanes)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), parts=st.integers(2, 4), count=st.integers(1, 8))
    def test_rows_go_on_over_operations(self, seed, parts, count):
        rng = np.random.default_rng(seed)
        lanes, steps, wait = 4, [], VectorUnit.row_latency_of(4)
        kinds = rng.choice(self.STATS, count).tolist()
        for part in range(parts):
            start = len(steps)
            for row in rng.permutation(count).tolist():
                for n in range(2):
                    z = exponentials(rng, lanes) if kinds[row] == 3 else rng.integers(*I16, lanes)
                    steps.append(
                        plain(
                            [int(v) for v in z],
                            stat=kinds[row],
                            stat_row=row,
                            profile=row % 4,
                            first_seg=n == 0,
                            last_seg=n == 1,
                            stat_first=part == 0,
                            stat_last=part == parts - 1,
                        )
                    )
            # The order of the rows may turn round: only then is the wait from the last one enough.
            steps += [None] * max(0, wait - (len(steps) - start) + 2 * count)
        assert len(check(steps, lanes=lanes)) == count

    def test_finished_rows_leave_the_running_memory_alone(self):
        """Row 9 shares the place of row 1 in a memory of 8, but starts and ends at once."""
        z = [[5, 6], [7, 8], [-1, -2]]
        stat = {"stat": Stat.MAX.value}
        wait = [None] * VectorUnit.row_latency_of(2)
        steps = [
            plain(z[0], stat_row=1, stat_last=0, **stat),
            *wait,
            plain(z[1], stat_row=9, **stat),
            *wait,
            plain(z[2], stat_row=1, stat_first=0, **stat),
        ]
        rows = check(steps, lanes=2)
        assert [row.offset for row in rows.values()] == [8, 6]

    @pytest.mark.parametrize(
        ("width", "fill"),
        [
            *product([2, 48, 1408], ["min", "max", "mixed", "zero", "constant", "random", "one"]),
            *product([8191], ["min", "mixed"]),
        ],
    )
    def test_moments_at_the_ends(self, fill, width):
        rng = np.random.default_rng(width)
        z = {
            "min": np.full(width, I16[0]),
            "max": np.full(width, I16[1]),
            "mixed": np.where(np.arange(width) % 2, *I16),
            "zero": np.zeros(width, np.int64),
            "constant": np.full(width, -123),
            "random": rng.integers(-3000, 3000, width),
            "one": np.eye(1, width, width // 2, dtype=np.int64)[0] * I16[0],
        }[fill]
        lanes = 8
        z = np.concatenate([z, np.zeros(-width % lanes, np.int64)]).reshape(-1, lanes).tolist()
        profiles = [
            NormProfile.of(width, eps=eps, lsb=lsb)
            for eps, lsb in ((1e-6, 2**-8), (1e-5, 2**-12), (1e-30, 1.0), (1.0, 2**-16))
        ]
        steps = [
            plain(
                segment,
                stat=Stat.MOMENTS.value,
                first_seg=n == 0,
                last_seg=n == len(z) - 1,
                profile=profile,
                stat_row=profile,
            )
            for profile in range(4 if width < 100 else 1)
            for n, segment in enumerate(z)
        ]
        check(steps, lanes=lanes, profiles=profiles)

    def test_small_variances_are_exact_to_the_unit(self):
        rng = np.random.default_rng(9)
        profiles = [NormProfile.of(width, eps=1e-30, lsb=1.0) for width in (8, 9, 15, 64)]
        assert [profile.floor for profile in profiles] == [1] * 4
        steps = [
            plain(rng.integers(-n, n + 1, 8).tolist(), stat=Stat.MOMENTS.value, profile=n % 4)
            for n in [0, 0, 0, 0, *range(1, 5)] * 6
        ]
        check(steps, lanes=8, profiles=profiles)

    def test_profiles_of_all_sizes(self):
        rng = np.random.default_rng(5)
        widths = [2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 1000, 1408, 4095, 4096, 4097, 8191]
        for n in range(0, len(widths), 4):
            profiles = [NormProfile.of(w, eps=1e-6, lsb=2**-10) for w in widths[n : n + 4]]
            profiles += PROFILES[: 4 - len(profiles)]
            # Never more elements than the profile has channels, the rest being zeros.
            steps = [
                plain(
                    [int(v) if lane < profile.width else 0 for lane, v in enumerate(z)],
                    stat=Stat.MOMENTS.value,
                    profile=index,
                )
                for index, profile in enumerate(profiles)
                for z in rng.integers(*I16, (6, 8))
            ]
            check(steps, lanes=8, profiles=profiles)

    def test_sums_of_all_sizes(self):
        values = [0, 1, 2, 3, 127, 128, 255, 32767]
        steps = [plain([v] + [0] * 7, stat=Stat.SUM.value) for v in values]
        steps += [
            plain([32767] * 8, stat=Stat.SUM.value, first_seg=n == 0, last_seg=n == 63)
            for n in range(64)
        ]
        check(steps, lanes=8)


class TestDistance:
    def test_counts_all_steps_of_its_kind(self):
        rng = np.random.default_rng(3)
        steps = [
            random_step(
                rng, 8, stat=int(rng.choice([0, 1, 4])), first_seg=int(rng.integers(2)),
                last_seg=0, mode=0, second=0,
            )
            for _ in range(300)
        ]  # fmt: skip
        check(steps, lanes=8)

    def test_sum_is_carried_over_24_bits(self):
        steps = [plain([I16[0]] * 8, other=I16[1], stat=Stat.L1.value) for _ in range(200)]
        check(steps, lanes=8)

    def test_can_be_cleared(self):
        dut = VectorUnit(lanes=2, rows=2)
        seen = []

        async def testbench(ctx):
            for _ in range(2):
                ctx.set(dut.step.valid, 1)
                ctx.set(dut.step.stat, Stat.L1)
                ctx.set(dut.other[0], -7)
                await ctx.tick()
                ctx.set(dut.step.valid, 0)
                for _ in range(dut.distance_latency - 2):
                    await ctx.tick()
                seen.append(ctx.get(dut.distance))
                await ctx.tick()
                seen.append(ctx.get(dut.distance))
                ctx.set(dut.distance_clear, 1)
                await ctx.tick()
                ctx.set(dut.distance_clear, 0)
                seen.append(ctx.get(dut.distance))

        sim = Simulator(dut)
        sim.add_clock(1e-6)
        sim.add_testbench(testbench)
        sim.run()
        # The low half is there a cycle before the high one.
        assert seen == [7, 7, 0] * 2
