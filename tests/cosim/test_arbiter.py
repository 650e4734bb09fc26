# amaranth: UnusedElaboratable=no
import random
from fractions import Fraction

import pytest
from attrs import asdict, evolve

from jepa_r.config import MemoryContract
from jepa_r.dma.arbiter import Arbiter
from jepa_r_sim import cosim

LENGTH = 1 << 18

#: Cycles by which worst cases that were found may be earlier than the formula says.
SPARE = 12


def contracts(*, width, rate, latency, rates, bursts, outstanding, concurrent=True):
    """Contract of the memory, and those of two masters at the limit of what it allows."""
    both = [
        MemoryContract(
            data_bytes=width, bytes_per_cycle=each, latency=1, burst_beats=burst,
            outstanding=outstanding,
        )
        for each, burst in zip(rates, bursts, strict=True)
    ]  # fmt: skip
    memory = MemoryContract(
        data_bytes=width, bytes_per_cycle=rate, latency=latency, burst_beats=max(bursts),
        outstanding=2 * outstanding,
    )  # fmt: skip
    added = Arbiter.added(memory=memory, masters=both, concurrent=concurrent)
    masters = [evolve(each, latency=latency + added) for each in both]
    return {"memory": memory, "masters": masters, "concurrent": concurrent}


HARDWARE = {
    "nano": contracts(
        width=16, rate=16, latency=64, rates=(8, 4), bursts=(16, 16), outstanding=10
    ),
    # No rate divides the bus's, and together they ask for all that there is.
    "odd": contracts(width=8, rate=7, latency=20, rates=(5, 2), bursts=(4, 16), outstanding=20),
    "full": contracts(width=8, rate=8, latency=9, rates=(7, 1), bursts=(16, 4), outstanding=12),
    "alone": contracts(
        width=16, rate=16, latency=64, rates=(16, 16), bursts=(16, 8), outstanding=12,
        concurrent=False,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=HARDWARE)
def arbiter(request):
    hardware = HARDWARE[request.param]
    dut = Arbiter(**hardware, ecc=request.param != "odd")
    return cosim.build(dut, name=f"arbiter_{request.param}"), hardware


def bursts_of(rng, master, contract, *, count, kind, writes):
    """Bursts of one master, which never writes where anyone reads or writes."""
    width, longest = contract.data_bytes, contract.burst_beats
    base = LENGTH // 8 * (4 + 2 * writes + master) if writes else LENGTH // 8 * master
    bursts, address, cycle = [], base, 0
    for n in range(count):
        beats = {
            "long": longest,
            "short": 1,
            "pairs": min(2, longest),
            "alternate": longest if n % 2 else 1,
        }.get(kind, rng.randint(1, longest))
        if kind == "floods" and rng.random() < 0.1:
            cycle += rng.randint(1, 400)
        if kind == "random":
            cycle += rng.randint(0, 3 * beats * width // contract.bytes_per_cycle)
        room = (4096 - address % 4096) // width
        beats = min(beats, room)
        if address + beats * width > base + LENGTH // 8:
            address = base
            if writes:
                break
        bursts.append([cycle, address, beats])
        address += beats * width
    return bursts


KINDS = ["long", "short", "pairs", "alternate", "floods", "random"]


def scenario(arbiter, rng, mode, kinds, *, count=40, haste=(1, 1), writes=True):
    _, hardware = arbiter
    traffic = []
    for n, (contract, kind) in enumerate(zip(hardware["masters"], kinds, strict=True)):
        traffic.append({
            "reads": bursts_of(rng, n, contract, count=count, kind=kind, writes=False),
            "writes": bursts_of(
                rng, n, contract, count=count if writes else 0, kind=kind, writes=True
            ),
            "haste": haste[n],
        })  # fmt: skip
    if not hardware["concurrent"]:
        # The second begins when the first is long done.
        for burst in traffic[1]["reads"] + traffic[1]["writes"]:
            burst[0] += 20_000
    return {"mode": mode, "traffic": traffic}


def run(arbiter, scenarios, tmp_path, **change):
    simulation, hardware = arbiter
    masters = [evolve(contract, **change) for contract in hardware["masters"]]
    return simulation.run(
        "jepa_r_sim.benches.arbiter",
        workdir=tmp_path,
        parameters={
            "memory": asdict(hardware["memory"]),
            "masters": [asdict(contract) for contract in masters],
            "scenarios": scenarios,
        },
    ).values["results"]


def adversaries(arbiter, rng):
    """Each kind of traffic against each other one, on memory that is as late as it may be."""
    return [
        scenario(arbiter, rng, [["worst"]], (first, second))
        for first in KINDS
        for second in rng.sample(KINDS, 3)
    ]


def test_every_burst_keeps_its_own_contract_whatever_the_other_does(arbiter, tmp_path):
    rng = random.Random(1)
    results = run(arbiter, adversaries(arbiter, rng), tmp_path)
    # Formulas that promise much more than is needed would be right, too.
    spare = min(result[name] for result in results for name in ("read", "write"))
    assert spare <= SPARE, spare


def test_any_memory_within_its_contract_will_do(arbiter, tmp_path):
    rng = random.Random(2)
    scenarios = [
        scenario(
            arbiter, rng, mode, rng.choices(KINDS, k=2),
            haste=rng.choice([(1, 1), (1, 0.3), (0.2, 1), (0.5, 0.5)]),
        )
        for mode in [[["fast"]], *([["random", n]] for n in range(9))]
    ]  # fmt: skip
    run(arbiter, scenarios, tmp_path)


def test_promises_that_are_too_good_are_seen_to_fail(arbiter, tmp_path):
    """The bench would notice: less latency than the formula adds, and it complains."""
    latency = arbiter[1]["masters"][0].latency - SPARE - 1
    rng = random.Random(1)
    with pytest.raises(cosim.SimulationError, match=r"due|answered in"):
        run(arbiter, adversaries(arbiter, rng), tmp_path, latency=latency)


class Unpaced(Arbiter):
    """Reads pass as they come."""

    def _paced(self, m, n, offer):
        return offer


class Hasty(Arbiter):
    """Data to write are taken as fast as they come."""

    def _stored(self, m, n):
        self._interval = lambda master: Fraction(1)
        offer = super()._stored(m, n)
        del self._interval
        return offer


class Forgetful(Arbiter):
    """Rates are rounded to whole cycles for a beat."""

    def _interval(self, master):
        return Fraction(-(-super()._interval(master) // 1))


@pytest.mark.parametrize(
    ("broken", "hardware", "reason"),
    [(Unpaced, "nano", "due"), (Hasty, "nano", "answered in|due"), (Forgetful, "odd", "due")],
)
def test_arbiters_that_do_not_keep_rates_are_found(broken, hardware, reason, tmp_path):
    arbiter = (
        cosim.build(broken(**HARDWARE[hardware], ecc=False), name=f"{broken.__name__.lower()}"),
        HARDWARE[hardware],
    )
    rng = random.Random(1)
    with pytest.raises(cosim.SimulationError, match=reason):
        run(arbiter, adversaries(arbiter, rng), tmp_path)


def test_wrong_bits_in_buffers_are_corrected_or_told(arbiter, tmp_path):
    if not arbiter[1]["concurrent"]:
        pytest.skip("it has no buffers")
    rng = random.Random(3)
    scenarios = [
        scenario(arbiter, rng, [["random", inject]], ("random", "random"))
        | {"inject": inject, "errors": inject == 3}
        for inject in (1, 2, 3)
    ]
    coded = arbiter[0].top != "arbiter_odd"
    for inject, result in zip((1, 2, 3), run(arbiter, scenarios, tmp_path), strict=True):
        assert (result["corrected"] > 0) == (coded and inject != 3)
        assert (result["errors"] > 0) == (coded and inject == 3)
