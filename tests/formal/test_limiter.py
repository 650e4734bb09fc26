"""What the limiter releases is always within the limits."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.limiter import JointLimiter, Limiter
from jepa_r_sim.formal import ProofError, free_inputs, mutant, prove

from .specs import Spec, follow_faults, follow_settings, past


class JointSpec(Elaboratable):
    """One joint with any limit and any step, which do not change."""

    def __init__(self, dut):
        self.dut = dut

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        free_inputs(m, dut, besides=["limit", "step"])
        # Wide enough for any sum, so the model has no overflow.
        limit, step = Signal(signed(40)), Signal(signed(40))
        m.d.comb += [dut.limit.eq(AnyConst(31)), dut.step.eq(AnyConst(31))]
        m.d.comb += [limit.eq(dut.limit), step.eq(dut.step)]

        number = Signal(signed(40))
        m.d.comb += number.eq(Mux(dut.zero | (dut.torque == -(1 << 31)), 0, dut.torque))
        asked, waits = past(m, number), past(m, dut.valid)
        wanted = Mux(asked > limit, limit, Mux(asked < -limit, -limit, asked))
        before, now = past(m, dut.released), Signal(signed(40))
        moved = Signal(signed(40))
        goal, stepped = past(m, dut.clamped), past(m, dut.taken)
        m.d.comb += [now.eq(dut.released), moved.eq(now - before)]
        was_reset = past(m, ResetSignal())
        m.d.comb += [
            Assert((now <= limit) & (now >= -limit), "released is in range"),
            Assert((dut.clamped <= limit) & (dut.clamped >= -limit), "so is what it goes to"),
            Assert(was_reset | ((moved <= step) & (moved >= -step)), "it moves by at most a step"),
            Assert(stepped | was_reset | (moved == 0), "it stays until the next torque"),
            Assert(dut.taken == waits, "link: taken"),
            Assert(~waits | (dut.clamped == wanted), "the goal is the torque in range"),
            # Either it is there, or it went a whole step towards it and is still not beyond.
            Assert(
                ~stepped
                | (now == goal)
                | ((moved == step) & (now < goal))
                | ((moved == -step) & (now > goal)),
                "it goes as far as it may",
            ),
            Assert(dut.invalid == (dut.valid & (dut.torque == -(1 << 31))), "not a number"),
            Assert(
                dut.beyond_range
                == (dut.valid & ~dut.invalid & ((dut.torque > limit) | (dut.torque < -limit))),
                "beyond range is reported",
            ),
            Assert(
                past(m, dut.beyond_slew) == (stepped & (now != goal)), "beyond slew is reported"
            ),
            Cover((now == -77) & (limit == 100) & (step == 50), "two steps down"),
        ]
        return m


class LimiterSpec(Spec):
    """All joints with their settings, through writes and lock."""

    def specify(self, m, dut):
        settings, locked = follow_settings(m, dut, dut.fields, lock=dut.lock)
        old = dut.age > settings["max_age"]
        taken = dut.i_valid & locked
        shown = {name: [] for name in ("range", "slew", "invalid")}
        for n, joint in enumerate(dut.joints):
            limit, step = Signal(signed(40)), Signal(signed(40))
            now, before = Signal(signed(40)), past(m, dut.released[n])
            m.d.comb += [
                limit.eq(settings[f"limit_{n}"]),
                step.eq(settings[f"step_{n}"]),
                now.eq(dut.released[n]),
                Assert((now <= limit) & (now >= -limit), f"released {n} is in range"),
                Assert(
                    past(m, ResetSignal()) | ((now - before <= step) & (now - before >= -step)),
                    f"released {n} moves by at most a step",
                ),
                Assert((joint.clamped <= limit) & (joint.clamped >= -limit), f"link: clamped {n}"),
                Assert(
                    locked | ~(now.any() | joint.clamped.any() | joint.taken), f"link: lock {n}"
                ),
                Assert(joint.taken == past(m, taken), f"link: taken {n}"),
                Assert(~past(m, taken & (old | dut.stop)) | (joint.clamped == 0), f"zero {n}"),
            ]
            shown["range"].append(joint.beyond_range)
            shown["slew"].append(joint.beyond_slew)
            shown["invalid"].append(joint.invalid)
        m.d.comb += [
            Assert(dut.locked == locked, "locked from the cycle after the lock"),
            Assert(dut.o_valid == past(m, past(m, taken)), "new torques after the latency"),
        ]
        follow_faults(
            m,
            dut,
            {name: Cat(bits).any() for name, bits in shown.items()}
            | {"stale": taken & old, "misuse": locked & dut.w_en.any(), "settings": 0},
        )


class LimiterCovers(LimiterSpec):
    """A torque is released."""

    def specify(self, m, dut):
        super().specify(m, dut)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(dut.o_valid & (dut.released[0] == 5) & ~dut.alert_p, "released without a fault"),
            Cover(dut.o_valid & (dut.released[1] == -5) & dut.faults.slew, "released in a step"),
        ]


@pytest.mark.slow
def test_every_torque_of_a_joint_is_within_its_limits(tmp_path):
    prove(JointSpec(JointLimiter()), depth=2, workdir=tmp_path)


@pytest.mark.slow
def test_a_joint_moves(tmp_path):
    prove(JointSpec(JointLimiter()), depth=6, workdir=tmp_path, mode="cover")


@pytest.mark.slow
def test_torques_of_an_arm_are_within_their_limits(tmp_path):
    """With one joint: more of them are more of the same module, each with its own settings."""
    prove(LimiterSpec(Limiter(joints=1)), depth=2, workdir=tmp_path)


@pytest.mark.slow
def test_an_arm_moves(tmp_path):
    prove(LimiterCovers(Limiter(joints=2)), depth=10, workdir=tmp_path, mode="cover")


BUGS = [
    (JointLimiter, "Mux(below, -self.limit, self.torque)", "self.torque", "range"),
    (JointLimiter, "Mux(falls, -self.step, change)", "change", "step"),
    (JointLimiter, "change = Signal(signed(33))", "change = Signal(signed(32))", "range|step"),
    (JointLimiter, "self.zero | self.invalid", "self.zero", "goal"),
    (JointLimiter, "rises.eq(change > self.step)", "rises.eq(change >= self.step)", "slew"),
    (
        Limiter,
        "taken.eq(self.i_valid & self.locked)",
        "taken.eq(self.i_valid)",
        "taken|lock|new torques|fault",
    ),
    (Limiter, "joint.zero.eq(old | self.stop)", "joint.zero.eq(self.stop)", "zero|fault"),
    (Limiter, 'settings, f"step_{n}"', 'settings, f"limit_{n}"', "step"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "old", "new", "found"), BUGS)
def test_planted_bugs_are_found(tmp_path, kind, old, new, found):
    wrong = mutant(kind, old, new)
    spec = JointSpec(wrong()) if kind is JointLimiter else LimiterSpec(wrong(joints=1))
    with pytest.raises(ProofError, match=found):
        prove(spec, depth=2, workdir=tmp_path)
