"""A component under Verilator, driven by a loop in C++ that reads its inputs from a file.

For long runs that decide nothing on the way: a cycle of a bench in Python costs as much as one of
an array of 32 x 32 cells. Values of all inputs in all cycles go in, those of all outputs come out.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth import Value
from amaranth.lib import wiring
from attrs import frozen

from .cosim import Simulation, build

__all__ = ["Played", "Player"]

#: A cycle: inputs from the file, settle, note outputs, clock edge. Ports are copied as they are in
#: memory: numbers of 1, 2, 4 or 8 bytes, or words of 4.
_MAIN = """\
#include "Vtop.h"
#include "verilated.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

static FILE* opened(const char* name, const char* mode) {{
  FILE* file = std::fopen(name, mode);
  if (file) return file;
  std::perror(name);
  std::exit(1);
}}

template <typename T> static void take(T& port, const char*& from) {{
  std::memcpy(&port, from, sizeof port);
  from += sizeof port;
}}

template <typename T> static void note(const T& port, char*& to) {{
  std::memcpy(to, &port, sizeof port);
  to += sizeof port;
}}

int main(int argc, char** argv) {{
  VerilatedContext context;
  context.commandArgs(argc, argv);
  context.randReset(2);
  context.randSeed(1);
  Vtop top{{&context}};
  const long cycles = std::atol(argv[3]);
  const auto inputs = std::make_unique<char[]>(cycles * {input_bytes} + 1);
  const auto outputs = std::make_unique<char[]>(cycles * {output_bytes} + 1);
  FILE* file = opened(argv[1], "rb");
  if (std::fread(inputs.get(), {input_bytes}, cycles, file) != static_cast<size_t>(cycles))
    return 1;
  std::fclose(file);
  const char* in = inputs.get();
  char* out = outputs.get();
  top.rst = 1;
  for (int n = 0; n < 3; ++n) {{
    top.clk = 0;
    top.eval();
    top.clk = 1;
    top.eval();
  }}
  top.rst = 0;
  const std::clock_t began = std::clock();
  for (long cycle = 0; cycle < cycles; ++cycle) {{
{takes}
    top.clk = 0;
    top.eval();
{notes}
    top.clk = 1;
    top.eval();
  }}
  std::printf("%.6f\\n", double(std::clock() - began) / CLOCKS_PER_SEC);
  file = opened(argv[2], "wb");
  if (std::fwrite(outputs.get(), {output_bytes}, cycles, file) != static_cast<size_t>(cycles))
    return 1;
  return std::fclose(file);
}}
"""


@frozen(kw_only=True)
class Played:
    """What a run left.

    Attributes
    ----------
    outputs
        UINT8 ``[cycles, bytes]`` by port, little-endian: as they are in each cycle, before the edge
        at its end.
    seconds
        Processor time of the loop.
    """

    outputs: Mapping[str, npt.NDArray[np.uint8]]
    seconds: float


class Player:
    """A compiled component.

    Parameters
    ----------
    component : :class:`amaranth.lib.wiring.Component`
        Top, clocked by ``clk`` and reset by ``rst``.
    name : :class:`str`
        Name of the top module.
    blocks : iterable of :class:`str`
        As for :func:`jepa_r_sim.cosim.build`.

    Attributes
    ----------
    simulation
        The compiled design.
    """

    simulation: Simulation

    def __init__(self, component: wiring.Component, *, name: str, blocks: Iterable[str] = ()):
        ports: tuple[dict[str, int], dict[str, int]] = {}, {}
        for path, member, port in component.signature.flatten(component):
            into = ports[member.flow == wiring.Out]
            into["__".join(map(str, path))] = _port_bytes(len(Value.cast(port)))
        self._inputs, self._outputs = ports
        main = _MAIN.format(
            input_bytes=sum(self._inputs.values()),
            output_bytes=sum(self._outputs.values()),
            takes="\n".join(f"    take(top.{port}, in);" for port in self._inputs),
            notes="\n".join(f"    note(top.{port}, out);" for port in self._outputs),
        )
        self.simulation = build(component, name=name, blocks=blocks, main=main)

    def play(self, inputs: Mapping[str, npt.ArrayLike], *, workdir: Path) -> Played:
        """Run the component from reset.

        Parameters
        ----------
        inputs
            Value of every input in every cycle: ``[cycles]`` numbers, or ``[cycles, bytes]``.
        workdir
            Where inputs and outputs are kept, as files.

        Raises
        ------
        ValueError
            If ports or lengths are not the component's.
        SimulationError
            If the simulation failed.
        """
        if inputs.keys() != self._inputs.keys():
            raise ValueError(f"inputs are {sorted(inputs)}, not {sorted(self._inputs)}")
        columns = [_bytes_of(port, inputs[port], size) for port, size in self._inputs.items()]
        cycles = len(columns[0])
        if any(len(column) != cycles for column in columns):
            raise ValueError(f"inputs are {[len(column) for column in columns]} cycles long")
        workdir.mkdir(parents=True, exist_ok=True)
        given, left, log = (workdir / name for name in ("inputs.bin", "outputs.bin", "player.log"))
        np.concatenate(columns, axis=1).tofile(given)
        seconds = self.simulation.execute([str(given), str(left), str(cycles)], log=log)
        record = np.fromfile(left, np.uint8).reshape(cycles, -1)
        ends = np.cumsum(list(self._outputs.values()))
        outputs = dict(zip(self._outputs, np.split(record, ends[:-1], axis=1), strict=True))
        return Played(outputs=outputs, seconds=float(seconds))


def _port_bytes(width: int) -> int:
    """Bytes of a port in the model."""
    return next((size for size in (1, 2, 4, 8) if width <= 8 * size), -(-width // 32) * 4)


def _bytes_of(port: str, values: npt.ArrayLike, size: int) -> npt.NDArray[np.uint8]:
    """Values as the model holds them, ``[cycles, size]``."""
    array = np.asarray(values)
    if array.ndim == 1 and size <= 8:
        array = array.astype(f"<u{size}")[:, None]
    array = array.view(np.uint8)
    if array.ndim != 2 or array.shape[1] > size:
        raise ValueError(f"input {port} is {list(array.shape)}, not [cycles, up to {size} bytes]")
    held = np.zeros((len(array), size), np.uint8)
    held[:, : array.shape[1]] = array
    return held
