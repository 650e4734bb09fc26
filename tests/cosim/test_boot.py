import random

import pytest

from jepa_r.cluster.boot import Boot
from jepa_r_sim import cosim
from jepa_r_sim.golden.boot import boot

SIZES = {"config_hash": 0xDEADBEEF, "program_words": 100}


def image_header(words, *, magic=b"JPRP", version=2, config=SIZES["config_hash"]):
    numbers = (version, config, words)
    return int.from_bytes(magic + b"".join(n.to_bytes(4, "little") for n in numbers), "little")


@pytest.mark.parametrize("data_bytes", [16, 128])
def test_images_are_read_and_begun_or_refused(data_bytes, tmp_path):
    rng = random.Random(data_bytes)
    good = image_header(37)
    headers = [
        *(image_header(words) for words in (0, 1, 99, 100, 101, 127, 128, 65536 + 37, 2**32 - 1)),
        good, image_header(37, magic=b"PRPJ"), 0, (1 << 128) - 1,
        # Any two wrong bits, and each alone.
        *(good ^ 1 << n for n in range(128)),
        *(good ^ 1 << rng.randrange(128) ^ 1 << rng.randrange(128) for _ in range(50)),
    ]  # fmt: skip
    runs, expected = [], []
    for n, header in enumerate(headers):
        address = data_bytes * rng.randrange(2**32 // data_bytes - 4)
        runs.append({"header": header, "address": address, "pause": n % 3 / 3, "transfers": 2})
        asked, event = boot(header, address=address, data_bytes=data_bytes, **SIZES)
        # After a refusal the reader stays with Boot, until a reset.
        expected.append({"asked": asked, "events": [event], "active": event != "begin"})
    for complete in range(2):
        # Nothing goes on before what was asked for is there.
        runs.append({"header": good, "address": 0, "pause": 0.3, "transfers": complete})
        asked, _event = boot(good, address=0, data_bytes=data_bytes, **SIZES)
        expected.append({"asked": asked[: complete + 1], "events": [], "active": True})
    simulation = cosim.build(Boot(data_bytes=data_bytes, **SIZES), name=f"boot_{data_bytes}")
    seen = simulation.run("jepa_r_sim.benches.boot", workdir=tmp_path, parameters={"runs": runs})
    assert seen.values["runs"] == expected
