"""The whole chip: from pictures, goal and joint state to actions, held to the integer models."""

from functools import cached_property
from itertools import pairwise

import numpy as np
import pytest
from attrs import evolve

from jepa_r.cluster.isa import Fault
from jepa_r.config import PRESETS
from jepa_r.planner.layouts import PlannerFault
from jepa_r.planner.planner import Planner
from jepa_r_sim.chip import Script, build_chip, run_chip
from jepa_r_sim.compiler import compile_encoder, compile_predictor
from jepa_r_sim.golden import planner as golden
from jepa_r_sim.model import integer
from jepa_r_sim.model.quantiser import quantise, quantise_predictor
from jepa_r_sim.model.rollout import costs, rollout
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_predictor_weights, random_weights

CONFIG, MODEL = PRESETS["nano"], MODELS["nano"]
POSE = (100, -200, 300, 4000, -5000, 6000, 8000)
SHORT = golden.Settings(samples=5, elites=2, iterations=1, horizon=1, seed=5, plan=7)

#: Cycles of a rollout's program, and one until it is told.
TOLD = 1


def pages(size):
    return -(-size // 4096) * 4096


class System:
    """Random models on the nano chip, three pictures, and where everything lies in memory."""

    def __init__(self, seed, horizon, config=CONFIG):
        self.config = config
        rng = np.random.default_rng(seed)
        shape = (MODEL.tokens, MODEL.patch_features)
        frames = [rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(3)]
        quantised = quantise(random_weights(MODEL, seed))
        self.latents = [integer.encode(quantised, frame).latent for frame in frames]
        self.predictor = quantise_predictor(
            random_predictor_weights(MODEL, seed), np.stack(self.latents)
        )
        self.encoder = compile_encoder(config.encoder, quantised, latent_store=True)
        self.rollout = compile_predictor(
            config.predictor, self.predictor, horizon=horizon, trace=True,
            base=pages(self.encoder.memory_bytes),
        )  # fmt: skip
        self.images = [self.encoder.frame_image([frame]) for frame in frames]
        first = pages(self.rollout.memory_bytes)
        step = pages(len(self.images[0]))
        self.frames = [first + n * step for n in range(3)]
        self.trace = first + 3 * step

    @cached_property
    def simulation(self):
        return build_chip(self.config)

    @cached_property
    def memory(self):
        memory = bytearray(self.trace + (1 << 20))
        self.encoder.place(memory)
        self.rollout.place(memory)
        for at, image in zip(self.frames, self.images, strict=True):
            memory[at : at + len(image)] = image
        return bytes(memory)

    def script(self, settings=SHORT, *, period=5000):
        """Everything is set; picture 0 is what the camera sees, picture 1 the goal."""
        script = Script().configure(
            encoder=self.encoder.program_address, predictor=self.rollout.program_address,
            frame=self.frames[0], goal=self.frames[1], trace=self.trace,
            windows=[(0, len(self.memory))],
        )  # fmt: skip
        script.settings(settings).write("CONTROL_PERIOD", period).write("PLAN_DEADLINE", 0)
        return script.write("MAX_AGE", 1 << 30).state(POSE)

    def ready(self, settings=SHORT, **options):
        """The same, and both pictures encoded."""
        script = self.script(settings, **options).command("load", "goal", "observe")
        return script.wait("loaded", "goal", "observed", limit=500_000)

    def run(self, script, workdir, **options):
        return run_chip(
            self.config, script, {0: self.memory}, workdir=workdir, simulation=self.simulation,
            **options,
        )  # fmt: skip

    def plan(self, settings=SHORT, *, seen=0, goal=1, pose=POSE, previous=None):
        """Golden plan, and the latents of all its rollouts, by iteration."""
        found = []

        def cost(actions, states):
            latents = rollout(self.predictor, self.latents[seen], actions, states).latents
            found.append(latents)
            return costs(latents[:, -1], self.latents[goal])

        made = golden.plan(settings, np.array(pose, np.int16), cost, previous=previous)
        return made, found

    def plan_cycles(self, settings):
        return Planner.cycles_of(
            samples=settings.samples, elites=settings.elites, iterations=settings.iterations,
            horizon=settings.horizon, tiles=CONFIG.predictor.tiles,
            row_bytes=CONFIG.predictor.tile.rows, rollout=self.rollout.cycles + TOLD,
        )  # fmt: skip


@pytest.fixture(scope="module")
def system():
    return System(1, 1)


def elites_of(plan):
    return [
        (iteration, rank, int(candidate), int(cost))
        for iteration, (candidates, found) in enumerate(
            zip(plan.elites, plan.elite_costs, strict=True)
        )
        for rank, (candidate, cost) in enumerate(zip(candidates, found, strict=True))
    ]


def told(run):
    return [(e.iteration, e.rank, e.candidate, e.cost) for e in run.elites]


RESULT = ("STATUS", "FAULT", "PLAN", "PLAN_CYCLES", "BEST_COST_LOW", "NEXT_PLAN", "CORRECTED")


def check_plan(system, run, read, settings, plan):
    """A plan that was read is the golden one, and took as long as it had to."""
    assert run.waits[-1].in_time
    assert not any(read["FAULT"].values()), read["FAULT"]
    assert read["PLAN"] == settings.plan
    assert read["NEXT_PLAN"] == settings.plan + 1
    assert read["PLAN_CYCLES"] == system.plan_cycles(settings)
    assert read["BEST_COST_LOW"] == min(plan.elite_costs[-1])
    assert run.actions[-1][1].action == tuple(plan.action)


def test_an_action_is_the_golden_models_and_so_is_all_that_leads_to_it(system, tmp_path):
    settings = evolve(SHORT, samples=9, elites=3, iterations=2, warm=0)
    plan, latents = system.plan(settings)
    script = system.ready(settings).read("ENCODER_CYCLES").command("plan").wait("planned")
    rollouts = settings.iterations * -(-settings.samples // CONFIG.predictor.tiles)
    size = system.rollout.trace_bytes
    script.read(*RESULT).dump("trace", system.trace, rollouts * size).cycles(6000)
    run = system.run(script, tmp_path)
    assert run.reads[0]["ENCODER_CYCLES"] == system.encoder.cycles
    check_plan(system, run, run.reads[-1], settings, plan)
    assert told(run) == elites_of(plan)
    for iteration, golden_latents in enumerate(latents):
        found = [
            system.rollout.latents(run.dumps["trace"], n * size)
            for n in range(iteration * rollouts // 2, (iteration + 1) * rollouts // 2)
        ]
        assert (np.concatenate(found)[: settings.samples] == golden_latents).all()
    # A packet a period, from before there was a plan to after it.
    packets = [packet for _, packet in run.actions]
    assert [packet.sequence for packet in packets] == list(range(len(packets)))
    assert {b.time - a.time for a, b in pairwise(packets)} == {5000}
    assert not packets[0].valid
    assert (packets[-1].valid, packets[-1].stale, packets[-1].plan) == (True, False, settings.plan)


@pytest.mark.parametrize("mode", [[("fast",)], [("random", 1)]], ids=str)
def test_memory_within_its_contract_does_not_matter(system, tmp_path, mode):
    plan, _ = system.plan()
    script = system.ready().command("plan").wait("planned").read(*RESULT).cycles(6000)
    run = system.run(script, tmp_path, mode=mode)
    check_plan(system, run, run.reads[-1], SHORT, plan)
    assert told(run) == elites_of(plan)


def test_a_plan_takes_no_longer_while_the_encoder_runs(system, tmp_path):
    """Both share memory that is as late as it may be; the plan keeps what it began with."""
    plan, _ = system.plan()
    script = system.ready().command("plan").cycles(2000)
    # Another picture, again and again.
    script.write("FRAME", system.frames[2]).command("observe").cycles(20_000).command("observe")
    script.cycles(20_000).command("observe").wait("planned").read(*RESULT).cycles(6000)
    settings = evolve(SHORT, plan=8)
    script.wait("observed").read("ENCODER_CYCLES").command("plan").wait("planned")
    run = system.run(script.read(*RESULT).cycles(6000), tmp_path)
    first, cycles, second = run.reads
    assert first["PLAN_CYCLES"] == system.plan_cycles(SHORT)
    assert not any(first["FAULT"].values())
    assert cycles["ENCODER_CYCLES"] == system.encoder.cycles
    following, _ = system.plan(settings, seen=2)
    check_plan(system, run, second, settings, following)
    assert told(run) == elites_of(plan) + elites_of(following)


def test_the_loop_goes_round_by_itself(system, tmp_path):
    period = 2 * (system.encoder.cycles + 200) + 2 * system.plan_cycles(SHORT)
    script = system.ready().write("PLAN_PERIOD", period).write("PLAN_DEADLINE", period)
    script.write("CONTROL", auto=1).wait("planned").read(*RESULT)
    moved = (1000, 2000, -3000, 0, 0, 0, 16384)
    script.patch(system.frames[0], system.images[2]).state(moved)
    script.wait("planned").write("CONTROL", auto=0).read(*RESULT).cycles(6000)
    run = system.run(script, tmp_path)
    first, _ = system.plan()
    settings = evolve(SHORT, plan=8)
    second, _ = system.plan(settings, seen=2, pose=moved)
    assert [read["PLAN"] for read in run.reads] == [7, 8]
    assert told(run) == elites_of(first) + elites_of(second)
    check_plan(system, run, run.reads[-1], settings, second)
    assert not run.reads[-1]["STATUS"]["stale"]


def test_wrong_bits_in_memories_are_corrected(system, tmp_path):
    plan, _ = system.plan()
    script = system.ready().inject(1).command("observe").wait("observed").command("plan")
    run = system.run(script.wait("planned").inject(0).read(*RESULT).cycles(6000), tmp_path)
    assert run.reads[-1]["CORRECTED"] > 1000
    assert run.actions[-1][1].action == tuple(plan.action)
    assert told(run) == elites_of(plan)


def test_what_cannot_be_done_is_refused_and_counted(system, tmp_path):
    counts = ("STATUS", "COMMANDS_REFUSED", "STATES_DROPPED", "STATES_RECEIVED", "STATE_GAPS")
    # The first read takes a copy of what belongs together.
    pose = ("STATE_SEQUENCE", "POSE[0]")
    script = system.script().command("observe").wait("refused", limit=3000)
    script.command("plan").wait("refused", limit=3000)
    script.state((1,) * 7, spoil=1 << 9).wait("state_dropped", limit=3000).read(*pose)
    script.state((2,) * 7).wait("state_updated", limit=3000).read(*pose)
    script.write("LOCK", 1).refused("FRAME", 0).refused("ENCODER_WINDOW[0].BASE", 1)
    run = system.run(script.write("SAMPLES", 9).read(*counts, "FRAME"), tmp_path)
    assert all(wait.in_time for wait in run.waits)
    before, after, read = run.reads
    assert (before["POSE[0]"], after["POSE[0]"]) == (POSE[0], 2)
    assert read["FRAME"] == system.frames[0]
    assert [read[name] for name in counts[1:]] == [2, 1, 2, 1]
    assert not any(read["STATUS"].values())


def test_faults_have_names_and_stop_what_needs_the_cluster(system, tmp_path):
    address = system.rollout.program_address + 200
    wrong = bytes([system.memory[address] ^ 4])
    script = system.script().patch(address, wrong).command("load").wait("loaded", limit=100_000)
    script.read("FAULT", "STATUS").command("observe").wait("observed", "refused", limit=100_000)
    # After a reset the encoder may not read the second picture.
    script.patch(address, system.memory[address : address + 1]).reset()
    script.steps += system.ready().steps
    script.write("ENCODER_WINDOW[0].LIMIT", system.frames[2]).write("FRAME", system.frames[2])
    script.command("observe").wait("observed", limit=100_000).read("FAULT", "STATUS")
    script.command("plan").wait("refused", limit=100_000)
    # After another one a setting is wrong.
    script.reset()
    script.steps += system.ready(evolve(SHORT, horizon=2)).steps
    script.command("plan").wait("planned", limit=100_000).read("FAULT", "STATUS")
    run = system.run(script.read("FAULT", "STATUS"), tmp_path)
    image, window, planner, _ = run.reads
    none = dict.fromkeys(("encoder", "predictor", "planner", "period"), 0)
    assert image["FAULT"] == none | {"predictor": Fault.IMAGE_CRC.value}
    assert not image["STATUS"]["loaded"]
    assert window["FAULT"] == none | {"encoder": Fault.WINDOW.value}
    assert window["STATUS"]["observed"]
    assert planner["FAULT"] == none | {"planner": PlannerFault.STEPS.value}
    assert not planner["STATUS"]["planned"]
    assert [wait.seen for wait in run.waits if "refused" in wait.seen]


def test_a_plan_that_is_late_is_told_and_an_old_one_gives_no_action(system, tmp_path):
    script = system.ready().write("PLAN_DEADLINE", 1000).write("MAX_AGE", 12_000)
    script.command("plan").wait("deadline").wait("planned").cycles(40_000)
    run = system.run(script.read("DEADLINES_MISSED", "STATUS"), tmp_path)
    assert run.reads[-1]["DEADLINES_MISSED"] == 1
    assert run.reads[-1]["STATUS"]["stale"]
    ages = [packet.age for _, packet in run.actions if packet.valid]
    assert ages
    assert max(ages) <= 12_000
    last = run.actions[-1][1]
    assert (last.valid, last.stale, last.action) == (False, True, (0,) * 7)


def test_packets_that_nobody_takes_are_told_and_the_next_ones_are_whole(system, tmp_path):
    script = system.script(period=2000).cycles(110_000).hold_actions().wait("overrun", limit=9000)
    script.cycles(5000).hold_actions(False).cycles(6000).read("ACTION_OVERRUNS", "FAULT")
    run = system.run(script.write("CONTROL_PERIOD", 3).cycles(5000).read("FAULT"), tmp_path)
    assert run.reads[0]["ACTION_OVERRUNS"] >= 2
    # Every packet that came was whole: its sum is checked where it is read.
    numbers = [packet.sequence for _, packet in run.actions]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] >= len(numbers)
    assert run.reads[-1]["FAULT"]["period"]


@pytest.mark.slow
def test_clusters_that_take_turns_each_have_all_of_the_memory(tmp_path):
    clusters = {
        name: evolve(cluster, memory=evolve(CONFIG.memory, latency=CONFIG.memory.latency + 1))
        for name, cluster in (("encoder", CONFIG.encoder), ("predictor", CONFIG.predictor))
    }
    system = System(1, 1, evolve(CONFIG, concurrent=False, **clusters))
    assert system.encoder.cycles < compile_encoder(CONFIG.encoder, MODEL).cycles
    plan, _ = system.plan()
    script = system.ready().command("plan").cycles(100).command("observe").wait("planned")
    script.read(*RESULT).wait("observed", limit=50_000).read("ENCODER_CYCLES", "FAULT")
    run = system.run(script.cycles(6000), tmp_path)
    check_plan(system, run, run.reads[0], SHORT, plan)
    assert told(run) == elites_of(plan)
    # The picture waited for the plan, but for its last cycles.
    assert run.waits[-1].cycle >= run.waits[-2].cycle + system.encoder.cycles - 1000
    assert run.reads[-1]["ENCODER_CYCLES"] == system.encoder.cycles
    assert not any(run.reads[-1]["FAULT"].values())
