"""What a chip is made of: one frozen, validated description.

What a user chooses are fields; what follows from them are properties. Nothing else in the project
holds a size. ``hash`` names a configuration in program images, so that an image compiled for
another chip is refused by the hardware.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, field, fields, frozen, has

__all__ = [
    "PRESETS", "ChipConfig", "ClusterConfig", "ConfigError", "MemoryContract", "PlannerConfig",
    "SafetyConfig", "SharedConfig", "TileConfig", "load",
]  # fmt: skip


#: Words that an address on the chip can name, banks included: ``2 ** jepa_r.cluster.isa.ADDRESS``.
_ADDRESSES = 1 << 20

#: Longest time between two tests of an alert's wires, in microseconds.
_MOST_PING_US = 10_000

#: Cycles from the end of a burst to the request in its place: ``DmaReader.RELEASE``.
_RELEASE = 2

#: Latency that the arbiter adds: to reads and to writes of two masters, and to those of one alone:
#: ``Arbiter.READ``, ``Arbiter.WRITE``, ``Arbiter.ALONE``.
_SHARED_READ, _SHARED_WRITE, _ALONE = 17, 11, 1


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names field, value and what is allowed."""


def _between(low: int, high: int):
    """Validator: a whole number in ``low..high``."""

    def check(instance, attribute, value):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(
                f"{attribute.name} is {value!r}; it must be a whole number from {low} to {high}"
            )

    return check


def _group(kind: type, *, optional: bool = False):
    """Validator: a group of fields."""

    def check(instance, attribute, value):
        if not isinstance(value, kind) and not (optional and value is None):
            raise ConfigError(
                f"{attribute.name} is {value!r}; it must be a {kind.__name__}"
                + (" or none" if optional else "")
            )

    return check


def _text(instance, attribute, value):
    """Validator: a name."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{attribute.name} is {value!r}; it must be a text")


def _check_banks(what: str, banks: int, words: int) -> None:
    """Refuse banks that addresses cannot tell apart: each begins at a power of two."""
    most = _ADDRESSES // banks
    most = 1 << most.bit_length() - 1
    if words > most:
        raise ConfigError(
            f"{what} is {words}; {banks} banks can have at most {most} words each: addresses have "
            f"{_ADDRESSES.bit_length() - 1} bits"
        )


@frozen(kw_only=True)
class TileConfig:
    """A tile: systolic array, accumulators, activation memories and vector lanes.

    Attributes
    ----------
    rows
        Rows R of the array: elements of a dot product taken in one pass, 2..256.
    columns
        Columns C of the array: output channels of a pass, 2..256.
    lanes
        Vector lanes L; even (the rotator works on pairs), and divides ``rows`` and ``columns``.
    acc_rows
        Accumulator rows of each of the two halves; even, 4..4096.
    act_banks, act_words
        Banks of the activation memory, and words (of R bytes) in each.
    x_words
        Words (of L INT16) of the residual stream's memory, logits included.
    rope_words
        Words (of L cosines and sines) of the rotation tables.
    row_entries
        Rows whose statistics can be held at once.
    """

    rows: int = field(validator=_between(2, 256))
    columns: int = field(validator=_between(2, 256))
    lanes: int = field(validator=_between(2, 256))
    acc_rows: int = field(validator=_between(4, 4096))
    act_banks: int = field(default=2, validator=_between(1, 8))
    act_words: int = field(validator=_between(2, 1 << 18))
    x_words: int = field(validator=_between(2, 1 << 19))
    rope_words: int = field(validator=_between(2, 1 << 19))
    row_entries: int = field(validator=_between(2, 1 << 12))

    def __attrs_post_init__(self):
        if self.lanes % 2:
            raise ConfigError(f"lanes is {self.lanes}; it must be even: the rotator works on pairs")
        for name in ("rows", "columns"):
            if getattr(self, name) % self.lanes:
                raise ConfigError(
                    f"lanes is {self.lanes}; it must divide {name}, which is {getattr(self, name)}"
                )
        if self.acc_rows % 2:
            raise ConfigError(
                f"acc_rows is {self.acc_rows}; it must be even: even and odd rows are two banks"
            )
        if self.row_entries < self.acc_rows:
            raise ConfigError(
                f"row_entries is {self.row_entries}; it must be at least acc_rows, {self.acc_rows}"
            )
        _check_banks("act_words", self.act_banks, self.act_words)

    @property
    def sram_bytes(self) -> int:
        """Bytes of all memories of one tile, check bits apart."""
        return (
            2 * self.acc_rows * self.columns * 4
            + self.act_banks * self.act_words * self.rows
            + self.x_words * self.lanes * 2
            + self.rope_words * self.lanes * 4
        )


@frozen(kw_only=True)
class SharedConfig:
    """Memories that all tiles of a cluster read together.

    Attributes
    ----------
    banks, bank_words
        Banks of the shared memory, and words (of R bytes) in each. The last bank holds keys and
        values, the others are the weights' ring.
    param_words
        Words (of L x 8 bytes) of the parameters' ring.
    """

    banks: int = field(default=3, validator=_between(2, 16))
    bank_words: int = field(validator=_between(2, 1 << 18))
    param_words: int = field(validator=_between(2, 1 << 18))

    def __attrs_post_init__(self):
        _check_banks("bank_words", self.banks, self.bank_words)


@frozen(kw_only=True)
class MemoryContract:
    """What the memory outside promises one master, and how the master asks.

    A read of n bytes asked for at cycle t is complete by ``t + latency + n / bytes_per_cycle``, if
    the master asked for no more than that rate on average.

    Attributes
    ----------
    data_bytes
        Width of the AXI4 data bus; a power of two, 4..128.
    bytes_per_cycle
        Promised rate; at most ``data_bytes``.
    latency
        Promised worst-case latency in cycles, refresh and crossings included.
    burst_beats
        Longest burst, 1..256 (4 KB at most).
    outstanding
        Reads under way at once; all but the one that arrives must cover the latency at the
        promised rate.
    """

    data_bytes: int = field(validator=_between(4, 128))
    bytes_per_cycle: int = field(validator=_between(1, 128))
    latency: int = field(validator=_between(1, 1 << 16))
    burst_beats: int = field(default=16, validator=_between(1, 256))
    outstanding: int = field(default=8, validator=_between(1, 256))

    def __attrs_post_init__(self):
        if self.data_bytes & (self.data_bytes - 1):
            raise ConfigError(f"data_bytes is {self.data_bytes}; it must be a power of two")
        if self.bytes_per_cycle > self.data_bytes:
            raise ConfigError(
                f"bytes_per_cycle is {self.bytes_per_cycle}; a bus of {self.data_bytes} bytes "
                f"carries at most {self.data_bytes}"
            )
        if self.burst_beats * self.data_bytes > 4096:
            raise ConfigError(
                f"burst_beats is {self.burst_beats}; AXI4 bursts must not cross 4 KB: at most "
                f"{4096 // self.data_bytes} beats of {self.data_bytes} bytes"
            )
        # While one burst arrives, and a request waits for its end, the others cover the latency.
        burst, needed = self.burst_beats * self.data_bytes, self.latency + _RELEASE
        if (self.outstanding - 1) * burst // self.bytes_per_cycle < needed:
            least = 1 - (-needed * self.bytes_per_cycle // burst)
            raise ConfigError(
                f"outstanding is {self.outstanding}; at {self.bytes_per_cycle} bytes a cycle and "
                f"{self.latency} cycles of latency at least {least} bursts must be under way"
            )


@frozen(kw_only=True)
class ClusterConfig:
    """A compute cluster: N tiles that work in lockstep, their shared memories and sequencer.

    Attributes
    ----------
    tiles
        Number of tiles, 1..16.
    tile, shared, memory
        Its parts.
    program_words
        Words of the program memory; one transfer fills it, so at most 65535.
    queue
        Operations that wait for their start cycle, for each engine; transfers under way are counted
        in four bits, of which one value means none is asked for, so at most 14.
    pointers
        Pointers of the sequencer that loops move, 8, 16 or 32, of which three are taken: zero and a
        program's two arguments. They are the largest part of the sequencer.
    ecc
        Whether SRAM words carry a SECDED code and are scrubbed.
    """

    tiles: int = field(validator=_between(1, 16))
    tile: TileConfig = field(validator=_group(TileConfig))
    shared: SharedConfig = field(validator=_group(SharedConfig))
    memory: MemoryContract = field(validator=_group(MemoryContract))
    program_words: int = field(validator=_between(16, 0xFFFF))
    queue: int = field(default=4, validator=_between(2, 14))
    pointers: int = field(default=32, validator=_between(8, 32))
    ecc: bool = field(default=True)

    def __attrs_post_init__(self):
        if not isinstance(self.ecc, bool):
            raise ConfigError(f"ecc is {self.ecc!r}; it must be true or false")
        if self.pointers.bit_count() != 1:
            raise ConfigError(f"pointers is {self.pointers}; it must be 8, 16 or 32")
        if self.shared.bank_words < self.tile.columns:
            raise ConfigError(
                f"shared.bank_words is {self.shared.bank_words}; one pass needs a word for each of "
                f"the {self.tile.columns} columns of the array"
            )
        if self.tile.act_words < self.tile.acc_rows:
            raise ConfigError(
                f"tile.act_words is {self.tile.act_words}; one pass reads a word for each of the "
                f"{self.tile.acc_rows} accumulator rows"
            )

    @property
    def macs_per_cycle(self) -> int:
        """Multiplications that all tiles together complete in a cycle."""
        return self.tiles * self.tile.rows * self.tile.columns

    @property
    def sram_bytes(self) -> int:
        """Bytes of all memories, check bits and program apart."""
        return (
            self.tiles * self.tile.sram_bytes
            + self.shared.banks * self.shared.bank_words * self.tile.rows
            + self.shared.param_words * self.tile.lanes * 8
        )

    @property
    def hash(self) -> int:
        """32 bits that tell this cluster from others; program images carry it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


@frozen(kw_only=True)
class PlannerConfig:
    """Sizes of the planner; what a plan does is in registers.

    Attributes
    ----------
    elites
        Most elites that can be kept.
    steps
        Most steps of a plan.
    """

    elites: int = field(default=16, validator=_between(1, 64))
    steps: int = field(default=4, validator=_between(1, 16))


@frozen(kw_only=True)
class SafetyConfig:
    """The safety island.

    What its firmware knows of the arm is in :mod:`jepa_r.safety.arm`, not here; its control period
    is 100 000 cycles, 1 ms at 100 MHz. Times of the second channel are in cycles of its clock.

    Attributes
    ----------
    clock_mhz, guard_mhz
        Clocks of the island's processor and of the second channel, which is the slower one: no
        change of its outputs may be lost on the way to the first.
    skew
        Cycles between the two processors.
    scrub_interval
        Cycles from one word of a memory that is scrubbed to the next.
    ping_cycles
        Cycles of the island in which every alert wire is tested once: 10 ms at most, which bounds
        the time for which a dead wire is not known.
    oldest_image
        Lowest version of the firmware that is taken.
    heartbeat_cycles
        Longest time without a sign of life of the alert unit.
    drive_test_cycles, drive_pulse_cycles, drive_follow_cycles
        Period of the tests of the drives, length of each, and how fast a drive must read back.
    discrepancy_cycles
        How long the contacts of the emergency stop may agree.
    rearm_min_cycles, rearm_max_cycles
        Time between the two steps of a re-arm.
    """

    clock_mhz: int = field(default=100, validator=_between(1, 1000))
    guard_mhz: int = field(default=32, validator=_between(1, 1000))
    skew: int = field(default=2, validator=_between(1, 3))
    scrub_interval: int = field(default=256, validator=_between(6, 1 << 16))
    ping_cycles: int = field(default=960_000, validator=_between(192, 1 << 24))
    oldest_image: int = field(default=1, validator=_between(0, (1 << 32) - 1))
    heartbeat_cycles: int = field(default=64_000, validator=_between(1, 1 << 24))
    drive_test_cycles: int = field(default=320_000, validator=_between(8, 1 << 30))
    drive_pulse_cycles: int = field(default=64, validator=_between(2, 1 << 20))
    drive_follow_cycles: int = field(default=32, validator=_between(1, 1 << 20))
    discrepancy_cycles: int = field(default=320_000, validator=_between(1, 1 << 30))
    rearm_min_cycles: int = field(default=3_200, validator=_between(1, 1 << 30))
    rearm_max_cycles: int = field(default=320_000_000, validator=_between(1, 1 << 30))

    def __attrs_post_init__(self):
        if self.guard_mhz >= self.clock_mhz:
            raise ConfigError(
                f"guard_mhz is {self.guard_mhz}; it must be below clock_mhz, {self.clock_mhz}: "
                "pulses of the second channel must be seen by the first"
            )
        if self.ping_cycles > (most := _MOST_PING_US * self.clock_mhz):
            raise ConfigError(
                f"ping_cycles is {self.ping_cycles}; it must be at most {most}, {_MOST_PING_US} us "
                f"at {self.clock_mhz} MHz, in which every alert wire must be tested"
            )
        for low, high in (
            ("drive_follow_cycles", "drive_pulse_cycles"),
            ("rearm_min_cycles", "rearm_max_cycles"),
        ):
            if getattr(self, low) >= getattr(self, high):
                raise ConfigError(
                    f"{low} is {getattr(self, low)}; it must be below {high}, {getattr(self, high)}"
                )
        if self.drive_test_cycles < 4 * self.drive_pulse_cycles:
            raise ConfigError(
                f"drive_test_cycles is {self.drive_test_cycles}; it must be at least "
                f"{4 * self.drive_pulse_cycles}, four pulses"
            )

    @property
    def hash(self) -> str:
        """Hexadecimal name of the island."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@frozen(kw_only=True)
class ChipConfig:
    """A whole chip.

    Attributes
    ----------
    name
        Name of the preset or file.
    clock_mhz
        Target frequency, which turns cycles into time.
    encoder
        Cluster of the encoder.
    predictor
        Cluster of the predictor; none on chips that only encode.
    memory
        What the memory promises the chip's one port, which both clusters share; needed with a
        predictor.
    concurrent
        Whether both clusters may run at once, each at the rate of its own contract. If not, the
        loop runs one after the other, and each may ask for all that the memory gives.
    planner
        Sizes of the planner.
    latent_words
        Words (of a row of the encoder's array) in each of the four slots of the latent store.
    safety
        The safety island beside the chip; it is a top of its own, with a hash of its own.
    """

    name: str = field(validator=_text)
    clock_mhz: int = field(validator=_between(1, 4000))
    encoder: ClusterConfig = field(validator=_group(ClusterConfig))
    predictor: ClusterConfig | None = field(
        default=None, validator=_group(ClusterConfig, optional=True)
    )
    memory: MemoryContract | None = field(
        default=None, validator=_group(MemoryContract, optional=True)
    )
    concurrent: bool = field(default=True)
    planner: PlannerConfig = field(factory=PlannerConfig, validator=_group(PlannerConfig))
    latent_words: int = field(default=4096, validator=_between(2, 1 << 18))
    safety: SafetyConfig = field(factory=SafetyConfig, validator=_group(SafetyConfig))

    def __attrs_post_init__(self):
        if not isinstance(self.concurrent, bool):
            raise ConfigError(f"concurrent is {self.concurrent!r}; it must be true or false")
        if self.predictor is not None:
            self._check_loop(self.predictor)

    def _check_loop(self, predictor: ClusterConfig) -> None:
        """Refuse clusters that cannot work together on one chip."""
        if self.memory is None:
            raise ConfigError(
                "memory is none; a chip with a predictor needs a contract for its port"
            )
        clusters = {"encoder": self.encoder, "predictor": predictor}
        for name, cluster in clusters.items():
            if cluster.memory.data_bytes != self.memory.data_bytes:
                raise ConfigError(
                    f"{name}.memory.data_bytes is {cluster.memory.data_bytes}; it must be that of "
                    f"the chip's port, {self.memory.data_bytes}"
                )
        for name in ("bytes_per_cycle", "outstanding"):
            each = [getattr(cluster.memory, name) for cluster in clusters.values()]
            asked = sum(each) if self.concurrent else max(each)
            if asked > getattr(self.memory, name):
                raise ConfigError(
                    f"memory.{name} is {getattr(self.memory, name)}; the clusters ask for {asked}"
                    + (" together" if self.concurrent else "")
                )
        least = self.memory.latency + self._shared_latency(predictor)
        for name, cluster in clusters.items():
            if cluster.memory.latency < least:
                raise ConfigError(
                    f"{name}.memory.latency is {cluster.memory.latency}; it must be at least "
                    f"{least}: that of the chip's port is {self.memory.latency}, and the arbiter "
                    f"adds {least - self.memory.latency}"
                )
        if self.encoder.tile.rows % predictor.tile.rows:
            raise ConfigError(
                f"predictor.tile.rows is {predictor.tile.rows}; it must divide encoder.tile.rows, "
                f"{self.encoder.tile.rows}: latents pass from one to the other word by word"
            )

    def _shared_latency(self, predictor: ClusterConfig) -> int:
        """Cycles that the arbiter adds: ``Arbiter.added``."""
        assert self.memory is not None
        if not self.concurrent:
            return _ALONE
        bursts = [self.encoder.memory.burst_beats, predictor.memory.burst_beats]
        beat = Fraction(self.memory.data_bytes, self.memory.bytes_per_cycle)
        return ceil(max(_SHARED_READ + max(bursts) * beat, _SHARED_WRITE + sum(bursts) * beat))

    @property
    def hash(self) -> str:
        """Hexadecimal name of everything but the name and the island."""
        table = asdict(self)
        del table["name"], table["safety"]
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


#: Every configuration that ships. Reasons for the sizes stand beside them.
PRESETS: dict[str, ChipConfig] = {
    # Seconds in simulation. The weights' ring holds two of the nano model's longest blocks (768 x 8
    # bytes), far less than the model: streaming is exercised.
    "nano": ChipConfig(
        name="nano",
        clock_mhz=100,
        encoder=ClusterConfig(
            tiles=2,
            tile=TileConfig(
                rows=8,
                columns=8,
                lanes=8,
                acc_rows=32,
                act_words=1024,
                x_words=256,
                rope_words=32,
                row_entries=64,
            ),
            shared=SharedConfig(banks=3, bank_words=1024, param_words=256),
            memory=MemoryContract(data_bytes=16, bytes_per_cycle=8, latency=128),
            program_words=1024,
        ),
        predictor=ClusterConfig(
            tiles=4,
            tile=TileConfig(
                rows=4,
                columns=4,
                lanes=4,
                acc_rows=32,
                act_words=3072,
                x_words=1024,
                rope_words=256,
                row_entries=128,
            ),
            shared=SharedConfig(banks=3, bank_words=1024, param_words=512),
            memory=MemoryContract(data_bytes=16, bytes_per_cycle=4, latency=128),
            program_words=2048,
        ),
        memory=MemoryContract(data_bytes=16, bytes_per_cycle=16, latency=64, outstanding=16),
        planner=PlannerConfig(elites=16, steps=3),
        latent_words=128,
    ),
    # 128 of the 156 multipliers of an LFE5U-85F are cells of the array, most others in the lanes.
    # 16 x 8 suits the nano model's heads of 16 (12 x 12 takes a sixth more cycles); four lanes
    # instead of two would save 15 % of them, but no multipliers are left for their products. The
    # nano model's loops need three pointers of the five.
    # Memories are as large as the nano model needs, in whole block memories: 52 of 208, which is
    # what lets the placer keep them near. Sixteen rows of accumulators a bank fill a LUT memory.
    "ecp5": ChipConfig(
        name="ecp5",
        clock_mhz=80,
        encoder=ClusterConfig(
            tiles=1,
            tile=TileConfig(
                rows=16,
                columns=8,
                lanes=2,
                acc_rows=32,
                act_words=1024,
                x_words=1024,
                rope_words=512,
                row_entries=128,
            ),
            shared=SharedConfig(banks=3, bank_words=512, param_words=512),
            memory=MemoryContract(data_bytes=8, bytes_per_cycle=8, latency=96),
            program_words=512,
            pointers=8,
            ecc=False,
        ),
    ),
    # The article's chip: 8 tiles of 128 x 128 and 4 of 64 x 64 at 1.5 GHz. A tile's accumulators
    # are its 256 KB; activations of six cameras (192 rows a tile) live in its slice of the shared
    # 32-64 MB, so that no operand is copied into a window before it is used.
    "jepa-r": ChipConfig(
        name="jepa-r",
        clock_mhz=1500,
        encoder=ClusterConfig(
            tiles=8,
            tile=TileConfig(
                rows=128,
                columns=128,
                lanes=32,
                acc_rows=192,
                act_words=16384,
                x_words=16384,
                rope_words=64,
                row_entries=512,
            ),
            shared=SharedConfig(banks=3, bank_words=16384, param_words=2048),
            memory=MemoryContract(
                data_bytes=128, bytes_per_cycle=128, latency=600, burst_beats=32, outstanding=32
            ),
            program_words=4096,
        ),
        predictor=ClusterConfig(
            tiles=4,
            tile=TileConfig(
                rows=64,
                columns=64,
                lanes=32,
                acc_rows=320,
                act_words=65536,
                x_words=32768,
                rope_words=8192,
                row_entries=2048,
            ),
            shared=SharedConfig(banks=3, bank_words=16384, param_words=4096),
            memory=MemoryContract(
                data_bytes=128, bytes_per_cycle=64, latency=600, burst_beats=32, outstanding=32
            ),
            program_words=4096,
        ),
        # Encoder and predictor take turns: each then has all that LPDDR delivers.
        memory=MemoryContract(
            data_bytes=128, bytes_per_cycle=128, latency=500, burst_beats=32, outstanding=32
        ),
        concurrent=False,
        planner=PlannerConfig(elites=16, steps=16),
        latent_words=4096,
    ),
}


def load(name: str, overrides: Sequence[str] = ()) -> ChipConfig:
    """Read a preset, or a TOML file of the same fields, and change single fields of it.

    A file may name a preset as its ``base``; what it leaves out is as there (default ``nano``).
    Changes are made together, so that fields which only fit each other may come in any order.

    Parameters
    ----------
    name
        Name of a preset, or path of a file that ends in ``.toml``.
    overrides
        Changes such as ``encoder.tile.rows=16``.

    Raises
    ------
    ConfigError
        If there is no such preset, file or field, or a value is not allowed.
    """
    if name in PRESETS:
        config = PRESETS[name]
    elif name.endswith(".toml"):
        config = _load_file(Path(name))
    else:
        known = ", ".join(PRESETS)
        raise ConfigError(f"there is no preset {name!r}; there are {known}, or a file FILE.toml")
    changes: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override!r} is not of the form KEY=VALUE")
        *groups, last = _check_key(config, key)
        table = changes
        for name in groups:
            table = table.setdefault(name, {})
        table[last] = _parse(value)
    return _merge(config, changes, "")


def _load_file(path: Path) -> ChipConfig:
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    base = table.pop("base", "nano")
    if not isinstance(base, str) or base not in PRESETS:
        raise ConfigError(f"{path}: base is {base!r}; it must be one of {', '.join(PRESETS)}")
    config = evolve(PRESETS[base], name=table.pop("name", path.stem))
    return _merge(config, table, "")


def _merge(config: Any, table: dict[str, Any], prefix: str) -> Any:
    """Apply a nested table at once, since fields are only valid together."""
    known = {f.name for f in fields(type(config))}
    changes = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(_unknown(prefix + key, known))
        old = getattr(config, key)
        nested = has(type(old))
        if old is None and isinstance(value, dict):
            raise ConfigError(f"{prefix}{key} must be left out: the base has none to change")
        if nested != isinstance(value, dict):
            raise ConfigError(
                f"{prefix}{key} is {value!r}; it must be " + ("a table" if nested else "a value")
            )
        changes[key] = _merge(old, value, f"{prefix}{key}.") if nested else value
    return evolve(config, **changes)


def _check_key(config: Any, key: str) -> list[str]:
    """Names on the way to a field, which must be there and be no group."""
    path = key.split(".")
    for at, name in enumerate(path):
        known = {f.name for f in fields(type(config))}
        if name not in known:
            raise ConfigError(_unknown(key, known))
        config = getattr(config, name)
        if has(type(config)) != (at + 1 < len(path)):
            raise ConfigError(
                f"--set {key}: {name} is "
                + ("a group of fields" if has(type(config)) else "no group of fields")
            )
    return path


def _unknown(key: str, known: set[str]) -> str:
    return f"there is no field {key}; there are {', '.join(sorted(known))}"


def _parse(text: str) -> Any:
    """Value of an override: TOML where it is such, else a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
