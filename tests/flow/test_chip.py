# amaranth: UnusedElaboratable=no
"""Tops of chips with a predictor, and of chips without."""

import re

import pytest
from attrs import evolve

from jepa_r.config import PRESETS, ConfigError, MemoryContract
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS


@pytest.mark.parametrize("top", ["chip", "predictor", "planner"])
def test_tops_that_need_a_predictor_say_so(top):
    with pytest.raises(ConfigError, match=r"^predictor is none; .*'ecp5' only encodes"):
        TOPS[top](PRESETS["ecp5"])


def test_clusters_with_arrays_of_one_size_keep_their_own_memories(tmp_path):
    """Modules of one name would be one module, and the predictor would have the encoder's."""
    nano = PRESETS["nano"]
    small = evolve(nano.predictor, tiles=1, ecc=False)
    words = [small.tile.act_words, small.tile.act_words + 8]
    large = evolve(small, tile=evolve(small.tile, act_words=words[1]))
    memory = MemoryContract(data_bytes=16, bytes_per_cycle=8, latency=30, outstanding=16)
    chip = evolve(nano, encoder=small, predictor=large, memory=memory)
    emitted = emit_verilog(TOPS["chip"](chip), name="chip", into=tmp_path)
    for name in ("encoder", "predictor"):
        text = (tmp_path / f"{name}_slice_4x4.v").read_text()
        found = [count for count in words if re.search(rf"\bsram_32x{count}\b", text)]
        assert found == [words[name == "predictor"]]
        assert emitted.instances[f"{name}_slice_4x4"] == 1
