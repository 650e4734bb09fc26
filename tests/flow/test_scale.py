"""The figures of full-size hardware in simulation, as they were measured."""

import copy
import json
from pathlib import Path

from jepa_r_flow.scale import render_scale

FIGURES = json.loads((Path(__file__).parents[2] / "scripts" / "scale.json").read_text())


def test_what_was_measured_is_exact():
    for part in (*FIGURES["tiles"], FIGURES["block"]):
        assert part["cycles_measured"] == part["cycles_predicted"] > 0
        assert part["mismatches"] == 0 < part["elements"]
    assert [tile["size"] for tile in FIGURES["tiles"]] == [[n, n] for n in (8, 16, 32, 64, 128)]
    block = FIGURES["block"]
    assert (block["tokens"], block["width"], block["fault"]) == (256, 1408, "NONE")


def test_a_mismatch_is_shown():
    figures = copy.deepcopy(FIGURES)
    tile, block = figures["tiles"][0], figures["block"]
    assert render_scale(figures).count(f"{tile['elements']:,} of {tile['elements']:,}") == 1
    tile["mismatches"], block["mismatches"] = 3, 5
    text = render_scale(figures)
    assert f"{tile['elements'] - 3:,} of {tile['elements']:,}" in text
    assert f"{block['elements'] - 5:,} of {block['elements']:,}" in text
