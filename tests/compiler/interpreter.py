"""An interpreter of program words, written from the instruction set alone."""

from jepa_r.cluster.isa import LAYOUTS, OPERANDS, Control, Engine
from jepa_r.cluster.sequencer import LOOP_DEPTH

__all__ = ["fields_of", "interpret"]


def fields_of(layout, word):
    return {
        name: word >> layout[name].offset & (1 << layout[name].width) - 1 for name, _field in layout
    }


def interpret(words):
    """Operations as (start, engine, operands with pointers added), and the cycle of HALT."""
    time, at, pointers, loops, started = 0, 0, [0] * 32, [], []
    while True:
        word = words[at]
        head = fields_of(LAYOUTS[Control.HALT], word)
        at += 1
        if head["engine"] != Engine.CONTROL.value:
            time += head["wait"]
            engine = Engine(head["engine"])
            fields = fields_of(LAYOUTS[engine], word)
            for address, pointer in OPERANDS[engine]:
                width = LAYOUTS[engine][address].width
                fields[address] = fields[address] + pointers[fields.pop(pointer)] & (1 << width) - 1
            started.append((time, engine, fields))
            continue
        control = Control(head["control"])
        if control == Control.HALT:
            assert not loops
            return started, time + head["wait"]
        if control == Control.LOOP:
            time += head["wait"]
            loops.append([at, fields_of(LAYOUTS[control], word)["count"]])
            assert len(loops) <= LOOP_DEPTH
        elif control == Control.END:
            loops[-1][1] -= 1
            if loops[-1][1]:
                time += head["wait"]
                at = loops[-1][0]
            else:
                loops.pop()
        elif control == Control.ADD:
            adds = fields_of(LAYOUTS[control], word)["adds"]
            for _ in range(4):
                pointers[adds & 31] += adds >> 5 & 0xFFFFFFFF
                adds >>= 37
            pointers[0] = 0
