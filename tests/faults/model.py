"""The toy of :mod:`.toy` in Python, a cycle at a time: what the engines are held to."""

from .toy import ADD, ADD_CONSTANT, JUMP, LOAD, STORE

WIDTHS = {"pc": 28, "acc": 32, "ir": 32, "en": 1, "fetch": 1, "write": 1, "addr": 28, "state": 3}
FETCH, WAIT, DECODE, EXECUTE, ACCESS, FINISH = range(6)


class Toy:
    """One processor with its memory; ``hurt`` is done to its registers ``r`` in each cycle."""

    def __init__(self, memory, hurt=lambda r: None):
        self.r = dict.fromkeys(WIDTHS, 0)
        self._hurt = hurt
        self._memory = memory
        self._words = {
            region.base + 4 * n: int(word)
            for region in memory.regions
            for n, word in enumerate(region.words)
        }
        self._answer = 0

    def outputs(self):
        """What the bus shows in this cycle."""
        self._hurt(self.r)
        r = self.r
        return r["en"], r["fetch"], r["write"], r["addr"], r["acc"]

    def edge(self, store=True):
        """End of the cycle; a store is done only if it may be."""
        r, data = dict(self.r), self._answer
        n = self.r
        n["en"] = n["write"] = 0
        op, low = r["ir"] >> 28, r["ir"] & 0xFFF_FFFF
        match r["state"]:
            case 0:
                n |= {"en": 1, "fetch": 1, "addr": r["pc"], "state": WAIT}
            case 1:
                n["state"] = DECODE
            case 2:
                n |= {"ir": data, "pc": (r["pc"] + 4) % (1 << 28), "state": EXECUTE}
            case 3:
                n |= {"fetch": 0, "addr": low, "state": ACCESS}
                if op in (LOAD, ADD, STORE):
                    n |= {"en": 1, "write": int(op == STORE)}
                elif op == JUMP:
                    n["pc"] = low
                elif op == ADD_CONSTANT:
                    n["acc"] = (r["acc"] + low) % (1 << 32)
            case 4:
                n["state"] = FINISH
            case 5:
                n["state"] = FETCH
                if op == LOAD:
                    n["acc"] = data
                elif op == ADD:
                    n["acc"] = (r["acc"] + data) % (1 << 32)
        if r["en"] and not r["write"]:
            self._answer = self._read(r["addr"], r["fetch"])
        elif r["en"] and store:
            region = self._region(r["addr"])
            if region is not None and region.store:
                self._words[r["addr"] & ~3] = r["acc"]

    def _region(self, address):
        for region in self._memory.regions:
            if region.base <= address < region.base + 4 * len(region.words):
                return region
        return None

    def _read(self, address, fetch):
        region = self._region(address)
        if region is None or not (region.fetch if fetch else region.load):
            return 0
        return self._words[address & ~3]
