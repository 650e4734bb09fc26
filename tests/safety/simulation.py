"""A component that is compiled for simulation once, for many testbenches."""

from amaranth.sim import Simulator

__all__ = ["Simulation"]


class Simulation:
    """Simulation of ``dut``, which is reset before each testbench: compiling takes the most time.

    Parameters
    ----------
    dut : component
        What is simulated.
    clocked : :class:`bool`
        Whether it has registers.
    """

    def __init__(self, dut, *, clocked=True):
        self.dut, self.clocked = dut, clocked
        self.testbench = None
        self.simulator = Simulator(dut)
        if clocked:
            self.simulator.add_clock(1e-6)
        self.simulator.add_testbench(self._run)

    async def _run(self, ctx):
        await self.testbench(ctx)

    def __call__(self, testbench):
        """Run a testbench."""
        # One that never ran cannot be taken back: the first needs no reset.
        if self.testbench is not None:
            self.simulator.reset()
        self.testbench = testbench
        self.simulator.run()
