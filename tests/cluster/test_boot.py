import pytest

from jepa_r.cluster.boot import MAGIC, Boot, Header, image_offset
from jepa_r.cluster.isa import VERSION, Destination, Fault
from jepa_r_sim.drivers.stream import simulate

CONFIG, WORDS, ADDRESS = 0xDEADBEEF, 100, 0x8000_1000
HEADER = {"magic": MAGIC, "version": VERSION, "config": CONFIG, "words": 37}


def boot(header, *, data_bytes=16, wait=5, complete=2, load=0, elastic=0):
    """Descriptors asked for, and (cycle, what) of whatever else happens."""
    dut = Boot(config_hash=CONFIG, program_words=WORDS, data_bytes=data_bytes)
    asked, events = [], []

    async def bench(ctx):
        due, completed = None, 0
        for cycle in range(120):
            ctx.set(dut.start, cycle == 3 and not load)
            ctx.set(dut.load, cycle == 3 and load)
            ctx.set(dut.elastic, elastic)
            ctx.set(dut.address, ADDRESS if cycle == 3 else 0)
            # The reader takes its time.
            ctx.set(dut.o.ready, cycle % wait == 0)
            arrives = due == cycle and completed < complete
            ctx.set(dut.header_en, int(due == cycle + 1 and len(asked) == 1))
            ctx.set(dut.header, header if due == cycle + 1 else {})
            ctx.set(dut.completed, arrives)
            completed += arrives
            if ctx.get(dut.o.valid) and cycle % wait == 0:
                p = ctx.get(dut.o.payload)
                asked.append({name: p[name] for name in p.shape().members})
                due = cycle + 7
            if ctx.get(dut.begin):
                events.append("begin")
            if ctx.get(dut.fault) != Fault.NONE:
                events.append(ctx.get(dut.fault))
            if cycle in (3, 4, 119):
                events.append(ctx.get(dut.active))
            if ctx.get(dut.loaded) and "loaded" not in events:
                events.append("loaded")
                assert ctx.get(dut.loaded_header.words) == header["words"]
            await ctx.tick()

    simulate(dut, bench, max_cycles=200)
    return asked, events


def descriptor(**fields):
    zero = dict.fromkeys(("address", "words", "rows", "stride", "dest", "dest_addr", "tiles"), 0)
    return zero | {"rows": 1, "crc": 1} | fields


HEADER_READ = descriptor(address=ADDRESS, words=1, dest=Destination.HEADER.value)


@pytest.mark.parametrize("data_bytes", [4, 16, 32, 128])
@pytest.mark.parametrize("words", [1, 37, WORDS])
def test_a_good_image_is_read_and_begun(data_bytes, words):
    asked, events = boot(HEADER | {"words": words}, data_bytes=data_bytes)
    program = descriptor(
        address=ADDRESS + image_offset(data_bytes), words=words, dest=Destination.PROGRAM.value
    )
    assert asked == [HEADER_READ, program]
    # Idle, active from the cycle after the start, one pulse, idle again.
    assert events == [0, 1, "begin", "loaded", 0]


def test_an_image_that_is_only_loaded_does_not_begin():
    asked, events = boot(HEADER, load=1)
    assert len(asked) == 2
    assert events == [0, 1, "loaded", 0]


@pytest.mark.parametrize("elastic", [0, 1])
@pytest.mark.parametrize("compiled", [0, 1])
def test_an_elastic_run_needs_an_image_compiled_for_it(elastic, compiled):
    asked, events = boot(HEADER | {"elastic": compiled}, elastic=elastic)
    if elastic and not compiled:
        assert (asked, events) == ([HEADER_READ], [0, 1, Fault.IMAGE_ELASTIC, 1])
    else:
        assert events == [0, 1, "begin", "loaded", 0]


@pytest.mark.parametrize(("data_bytes", "offset"), [(4, 52), (16, 64), (32, 96), (128, 256)])
def test_the_program_follows_the_header_and_its_sum(data_bytes, offset):
    assert image_offset(data_bytes) == offset


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"magic": MAGIC ^ 1}, Fault.IMAGE_MAGIC),
        ({"magic": MAGIC ^ 1 << 31}, Fault.IMAGE_MAGIC),
        ({"version": VERSION + 1}, Fault.IMAGE_VERSION),
        ({"version": VERSION | 1 << 31}, Fault.IMAGE_VERSION),
        ({"config": CONFIG ^ 1}, Fault.IMAGE_CONFIG),
        ({"config": CONFIG ^ 1 << 31}, Fault.IMAGE_CONFIG),
        ({"words": 0}, Fault.IMAGE_LENGTH),
        ({"words": WORDS + 1}, Fault.IMAGE_LENGTH),
        ({"words": 1 << 16 | 5}, Fault.IMAGE_LENGTH),
        ({"magic": 0, "version": 0, "config": 0, "words": 0}, Fault.IMAGE_MAGIC),
        ({"version": 0, "config": 0, "words": 0}, Fault.IMAGE_VERSION),
        ({"config": 0, "words": 0}, Fault.IMAGE_CONFIG),
    ],
)
def test_images_that_are_refused(changes, fault):
    asked, events = boot(HEADER | changes)
    # The program is not even asked for, and nothing else is booted until reset.
    assert asked == [HEADER_READ]
    assert events == [0, 1, fault, 1]


@pytest.mark.parametrize("complete", [0, 1])
def test_nothing_begins_before_everything_is_there(complete):
    asked, events = boot(HEADER, complete=complete)
    assert len(asked) == complete + 1
    assert events == [0, 1, 1]


def test_header_is_little_endian():
    fields = {"kind": 1, "steps": 2, "elastic": 3, "latent": 4, "goal": 5, "inputs": 6,
              "rows": 7, "blocks": 8, "trace": 9}  # fmt: skip
    words = b"".join(n.to_bytes(4, "little") for n in (VERSION, CONFIG, 37))
    assert Header.const(HEADER | fields).as_bits() == int.from_bytes(
        b"JPRP"
        + words
        + bytes([1, 2, 3, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 8, 0, 9, 0, 0, 0]),
        "little",
    )
