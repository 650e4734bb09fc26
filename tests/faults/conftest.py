"""Toys, built once a session."""

import pytest

from jepa_r_sim.faults.cxxrtl import build_flips
from jepa_r_sim.faults.stuck_at import build_stuck_at

from . import toy

CYCLES, WINDOW = 384, 192


def _built(subject):
    return build_flips(subject, cycles=CYCLES, window=WINDOW)


@pytest.fixture(scope="session")
def pair():
    return _built(toy.pair())


@pytest.fixture(scope="session")
def single():
    return _built(toy.single())


@pytest.fixture(scope="session")
def untied():
    return _built(toy.untied())


@pytest.fixture(scope="session")
def pair_netlist(pair):
    return build_stuck_at(toy.pair(), pair)


@pytest.fixture(scope="session")
def single_netlist(single):
    return build_stuck_at(toy.single(), single)
