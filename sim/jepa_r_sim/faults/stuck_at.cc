// Runs a netlist of generic gates with 511 stuck-at faults at once, a lane each; lane 0 is unharmed.
//
//   stuck_at DIRECTORY golden    writes trace.bin (observed outputs, a byte a bit, [cycles][outputs])
//   stuck_at DIRECTORY run       reads faults.bin ([faults][2]: net, polarity), writes events.bin
//
// Inputs are those of a recorded run, whatever the outputs are: a lane is exact up to the first
// cycle in which its outputs differ. A fault is there from before the reset to the end.
#include <algorithm>
#include <array>
#include <cstddef>

#include "events.hh"

namespace {

constexpr size_t WORDS = 8, LANES = 64 * WORDS;
typedef uint64_t Lanes __attribute__((vector_size(8 * WORDS)));

enum Operation : uint32_t { NOT, AND, OR, XOR, MUX };

// All gates are (a & ~select) | ((b ^ inverted) & select): a choice by operation would be guessed
// wrong half of the time.
struct Gate {
  uint32_t a, b, select;
  uint64_t inverted;
};

Gate gate_of(uint32_t operation, uint32_t a, uint32_t b, uint32_t select) {
  switch (operation) {
    case NOT: return {1, 0, a, 0};
    case AND: return {0, b, a, 0};
    case OR: return {b, 1, a, 0};
    case XOR: return {b, b, a, ~uint64_t{0}};
    default: return {a, b, select, 0};
  }
}

struct Flop {
  uint32_t data, init;
};
struct Strobe {
  uint32_t valid;
  std::vector<uint32_t> payload;
};

// Lists of numbers, each after its length; stuck_at.py writes them in this order.
struct Netlist {
  explicit Netlist(const std::vector<uint32_t>& file) : file(file) {
    inputs = next()[0];
    for (const auto values = next(); flops.size() * 2 < values.size();)
      flops.push_back({values[flops.size() * 2], values[flops.size() * 2 + 1]});
    for (const auto values = next(); gates.size() * 4 < values.size();) {
      const uint32_t* gate = &values[gates.size() * 4];
      gates.push_back(gate_of(gate[0], gate[1], gate[2], gate[3]));
    }
    outputs = next();
    compared = next();
    stops = next();
    alerts = next();
    quiet = next();
    released = strobes();
    requested = strobes();
    first_flop = 2 + inputs;
    first_gate = first_flop + flops.size();
    nets = first_gate + gates.size();
  }

  // Nets 0 and 1 are constants; inputs, flip-flops and gates follow, a gate after what it reads.
  uint32_t inputs, first_flop, first_gate, nets;
  std::vector<Flop> flops;
  std::vector<Gate> gates;
  std::vector<uint32_t> outputs, compared, stops, alerts, quiet;
  std::vector<Strobe> released, requested;

 private:
  std::vector<uint32_t> next() {
    const uint32_t length = file[at];
    std::vector<uint32_t> values(file.begin() + at + 1, file.begin() + at + 1 + length);
    at += 1 + length;
    return values;
  }

  std::vector<Strobe> strobes() {
    std::vector<Strobe> found(next()[0]);
    for (Strobe& strobe : found) {
      strobe.valid = next()[0];
      strobe.payload = next();
    }
    return found;
  }

  const std::vector<uint32_t>& file;
  size_t at = 0;
};

bool any(const Lanes& lanes) {
  uint64_t all = 0;
  for (size_t n = 0; n < WORDS; ++n) all |= lanes[n];
  return all;
}

template <typename Act> void each_lane(const Lanes& lanes, Act act) {
  for (size_t n = 0; n < WORDS; ++n)
    for (uint64_t rest = lanes[n]; rest; rest &= rest - 1)
      act(64 * n + __builtin_ctzll(rest));
}

Lanes everywhere(bool value) { return Lanes{} - static_cast<uint64_t>(value); }

struct Force {
  uint32_t net;
  Lanes set{}, clear{};
};

class Run {
 public:
  Run(const Netlist& netlist, const std::vector<uint8_t>& recorded, int32_t cycles,
      int32_t reset_cycles, int32_t settle)
      : netlist(netlist), recorded(recorded), cycles(cycles), reset_cycles(reset_cycles),
        settle(settle), values(netlist.nets), state(netlist.flops.size()) {}

  std::vector<Event> faults(const uint32_t* list, size_t count) {
    force(list, count);
    events.assign(LANES, Event{});
    diverged = requested = alerted = stopped = omitted = gone = Lanes{};
    std::vector<Lanes> past(settle, Lanes{});
    start();
    int32_t cycle = 0;
    Lanes left = ~Lanes{};
    for (; cycle < cycles; ++cycle) {
      evaluate(cycle);
      // A lane is looked at until some cycles after its alert.
      const Lanes active = ~(past[cycle % settle] | gone);
      past[cycle % settle] = alerted;
      judge(cycle, active);
      each_lane(~active & left, [&](size_t lane) { events[lane].end = cycle; });
      left = active;
      if (!any(left & wanted)) break;
      edge();
    }
    each_lane(left, [&](size_t lane) { events[lane].end = cycle; });
    Lanes differing{};
    for (const Lanes& flop : state) differing |= flop ^ golden(flop);
    each_lane(left & ~differing & ~alerted & ~gone,
              [&](size_t lane) { events[lane].matched = cycle; });
    return {events.begin() + 1, events.begin() + 1 + count};
  }

  std::vector<uint8_t> trace() {
    force(nullptr, 0);
    start();
    std::vector<uint8_t> bits;
    for (int32_t cycle = 0; cycle < cycles; ++cycle) {
      evaluate(cycle);
      for (const uint32_t net : netlist.outputs) bits.push_back(values[net][0] & 1);
      edge();
    }
    return bits;
  }

 private:
  static Lanes golden(const Lanes& lanes) { return everywhere(lanes[0] & 1); }

  void force(const uint32_t* list, size_t count) {
    std::vector<uint32_t> order(count);
    for (size_t n = 0; n < count; ++n) order[n] = n;
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return list[2 * a] < list[2 * b]; });
    forces.clear();
    wanted = Lanes{};
    for (const uint32_t n : order) {
      if (forces.empty() || forces.back().net != list[2 * n]) {
        Force next;
        next.net = list[2 * n];
        forces.push_back(next);
      }
      const size_t lane = n + 1;
      Lanes& mask = list[2 * n + 1] ? forces.back().set : forces.back().clear;
      mask[lane / 64] |= uint64_t{1} << (lane % 64);
      wanted[lane / 64] |= uint64_t{1} << (lane % 64);
    }
  }

  void start() {
    values[0] = everywhere(false);
    values[1] = everywhere(true);
    for (size_t n = 0; n < state.size(); ++n) state[n] = everywhere(netlist.flops[n].init);
    for (int32_t n = 0; n < reset_cycles; ++n) {
      evaluate(n - reset_cycles);
      edge();
    }
  }

  // One cycle up to its edge. Negative cycles are those of the reset, which is the last input.
  void evaluate(int32_t cycle) {
    const uint8_t* row = &recorded[static_cast<size_t>(std::max(cycle, 0)) * netlist.inputs];
    for (uint32_t n = 0; n < netlist.inputs; ++n) values[2 + n] = everywhere(row[n]);
    values[2 + netlist.inputs - 1] = everywhere(cycle < 0);
    std::copy(state.begin(), state.end(), values.begin() + netlist.first_flop);
    uint32_t net = netlist.first_gate;
    for (const Force& one : forces) {
      for (; net <= one.net; ++net) gate(net);
      values[one.net] = (values[one.net] | one.set) & ~one.clear;
    }
    for (; net < netlist.nets; ++net) gate(net);
  }

  void gate(uint32_t net) {
    const Gate& gate = netlist.gates[net - netlist.first_gate];
    const Lanes select = values[gate.select];
    values[net] = (values[gate.a] & ~select) | ((values[gate.b] ^ gate.inverted) & select);
  }

  void edge() {
    for (size_t n = 0; n < state.size(); ++n) state[n] = values[netlist.flops[n].data];
  }

  Lanes differing(const std::vector<uint32_t>& nets) const {
    Lanes found{};
    for (const uint32_t net : nets) found |= values[net] ^ golden(values[net]);
    return found;
  }

  void judge(int32_t cycle, const Lanes& active) {
    // An output that differs must have its time to be noticed.
    if (cycle < cycles - settle)
      note(diverged, differing(netlist.compared) & active, &Event::diverged, cycle);
    for (const Strobe& strobe : netlist.requested) {
      const Lanes valid = values[strobe.valid];
      note(requested, valid & (~golden(valid) | differing(strobe.payload)) & active,
           &Event::requested, cycle);
    }
    Lanes alert{};
    for (size_t n = 0; n < netlist.alerts.size(); ++n)
      alert |= values[netlist.alerts[n]] ^ everywhere(netlist.quiet[n]);
    note(alerted, alert & active, &Event::alert, cycle);
    Lanes stop{};
    for (const uint32_t net : netlist.stops) stop |= values[net] & ~golden(values[net]);
    note(stopped, stop & active, &Event::stopped, cycle);
    for (const Strobe& strobe : netlist.released) {
      const Lanes valid = values[strobe.valid], due = golden(valid);
      const Lanes wrong = valid & (~due | differing(strobe.payload) | omitted) & active & ~gone;
      each_lane(wrong, [&](size_t lane) { name(events[lane], strobe, lane); });
      note(gone, wrong, &Event::released, cycle);
      if (cycle < cycles - settle)
        note(omitted, ~valid & due & ~alerted & ~stopped & active, &Event::omitted, cycle);
    }
  }

  void note(Lanes& known, const Lanes& now, int32_t Event::* field, int32_t cycle) {
    each_lane(now & ~known, [&](size_t lane) { events[lane].*field = cycle; });
    known |= now;
  }

  bool bit(uint32_t net, size_t lane) const { return values[net][lane / 64] >> (lane % 64) & 1; }

  // Which output of a strobe is wrong.
  void name(Event& event, const Strobe& strobe, size_t lane) const {
    uint32_t wrong = strobe.valid;
    if (bit(wrong, 0) && !(omitted[lane / 64] >> (lane % 64) & 1))
      for (const uint32_t net : strobe.payload)
        if (bit(net, lane) != bit(net, 0)) wrong = net;
    const auto place = std::find(netlist.outputs.begin(), netlist.outputs.end(), wrong);
    event.place = static_cast<int32_t>(place - netlist.outputs.begin());
    event.expected = bit(wrong, 0);
    event.found = bit(wrong, lane);
  }

  const Netlist& netlist;
  const std::vector<uint8_t>& recorded;
  int32_t cycles, reset_cycles, settle;
  std::vector<Lanes> values, state;
  std::vector<Force> forces;
  std::vector<Event> events;
  Lanes wanted{}, diverged{}, requested{}, alerted{}, stopped{}, omitted{}, gone{};
};

}  // namespace

int main(int, char** argv) {
  const std::string directory = argv[1], mode = argv[2];
  const auto file = read_file<uint32_t>(directory + "/netlist.bin");
  const auto recorded = read_file<uint8_t>(directory + "/recorded.bin");
  const Netlist netlist(file);
  Run run(netlist, recorded, std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]));
  if (mode == "golden") {
    write_file(directory + "/trace.bin", run.trace());
    return 0;
  }
  const auto faults = read_file<uint32_t>(directory + "/faults.bin");
  std::vector<Event> events;
  for (size_t n = 0; n < faults.size() / 2; n += LANES - 1) {
    const auto some = run.faults(&faults[2 * n], std::min(LANES - 1, faults.size() / 2 - n));
    events.insert(events.end(), some.begin(), some.end());
  }
  write_file(directory + "/events.bin", events);
  return 0;
}
