"""Runs of the bench of pipelines, and operands for it."""

from jepa_r_sim.cosim import build

__all__ = ["answers", "of_all_sizes"]


def answers(tmp_path, dut, name, *, operands, results, latency, **more):
    """Check a unit in every cycle; ``operands`` and ``results`` are sequences by port."""
    compared = (
        build(dut, name=name)
        .run(
            "jepa_r_sim.benches.pipeline",
            workdir=tmp_path,
            parameters={
                "operands": {port: [int(v) for v in values] for port, values in operands.items()},
                "results": {
                    port: [None if v is None else int(v) for v in values]
                    for port, values in results.items()
                },
                "latency": latency,
            }
            | more,
        )
        .values["compared"]
    )
    assert compared == sum(v is not None for values in results.values() for v in values)


def of_all_sizes(rng, count, bits):
    """Signed numbers with every count of leading zeros, and a share of extremes."""
    edge = 1 << (bits - 1)
    edges = [-edge, -edge + 1, -1, 0, 1, edge - 1]
    return [
        rng.choice(edges)
        if rng.random() < 0.2
        else rng.randrange(-edge, edge) >> rng.randrange(bits)
        for _ in range(count)
    ]
