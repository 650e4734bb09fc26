import random

import pytest

from jepa_r.latent.feeder import Feeder
from jepa_r_sim import cosim

SIZES = {
    "nano": {"words": 24, "from_bytes": 8, "to_bytes": 4},
    "same": {"words": 15, "from_bytes": 4, "to_bytes": 4},
    "thirds": {"words": 20, "from_bytes": 12, "to_bytes": 4},
}


@pytest.mark.parametrize("size", SIZES)
def test_latents_arrive_whole_and_in_time_or_are_refused(size, tmp_path):
    rng = random.Random(size)
    given = SIZES[size]
    parts = given["from_bytes"] // given["to_bytes"]
    latents = []
    for _ in range(40):
        rows, blocks = rng.randint(0, 9), rng.randint(0, 9)
        latents.append({
            "slot": rng.randrange(4),
            "address": rng.choice([0, rng.randrange(1 << 20)]),
            "rows": rows,
            "blocks": blocks,
            "fits": 0 < rows * -(-blocks // parts) <= given["words"],
        })
    assert {latent["fits"] for latent in latents} == {True, False}
    simulation = cosim.build(Feeder(**given), name=f"feeder_{size}")
    simulation.run(
        "jepa_r_sim.benches.feeder",
        workdir=tmp_path,
        parameters=given | {"seed": 1, "latents": latents},
    )
