# amaranth: UnusedElaboratable=no
import random

import pytest
from amaranth.sim import Simulator

from jepa_r.control.loop import Loop

FRAME, GOAL_FRAME = 0x1000, 0x2000

COMMANDS = ("load", "goal", "observe", "plan", "tick")

OUTPUTS = (
    "encoder_load", "encoder_run", "predictor_load", "predictor_run", "feed", "start", "rolled",
    "load_done", "goal_done", "observe_done", "plan_done", "trigger", "fault", "refused",
)  # fmt: skip


class World:
    """Clusters, feeder and planner around a loop: each takes some cycles for what it is told.

    ``log`` has what happened as (cycle, name, detail); ``overlap`` and ``torn`` are cycles in which
    both clusters were used, and in which a slot was written while it was read.
    """

    def __init__(self, *, concurrent, seed=0, loaded=True, times=None, rollouts=2):
        self.dut = Loop(concurrent=concurrent)
        self.rng = random.Random(seed)
        self.times = times or {}
        self.rollouts = rollouts
        self.log, self.cycle = [], 0
        self.overlap = self.torn = 0
        self.state = {
            f"{name}_{what}": value
            for name in ("encoder", "predictor")
            for what, value in (("ready", 1), ("loaded", loaded), ("fits", 1), ("failed", 0))
        }
        self.breaks = set()  # what fails the next time: encoder, predictor, feed, planner
        self.barred_at_start = []

    def _length(self, name):
        return self.times.get(name) or self.rng.randint(1, 12)

    async def run(self, ctx):
        dut = self.dut
        left = {}
        rolls, rolling = 0, False
        ctx.set(dut.ready, 1)
        ctx.set(dut.frame, FRAME)
        ctx.set(dut.goal_frame, GOAL_FRAME)
        names = (*OUTPUTS, "slot", "picture", "feed_slot", "feed_goal", "barred")
        for name, value in self.state.items():
            ctx.set(getattr(dut, name), value)
        while True:
            values = await ctx.tick().sample(*(getattr(dut, name) for name in names))
            seen = dict(zip(names, values[2:], strict=True))
            self.cycle += 1
            details = {
                "encoder_run": (seen["picture"], seen["slot"]),
                "feed": (seen["feed_slot"], seen["feed_goal"]),
            }
            self.log += [(self.cycle, name, details.get(name)) for name in OUTPUTS if seen[name]]
            pulses = dict.fromkeys(
                ("fed", "feed_failed", "planner_done", "planner_failed", "roll"), 0
            )
            for name in [name for name in left if left[name] == 0]:
                del left[name]
                broken = name.split()[0] in self.breaks
                if name == "feed":
                    pulses["fed"], pulses["feed_failed"] = 1, "feed" in self.breaks
                elif name == "planner":
                    if rolls and not broken and not self.state["predictor_failed"]:
                        rolls -= 1
                        pulses["roll"] = 1
                    else:
                        pulses["planner_done"] = 1
                        pulses["planner_failed"] = (
                            broken or self.state["predictor_failed"] or self.barred_at_start[-1]
                        )
                else:
                    cluster, _, job = name.partition(" ")
                    if broken:
                        self.state[f"{cluster}_failed"] = 1
                    else:
                        self.state[f"{cluster}_ready"] = 1
                        if job == "load":
                            self.state[f"{cluster}_loaded"] = 1
            for name in left:
                left[name] -= 1
            for cluster in ("encoder", "predictor"):
                for job in ("load", "run"):
                    if seen[f"{cluster}_{job}"]:
                        assert self.state[f"{cluster}_ready"], f"{cluster} {job} while not ready"
                        self.state[f"{cluster}_ready"] = 0
                        if job == "load":
                            self.state[f"{cluster}_loaded"] = 0
                        left[f"{cluster} {job}"] = self._length(cluster)
            if seen["feed"]:
                assert "feed" not in left
                left["feed"] = self._length("feed")
                self.read = seen["feed_slot"]
            if seen["start"]:
                self.barred_at_start.append(seen["barred"])
                rolls = self.rollouts
                left["planner"] = self._length("planner")
            if seen["predictor_run"]:
                rolling = True
            if rolling and (seen["rolled"] or self.state["predictor_failed"]):
                rolling = False
                left["planner"] = self._length("planner")
            encoding = "encoder run" in left
            planning = bool(left.keys() & {"predictor run", "feed", "planner"})
            self.overlap += encoding and planning
            self.torn += encoding and "feed" in left and self.read == seen["slot"]
            for name, value in (self.state | pulses).items():
                ctx.set(getattr(dut, name), value)

    def happened(self, *names):
        """What happened of these, in order, without the cycles."""
        return [(name, detail) if detail else name for _, name, detail in self.log if name in names]

    def count(self, name):
        return sum(entry[1] == name for entry in self.log)


def simulate(world, testbench):
    simulator = Simulator(world.dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(world.run, background=True)
    simulator.add_testbench(testbench)
    simulator.run()
    return world


async def give(ctx, world, *names):
    for name in names:
        ctx.set(getattr(world.dut, name), 1)
    await ctx.tick()
    for name in names:
        ctx.set(getattr(world.dut, name), 0)


async def wait(ctx, cycles=200):
    for _ in range(cycles):
        await ctx.tick()


def script(world, *steps, rest=200):
    """Give commands; a number lets cycles pass."""

    async def testbench(ctx):
        for step in steps:
            if isinstance(step, int):
                await wait(ctx, step)
            else:
                await give(ctx, world, *step.split())
        await wait(ctx, rest)

    return simulate(world, testbench)


both = pytest.mark.parametrize("concurrent", [False, True], ids=["turns", "concurrent"])


@both
def test_all_commands_at_once_are_done_in_an_order_that_makes_sense(concurrent):
    world = script(World(concurrent=concurrent, loaded=False), "load goal observe plan", rest=300)
    assert world.happened(*OUTPUTS) == [
        "trigger", "encoder_load", "predictor_load", "load_done",
        ("encoder_run", (GOAL_FRAME, 3)), "goal_done",
        ("encoder_run", (FRAME, 1)), "observe_done",
        ("feed", (1, 0)), ("feed", (3, 1)), "start",
        "predictor_run", "rolled", "predictor_run", "rolled", "plan_done",
    ]  # fmt: skip


@both
def test_what_cannot_be_done_is_refused_when_its_turn_comes(concurrent):
    world = script(
        World(concurrent=concurrent, loaded=False), "observe", 50, "goal", 50, "plan", 50
    )
    assert world.happened(*OUTPUTS) == ["refused", "refused", "trigger", "refused"]
    for missing in ("goal", "observe"):
        world = script(World(concurrent=concurrent), missing, 100, "plan")
        assert world.count("start") == 0
        assert world.count("refused") == 1
    for cluster, command in (("encoder", "observe"), ("predictor", "plan")):
        world = World(concurrent=concurrent)
        world.state[f"{cluster}_fits"] = 0
        script(world, "goal observe", 100, command)
        assert world.count("refused") == (1 if cluster == "predictor" else 3)
        assert world.count("start") == 0


@both
@pytest.mark.parametrize("command", ["load", "goal", "observe", "plan"])
def test_a_command_is_remembered_once_and_refused_a_third_time(concurrent, command):
    setup = ("goal observe", 100)
    world = World(concurrent=concurrent, times={"encoder": 30, "predictor": 30, "planner": 30})
    script(world, *setup, command, 8, command, 2, command, 2, command, rest=900)
    done = world.count(f"{command}_done") - (command in setup[0].split())
    assert (done, world.count("refused")) == (2, 2)


def test_a_tick_observes_and_then_plans_with_what_it_saw():
    world = script(World(concurrent=True), "goal", 60, "tick", 150, "tick", 150)
    assert world.happened("encoder_run", "feed", "plan_done") == [
        ("encoder_run", (GOAL_FRAME, 3)),
        ("encoder_run", (FRAME, 1)), ("feed", (1, 0)), ("feed", (3, 1)), "plan_done",
        ("encoder_run", (FRAME, 0)), ("feed", (0, 0)), ("feed", (3, 1)), "plan_done",
    ]  # fmt: skip


@both
def test_a_plan_is_not_put_off_by_observations_without_end(concurrent):
    """Each is commanded as soon as the last one has begun."""
    world = World(concurrent=concurrent, times={"encoder": 10})

    async def testbench(ctx):
        await give(ctx, world, "goal")
        await wait(ctx, 40)
        for cycle in range(400):
            ctx.set(world.dut.observe, cycle % 5 == 0)
            ctx.set(world.dut.plan, cycle == 50)
            await ctx.tick()

    simulate(world, testbench)
    assert world.count("plan_done") == 1
    # The one that was under way, or one more.
    at = {name: cycle for cycle, name, _ in world.log if name in ("trigger", "start")}
    between = [c for c, name, _ in world.log if name == "observe_done" and c > at["trigger"]]
    assert sum(c < at["start"] for c in between) <= 2


@both
@pytest.mark.parametrize("seed", range(4))
def test_random_commands_are_all_done_or_refused(concurrent, seed):
    world = World(concurrent=concurrent, seed=seed)
    given = dict.fromkeys(COMMANDS, 0)
    rng = random.Random(seed)

    async def testbench(ctx):
        for _ in range(1500):
            command = rng.choice(COMMANDS[1:]) if rng.random() < 0.1 else None
            if rng.random() < 0.003:
                command = "load"
            if command:
                given[command] += 1
                await give(ctx, world, command)
            else:
                await ctx.tick()
        await wait(ctx, 600)

    simulate(world, testbench)
    done = {name: world.count(f"{name}_done") for name in ("load", "goal", "observe", "plan")}
    assert given["load"] >= done["load"] > 0
    for name in ("goal", "observe", "plan"):
        assert 5 < done[name] <= given[name] + given["tick"] * (name != "goal")
    # A tick is two commands, which are refused together or one by one.
    asked = sum(given.values()) + given["tick"]
    assert asked - given["tick"] <= sum(done.values()) + world.count("refused") <= asked
    assert world.torn == 0
    assert (world.overlap > 0) == concurrent
    assert world.count("fault") == 0


@both
def test_a_plan_reads_the_newest_latents_and_none_that_is_being_made(concurrent):
    world = World(concurrent=concurrent, seed=5)
    rng = random.Random(5)

    async def testbench(ctx):
        for _ in range(1500):
            if rng.random() < 0.15:
                await give(ctx, world, rng.choice(["observe", "goal", "plan"]))
            else:
                await ctx.tick()

    simulate(world, testbench)
    newest, made, before = [None, None], None, []
    for cycle, name, detail in world.log:
        if name == "encoder_run":
            made = detail[1]
            assert made not in newest
            assert (made >= 2) == (detail[0] == GOAL_FRAME)
        elif name in ("observe_done", "goal_done"):
            before.append((cycle, list(newest)))
            newest[name == "goal_done"] = made
        elif name == "feed":
            if not detail[1]:
                # It was chosen a cycle before, from what was complete then.
                chosen = next((old for done, old in before if done >= cycle - 1), newest)
                chosen = list(chosen)
            assert detail[0] == chosen[detail[1]]


@both
@pytest.mark.parametrize("name", ["observe", "goal"])
def test_a_plan_waits_for_the_picture_that_was_commanded_with_it(concurrent, name):
    """Also if an older one is still being encoded, whenever the command comes."""
    for pause in range(3, 24):
        world = World(concurrent=concurrent, times={"encoder": 9})
        script(world, "observe goal", 60, name, pause, f"{name} plan")
        order = world.happened("observe_done", "goal_done", "start")
        assert order[2:] == [f"{name}_done", f"{name}_done", "start"], pause


@both
def test_nothing_begins_before_memories_are_cleared(concurrent):
    world = World(concurrent=concurrent)

    async def testbench(ctx):
        ctx.set(world.dut.ready, 0)
        await give(ctx, world, "observe")
        await wait(ctx, 30)
        assert world.count("encoder_run") == 0
        ctx.set(world.dut.ready, 1)
        await wait(ctx, 30)
        assert world.count("observe_done") == 1

    simulate(world, testbench)


def test_the_deadline_counts_from_a_command_or_from_the_end_of_the_plan_before_it():
    times = {"encoder": 20, "planner": 20, "feed": 5, "predictor": 5}
    world = script(
        World(concurrent=False, times=times), "goal observe", 100, "plan", 10, "plan", rest=500
    )
    cycles = {
        name: [cycle for cycle, event, _ in world.log if event == name]
        for name in ("trigger", "plan_done", "feed")
    }
    assert len(cycles["trigger"]) == 2
    assert cycles["trigger"][0] < cycles["feed"][0]
    assert cycles["trigger"][1] == cycles["plan_done"][0]


@both
def test_a_run_of_the_encoder_that_fails_leaves_no_observation(concurrent):
    world = World(concurrent=concurrent)

    async def testbench(ctx):
        await give(ctx, world, "goal", "observe")
        await wait(ctx, 100)
        world.breaks.add("encoder")
        await give(ctx, world, "tick")
        await wait(ctx, 100)
        assert world.happened("fault", "refused") == ["fault", "refused"]
        await give(ctx, world, "plan")
        await give(ctx, world, "load")
        await wait(ctx, 50)

    simulate(world, testbench)
    assert world.count("observe_done") == 1
    assert world.count("start") == world.count("encoder_load") == 0
    assert world.count("refused") == 3


@both
@pytest.mark.parametrize("part", ["planner", "predictor", "feed"])
def test_a_plan_that_fails_is_told_and_not_complete(concurrent, part):
    world = World(concurrent=concurrent)

    async def testbench(ctx):
        await give(ctx, world, "goal", "observe")
        await wait(ctx, 100)
        world.breaks.add(part)
        await give(ctx, world, "plan")
        await wait(ctx, 200)
        assert world.count("plan_done") == 0
        assert world.barred_at_start == [part == "feed"]
        # A cluster's fault and that of its plan.
        assert world.count("fault") == (2 if part == "predictor" else 1)
        world.breaks.clear()
        await give(ctx, world, "plan")
        await wait(ctx, 200)

    simulate(world, testbench)
    assert world.count("plan_done") == (part != "predictor")


def test_a_control_period_that_cannot_be_is_a_fault_once():
    world = World(concurrent=True)

    async def testbench(ctx):
        ctx.set(world.dut.clamped, 1)
        await wait(ctx, 20)
        ctx.set(world.dut.clamped, 0)
        await wait(ctx, 20)

    simulate(world, testbench)
    assert world.count("fault") == 1


def test_new_programs_make_old_latents_void():
    world = script(World(concurrent=True), "goal observe", 100, "load", 60, "plan")
    assert world.count("start") == 0
    assert world.count("refused") == 1
