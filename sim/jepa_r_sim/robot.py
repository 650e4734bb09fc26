"""The verilated robot: the island's world, and at the accelerator's ports a host and a memory."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from attrs import define, field

from jepa_r.config import ChipConfig
from jepa_r.registers import DESCRIPTION
from jepa_r.robot import Robot

from .chip import Script, register_parameters
from .cosim import Simulation, build
from .drivers.packets import Action, parse_action, state_packet
from .island import IslandModel, program
from .registers import RegisterModel, Software

__all__ = ["RobotModel", "build_robot"]

_Value = TypeVar("_Value")

#: What is at the accelerator's ports: a memory that answers at once, a host that reads and writes
#: registers, a source of joint states, and whoever takes actions. The accelerator's reset is
#: theirs, too.
_ACCELERATOR = r"""
struct Burst {
  uint64_t address;
  int id, beats;
};

static std::vector<uint8_t> memory;
static std::deque<Burst> reads, writes;
static std::deque<int> written;
static Stream state;
static std::vector<uint32_t> action;

struct Access {
  bool address, data;  // what is still to be taken
  uint32_t at, word;
  bool write;
};
static Access request = {};
static uint64_t accesses = 0;

static size_t place(const Burst& burst) {
  const size_t bytes = sizeof top->axi___05Frdata;
  const size_t at = burst.address / bytes * bytes;
  if (at + bytes > memory.size()) {
    std::fprintf(stderr, "there is no memory at %zx\n", at);
    std::exit(1);
  }
  return at;
}

static void ended(uint32_t word, int response) {
  std::printf("L %u %d\n", word, response);
  ++accesses;
}

static void before_edge() {
  if (top->ai_rst) {
    reads.clear();
    writes.clear();
    written.clear();
    state.words.clear();
    action.clear();
    request.address = request.data = false;
    return;
  }
  // Memory.
  const bool wrote = top->axi___05Fwvalid && top->axi___05Fwready;
  if (top->axi___05Frvalid && top->axi___05Frready) {
    Burst& burst = reads.front();
    burst.address += sizeof top->axi___05Frdata;
    if (--burst.beats == 0) reads.pop_front();
  }
  if (top->axi___05Farvalid)
    reads.push_back({top->axi___05Faraddr, top->axi___05Farid, top->axi___05Farlen + 1});
  if (wrote) {
    Burst& burst = writes.front();
    const size_t at = place(burst);
    uint8_t data[sizeof top->axi___05Fwdata];
    std::memcpy(data, &top->axi___05Fwdata, sizeof data);
    for (size_t n = 0; n < sizeof data; ++n)
      if (top->axi___05Fwstrb >> n & 1) memory[at + n] = data[n];
    burst.address += sizeof data;
    if (--burst.beats == 0) {
      written.push_back(burst.id);
      writes.pop_front();
    }
  }
  if (top->axi___05Fawvalid)
    writes.push_back({top->axi___05Fawaddr, top->axi___05Fawid, top->axi___05Fawlen + 1});
  if (top->axi___05Fbvalid && top->axi___05Fbready) written.pop_front();
  // Registers.
  if (top->lite___05Fawvalid && top->lite___05Fawready) request.address = false;
  if (top->lite___05Farvalid && top->lite___05Farready) request.address = false;
  if (top->lite___05Fwvalid && top->lite___05Fwready) request.data = false;
  if (top->lite___05Fbvalid) ended(0, top->lite___05Fbresp);
  if (top->lite___05Frvalid) ended(top->lite___05Frdata, top->lite___05Frresp);
  // Packets.
  if (top->state___05Ftvalid && top->state___05Ftready) state.words.pop_front();
  if (top->action___05Ftvalid) {
    action.push_back(top->action___05Ftdata);
    if (top->action___05Ftlast) {
      std::printf("A %lld", (long long)now);
      for (const uint32_t word : action) std::printf(" %u", word);
      std::printf("\n");
      action.clear();
    }
  }
}

static void after_edge() {
  top->axi___05Farready = top->axi___05Fawready = 1;
  top->axi___05Frvalid = !reads.empty();
  if (!reads.empty()) {
    std::memcpy(&top->axi___05Frdata, &memory[place(reads.front())], sizeof top->axi___05Frdata);
    top->axi___05Frid = reads.front().id;
    top->axi___05Frlast = reads.front().beats == 1;
  }
  top->axi___05Fwready = !writes.empty();
  top->axi___05Fbvalid = !written.empty();
  top->axi___05Fbid = written.empty() ? 0 : written.front();
  top->lite___05Fawvalid = request.write && request.address;
  top->lite___05Farvalid = !request.write && request.address;
  top->lite___05Fwvalid = request.write && request.data;
  top->lite___05Fawaddr = top->lite___05Faraddr = request.at;
  top->lite___05Fwdata = request.word;
  drive(state, top->state___05Ftdata, top->state___05Ftlast, top->state___05Ftvalid);
}

static void begin(std::map<std::string, CData*>&, std::map<std::string, Stream*>& streams) {
  streams["state"] = &state;
  for (const Output& output :
       {Output OUTPUT(verdict), Output OUTPUT(ai_rst), Output OUTPUT(ai_load),
        Output{"accesses", [] { return accesses; }, ~uint64_t{0}}})
    outputs.push_back(output);
  top->inject = 0;
  top->axi___05Frresp = top->axi___05Fbresp = 0;
  top->lite___05Fbready = top->lite___05Frready = 1;
  top->lite___05Fwstrb = 15;
  top->action___05Ftready = 1;
  after_edge();
}

static void obey(const std::string& order, std::istream& in) {
  std::string word;
  if (order == "memory") {
    in >> word;
    FILE* file = std::fopen(word.c_str(), "rb");
    if (!file) {
      std::perror(word.c_str());
      std::exit(1);
    }
    memory.clear();
    for (int byte; (byte = std::fgetc(file)) != EOF;) memory.push_back(byte);
    std::fclose(file);
  } else if (order == "write" || order == "read") {
    request.write = order == "write";
    request.word = 0;
    in >> request.at;
    if (request.write) in >> request.word;
    request.address = request.data = true;
  } else {
    std::fprintf(stderr, "no order %s\n", order.c_str());
    std::exit(1);
  }
}
"""

#: Answers to accesses of registers are there after so many microseconds.
_ANSWER_US = 10


def build_robot(config: ChipConfig) -> Simulation:
    """Compile a robot."""
    main = program(_ACCELERATOR, state="island_state")
    return build(Robot(config=config), name="robot", main=main)


def _at_once(routine: Coroutine[Any, Any, _Value]) -> _Value:
    """Result of a coroutine that waits for nothing."""
    try:
        routine.send(None)
    except StopIteration as end:
        value: _Value = end.value
        return value
    raise RuntimeError("the coroutine waits")


@define
class RobotModel(IslandModel):
    """A running robot. Use it as a context; what it adds to the island's model is the accelerator.

    Attributes
    ----------
    chip
        Its configuration.
    actions
        Packets that came, each with the time of its last word in picoseconds.
    software
        Registers by name; :meth:`read` and :meth:`follow` are how to use it.
    """

    chip: ChipConfig = field(kw_only=True)
    actions: list[tuple[int, Action]] = field(factory=list)
    software: Software = field(init=False)
    _answer: tuple[int, int] = (0, 0)
    _states: int = 0

    _PINS: ClassVar = {"arm": 0, "restart": 0, "estop_a": 1, "estop_b": 0}

    def __attrs_post_init__(self) -> None:
        model = RegisterModel.compile(DESCRIPTION, **register_parameters(self.chip))
        self.software = Software(model, self._read_word, self._write_word)

    @classmethod
    def of(cls, simulation: Simulation, chip: ChipConfig) -> "RobotModel":
        """Model of a compiled robot."""
        return cls(simulation=simulation, config=chip.safety, ai_mhz=chip.clock_mhz, chip=chip)

    def _told(self, kind: str, rest: list[str]) -> None:
        words = [int(word) for word in rest]
        if kind == "A":
            self.actions.append((words[0], parse_action(words[1:])))
        elif kind == "L":
            self._answer = (words[0], words[1])
        else:
            super()._told(kind, rest)

    def _access(self, text: str) -> int:
        count = self.shown.get("accesses", 0)
        self._order(text)
        if not self.until("accesses", count + 1, within_us=_ANSWER_US):
            raise RuntimeError(f"no answer: {text}")
        word, response = self._answer
        if response:
            raise RuntimeError(f"answer {response}: {text}")
        return word

    async def _read_word(self, address: int) -> int:
        return self._access(f"read {address}")

    async def _write_word(self, address: int, word: int) -> None:
        self._access(f"write {address} {word}")

    def memory(self, file: Path) -> None:
        """Fill the accelerator's memory, from address 0."""
        self._order(f"memory {file}")

    def read(self, register: str) -> dict[str, int]:
        """Fields of a register of the accelerator."""
        return _at_once(self.software.read_all(register))

    def follow(self, script: Script) -> None:
        """Let the host follow a script of writes and joint states."""
        for name, *arguments in script.steps:
            if name == "write":
                register, values = arguments
                if isinstance(values, dict):
                    _at_once(self.software.write(register, **values))
                else:
                    _at_once(self.software.write(register, values))
            elif name == "state":
                pose, timestamp, _ = arguments
                self.packet("state", state_packet(self._states, pose, timestamp))
                self._states += 1
                self.run(8 / self.ai_mhz)
            else:
                raise ValueError(f"step {name!r} is none of write and state")
