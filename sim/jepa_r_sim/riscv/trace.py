"""The island's processor under Verilator, with a memory in C++, and what every instruction did."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.lib import data, wiring
from attrs import frozen

from jepa_r.safety.core import Core
from jepa_r.safety.rvfi import RvfiLayout

from ..cosim import Simulation, build

__all__ = ["Levels", "Trace", "TracedCore", "Window"]

#: Words of 32 bits that the port of :class:`RvfiLayout` has in the model.
_RVFI_WORDS = -(-RvfiLayout().size // 32)

_RECORD = np.dtype([("cycle", "<u8"), ("cause", "<u4"), ("rvfi", "<u4", _RVFI_WORDS)])

#: The bus answers in the second cycle after the request and carries noise in all others.
_MAIN = """\
#include "Vtop.h"
#include "verilated.h"
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

struct Window {{
  uint32_t base, size, fetch, load, store;
  std::vector<uint32_t> words;
}};

struct Levels {{
  uint64_t after;
  uint32_t timer, external;
}};

struct Answer {{
  bool valid, error;
  uint32_t word;
}};

static std::vector<Window> windows;

static Answer access(bool fetch, bool write, uint32_t address, uint32_t word) {{
  for (Window& window : windows) {{
    const uint32_t offset = address - window.base;
    if (offset >= window.size) continue;
    const bool allowed = fetch ? window.fetch : write ? window.store : window.load;
    if (!allowed) break;
    if (write) window.words[offset / 4] = word;
    return {{true, false, window.words[offset / 4]}};
  }}
  return {{true, true, 0xdeadbeef}};
}}

int main(int argc, char** argv) {{
  FILE* file = std::fopen(argv[1], "r");
  uint64_t limit, cycles, stop;
  size_t count;
  if (!file || std::fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu64, &limit, &cycles, &stop) != 3)
    return 1;
  if (std::fscanf(file, "%zu", &count) != 1) return 1;
  windows.resize(count);
  for (Window& window : windows) {{
    if (std::fscanf(file, "%" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32, &window.base,
                    &window.size, &window.fetch, &window.load, &window.store) != 5)
      return 1;
    window.words.resize(window.size / 4);
  }}
  if (std::fscanf(file, "%zu", &count) != 1) return 1;
  std::vector<Levels> schedule(count);
  for (Levels& levels : schedule)
    if (std::fscanf(file, "%" SCNu64 " %" SCNu32 " %" SCNu32, &levels.after, &levels.timer,
                    &levels.external) != 3)
      return 1;
  std::fclose(file);
  file = std::fopen(argv[2], "rb");
  if (!file) return 1;
  for (Window& window : windows)
    if (std::fread(window.words.data(), 4, window.words.size(), file) != window.words.size())
      return 1;
  std::fclose(file);
  FILE* trace = std::fopen(argv[3], "wb");
  if (!trace) return 1;

  VerilatedContext context;
  context.commandArgs(argc, argv);
  context.randReset(2);
  context.randSeed(1);
  Vtop top{{&context}};
  uint64_t noise = 0x9e3779b97f4a7c15;
  top.rst = 1;
  for (int n = 0; n < 3; ++n) {{
    top.clk = 0;
    top.eval();
    top.clk = 1;
    top.eval();
  }}
  top.rst = 0;
  top.irq_timer = top.irq_external = 0;
  Answer pipeline[{latency} + 1] = {{}};
  uint64_t retired = 0, cycle = 0, gap = UINT64_MAX, last_store = UINT64_MAX;
  uint32_t stopped = 0;
  size_t next = 0;
  for (; cycle < cycles && retired < limit && !stopped; ++cycle) {{
    while (next < schedule.size() && schedule[next].after <= retired) {{
      top.irq_timer = schedule[next].timer;
      top.irq_external = schedule[next].external;
      ++next;
    }}
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    top.clk = 0;
    top.eval();
    for (int n = {latency}; n > 0; --n) pipeline[n] = pipeline[n - 1];
    pipeline[0] = {{}};
    if (top.bus_en) {{
      if (top.bus_addr % 4) return 2;
      if (!top.bus_fetch) {{
        if (last_store != UINT64_MAX && cycle - last_store < gap) gap = cycle - last_store;
        last_store = top.bus_write ? cycle : UINT64_MAX;
      }}
      if (top.bus_write && top.bus_addr == stop) stopped = top.bus_wdata;
      pipeline[0] = access(top.bus_fetch, top.bus_write, top.bus_addr, top.bus_wdata);
    }}
    const Answer& answer = pipeline[{latency}];
    top.bus_rdata = answer.valid ? answer.word : uint32_t(noise);
    top.bus_error = answer.valid ? answer.error : noise >> 40 & 1;
    if (top.rvfi[0] & 1) {{
      const uint32_t cause = top.trap ? top.trap_cause : 0;
      std::fwrite(&cycle, sizeof cycle, 1, trace);
      std::fwrite(&cause, sizeof cause, 1, trace);
      std::fwrite(&top.rvfi[0], 4, {words}, trace);
      if (bool(top.trap) != bool(top.rvfi[{trap} / 32] >> {trap} % 32 & 1)) return 3;
      ++retired;
    }} else if (top.trap) {{
      return 3;
    }}
    top.eval();
    top.clk = 1;
    top.eval();
  }}
  std::printf("%" PRIu32 " %" PRIu64 " %" PRIu64 "\\n", stopped, cycle, gap);
  return std::fclose(trace);
}}
"""


@frozen(kw_only=True)
class Window:
    """A piece of the memory map: a memory of words, and the accesses that are allowed.

    Attributes
    ----------
    base, size
        First byte and number of bytes, multiples of 4.
    fetch, load, store
        What is allowed; everything else, and everything outside, is answered with an error.
    contents
        Bytes from its beginning on; the rest is 0.
    """

    base: int
    size: int
    fetch: bool = True
    load: bool = True
    store: bool = True
    contents: bytes = b""


@frozen
class Levels:
    """Levels of the interrupts' wires from a cycle on.

    Attributes
    ----------
    after
        The cycle is that in which the instruction of this number (the first is 1) is told: the next
        one is about to be fetched, so the core heeds it behind that one.
    timer, external
        The levels.
    """

    after: int
    timer: bool
    external: bool


@frozen(kw_only=True)
class Trace:
    """What a run left.

    Attributes
    ----------
    cycle, cause
        UINT64 and UINT32 ``[instructions]``: the cycle in which the instruction was told, and the
        cause if it trapped.
    rvfi
        Fields of :class:`RvfiLayout`, UINT64 ``[instructions]`` each.
    stopped
        The word that was stored to the address that ends the run; 0 if none was.
    cycles
        Of the run.
    store_gap
        Fewest cycles from a store's request to the next request of a load or store; ``None`` if no
        store had a successor.
    """

    cycle: npt.NDArray[np.uint64]
    cause: npt.NDArray[np.uint32]
    rvfi: dict[str, npt.NDArray[np.uint64]]
    stopped: int
    cycles: int
    store_gap: int | None


class TracedCore:
    """A compiled core with its port for verification.

    Parameters
    ----------
    core
        The core, or one with a planted bug.
    name
        Name of the top module.
    """

    def __init__(self, core: wiring.Component | None = None, *, name: str = "core_traced"):
        main = _MAIN.format(
            latency=Core.BUS_LATENCY, words=_RVFI_WORDS, trap=RvfiLayout()["trap"].offset
        )
        core = Core(rvfi=True) if core is None else core
        self.simulation: Simulation = build(core, name=name, main=main)

    def run(
        self,
        windows: Sequence[Window],
        *,
        workdir: Path,
        limit: int = 1 << 40,
        cycles: int = 1 << 24,
        stop: int = 1,
        levels: Sequence[Levels] = (),
    ) -> Trace:
        """Run a program from reset.

        Parameters
        ----------
        windows
            The memory map.
        workdir
            Where files are left.
        limit, cycles
            Instructions and cycles after which the run ends.
        stop
            Address of a word: a store of something else than 0 to it ends the run.
        levels
            When the interrupts' wires change, in ascending order.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        lines = [f"{limit} {cycles} {stop}", f"{len(windows)}"]
        lines += [f"{w.base} {w.size} {w.fetch:d} {w.load:d} {w.store:d}" for w in windows]
        lines += [f"{len(levels)}", *(f"{n.after} {n.timer:d} {n.external:d}" for n in levels)]
        setup, memory, trace = (workdir / name for name in ("setup", "memory", "trace"))
        setup.write_text("\n".join(lines) + "\n")
        memory.write_bytes(b"".join(w.contents.ljust(w.size, b"\0") for w in windows))
        printed = self.simulation.execute(
            [str(setup), str(memory), str(trace)], log=workdir / "log"
        ).split()
        records = np.fromfile(trace, _RECORD)
        gap = int(printed[2])
        return Trace(
            cycle=records["cycle"],
            cause=records["cause"],
            rvfi=_fields(records["rvfi"]),
            stopped=int(printed[0]),
            cycles=int(printed[1]),
            store_gap=gap if gap < 1 << 63 else None,
        )


def _fields(words: npt.NDArray[np.uint32]) -> dict[str, npt.NDArray[np.uint64]]:
    """Fields of records that are words of 32 bits."""
    layout: data.StructLayout = RvfiLayout()
    padded = np.zeros((len(words), _RVFI_WORDS + 2), np.uint64)
    padded[:, :_RVFI_WORDS] = words
    fields = {}
    for name, place in layout:
        first, shift = np.uint64(place.offset // 32), np.uint64(place.offset % 32)
        width = place.width
        low, middle, high = (padded[:, int(first) + n] for n in range(3))
        value = (low | middle << np.uint64(32)) >> shift
        if shift:
            value |= high << (np.uint64(64) - shift)
        fields[name] = value & np.uint64((1 << width) - 1)
    return fields
