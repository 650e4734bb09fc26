"""One island that was built and started for all the tests of it."""

import pytest

from jepa_r_sim.island import build_island

from .island import AI_MHZ, CONFIG, attempts, from_here, island, ready, started


@pytest.fixture(scope="session")
def simulation():
    return build_island(CONFIG, ai_mhz=AI_MHZ)


@pytest.fixture(scope="session")
def from_power_on(simulation):
    """Power is there, and no image."""
    with island(simulation) as model:
        model.power_on()

        yield attempts(model)


@pytest.fixture(scope="session")
def from_selftest(simulation):
    """The processors test themselves, and channel B has been re-armed."""
    with island(simulation) as model:
        started(model)

        yield attempts(model)


@pytest.fixture(scope="session")
def from_run(simulation):
    """The arm is at rest in RUN, after some good commands."""
    with island(simulation) as model:
        yield from_here(ready(model))


@pytest.fixture
def latency(record_property):
    """Hold a latency against its bound, and keep it for the table at the end."""

    def measure(event, cycles, bound, clock):
        record_property("latency", [event, cycles, bound, clock])
        assert cycles <= bound, event

    return measure
