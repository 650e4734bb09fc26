"""The pair of real cores under Verilator, with a memory of code words in C++, many runs at once."""

import numpy as np
from attrs import frozen

from jepa_r.safety.lockstep import Lockstep
from jepa_r_sim.cosim import build
from jepa_r_sim.golden.code import encode

#: A run for each line of the plan: which read is falsified, and how.
_MAIN = """\
#include "Vtop.h"
#include "verilated.h"
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  std::vector<uint64_t> contents(0x8000);
  FILE* file = std::fopen(argv[1], "rb");
  if (!file || std::fread(contents.data(), 8, contents.size(), file) != contents.size()) return 1;
  std::fclose(file);
  FILE* plan = std::fopen(argv[2], "r");
  FILE* told = std::fopen(argv[3], "w");
  if (!plan || !told) return 1;
  const uint64_t limit = std::strtoull(argv[4], nullptr, 0);
  const uint64_t stop = std::strtoull(argv[5], nullptr, 0);
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(1);
  Vtop top{&context};
  uint64_t noise = 0x9e3779b97f4a7c15;
  uint64_t number, flips, place;
  while (std::fscanf(plan, "%" SCNu64 " %" SCNu64 " %" SCNu64, &number, &flips, &place) == 3) {
    std::vector<uint64_t> memory = contents;
    top.rst = 1;
    top.irq_timer = top.irq_external = 0;
    top.test_allowed = top.test_start = top.inject = 0;
    for (int n = 0; n < 3; ++n) {
      top.clk = 0;
      top.eval();
      top.clk = 1;
      top.eval();
    }
    top.rst = 0;
    uint64_t code = 0, reads = 0, writes = 0, hash = 14695981039346656037u, cycle = 0;
    uint64_t corrected = 0, uncorrectable = 0, traps = 0, alert = 0, stopped = 0;
    bool error = false;
    for (; cycle < limit && !stopped; ++cycle) {
      top.clk = 0;
      top.r_code = code;
      top.r_error = error;
      top.eval();
      corrected += top.corrected;
      uncorrectable += top.uncorrectable;
      traps += top.trap;
      if (!alert && (top.alert_p || !top.alert_n)) alert = cycle + 1;
      noise ^= noise << 13;
      noise ^= noise >> 7;
      noise ^= noise << 17;
      code = noise >> 25;
      error = (top.r_en || top.q_write) && top.r_addr >= 0x20000;
      if (top.r_en && !error) {
        code = memory[(top.r_addr ^ (reads == number ? place : 0)) % 0x20000 / 4];
        code ^= reads == number ? flips : 0;
        ++reads;
      }
      if (top.w_en == top.w_en_n) return 2;
      if (top.w_en) {
        if (top.w_addr >= 0x20000) return 3;
        memory[top.w_addr / 4] = top.w_code;
        hash = (hash ^ top.w_addr) * 1099511628211u;
        hash = (hash ^ top.w_code) * 1099511628211u;
        ++writes;
        if (top.w_addr == stop) stopped = uint32_t(top.w_code);
      }
      top.clk = 1;
      top.eval();
    }
    std::fprintf(told, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\\n", stopped, cycle, reads,
                 writes, hash, corrected, uncorrectable, traps, alert);
  }
  return std::fclose(told);
}
"""


@frozen
class Outcome:
    """What a run left: the word that ended it, counts, a hash of all writes, the alert's cycle."""

    stopped: int
    cycles: int
    reads: int
    writes: int
    hash: int
    corrected: int
    uncorrectable: int
    traps: int
    alert: int


class Pair:
    """A compiled pair of cores; a store to ``stop`` ends a run."""

    def __init__(self, *, skew=2):
        self.simulation = build(Lockstep(skew=skew), name=f"pair_{skew}", main=_MAIN)
        self.zeros = [encode(0, 4 * n) for n in range(0x8000)]

    def run(self, words, plan, *, workdir, stop, cycles=100_000):
        """Outcomes of runs of a program of ``words`` from address 0.

        Of each line of ``plan`` the number of a read, bits to flip in its code word, and bits to
        flip in its address.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        codes = [*self.zeros]
        for n, word in enumerate(words):
            codes[n] = encode(word, 4 * n)
        memory, lines, told = (workdir / name for name in ("memory", "plan", "told"))
        np.array(codes, np.uint64).tofile(memory)
        lines.write_text("".join(f"{a} {b} {c}\n" for a, b, c in plan))
        self.simulation.execute(
            [str(memory), str(lines), str(told), str(cycles), str(stop)], log=workdir / "log"
        )
        outcomes = [Outcome(*map(int, line.split())) for line in told.read_text().splitlines()]
        assert len(outcomes) == len(plan)
        return outcomes
