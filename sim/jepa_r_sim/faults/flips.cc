// Flips single bits of a design's registers and watches what comes of it.
//
//   flips DIRECTORY golden       writes trace.bin (observed outputs, [cycles][OUTPUT_WORDS]),
//                                state.bin (1 for each bit of STATE_WORDS that is a register) and
//                                inputs.bin (all inputs, [cycles][INPUT_WORDS])
//   flips DIRECTORY run          reads faults.bin ([faults][2]: bit, cycle), writes events.bin
//
// glue.hh is generated: the design, its registers, its ports and the observation contract.
// A cycle is: inputs, clock low, outputs, clock high. Outputs are read while the clock is low, since
// the step with the edge leaves combinational ones as they were. A flip at cycle c is the first
// thing in it, and is done to a register's current and next value, or the next step would undo it.
//
// Until a wrong value leaves, the memory has taken from a faulty run what it took from the golden
// one; so the golden run's stores, with their cycles, are the memory of all runs.
#include <array>
#include <cstring>

#include "events.hh"
#include "glue.hh"

namespace {

using State = std::array<uint32_t, STATE_WORDS>;
using Outputs = std::array<uint32_t, OUTPUT_WORDS>;
using Inputs = std::array<uint32_t, INPUT_WORDS>;

struct Answer {
  uint64_t data = 0;
  bool error = false;
  bool operator==(const Answer& other) const { return data == other.data && error == other.error; }
};
using Pipe = std::array<Answer, LATENCY>;

uint64_t word_of(const Outputs& outputs, Range range) {
  uint64_t value = outputs[range.first];
  if (range.words > 1) value |= static_cast<uint64_t>(outputs[range.first + 1]) << 32;
  return value;
}

bool differ(const Outputs& a, const Outputs& b, Range range) {
  return std::memcmp(&a[range.first], &b[range.first], range.words * 4) != 0;
}

class Memory {
 public:
  explicit Memory(const std::vector<uint64_t>& image) : words(image), stores(image.size()) {}

  // Place of an address, or -1 if it may not be used so.
  int64_t place(uint64_t address, unsigned use) const {
    int64_t before = 0;
    for (const Region& region : REGIONS) {
      if (address >= region.base && address - region.base < 4 * uint64_t{region.words})
        return (region.uses & use) == use ? before + static_cast<int64_t>(address - region.base) / 4
                                          : -1;
      before += region.words;
    }
    return -1;
  }

  void store(int32_t cycle, uint64_t address, uint64_t data) {
    const int64_t at = place(address, STORE);
    if (at >= 0) stores[at].push_back({cycle, data});
  }

  // What is read in a cycle: all that was stored before it.
  Answer read(int32_t cycle, uint64_t address, unsigned use) const {
    const int64_t at = place(address, use);
    if (at < 0) return {0, true};
    uint64_t data = words[at];
    for (const Store& one : stores[at]) {
      if (one.cycle >= cycle) break;
      data = one.data;
    }
    return {data, false};
  }

 private:
  struct Store {
    int32_t cycle;
    uint64_t data;
  };
  std::vector<uint64_t> words;
  std::vector<std::vector<Store>> stores;
};

class Machine {
 public:
  Machine(const Memory& memory, const std::vector<uint32_t>& recorded)
      : memory(memory), recorded(recorded) {
    size_t at = 0;
    each_register(design, [&](uint32_t* current, uint32_t* next, size_t words) {
      for (size_t n = 0; n < words; ++n, ++at) {
        currents[at] = current + n;
        nexts[at] = next ? next + n : current + n;
      }
    });
  }

  void reset() {
    drive(design, inputs_of(0).data(), 0, false);
    for (int n = 0; n < RESET_CYCLES; ++n) {
      drive_clock(design, 0, 1);
      design.step();
      drive_clock(design, 1, 1);
      design.step();
    }
  }

  // First half of a cycle.
  void settle(int32_t cycle) {
    inputs = inputs_of(cycle);
    drive(design, inputs.data(), pipe[0].data, pipe[0].error);
    drive_clock(design, 0, 0);
    design.step();
    observe(design, outputs.data());
  }

  // Second half; reads see what was stored before cycle `seen`.
  void edge(int32_t seen) {
    if constexpr (HAS_MEMORY) {
      Answer answer = pipe[LATENCY - 1];
      answer.error = false;
      if (outputs[READ.first] & 1)
        answer = memory.read(seen, word_of(outputs, ADDRESS),
                             outputs[FETCHING.first] & 1 ? FETCH : LOAD);
      if (CHECK.words && (outputs[CHECK.first] & 1) &&
          memory.place(word_of(outputs, CHECK_ADDRESS), STORE) < 0)
        answer.error = true;
      for (size_t n = 0; n + 1 < LATENCY; ++n) pipe[n] = pipe[n + 1];
      pipe[LATENCY - 1] = answer;
    }
    drive_clock(design, 1, 0);
    design.step();
  }

  void save(State& to) const {
    for (size_t n = 0; n < STATE_WORDS; ++n) to[n] = *currents[n];
  }

  void load(const State& from) {
    for (size_t n = 0; n < STATE_WORDS; ++n) *currents[n] = *nexts[n] = from[n];
  }

  bool equals(const State& other) const {
    for (size_t n = 0; n < STATE_WORDS; ++n)
      if (*currents[n] != other[n]) return false;
    return true;
  }

  void flip(uint32_t bit) {
    const uint32_t mask = uint32_t{1} << (bit % 32);
    *currents[bit / 32] ^= mask;
    if (nexts[bit / 32] != currents[bit / 32]) *nexts[bit / 32] ^= mask;
  }

  bool is_set(uint32_t bit) const { return *currents[bit / 32] >> (bit % 32) & 1; }

  Pipe pipe{};
  Inputs inputs{};
  Outputs outputs{};

 private:
  Inputs inputs_of(int32_t cycle) const {
    Inputs row{};
    const size_t rows = INPUT_WORDS ? recorded.size() / INPUT_WORDS : 0;
    if (rows) {
      const size_t at = std::min<size_t>(cycle, rows - 1) * INPUT_WORDS;
      std::copy_n(recorded.begin() + at, INPUT_WORDS, row.begin());
    }
    return row;
  }

  Design design;
  const Memory& memory;
  const std::vector<uint32_t>& recorded;
  std::array<uint32_t*, STATE_WORDS> currents{}, nexts{};
};

struct Snapshot {
  State state;
  Pipe pipe;
};

class Campaign {
 public:
  Campaign(const std::string& directory, int32_t cycles, int32_t window, int32_t interval)
      : image(read_file<uint64_t>(directory + "/image.bin")),
        recorded(read_file<uint32_t>(directory + "/recorded.bin")),
        memory(image), machine(memory, recorded), cycles(cycles), window(window),
        interval(interval) {
    machine.reset();
    trace.reserve(cycles);
    for (int32_t cycle = 0; cycle < cycles; ++cycle) {
      if (cycle % interval == 0) {
        snapshots.emplace_back();
        machine.save(snapshots.back().state);
        snapshots.back().pipe = machine.pipe;
      }
      machine.settle(cycle);
      trace.push_back(machine.outputs);
      inputs.push_back(machine.inputs);
      if constexpr (HAS_MEMORY) {
        if (machine.outputs[STORING.first] & 1)
          memory.store(cycle, word_of(machine.outputs, STORE_ADDRESS),
                       word_of(machine.outputs, STORE_DATA));
      }
      machine.edge(cycle);
    }
  }

  // Bits that keep what is written into them: the others are driven by logic.
  std::vector<uint8_t> registers() {
    std::vector<uint8_t> kept(32 * STATE_WORDS);
    for (uint32_t bit = 0; bit < kept.size(); ++bit) {
      restore(0);
      machine.flip(bit);
      const bool value = machine.is_set(bit);
      machine.settle(0);
      kept[bit] = machine.is_set(bit) == value;
    }
    return kept;
  }

  Event inject(uint32_t bit, int32_t at) {
    Event event;
    int32_t cycle = at / interval * interval;
    restore(cycle / interval);
    for (; cycle < at; ++cycle) {
      machine.settle(cycle);
      machine.edge(cycle);
    }
    machine.flip(bit);
    // Whole intervals, so that the last cycle has a snapshot.
    int32_t end = (at + window + interval - 1) / interval * interval;
    for (;; ++cycle) {
      if (cycle % interval == 0 && event.alert < 0 && event.stopped < 0 && event.omitted < 0 &&
          cycle > at && matches(cycle / interval)) {
        event.matched = cycle;
        break;
      }
      // What happens in the last cycles of the window is given its time to be noticed.
      const bool pending = event.diverged >= 0 || event.omitted >= 0;
      if (cycle >= end && (!pending || cycle >= end + SETTLE)) break;
      machine.settle(cycle);
      if (event.omitted >= 0 || machine.outputs != trace[cycle])
        judge(event, machine.outputs, trace[cycle], cycle);
      if (event.released >= 0) break;
      if (event.alert >= 0 && cycle >= event.alert + SETTLE) break;
      machine.edge(event.omitted >= 0 ? event.omitted : cycle);
    }
    event.end = cycle;
    return event;
  }

  std::vector<Outputs> trace;
  std::vector<Inputs> inputs;

 private:
  void restore(int32_t snapshot) {
    machine.load(snapshots[snapshot].state);
    machine.pipe = snapshots[snapshot].pipe;
  }

  bool matches(int32_t snapshot) const {
    return machine.pipe == snapshots[snapshot].pipe && machine.equals(snapshots[snapshot].state);
  }

  static bool strobes(const Outputs& outputs, const Strobe& strobe) {
    return !strobe.valid.words || (outputs[strobe.valid.first] & 1);
  }

  // First word of the payload that differs, or -1.
  static int32_t difference(const Outputs& found, const Outputs& golden, const Strobe& strobe) {
    for (size_t n = 0; n < strobe.count; ++n)
      for (uint32_t word = 0; word < strobe.payload[n].words; ++word) {
        const int32_t place = strobe.payload[n].first + word;
        if (found[place] != golden[place]) return place;
      }
    return -1;
  }

  static void judge(Event& event, const Outputs& found, const Outputs& golden, int32_t cycle) {
    if (event.diverged < 0)
      for (const Range& range : COMPARED)
        if (differ(found, golden, range)) event.diverged = cycle;
    if (event.requested < 0)
      for (const Strobe& strobe : REQUESTED)
        if (strobes(found, strobe) &&
            (!strobes(golden, strobe) || difference(found, golden, strobe) >= 0))
          event.requested = cycle;
    if (event.alert < 0)
      for (const Alert& alert : ALERTS)
        if (found[alert.place] != alert.quiet) event.alert = cycle;
    if (event.stopped < 0)
      for (const Range& range : STOPS)
        if ((found[range.first] & 1) && !(golden[range.first] & 1)) event.stopped = cycle;
    for (const Strobe& strobe : RELEASED) {
      if (strobes(found, strobe)) {
        // A value that is not due is wrong whatever it is.
        const bool due = strobes(golden, strobe) && event.omitted < 0;
        const int32_t place = due ? difference(found, golden, strobe) : strobe.valid.first;
        if (place < 0) continue;
        event.released = cycle;
        event.place = place;
        event.expected = golden[place];
        event.found = found[place];
        return;
      }
      if (strobes(golden, strobe) && event.omitted < 0 && event.alert < 0 && event.stopped < 0)
        event.omitted = cycle;
    }
  }

  std::vector<uint64_t> image;
  std::vector<uint32_t> recorded;
  Memory memory;
  Machine machine;
  int32_t cycles, window, interval;
  std::vector<Snapshot> snapshots;
};

}  // namespace

int main(int, char** argv) {
  const std::string directory = argv[1], mode = argv[2];
  const int32_t cycles = std::atoi(argv[3]), window = std::atoi(argv[4]);
  Campaign campaign(directory, cycles, window, std::atoi(argv[5]));
  if (mode == "golden") {
    write_file(directory + "/trace.bin", campaign.trace);
    write_file(directory + "/inputs.bin", campaign.inputs);
    write_file(directory + "/state.bin", campaign.registers());
    return 0;
  }
  const auto faults = read_file<uint32_t>(directory + "/faults.bin");
  std::vector<Event> events;
  for (size_t n = 0; n + 1 < faults.size(); n += 2)
    events.push_back(campaign.inject(faults[n], static_cast<int32_t>(faults[n + 1])));
  write_file(directory + "/events.bin", events);
  return 0;
}
