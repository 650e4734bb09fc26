"""Operations of a cluster: their fields, and what they touch when."""

import numpy as np
from attrs import define, frozen

from jepa_r.cluster.cluster import word_bytes
from jepa_r.cluster.isa import LATENT_STORE, Destination, Engine
from jepa_r.cluster.timing import ClusterTiming
from jepa_r.config import ClusterConfig
from jepa_r.dma.bursts import beats_of

from .machine import Access, Bank, Machine, Window

__all__ = ["Footprint", "Operation", "Operations"]


@define(eq=False)
class Operation:
    """One operation, before and after it has a place in time.

    Attributes
    ----------
    engine
        Which engine it starts.
    fields
        Operands by the names of :data:`jepa_r.cluster.isa.LAYOUTS`.
    stage
        Part of the model it belongs to, for reports.
    start
        Cycle, once scheduled.
    needs
        Number of the transfer that must have arrived, -1 for none.
    """

    engine: Engine
    fields: dict[str, int]
    stage: str = ""
    start: int = -1
    needs: int = -1


@frozen
class Footprint:
    """What an operation touches, at times relative to its start."""

    accesses: list[Access]
    windows: list[Window]
    #: Cycles until the same engine can start the next one, and until the last effect is visible.
    occupied: int
    length: int


def _grid(base: int, *steps: tuple[int, int]) -> np.ndarray:
    """``base + i * step + ...`` for nested counts, the outermost first, as a flat array."""
    words = np.array([base], np.int64)
    for count, step in steps:
        words = (words[:, None] + np.arange(count, dtype=np.int64) * step).reshape(-1)
    return words


class Operations:
    """Footprints of operations on one cluster.

    Parameters
    ----------
    config
        The cluster.
    """

    def __init__(self, config: ClusterConfig):
        self.config = config
        self.timing = ClusterTiming(config)
        self.sizes = word_bytes(config)
        tile = config.tile
        self.act_bits = (tile.act_words - 1).bit_length()
        self.shared_bits = (config.shared.bank_words - 1).bit_length()
        self.parts = tile.rows // tile.lanes

    def machine(self, *, ordered: bool = False) -> Machine:
        """Cluster on which nothing has happened; ``ordered`` as of :class:`Machine`."""
        tile, shared = self.config.tile, self.config.shared
        sizes = {
            "act": tile.act_banks << self.act_bits,
            "shared": shared.banks << self.shared_bits,
            "param": shared.param_words,
            "x": tile.x_words,
            "rope": tile.rope_words,
            "table": 64,
            "scales": tile.row_entries,
            "running": tile.row_entries,
            "acc": 2 * tile.acc_rows,
        }
        return Machine({name: Bank.of(words) for name, words in sizes.items()}, ordered)

    def _ports(self, memory: str, words: np.ndarray) -> set[str]:
        """Banks that hold some words, by the names of their ports."""
        bits = {"act": self.act_bits, "shared": self.shared_bits}.get(memory)
        if bits is None:
            return {memory}
        low, high = int(words.min()) >> bits, int(words.max()) >> bits
        return {f"{memory}{bank}" for bank in range(low, high + 1)}

    def footprint(self, op: Operation) -> Footprint:
        """Accesses, ports and lengths of an operation."""
        return getattr(self, f"_{op.engine.name.lower()}")(op.fields)

    def _tile(self, f: dict[str, int]) -> Footprint:
        t = self.timing
        rows, columns, passes, interval = f["rows"], f["columns"], f["passes"], f["interval"]
        a_words = _grid(f["a_addr"], (passes, f["a_stride"]), (rows, 1))
        a_at = t.a_read(columns) + _grid(0, (passes, interval), (rows, 1))
        b_words = _grid(f["b_addr"], (passes, f["b_stride"]), (columns, 1))
        # The first pass's B goes before A, the others with the pass before them.
        b_at = t.issue + _grid(0, (passes, interval), (columns, 1))
        b_at[columns:] += columns - interval
        a_name, b_name = (("shared" if f[x] else "act") for x in ("a_shared", "b_shared"))
        acc = f["acc_half"] * self.config.tile.acc_rows + f["acc_row"] + np.arange(rows)
        added = t.a_read(columns) + t.accumulate + np.arange(rows)
        final = added + (passes - 1) * interval
        a_end, b_end = int(a_at[-1]) + 1, int(b_at[-1]) + 1
        accesses = [
            Access(a_name, a_words, a_at, a_at, write=False),
            Access(b_name, b_words, b_at, b_at, write=False),
            Access("acc", acc, added, final, write=True),
        ]
        if f["acc_add"]:
            accesses.append(Access("acc", acc, added - 1, final - 1, write=False))
        windows = [Window(f"acc{f['acc_half']}", "array", int(added[0]) - 1, int(final[-1]) + 1)]
        for side, name, words, begin, end in (
            ("a", a_name, a_words, t.a_read(columns), a_end),
            ("b", b_name, b_words, t.issue, b_end),
        ):
            # The shared memory gives one word a cycle to all tiles, whatever its banks.
            ports = {"shared"} if name == "shared" else self._ports(name, words)
            windows += [Window(f"{port}.read", side, begin, end) for port in ports]
        return Footprint(accesses, windows, b_end - t.issue, int(final[-1]) + 1)

    def _vector(self, f: dict[str, int]) -> Footprint:
        t, tile = self.timing, self.config.tile
        rows, segments = f["rows"], f["segments"]
        steps = t.issue + np.arange(rows * segments)
        row_ends = t.issue + segments * (np.arange(rows) + 1) - 1

        def walked(base: str, row: str) -> np.ndarray:
            """Words of ACT that segments from ``dst_seg`` on fall in."""
            inner = (f["dst_seg"] + np.arange(segments)) // self.parts * f["dst_step"]
            return (f[base] + np.arange(rows)[:, None] * f[row] + inner).reshape(-1)

        accesses: list[Access] = []
        windows: list[Window] = []
        end = t.issue + rows * segments

        def read(memory: str, words: np.ndarray, at: np.ndarray = steps) -> None:
            accesses.append(Access(memory, words, at, at, write=False))

        def take(memory: str, words: np.ndarray, what: str, begin: int) -> None:
            for port in self._ports(memory, words):
                windows.append(Window(f"{port}.{what}", "lanes", begin, begin + rows * segments))

        if f["source"] == 0:
            words = f["src_half"] * tile.acc_rows + _grid(f["src_addr"], (rows, f["src_row"]))
            read("acc", words.repeat(segments))
            windows.append(Window(f"acc{f['src_half']}", "lanes", t.issue, end))
        elif f["source"] == 1:
            words = _grid(f["src_addr"], (rows, f["src_row"]), (segments, 1))
            read("x", words)
            take("x", words, "read", t.issue)
        else:
            inner = (f["src_seg"] + np.arange(segments)) // self.parts * f["src_step"]
            words = (_grid(f["src_addr"], (rows, f["src_row"]))[:, None] + inner).reshape(-1)
            read("act", words)
            take("act", words, "read", t.issue)
        if f["other"] == 1:
            words = _grid(f["other_addr"], (rows, f["other_row"]), (segments, 1))
            read("x", words)
            take("x", words, "read", t.issue)
        elif f["other"] == 2:
            words = walked("other_addr", "other_row")
            read("act", words)
            take("act", words, "read", t.issue)
        if f["mode"] == 0 or f["second"] == 3:
            read("param", _grid(f["param_addr"], (rows, 0), (segments, f["param_step"])))
        if f["second"] == 2:
            inner = (f["rope_seg"] + np.arange(segments)) % f["rope_period"]
            words = _grid(f["rope_addr"], (rows, f["rope_row"]))[:, None] + inner
            read("rope", words.reshape(-1))
        if f["mode"] != 0:
            read("scales", (f["row_addr"] + np.arange(rows)).repeat(segments))
        if f["table"]:
            read("table", np.zeros(1, np.int64), np.array([end + t.vector_write]))
        if f["stat"] in (1, 2, 3):
            stat = f["stat_row"] + np.arange(rows)
            if not f["stat_first"]:
                read("running", stat, row_ends)
            done = row_ends + t.row_write
            memory = "scales" if f["stat_last"] else "running"
            accesses.append(Access(memory, stat, done, done, write=True))
        at = steps + t.vector_write
        if f["result"] == 1:
            words = walked("dst_addr", "dst_row")
            accesses.append(Access("act", words, at, at, write=True))
            take("act", words, "write", t.issue + t.vector_write)
        elif f["result"] == 2:
            words = _grid(f["dst_addr"], (rows, f["dst_row"]), (segments, 1))
            accesses.append(Access("x", words, at, at, write=True))
            take("x", words, "write", t.issue + t.vector_write)
        length = end + max(t.vector_write, t.row_write) + 1
        return Footprint(accesses, windows, rows * segments, length)

    def read_footprint(self, f: dict[str, int], bound: int) -> Footprint:
        """Footprint of a transfer from memory that is complete ``bound`` cycles after its start."""
        memory = {
            Destination.SHARED.value: "shared",
            Destination.PARAM.value: "param",
            Destination.ACT.value: "act",
            Destination.ROPE.value: "rope",
            Destination.TABLE.value: "table",
            Destination.X.value: "x",
        }[f["dest"]]
        words = _grid(f["dest_addr"], (f["rows"] * f["words"], 1))
        early = np.ones(len(words), np.int64)
        accesses = [Access(memory, words, early, early * bound, write=True)]
        windows = [
            Window(f"{port}.write", "reader", 1, bound + 1) for port in self._ports(memory, words)
        ]
        if memory in ("param", "rope", "table"):
            windows = []
        return Footprint(accesses, windows, 1, bound)

    def move_footprint(self, f: dict[str, int], bound: int) -> Footprint:
        """Footprint of a move that is complete ``bound`` cycles after its start."""
        source = "x" if f["from_x"] else "act"
        words = _grid(f["src_addr"], (f["rows"], f["src_stride"]), (f["words"], 1))
        late = np.full(len(words), bound, np.int64)
        accesses = [Access(source, words, late * 0 + 1, late, write=False)]
        windows = [Window(f"{port}.read", "mover", 1, bound) for port in self._ports(source, words)]
        if f["to_shared"] and f["address"] < LATENT_STORE:
            written = _grid(f["address"], (f["rows"], f["stride"]), (f["words"], 1))
            accesses.append(Access("shared", written, late * 0 + 1, late, write=True))
            windows += [
                Window(f"{port}.write", "mover", 1, bound + 1)
                for port in self._ports("shared", written)
            ]
        return Footprint(accesses, windows, bound, bound + 1)

    def transfer_bytes(self, f: dict[str, int]) -> int:
        """Bytes that a transfer takes in memory, padding and checksum included."""
        width = self.config.memory.data_bytes
        beats = beats_of(f["words"], word_bytes=self.sizes[f["dest"]], data_bytes=width)
        return (f["rows"] * beats + f["crc"]) * width
