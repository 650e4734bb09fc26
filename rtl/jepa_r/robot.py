"""The robot's top: the accelerator in the hands of the safety island, and nothing else."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from attrs import evolve

from .chip import Chip
from .clocking import ACCELERATOR, ACTING, AI, RESETS, add_held
from .safety.island import Island

__all__ = ["Robot"]

#: The island's state, where the chip has a port of that name.
_STATE = "island_state"


class Robot(wiring.Component):
    """From pictures, images, commands and joints to actions and torques.

    .. code-block:: text

                      ┌────────── accelerator (ai_clk) ──────────┐
         axi, lite ─► │ clusters, loop ─► planner, timers, ... ─ │ ─► action ┐
         state ─────► │       │ verdict       ▲ reset            │           │ the arm's controller,
                      └───────┼───────▲───────┼──────────────────┘           │ outside
                              │       │ reset │                              │
                      ┌───────▼───────┼───────┼──────────────────┐           │
         image, ────► │ island     ai_load  ai_release           │ ◄─ commands
         joints, ...  │ (safe_clk, guard_clk)                    │ ─► torque, sto, brake
                      └──────────────────────────────────────────┘

    What the accelerator can do to the island is this: words of ``commands``, which are packets with
    a sum; its verdict; its clock. Each passes a crossing of :mod:`jepa_r.clocking`, none can hold
    the island up, and none is a write to it. A cluster's fault, the missed deadline of a strict
    program among them, is in the verdict; the firmware reads it at the start. From then on the
    deadline monitor stands between the two: it waits for commands, which the arm's controller makes
    from actions, and which say how old their plan is. No other wire tells the island of a deadline.

    **Reset.** The accelerator has no reset of its own. A session of the island begins with all of
    it in reset. Then it may fetch its programs and check them, which its host commands (LOAD); what
    plans and acts stays in reset (:class:`~.chip.Chip`, ``acting``). The island's firmware waits
    for a verdict; a bad one ends the start, a good one is followed by the release, and all of the
    accelerator runs. Both resets begin without ``ai_clk``, and with ``safe_rst`` without any clock;
    they end with 16 edges of ``ai_clk``.

    Parameters
    ----------
    config : :class:`jepa_r.config.ChipConfig`
        Sizes of both.

    Members
    -------
    axi, lite, state, action, interrupt, elite, inject, verdict
        As of :class:`~.chip.Chip`, on ``ai_clk``.
    ai_rst : ``Out(1)``
        Reset of the accelerator, for whatever else is on its clock: what was under way on ``axi``
        and the other ports is void. Begins without the clock.
    island_state : ``Out(16)``
        The ``state`` of :class:`~.safety.island.Island`.
    ...
        All other ports as of the island, but for ``ai_verdict``, which is the chip's ``verdict``.

    Raises
    ------
    :exc:`jepa_r.config.ConfigError`
        If the configuration has no predictor.
    """

    def __init__(self, *, config):
        self._chip = Chip(config=config, acting=ACTING)
        self._island = Island(config=config.safety, ai_mhz=config.clock_mhz)
        ports, parts = {"ai_rst": Out(1)}, {}
        for part in (self._chip, self._island):
            for name, member in part.signature.members.items():
                ours = _STATE if part is self._island and name == "state" else name
                if name != "ai_verdict":
                    ports[ours], parts[ours] = member, getattr(part, name)
        super().__init__(ports)
        # Their very signals: copies of clocks change at another time in simulators.
        for name, port in parts.items():
            setattr(self, name, port)

    @property
    def crossings(self):
        """All paths between clocks: the island's, and the resets of the accelerator."""
        below = (evolve(crossing, name=f"island/{crossing.name}")
                 for crossing in self._island.crossings)  # fmt: skip
        return (*below, *RESETS.values())

    def port_clock(self, name):
        """Domain that a port belongs to, or :data:`~jepa_r.clocking.PIN`."""
        if name.partition("__")[0] in {*self._chip.signature.members, "ai_rst"}:
            return AI
        return self._island.port_clock("state" if name == _STATE else name)

    def elaborate(self, platform):
        m = Module()
        chip, island = self._chip, self._island
        domains = {"sync": ACCELERATOR, ACTING: ACTING}
        if hasattr(platform, "get_part"):
            # The very module of the island's own top, and two files that can be read.
            m.submodules.chip = platform.get_part(chip, name="accelerator", domains=domains)
            m.submodules.island = platform.get_part(island, name="island")
        else:
            m.submodules.chip = DomainRenamer(domains)(chip)
            m.submodules.island = island
        m.d.comb += [
            island.ai_verdict.eq(chip.verdict),
            self.ai_rst.eq(ResetSignal(ACCELERATOR)),
        ]
        add_held(m, ACCELERATOR, clock=self.ai_clk, release=island.ai_load & ~self.safe_rst)
        add_held(m, ACTING, clock=self.ai_clk, release=island.ai_release & ~self.safe_rst)
        return m
