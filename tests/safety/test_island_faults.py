"""Registers of the island that flip in RUN: the right cause, a closed gate, in time."""

import pytest

from .island_faults import FAULTS, notices

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("what", FAULTS)
def test_a_flipped_register_closes_the_gate_in_time(from_run, latency, what):
    with from_run() as world:
        notices(world, what, latency)


@pytest.mark.parametrize("channel", ["safe", "guard"])
def test_a_reset_of_one_channel_alone_closes_the_gate(from_run, channel):
    with from_run() as world:
        model = world.model
        model.pin(f"{channel}_rst", 1)
        model.run(2)
        assert (model.shown["is_open"], model.shown["torque"], model.shown["brake"]) == (0, 0, 1)
        assert model.shown["sto_a"] == model.shown["sto_b"] == 0
        model.pin(f"{channel}_rst", 0)
        model.run(2)
        for _ in range(2):
            world.period()
        assert (model.shown["is_open"], model.shown["sto_a"], model.shown["sto_b"]) == (0, 0, 0)
        if channel == "safe":
            # Channel B was told of all that went: the image is to be sent again.
            assert model.state() == "RESET"
            assert model.shown["trip_sources"] & 0b111
        else:
            assert (model.state(), model.alerts("first_alert") <= {"ESTOP", "WATCHDOG"}) == (
                "TRIP", True,
            )  # fmt: skip


def test_power_that_drops_closes_the_gate_of_both(from_run):
    with from_run() as world:
        model = world.model
        model.pin("safe_rst", 1)
        model.pin("guard_rst", 1)
        model.run(1)
        model.pin("safe_rst", 0)
        model.pin("guard_rst", 0)
        world.period()
        assert (model.state(), model.shown["is_open"], model.shown["torque"]) == ("RESET", 0, 0)
        assert (model.shown["sto_a"], model.shown["sto_b"], model.shown["brake"]) == (0, 0, 1)
        # A new start knows of no cause.
        assert model.alerts("first_alert") == set()


def test_a_reset_of_channel_b_during_an_alert_leaves_the_cause(from_run):
    with from_run() as world:
        model = world.model
        model.edge("safe")
        model.flip("registers.limit_torque_0_inverse", 1)
        model.run(0.01)
        model.pin("guard_rst", 1)
        model.run(2)
        model.pin("guard_rst", 0)
        model.run(2)
        assert (model.state(), model.alerts("first_alert")) == ("TRIP", {"SETTING"})
        assert (model.shown["is_open"], model.shown["sto_a"], model.shown["sto_b"]) == (0, 0, 0)
