"""The verilated safety island with clocks of its own, and a world that Python decides on.

The model runs as a program of its own, which takes orders a line each: pins, clocks, packets, and
how long to run. It tells every change of what the island shows, with its time. Time is in
picoseconds, so that clocks of any ratio, stopped ones and glitches can be given.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from attrs import define, field, frozen

from jepa_r.config import SafetyConfig
from jepa_r.safety.clock_monitor import ClockFaults
from jepa_r.safety.deadline import DeadlineFaults
from jepa_r.safety.island import Island
from jepa_r.safety.map import ALERTS, Fault, State

from .cosim import Simulation, build

__all__ = [
    "PS_PER_US",
    "REACHED",
    "Event",
    "IslandModel",
    "build_island",
    "image_words",
    "program",
]

PS_PER_US = 1_000_000

#: Keys of a re-arm of the second channel, and what says that its cause was read.
_CAUSE_READ, _FIRST_KEY, _SECOND_KEY = 0x100, 0xA6, 0x39

#: Modules and their registers whose bits can be flipped in an island that stands alone: processor,
#: memories, settings, states, counts.
REACHED = (
    ("replica.core", "pc"),
    ("replica.core", "bus_addr"),
    ("sram_array_39x4096", "mem"),
    ("sram_array_39x4096", "r_data"),
    ("sram_array_39x2048", "mem"),
    ("register_block", "limit_torque_0_inverse"),
    ("register_block", "watchdog_open_inverse"),
    ("register_block", "torque"),
    ("limiter_7.settings", "limit_0"),
    ("joint_limiter", "released"),
    ("period_timer_100000", "phase"),
    ("packet_in_16", "age"),
    ("capture_32", "o"),
    ("synchroniser_1x2", "o"),
    ("watchdog_port", "live"),
    ("watchdog_port.watchdog.settings", "open"),
    ("clock_monitor.settings", "stop"),
    ("alert_sender", "p"),
    ("alert_unit_12_960000.settings", "classes"),
    ("state_machine", "state"),
    ("state_machine", "enable_p"),
    ("gate_7_2", "state"),
    ("trip_machine_5", "state"),
)

#: The program, without what is at the accelerator's ports.
_WORLD = r"""
#include "Vtop.h"
#include "verilated.h"
#include "verilated_syms.h"
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

struct Clock {
  const char* name;
  int64_t period, next;
  CData* pin;
};

struct Stream {
  std::deque<uint64_t> words;  // bit 32: last
};

struct Output {
  const char* name;
  uint64_t (*read)();
  uint64_t value;
};

static VerilatedContext context;
static Vtop* top;
static Clock clocks[3];
static Stream image, commands, joints, panel;
static int64_t now = 0;
static uint32_t drives[2] = {0, 0};
static int stuck[2] = {-1, -1};

// All torques' bits, one over the other: 0 if no motor is told to do anything.
static uint64_t any_torque() {
  uint32_t bits = 0;
  for (int n = 0; n < 7; ++n) bits |= top->torque[n];
  return bits;
}

#define OUTPUT(name) {#name, [] { return (uint64_t)top->name; }, ~uint64_t{0}}
static std::vector<Output> outputs = {
    {"state", [] { return (uint64_t)top->@STATE@; }, ~uint64_t{0}},
    OUTPUT(is_open), OUTPUT(sto_a), OUTPUT(sto_b), OUTPUT(brake), OUTPUT(alerts),
    OUTPUT(first_alert), OUTPUT(load_fault), OUTPUT(image_request), OUTPUT(trip_sources),
    OUTPUT(trip_cause), OUTPUT(ai_release), OUTPUT(fault), OUTPUT(ai_clock_faults),
    OUTPUT(deadline_faults), {"torque", any_torque, ~uint64_t{0}}};

template <typename Data, typename Bit>
static void drive(Stream& stream, Data& data, Bit& last, Bit& valid) {
  const bool any = !stream.words.empty();
  valid = any;
  data = any ? (uint32_t)stream.words.front() : 0;
  last = any ? (stream.words.front() >> 32) & 1 : 0;
}

@ACCELERATOR@

static void look() {
  for (Output& output : outputs) {
    const uint64_t value = output.read();
    if (value == output.value) continue;
    output.value = value;
    std::printf("E %lld %s %llu\n", (long long)now, output.name, (unsigned long long)value);
  }
}

static Clock& clock_of(const std::string& name) {
  for (Clock& clock : clocks)
    if (name == clock.name) return clock;
  std::abort();
}

static const Output* output_of(const std::string& name) {
  for (const Output& output : outputs)
    if (name == output.name) return &output;
  std::abort();
}

static void torques() {
  std::printf("T %lld", (long long)now);
  for (int n = 0; n < 7; ++n) std::printf(" %d", (int32_t)top->torque[n]);
  std::printf("\n");
}

static void edge(Clock& clock) {
  const bool rise = !*clock.pin;
  const bool safe = &clock == &clocks[0], guard = &clock == &clocks[1], ai = &clock == &clocks[2];
  bool image_taken = false, joints_taken = false, panel_taken = false, commands_taken = false;
  if (rise && safe) {
    image_taken = top->image___05Ftvalid && top->image___05Ftready;
    joints_taken = top->joints___05Ftvalid && top->joints___05Ftready;
    panel_taken = top->panel___05Fvalid && top->panel___05Fready;
  }
  if (rise && ai) {
    commands_taken = top->commands___05Ftvalid && top->commands___05Ftready;
    before_edge();
  }
  *clock.pin = rise;
  top->eval();
  if (!rise) return;
  if (image_taken) image.words.pop_front();
  if (joints_taken) joints.words.pop_front();
  if (panel_taken) panel.words.pop_front();
  if (commands_taken) commands.words.pop_front();
  if (safe) {
    drive(image, top->image___05Ftdata, top->image___05Ftlast, top->image___05Ftvalid);
    drive(joints, top->joints___05Ftdata, top->joints___05Ftlast, top->joints___05Ftvalid);
    top->panel___05Fvalid = !panel.words.empty();
    top->panel___05Fpayload = panel.words.empty() ? 0 : panel.words.front();
  }
  if (ai) {
    drive(commands, top->commands___05Ftdata, top->commands___05Ftlast, top->commands___05Ftvalid);
    after_edge();
  }
  if (guard) {
    // Drives follow after eight cycles, unless they are stuck.
    const int told[2] = {top->sto_a, top->sto_b};
    for (int n = 0; n < 2; ++n) drives[n] = drives[n] << 1 | told[n];
    top->feedback_a = stuck[0] < 0 ? drives[0] >> 8 & 1 : stuck[0];
    top->feedback_b = stuck[1] < 0 ? drives[1] >> 8 & 1 : stuck[1];
  }
  top->eval();
  look();
  if (safe && top->torque_valid) torques();
}

// Name as it is in the hardware's description: without the numbers that emission adds to words of
// Verilog, which depend on everything else, and without the marks of such names.
static std::string plain(const std::string& name) {
  std::string plain;
  for (size_t n = 0; n < name.size();) {
    const size_t width = name[n] == '$' ? 1 : name.compare(n, 5, "__024") == 0 ? 5 : 0;
    size_t end = n + width;
    while (width && end < name.size() && std::isdigit((unsigned char)name[end])) ++end;
    if (end > n + width) n = end;
    else if (name[n] == '\\' || name[n] == ' ') ++n;
    else plain += name[n++];
  }
  return plain;
}

static bool ends(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && !text.compare(text.size() - end.size(), end.size(), end);
}

// Change a bit of a register, as a particle would.
static void flip(const std::string& scope, const std::string& name, int row, int bit) {
  for (const auto& entry : *context.scopeNameMap()) {
    if (!ends(plain(entry.first), "." + scope)) continue;
    const VerilatedVar* const var = entry.second->varFind(name.c_str());
    if (!var) continue;
    // Words of all widths begin with their lowest bits.
    ((uint8_t*)var->datap())[row * var->entSize() + bit / 8] ^= 1 << bit % 8;
    return;
  }
  std::fprintf(stderr, "no register %s in %s; there are:\n", name.c_str(), scope.c_str());
  for (const auto& entry : *context.scopeNameMap())
    std::fprintf(stderr, "  %s\n", plain(entry.first).c_str());
  // At once: a copy of the process has no threads, and what ends normally would wait for them.
  _exit(1);
}

static bool run(int64_t until, const Output* output, uint64_t value) {
  if (output && output->value == value) return true;
  for (;;) {
    Clock* first = nullptr;
    for (Clock& clock : clocks)
      if (clock.period && (!first || clock.next < first->next)) first = &clock;
    if (!first || first->next > until) break;
    now = first->next;
    edge(*first);
    first->next += first->period / 2;
    if (output && output->value == value) return true;
  }
  now = until;
  return false;
}

int main(int argc, char** argv) {
  context.commandArgs(argc, argv);
  context.randReset(2);
  context.randSeed(1);
  top = new Vtop{&context};
  std::map<std::string, CData*> pins = {
      {"safe_rst", &top->safe_rst}, {"guard_rst", &top->guard_rst}, {"arm", &top->arm},
      {"restart", &top->restart},   {"estop_a", &top->estop_a},     {"estop_b", &top->estop_b}};
  std::map<std::string, Stream*> streams = {
      {"image", &image}, {"commands", &commands}, {"joints", &joints}};
  begin(pins, streams);
  clocks[0] = {"safe", 0, 0, &top->safe_clk};
  clocks[1] = {"guard", 0, 0, &top->guard_clk};
  clocks[2] = {"ai", 0, 0, &top->ai_clk};
  for (Clock& clock : clocks) *clock.pin = 0;
  top->image___05Ftvalid = top->joints___05Ftvalid = 0;
  top->commands___05Ftvalid = top->panel___05Fvalid = 0;
  top->feedback_a = top->feedback_b = 0;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream in(line);
    std::string order, name;
    in >> order;
    if (order == "pin") {
      int value;
      in >> name >> value;
      *pins.at(name) = value;
      top->eval();
      look();
    } else if (order == "clock") {
      int64_t period;
      in >> name >> period;
      Clock& clock = clock_of(name);
      if (!clock.period) clock.next = now + period / 2;
      clock.period = period;
    } else if (order == "glitch") {
      // Two edges, so close to each other that the next one is on time.
      in >> name;
      edge(clock_of(name));
      edge(clock_of(name));
    } else if (order == "flip") {
      int row, bit;
      std::string scope;
      in >> scope >> name >> row >> bit;
      flip(scope, name, row, bit);
      top->eval();
      look();
    } else if (order == "edge") {
      // Until right after the next rising edge of a clock.
      in >> name;
      Clock& clock = clock_of(name);
      if (!clock.period) std::abort();
      if (*clock.pin) run(clock.next, nullptr, 0);
      run(clock.next, nullptr, 0);
    } else if (order == "packet") {
      int count;
      uint64_t word;
      in >> name >> count;
      for (int n = 0; n < count; ++n) {
        in >> word;
        streams.at(name)->words.push_back(word | (uint64_t)(n == count - 1) << 32);
      }
    } else if (order == "panel") {
      uint64_t word;
      in >> word;
      panel.words.push_back(word);
    } else if (order == "stuck") {
      int drive, value;
      in >> drive >> value;
      stuck[drive] = value;
    } else if (order == "run") {
      int64_t time;
      in >> time;
      run(now + time, nullptr, 0);
    } else if (order == "until") {
      int64_t time;
      uint64_t value;
      in >> name >> value >> time;
      std::printf("U %d\n", (int)run(now + time, output_of(name), value));
    } else if (order == "try") {
      // A copy of this process does what follows, and answers. When it ends, this one answers the
      // order that ended it.
      const pid_t copy = fork();
      if (copy) waitpid(copy, nullptr, 0);
    } else if (order == "back") {
      _exit(0);
    } else {
      obey(order, in);
    }
    std::printf(". %lld\n", (long long)now);
    std::fflush(stdout);
  }
  return 0;
}
"""

#: At the ports of an island that stands alone there is a verdict.
_ALONE = r"""
static void before_edge() {}
static void after_edge() {}
static void begin(std::map<std::string, CData*>& pins, std::map<std::string, Stream*>&) {
  pins["ai_verdict"] = &top->ai_verdict;
@PINS@}
static void obey(const std::string& order, std::istream&) {
  std::fprintf(stderr, "no order %s\n", order.c_str());
  std::exit(1);
}
"""


@frozen
class Event:
    """A change of what the island shows.

    Attributes
    ----------
    time_ps
        When.
    name, value
        Which output, and what it is from then on.
    """

    time_ps: int
    name: str
    value: int


def program(accelerator: str, *, state: str) -> str:
    """Text of the program.

    Parameters
    ----------
    accelerator
        Functions in C++ for what is at the accelerator's ports: ``begin`` adds to the pins,
        streams and outputs that there are, ``before_edge`` and ``after_edge`` see the rising edges
        of its clock, ``obey`` does what is ordered.
    state
        Port with the island's state.
    """
    return _WORLD.replace("@ACCELERATOR@", accelerator).replace("@STATE@", state)


def build_island(
    config: SafetyConfig, *, ai_mhz: int, kind: type[Island] = Island, pins: Sequence[str] = ()
) -> Simulation:
    """Compile an island, or one of another class with more inputs, which begin low."""
    more = "".join(f'  pins["{pin}"] = &top->{pin};\n  top->{pin} = 0;\n' for pin in pins)
    main = program(_ALONE.replace("@PINS@", more), state="state")
    return build(kind(config=config, ai_mhz=ai_mhz), name="island", inside=REACHED, main=main)


def image_words(data: bytes) -> list[int]:
    """Words of an image file."""
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


@define
class IslandModel:
    """A running island. Use it as a context.

    Attributes
    ----------
    simulation, config, ai_mhz
        What runs.
    time_ps
        Time.
    events, torques
        What has happened: changes, and torques that left, each with its time.
    shown
        What the island shows now: ports by name, and ``torque``, all bits of all torques one over
        the other.
    """

    simulation: Simulation
    config: SafetyConfig
    ai_mhz: int
    time_ps: int = 0
    events: list[Event] = field(factory=list)
    torques: list[tuple[int, tuple[int, ...]]] = field(factory=list)
    shown: dict[str, int] = field(factory=dict)
    _process: Any = None

    #: Pins as they are when power comes.
    _PINS: ClassVar = {"arm": 0, "restart": 0, "estop_a": 1, "estop_b": 0, "ai_verdict": 1}

    def __enter__(self) -> "IslandModel":
        program = self.simulation.directory / self.simulation.top
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _order(self, text: str) -> bool:
        source, sink = self._process.stdin, self._process.stdout
        source.write(text + "\n")
        source.flush()
        reached = False
        for line in sink:
            kind, *rest = line.split()
            if kind == "E":
                event = Event(int(rest[0]), rest[1], int(rest[2]))
                self.events.append(event)
                self.shown[event.name] = event.value
            elif kind == "T":
                self.torques.append((int(rest[0]), tuple(int(word) for word in rest[1:])))
            elif kind == "U":
                reached = rest[0] == "1"
            elif kind != ".":
                self._told(kind, rest)
            else:
                self.time_ps = int(rest[0])
                return reached
        raise RuntimeError("the model of the island has ended")

    def _told(self, kind: str, rest: list[str]) -> None:
        """Take a line that only a larger model prints."""
        raise RuntimeError(f"the model of the island says {kind}")

    # The world

    def pin(self, name: str, value: int) -> None:
        """Set an input."""
        self._order(f"pin {name} {int(value)}")

    def clock(self, name: str, period_ps: int) -> None:
        """Give a clock (``safe``, ``guard`` or ``ai``) another period; 0 stops it."""
        self._order(f"clock {name} {period_ps}")

    def glitch(self, name: str) -> None:
        """Two edges of a clock now, besides its own."""
        self._order(f"glitch {name}")

    def flip(self, register: str, bit: int, *, row: int = 0) -> None:
        """Change a bit of a register now.

        Parameters
        ----------
        register
            Path of its module below the island, and its name, with dots between.
        bit, row
            Which bit; of memories also which word.
        """
        scope, _, name = register.rpartition(".")
        self._order(f"flip {scope} {name} {row} {bit}")

    def edge(self, clock: str) -> None:
        """Let time pass until right after the next rising edge of a clock."""
        self._order(f"edge {clock}")

    def packet(self, stream: str, words: Sequence[int]) -> None:
        """Send words, the last one as such, on ``image``, ``commands`` or ``joints``."""
        self._order(f"packet {stream} {len(words)} {' '.join(map(str, words))}")

    def stick(self, drive: int, value: int) -> None:
        """Let a drive's read-back be stuck; -1: not."""
        self._order(f"stuck {drive} {value}")

    def run(self, microseconds: float) -> None:
        """Let time pass."""
        self._order(f"run {round(microseconds * PS_PER_US)}")

    def until(self, name: str, value: int, *, within_us: float) -> bool:
        """Let time pass until an output has a value; whether it came to that."""
        return self._order(f"until {name} {value} {round(within_us * PS_PER_US)}")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is done inside is undone at the end, in the model and in what it has shown."""
        kept = self.time_ps, list(self.events), list(self.torques), dict(self.shown)
        self._order("try")
        try:
            yield
        finally:
            self._order("back")
            self.time_ps, self.events, self.torques, self.shown = kept

    # What is done again and again

    def power_on(self) -> None:
        """Reset both channels with all clocks running, everything as it should be."""
        self.pin("safe_rst", 1)
        self.pin("guard_rst", 1)
        for name, value in self._PINS.items():
            self.pin(name, value)
        for name, mhz in (
            ("safe", self.config.clock_mhz),
            ("guard", self.config.guard_mhz),
            ("ai", self.ai_mhz),
        ):
            self.clock(name, round(PS_PER_US / mhz))
        self.run(1)
        self.pin("safe_rst", 0)
        self.pin("guard_rst", 0)

    def cause_read(self) -> None:
        """Let the operator read the cause."""
        self._order(f"panel {_CAUSE_READ}")
        self.run(2)

    def rearm(self) -> None:
        """What the operator does: read the cause, then the two steps."""
        self.cause_read()
        self._order(f"panel {_FIRST_KEY}")
        self.run(2 * self.config.rearm_min_cycles / self.config.guard_mhz)
        self._order(f"panel {_SECOND_KEY}")
        self.run(2)

    def state(self) -> str:
        """Name of the state of channel A."""
        word = self.shown["state"]
        return State(word).name if word in list(State) else "RESET"

    def alerts(self, which: str = "alerts") -> set[str]:
        """Names of alerts."""
        bits = self.shown[which]
        return {alert.name for n, alert in enumerate(ALERTS) if bits >> n & 1}

    def fault(self) -> Fault:
        """What the firmware logged."""
        return Fault(self.shown["fault"])

    def faults(self, which: str) -> set[str]:
        """Names of ``deadline_faults`` or ``ai_clock_faults``."""
        layout = {"deadline_faults": DeadlineFaults, "ai_clock_faults": ClockFaults}[which]
        return {name for n, (name, _) in enumerate(layout) if self.shown[which] >> n & 1}
