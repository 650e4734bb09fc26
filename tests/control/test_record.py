from amaranth.sim import Simulator

from jepa_r.control.record import PlanRecord


def test_a_record_changes_only_when_a_plan_is_complete():
    dut = PlanRecord()

    async def testbench(ctx):
        async def give(**values):
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            for name in values:
                if name in ("begin", "elite_valid", "done"):
                    ctx.set(getattr(dut, name), 0)

        def seen():
            return tuple(ctx.get(value) for value in (dut.plan, dut.cycles, dut.best_cost)), [
                ctx.get(dut.action[n]) for n in range(7)
            ]

        none = ((0, 0, 0), [0] * 7)
        await give(begin=1, next_plan=7)
        # The number counts on; two iterations, of which the second is worse.
        await give(next_plan=8)
        for cost in (100, 120):
            for rank in (0, 1):
                await give(elite_valid=1, elite_rank=rank, elite_cost=cost + rank)
        assert seen() == none
        await give(done=1, moves=[1, -2, 3, 0, 0, 0, 16384], length=1234)
        first = ((7, 1234, 120), [1, -2, 3, 0, 0, 0, 16384])
        assert seen() == first
        # One that is never complete leaves no trace.
        await give(begin=1)
        await give(elite_valid=1, elite_rank=0, elite_cost=1 << 40, moves=[9] * 7, length=5)
        assert seen() == first
        await give(begin=1, next_plan=9)
        await give(elite_valid=1, elite_rank=0, elite_cost=1 << 47)
        await give(done=1)
        assert seen() == ((9, 5, 1 << 47), [9] * 7)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
