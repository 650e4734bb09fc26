import random

from attrs import evolve

from jepa_r.cluster.addresses import AddressCheck
from jepa_r.cluster.isa import Destination, Other, Result, Source
from jepa_r.config import PRESETS
from jepa_r.dma.mover import MoveSource
from jepa_r.vector.layouts import Mode, Second, Stat
from jepa_r_sim.compiler.program import encode

from .pipeline import answers

NANO = PRESETS["nano"].encoder
#: Sizes between powers of two, where an address can lie beyond its memory and within its bits.
TILE = evolve(NANO.tile, lanes=4, act_words=300, x_words=200, rope_words=90, row_entries=70)
SHARED = evolve(NANO.shared, bank_words=400, param_words=600)
CONFIG = evolve(NANO, tile=TILE, shared=SHARED)
PARTS = TILE.rows // TILE.lanes


def banked(words, banks):
    """All addresses of banks that begin at powers of two."""
    bank = next(1 << n for n in range(20) if 1 << n >= words)
    return {bank * n + word for n in range(banks) for word in range(words)}


ACT, X = banked(TILE.act_words, TILE.act_banks), set(range(TILE.x_words))
SHARED_WORDS = banked(SHARED.bank_words, SHARED.banks)
PARAM, ROPE = set(range(SHARED.param_words)), set(range(TILE.rope_words))
ROWS, TABLE = set(range(TILE.row_entries)), set(range(64))
PROGRAM = set(range(CONFIG.program_words))
LOADS = {
    Destination.SHARED: SHARED_WORDS, Destination.PARAM: PARAM, Destination.ACT: ACT,
    Destination.ROPE: ROPE, Destination.TABLE: TABLE, Destination.X: X,
    Destination.PROGRAM: PROGRAM, Destination.HEADER: {0},
}  # fmt: skip


class Cycle:
    """Random accesses of one cycle; in half of all cycles one of them is moved outside."""

    def __init__(self, rng, ports, victim):
        self._rng, self._ports, self._victim = rng, ports, victim
        self._used = 0
        self.outside = False

    def _pick(self, places, bits, used):
        """An address, inside unless it is the victim's turn or nobody looks at it."""
        rng = self._rng
        if used:
            self._used += 1
            if self._used != self._victim:
                return rng.choice([0, max(places), rng.choice(list(places))])
        near = [p + d for p in (0, max(places)) for d in (1, 2, 3)]
        beyond = [p for p in (*near, rng.getrandbits(bits)) if p not in places and p < 1 << bits]
        if not beyond:
            return 0
        self.outside |= used
        return rng.choice(beyond)

    def values(self):
        rng, pick = self._rng, self._pick
        out = {}
        a, b, a_shared, b_shared, valid = (rng.getrandbits(1) for _ in range(5))
        out["array_reads"] = {
            "a_en": a, "b_en": b, "a_shared": a_shared, "b_shared": b_shared,
            "a_addr": pick(SHARED_WORDS if a_shared else ACT, 20, a),
            "b_addr": pick(SHARED_WORDS if b_shared else ACT, 20, b),
        }  # fmt: skip
        out["array_edge"] = {
            "a_valid": valid, "acc_row": pick(set(range(TILE.acc_rows)), 13, valid)
        }  # fmt: skip

        en, source, other = rng.getrandbits(1), rng.choice(list(Source)), rng.choice(list(Other))
        mode, second, stat = (rng.choice(list(kind)) for kind in (Mode, Second, Stat))
        words = {Source.ACC: set(range(TILE.acc_rows)), Source.X: X, Source.ACT: ACT}
        segments = {Source.ACC: TILE.columns // TILE.lanes, Source.ACT: PARTS}
        out["vector_reads"] = {
            "en": en, "source": source, "other": other,
            "src_addr": pick(words[source], 20, en),
            "src_seg": pick(set(range(segments.get(source, 1))), 8, en and source != Source.X),
            "other_addr": pick(X if other == Other.X else ACT, 20, en and other != Other.NONE),
            "other_seg": pick(set(range(PARTS)), 8, en and other == Other.ACT),
            "param_addr": pick(
                PARAM, 18, en and (mode == Mode.REQUANT or second == Second.COLUMN)
            ),
            "rope_addr": pick(ROPE, 20, en and second == Second.ROTATE),
            "row_addr": pick(ROWS, 12, en and mode in (Mode.NORM, Mode.EXP)),
        }  # fmt: skip
        gathered = stat in (Stat.MAX, Stat.MOMENTS, Stat.SUM)
        out["step"] = {
            "valid": en, "mode": mode, "second": second, "stat": stat,
            "stat_row": pick(ROWS, 12, en and gathered),
        }  # fmt: skip
        result = rng.choice(list(Result))
        out["writes"] = {
            "result": result,
            "addr": pick(X if result == Result.X else ACT, 20, result != Result.NONE),
            "seg": pick(set(range(PARTS)), 8, result == Result.ACT),
        }

        load, dest = rng.getrandbits(1), rng.choice(list(Destination))
        boot_only = dest in (Destination.PROGRAM, Destination.HEADER)
        of_tiles = dest in (Destination.ACT, Destination.ROPE, Destination.TABLE, Destination.X)
        out |= {
            "load_en": load, "load_dest": dest.value,
            "load_addr": pick(LOADS[dest], 20, load),
            "load_tiles": pick(set(range(1 << CONFIG.tiles)), 16, load and of_tiles),
            "booting": 1 - pick({0}, 1, load and boot_only),
        }  # fmt: skip
        move, to_x, shared = (rng.getrandbits(1) for _ in range(3))
        out |= {
            "move_en": move, "move_source": (MoveSource.X if to_x else MoveSource.ACT).value,
            "move_tile": pick(set(range(CONFIG.tiles)), 4, move),
            "move_addr": pick(X if to_x else ACT, 20, move),
            "shared_en": shared, "shared_addr": pick(SHARED_WORDS, 20, shared),
        }  # fmt: skip
        return {
            name: encode(self._ports[name].shape, value) if isinstance(value, dict) else value
            for name, value in out.items()
        }


def test_every_access_outside_its_memory_is_told(tmp_path):
    dut = AddressCheck(config=CONFIG)
    rng = random.Random(1)
    cycles, outside = [], []
    for _ in range(3000):
        cycle = Cycle(rng, dut.signature.members, rng.choice([0, rng.randrange(1, 16)]))
        cycles.append(cycle.values())
        outside.append(cycle.outside)
    assert 0.2 < sum(outside) / len(outside) < 0.6
    operands = {name: [cycle[name] for cycle in cycles] for name in cycles[0]}
    answers(
        tmp_path, dut, "addresses", latency=AddressCheck.LATENCY,
        operands=operands, results={"outside": outside},
    )  # fmt: skip
