"""Tops: what can be emitted on its own, by name."""

from collections.abc import Callable

from amaranth.lib.wiring import Component

from .cluster.cluster import Cluster
from .config import ChipConfig, ClusterConfig
from .tile.tile import Tile
from .vector.unit import VectorUnit

__all__ = ["TOPS"]


def _tile(cluster: ClusterConfig) -> Component:
    tile = cluster.tile
    return Tile(rows=tile.rows, columns=tile.columns, acc_rows=tile.acc_rows)


def _vector(cluster: ClusterConfig) -> Component:
    return VectorUnit(lanes=cluster.tile.lanes, rows=cluster.tile.row_entries)


#: What builds each top from a chip's configuration; all are parts of the encoder's cluster.
TOPS: dict[str, Callable[[ChipConfig], Component]] = {
    "cluster": lambda chip: Cluster(config=chip.encoder),
    "tile": lambda chip: _tile(chip.encoder),
    "vector": lambda chip: _vector(chip.encoder),
}
