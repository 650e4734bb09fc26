import pytest

from jepa_r.latent.store import LatentStore
from jepa_r_sim import cosim

SIZES = {
    "nano": {"words": 16, "row_bytes": 8, "ecc": True},
    "odd": {"words": 5, "row_bytes": 12, "ecc": False},
}


@pytest.mark.parametrize("size", SIZES)
def test_words_stay_and_other_slots_are_left_alone(size, tmp_path):
    simulation = cosim.build(LatentStore(**SIZES[size]), name=f"latent_store_{size}")
    told = simulation.run(
        "jepa_r_sim.benches.latent_store", workdir=tmp_path, parameters=SIZES[size] | {"seed": 1}
    ).values
    assert told["compared"] > 500
    assert told["refused"]
    assert (told["corrected"] > 0) == SIZES[size]["ecc"]
