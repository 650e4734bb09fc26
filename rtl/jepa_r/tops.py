"""Tops: what can be emitted on its own, by name."""

from collections.abc import Callable

from amaranth.lib.wiring import Component

from .chip import Chip
from .cluster.cluster import Cluster
from .config import ChipConfig, ClusterConfig, ConfigError
from .planner.planner import Planner
from .robot import Robot
from .safety.island import Island
from .tile.tile import Tile
from .vector.unit import VectorUnit

__all__ = ["TOPS"]


def _tile(cluster: ClusterConfig) -> Component:
    tile = cluster.tile
    return Tile(rows=tile.rows, columns=tile.columns, acc_rows=tile.acc_rows)


def _vector(cluster: ClusterConfig) -> Component:
    return VectorUnit(lanes=cluster.tile.lanes, rows=cluster.tile.row_entries)


def _predictor_of(chip: ChipConfig) -> ClusterConfig:
    if chip.predictor is None:
        raise ConfigError(f"predictor is none; {chip.name!r} only encodes and has no such top")
    return chip.predictor


def _planner(chip: ChipConfig) -> Component:
    predictor = _predictor_of(chip)
    return Planner(
        tiles=predictor.tiles,
        elites=chip.planner.elites,
        steps=chip.planner.steps,
        row_bytes=predictor.tile.rows,
    )


#: What builds each top from a chip's configuration. A cluster, tile or vector unit is the
#: encoder's.
TOPS: dict[str, Callable[[ChipConfig], Component]] = {
    "chip": lambda chip: Chip(config=chip),
    "cluster": lambda chip: Cluster(config=chip.encoder),
    "island": lambda chip: Island(config=chip.safety, ai_mhz=chip.clock_mhz),
    "planner": _planner,
    "predictor": lambda chip: Cluster(config=_predictor_of(chip)),
    "robot": lambda chip: Robot(config=chip),
    "tile": lambda chip: _tile(chip.encoder),
    "vector": lambda chip: _vector(chip.encoder),
}
