import json
import subprocess
import sys

import pytest
from attrs import asdict, evolve, fields, has

from jepa_r import config as config_module
from jepa_r.cluster.isa import ADDRESS, LAYOUTS, NO_CHECK, Engine
from jepa_r.config import (
    PRESETS,
    ChipConfig,
    ClusterConfig,
    ConfigError,
    MemoryContract,
    PlannerConfig,
    SafetyConfig,
    SharedConfig,
    TileConfig,
    load,
)  # fmt: skip
from jepa_r.dma.bound import ReadBound
from jepa_r.dma.reader import DmaReader

TILE = {
    "rows": 8, "columns": 16, "lanes": 4, "acc_rows": 32, "act_words": 64, "x_words": 32,
    "rope_words": 16, "row_entries": 32,
}  # fmt: skip
MEMORY = {"data_bytes": 16, "bytes_per_cycle": 8, "latency": 64}
SHARED = {"bank_words": 64, "param_words": 32}
CLUSTER = {
    "tiles": 2, "tile": TileConfig(**TILE), "shared": SharedConfig(**SHARED),
    "memory": MemoryContract(**MEMORY), "program_words": 64,
}  # fmt: skip
GROUPS = {
    TileConfig: TILE, MemoryContract: MEMORY, SharedConfig: SHARED, ClusterConfig: CLUSTER,
    PlannerConfig: {},
    ChipConfig: {"name": "a", "clock_mhz": 100, "encoder": ClusterConfig(**CLUSTER)},
}  # fmt: skip

#: What there is in a chip, as messages list it.
CHIP_FIELDS = (
    "clock_mhz, concurrent, encoder, latent_words, memory, name, planner, predictor, safety"
)

#: Range of every number.
RANGES = {
    TileConfig: {
        "rows": (2, 256), "columns": (2, 256), "lanes": (2, 256), "acc_rows": (4, 4096),
        "act_banks": (1, 8), "act_words": (2, 1 << 18), "x_words": (2, 1 << 19),
        "rope_words": (2, 1 << 19), "row_entries": (2, 1 << 12),
    },
    SharedConfig: {
        "banks": (2, 16), "bank_words": (2, 1 << 18), "param_words": (2, 1 << 18),
    },
    MemoryContract: {
        "data_bytes": (4, 128), "bytes_per_cycle": (1, 128), "latency": (1, 1 << 16),
        "burst_beats": (1, 256), "outstanding": (1, 256),
    },
    ClusterConfig: {
        "tiles": (1, 16), "program_words": (16, 0xFFFF), "queue": (2, 14), "pointers": (8, 32),
    },
    PlannerConfig: {"elites": (1, 64), "steps": (1, 16)},
    ChipConfig: {"clock_mhz": (1, 4000), "latent_words": (2, 1 << 18)},
}  # fmt: skip


def refusal(kind, **changes):
    with pytest.raises(ConfigError) as caught:
        kind(**GROUPS[kind] | changes)
    return str(caught.value)


def test_sizes_of_the_presets():
    def size(cluster):
        return cluster.tiles, cluster.tile.rows, cluster.tile.columns

    assert list(PRESETS) == ["nano", "ecp5", "jepa-r"]
    assert all(name == preset.name for name, preset in PRESETS.items())
    nano, ecp5, chip = PRESETS.values()
    assert (size(nano.encoder), size(nano.predictor)) == ((2, 8, 8), (4, 4, 4))
    assert (size(chip.encoder), size(chip.predictor)) == ((8, 128, 128), (4, 64, 64))
    assert chip.clock_mhz == 1500
    assert chip.encoder.macs_per_cycle == 131072
    assert 32 << 20 <= chip.encoder.sram_bytes <= 64 << 20
    assert chip.encoder.tile.lanes >= 32
    # Multipliers of the FPGA: one a cell, and at least 80 % of them.
    assert 0.8 * 156 <= ecp5.encoder.macs_per_cycle <= 156
    assert ecp5.predictor is None


def test_bytes_of_the_memories():
    tile = 2 * 32 * 16 * 4 + 2 * 64 * 8 + 32 * 4 * 2 + 16 * 4 * 4
    assert TileConfig(**TILE).sram_bytes == tile
    assert ClusterConfig(**CLUSTER).sram_bytes == 2 * tile + 3 * 64 * 8 + 32 * 4 * 8


def test_every_number_has_a_range():
    for kind, ranges in RANGES.items():
        assert set(ranges) == {f.name for f in fields(kind) if f.type in (int, "int")}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in RANGES.items() for name in names]
)
def test_numbers_outside_their_range_are_refused(kind, name):
    low, high = RANGES[kind][name]
    for value in (low - 1, high + 1, float(low), True, str(low), None):
        assert (
            refusal(kind, **{name: value})
            == f"{name} is {value!r}; it must be a whole number from {low} to {high}"
        )


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (TileConfig, {"lanes": 3}, "lanes is 3; it must be even: the rotator works on pairs"),
        (TileConfig, {"rows": 6}, "lanes is 4; it must divide rows, which is 6"),
        (TileConfig, {"columns": 10}, "lanes is 4; it must divide columns, which is 10"),
        (
            TileConfig, {"acc_rows": 31},
            "acc_rows is 31; it must be even: even and odd rows are two banks",
        ),
        (
            TileConfig, {"row_entries": 31},
            "row_entries is 31; it must be at least acc_rows, 32",
        ),
        (
            TileConfig, {"act_banks": 5, "act_words": (1 << 17) + 1},
            "act_words is 131073; 5 banks can have at most 131072 words each: addresses have 20 "
            "bits",
        ),
        (
            SharedConfig, {"banks": 16, "bank_words": 65537},
            "bank_words is 65537; 16 banks can have at most 65536 words each: addresses have 20 "
            "bits",
        ),
        (MemoryContract, {"data_bytes": 24}, "data_bytes is 24; it must be a power of two"),
        (
            MemoryContract, {"bytes_per_cycle": 17},
            "bytes_per_cycle is 17; a bus of 16 bytes carries at most 16",
        ),
        (
            MemoryContract, {"data_bytes": 32, "burst_beats": 129},
            "burst_beats is 129; AXI4 bursts must not cross 4 KB: at most 128 beats of 32 bytes",
        ),
        (
            MemoryContract, {"outstanding": 3},
            "outstanding is 3; at 8 bytes a cycle and 64 cycles of latency at least 4 bursts must "
            "be under way",
        ),
        (ClusterConfig, {"ecc": 1}, "ecc is 1; it must be true or false"),
        (ClusterConfig, {"pointers": 12}, "pointers is 12; it must be 8, 16 or 32"),
        (ClusterConfig, {"tile": 5}, "tile is 5; it must be a TileConfig"),
        (ClusterConfig, {"shared": 5}, "shared is 5; it must be a SharedConfig"),
        (ClusterConfig, {"memory": None}, "memory is None; it must be a MemoryContract"),
        (
            ClusterConfig, {"shared": SharedConfig(bank_words=15, param_words=32)},
            "shared.bank_words is 15; one pass needs a word for each of the 16 columns of the "
            "array",
        ),
        (
            ClusterConfig, {"tile": TileConfig(**TILE | {"act_words": 31})},
            "tile.act_words is 31; one pass reads a word for each of the 32 accumulator rows",
        ),
        (ChipConfig, {"name": 5}, "name is 5; it must be a text"),
        (ChipConfig, {"name": ""}, "name is ''; it must be a text"),
        (ChipConfig, {"encoder": None}, "encoder is None; it must be a ClusterConfig"),
        (ChipConfig, {"predictor": 0}, "predictor is 0; it must be a ClusterConfig or none"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(kind, changes, sentence):
    assert refusal(kind, **changes) == sentence


def test_largest_sizes_that_addresses_can_name():
    TileConfig(**TILE | {"act_banks": 5, "act_words": 1 << 17})
    TileConfig(**TILE | {"act_banks": 4, "act_words": 1 << 18})
    SharedConfig(**SHARED | {"banks": 16, "bank_words": 65536})


def test_contract_is_that_of_the_reader():
    assert config_module._RELEASE == DmaReader.RELEASE
    for latency in range(1, 400):
        try:
            made = MemoryContract(**MEMORY | {"latency": latency, "outstanding": 5})
        except ConfigError as error:
            least = int(str(error).split("at least ")[1].split()[0])
            made = MemoryContract(**MEMORY | {"latency": latency, "outstanding": least})
            assert least > 5
            with pytest.raises(ConfigError):
                MemoryContract(**MEMORY | {"latency": latency, "outstanding": least - 1})
        # The bursts under way hide the latency: more words cost what the promised rate says.
        few, many = (
            ReadBound(words={0: made.data_bytes}, contract=made).transfer(
                issue=0, address=0, words=words, dest=0
            )
            for words in (2048, 4096)
        )
        assert many - few == 2048 * made.data_bytes // made.bytes_per_cycle


def test_limits_are_those_of_program_words():
    assert 1 << ADDRESS == config_module._ADDRESSES
    assert RANGES[ClusterConfig]["program_words"][1] < 1 << LAYOUTS[Engine.READ]["words"].width
    # An operation may ask for as many transfers under way as the queue allows.
    assert RANGES[ClusterConfig]["queue"][1] < NO_CHECK
    vector, array = LAYOUTS[Engine.VECTOR], LAYOUTS[Engine.TILE]
    assert RANGES[TileConfig]["row_entries"][1] <= 1 << vector["row_addr"].width
    assert RANGES[SharedConfig]["param_words"][1] <= 1 << vector["param_addr"].width
    for name in ("x_words", "rope_words"):
        assert RANGES[TileConfig][name][1] <= 1 << ADDRESS
    for name, field in (("acc_rows", "rows"), ("columns", "columns"), ("rows", "k_last")):
        assert RANGES[TileConfig][name][1] < 1 << array[field].width
    assert RANGES[ClusterConfig]["tiles"][1] <= LAYOUTS[Engine.READ]["tiles"].width


LOOP = GROUPS[ChipConfig] | {
    "predictor": ClusterConfig(**CLUSTER),
    "memory": MemoryContract(
        **MEMORY | {"bytes_per_cycle": 16, "latency": 21, "outstanding": 16}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"concurrent": 1}, "concurrent is 1; it must be true or false"),
        (
            {"memory": None},
            "memory is none; a chip with a predictor needs a contract for its port",
        ),
        (
            {"memory": MemoryContract(data_bytes=32, bytes_per_cycle=16, latency=64)},
            "encoder.memory.data_bytes is 16; it must be that of the chip's port, 32",
        ),
        (
            {"memory": MemoryContract(data_bytes=16, bytes_per_cycle=15, latency=64)},
            "memory.bytes_per_cycle is 15; the clusters ask for 16 together",
        ),
        (
            {
                "memory": MemoryContract(data_bytes=16, bytes_per_cycle=7, latency=64),
                "concurrent": False,
            },
            "memory.bytes_per_cycle is 7; the clusters ask for 8",
        ),
        (
            {"memory": evolve(LOOP["memory"], outstanding=15)},
            "memory.outstanding is 15; the clusters ask for 16 together",
        ),
        (
            {"memory": evolve(LOOP["memory"], outstanding=7), "concurrent": False},
            "memory.outstanding is 7; the clusters ask for 8",
        ),
        (
            {"memory": evolve(LOOP["memory"], latency=22)},
            "encoder.memory.latency is 64; it must be at least 65: that of the chip's port is 22, "
            "and the arbiter adds 43",
        ),
        (
            {"memory": MemoryContract(**MEMORY), "concurrent": False},
            "encoder.memory.latency is 64; it must be at least 65: that of the chip's port is 64, "
            "and the arbiter adds 1",
        ),
        (
            {"encoder": ClusterConfig(**CLUSTER | {"tile": TileConfig(**TILE | {"rows": 4})})},
            "predictor.tile.rows is 8; it must divide encoder.tile.rows, 4: latents pass from one "
            "to the other word by word",
        ),
    ],
)
def test_clusters_that_cannot_work_together_are_refused(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        ChipConfig(**LOOP | changes)
    assert str(caught.value) == sentence


def test_clusters_that_take_turns_may_each_have_all_of_the_memory():
    full = MemoryContract(**MEMORY | {"latency": 63})
    assert ChipConfig(**LOOP | {"memory": full, "concurrent": False}).memory == full


# Hashes.


def leaves(config, prefix=""):
    for f in fields(type(config)):
        value = getattr(config, f.name)
        if has(type(value)):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}"


#: Another allowed value of each field of ``CLUSTER``.
OTHERS = {
    "tiles": 3, "tile.rows": 12, "tile.columns": 8, "tile.lanes": 2, "tile.acc_rows": 30,
    "tile.act_banks": 3, "tile.act_words": 65, "tile.x_words": 33, "tile.rope_words": 17,
    "tile.row_entries": 33, "shared.banks": 4, "shared.bank_words": 65, "shared.param_words": 33,
    "memory.data_bytes": 32, "memory.bytes_per_cycle": 7, "memory.latency": 65,
    "memory.burst_beats": 17, "memory.outstanding": 9, "program_words": 65, "queue": 5,
    "pointers": 8, "ecc": False,
}  # fmt: skip


def changed(config, path, value):
    name, _, rest = path.partition(".")
    inner = changed(getattr(config, name), rest, value) if rest else value
    return evolve(config, **{name: inner})


def test_every_field_changes_the_hash():
    cluster = ClusterConfig(**CLUSTER)
    assert set(OTHERS) == set(leaves(cluster))
    made = [changed(cluster, path, value) for path, value in OTHERS.items()]
    hashes = {c.hash for c in made} | {cluster.hash}
    assert len(hashes) == len(OTHERS) + 1
    assert all(0 <= h < 1 << 32 for h in hashes)
    chip = GROUPS[ChipConfig]
    chips = [ChipConfig(**chip | {"encoder": c}) for c in made]
    port = LOOP["memory"]
    loop = chip | {"predictor": cluster, "memory": port}
    chips += [
        ChipConfig(**chip | {"clock_mhz": 99}),
        ChipConfig(**loop),
        ChipConfig(**loop | {"memory": evolve(port, latency=20)}),
        ChipConfig(**loop | {"concurrent": False}),
        ChipConfig(**loop | {"latent_words": 5}),
        ChipConfig(**loop | {"planner": PlannerConfig(elites=5)}),
        ChipConfig(**loop | {"planner": PlannerConfig(steps=5)}),
    ]
    chips.append(ChipConfig(**chip))
    assert len({c.hash for c in chips}) == len(chips)
    assert ChipConfig(**chip | {"name": "b"}).hash == ChipConfig(**chip).hash


def test_hashes_are_the_same_in_every_process():
    text = (
        "import json; from jepa_r.config import PRESETS; "
        "print(json.dumps([[p.hash, p.encoder.hash] for p in PRESETS.values()]))"
    )
    out = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    assert json.loads(out.stdout) == [[p.hash, p.encoder.hash] for p in PRESETS.values()]
    # Images outlive the process, too.
    assert ClusterConfig(**CLUSTER).hash == 0xC809A6D6
    assert ChipConfig(**GROUPS[ChipConfig]).hash == "dc8c35182dd1f303"


# Files and changes.


def test_presets_are_loaded_by_name():
    for name, preset in PRESETS.items():
        assert load(name) is preset or load(name) == preset


def test_changes_of_single_fields():
    made = load("nano", ["encoder.tile.rows=16", "name=other", "encoder.ecc=false", "clock_mhz=7"])
    assert (made.encoder.tile.rows, made.name, made.clock_mhz) == (16, "other", 7)
    assert made.encoder.ecc is False
    assert changed(made.encoder, "ecc", True) == changed(PRESETS["nano"].encoder, "tile.rows", 16)


def test_changes_are_made_together():
    sizes = ["encoder.tile.rows=12", "encoder.tile.columns=10", "encoder.tile.lanes=2"]
    for order in (sizes, sizes[::-1]):
        tile = load("nano", order).encoder.tile
        assert (tile.rows, tile.columns, tile.lanes) == (12, 10, 2)
    assert load("nano", ["clock_mhz=1", "clock_mhz=2"]).clock_mhz == 2


@pytest.mark.parametrize(
    ("name", "override", "sentence"),
    [
        (
            "atto", "",
            "there is no preset 'atto'; there are nano, ecp5, jepa-r, or a file FILE.toml",
        ),
        ("nano", "encoder", "--set 'encoder' is not of the form KEY=VALUE"),
        (
            "nano", "encoder.colour=1",
            "there is no field encoder.colour; there are ecc, memory, pointers, program_words, "
            "queue, shared, tile, tiles",
        ),
        ("nano", "=1", f"there is no field ; there are {CHIP_FIELDS}"),
        ("nano", "encoder.tile=1", "--set encoder.tile: tile is a group of fields"),
        ("nano", "encoder.tiles.rows=1", "--set encoder.tiles.rows: tiles is no group of fields"),
        ("nano", "encoder.tiles=2.0", "tiles is 2.0; it must be a whole number from 1 to 16"),
        ("nano", "encoder.tiles=two", "tiles is 'two'; it must be a whole number from 1 to 16"),
        ("nano", "encoder.ecc=yes", "ecc is 'yes'; it must be true or false"),
        ("nano", "encoder.tile.rows=12", "lanes is 8; it must divide rows, which is 12"),
        ("ecp5", "predictor=1", "predictor is 1; it must be a ClusterConfig or none"),
        ("ecp5", "predictor.tiles=1", "--set predictor.tiles: predictor is no group of fields"),
    ],
)  # fmt: skip
def test_changes_that_are_refused(name, override, sentence):
    with pytest.raises(ConfigError) as caught:
        load(name, [override] if override else [])
    assert str(caught.value) == sentence


def test_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "jepa-r"\n[encoder]\ntiles = 4\n[encoder.tile]\nlanes = 16\n')
    made = load(str(path), ["encoder.queue=3"])
    assert (made.name, made.encoder.tiles, made.encoder.queue) == ("mine", 4, 3)
    assert made.encoder.tile == evolve(PRESETS["jepa-r"].encoder.tile, lanes=16)
    assert made.predictor == PRESETS["jepa-r"].predictor
    path.write_text('name = "b"\n')
    assert load(str(path)) == evolve(PRESETS["nano"], name="b")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = ", "{path} cannot be read as TOML: Invalid value (at end of document)"),
        ("base = 'atto'", "{path}: base is 'atto'; it must be one of nano, ecp5, jepa-r"),
        ("base = []", "{path}: base is []; it must be one of nano, ecp5, jepa-r"),
        ("colour = 1", f"there is no field colour; there are {CHIP_FIELDS}"),
        (
            "[encoder.tile]\ncolour = 1",
            "there is no field encoder.tile.colour; there are acc_rows, act_banks, act_words, "
            "columns, lanes, rope_words, row_entries, rows, x_words",
        ),
        ("[encoder]\ntile = 1", "encoder.tile is 1; it must be a table"),
        ("[encoder.tiles]\na = 1", "encoder.tiles is {{'a': 1}}; it must be a value"),
        ("[encoder]\ntiles = 2.0", "tiles is 2.0; it must be a whole number from 1 to 16"),
        ("[encoder]\ntiles = true", "tiles is True; it must be a whole number from 1 to 16"),
        ("name = 5", "name is 5; it must be a text"),
        (
            "base = 'ecp5'\n[predictor]\ntiles = 1",
            "predictor must be left out: the base has none to change",
        ),
    ],
)
def test_files_that_are_refused(tmp_path, text, sentence):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == sentence.format(path=path)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "mine.toml"
    start = f"{path} cannot be read as TOML: "
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value).startswith(start + "[Errno 2] No such file")
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value).startswith(start + "'utf-8' codec can't decode byte 0xff")


def test_configurations_are_frozen():
    with pytest.raises(AttributeError):
        PRESETS["nano"].clock_mhz = 5
    assert asdict(PRESETS["nano"])["encoder"]["tile"]["rows"] == 8


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"ping_cycles": 1_000_001},
            "ping_cycles is 1000001; it must be at most 1000000, 10000 us at 100 MHz, in which "
            "every alert wire must be tested",
        ),
        (
            {"clock_mhz": 64},
            "ping_cycles is 960000; it must be at most 640000, 10000 us at 64 MHz, in which "
            "every alert wire must be tested",
        ),
    ],
)
def test_alert_wires_are_tested_every_ten_milliseconds(changes, sentence):
    """A dead wire may be unknown for as long as that, whatever the clock."""
    with pytest.raises(ConfigError) as caught:
        SafetyConfig(**changes)
    assert str(caught.value) == sentence
    assert SafetyConfig(ping_cycles=1_000_000).ping_cycles == 1_000_000
    assert SafetyConfig(clock_mhz=64, ping_cycles=640_000).clock_mhz == 64
