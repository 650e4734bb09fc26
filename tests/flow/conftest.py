"""A cell library of a few gates, with constant delays."""

from pathlib import Path

import pytest

#: Gate: function of its inputs, area, delay in ns.
GATES = {
    "INV": ("!A", ("A",), 1.0, 0.02),
    "BUF": ("A", ("A",), 1.5, 0.04),
    "NAND2": ("!(A * B)", ("A", "B"), 2.0, 0.03),
    "NOR2": ("!(A + B)", ("A", "B"), 2.0, 0.04),
    "XOR2": ("(A * !B) + (!A * B)", ("A", "B"), 4.0, 0.06),
    "ONE": ("1", (), 1.0, 0.0),
    "ZERO": ("0", (), 1.0, 0.0),
}
CLOCK_TO_Q, SETUP = 0.1, 0.05


def toy_liberty(*, flip_flop: bool = True, name: str = "toy") -> str:
    """Text of the library."""

    def arc(source: str, delay: float, kind: str = "") -> str:
        values = "\n".join(
            f'        {table} (scalar) {{ values ("{value}"); }}'
            for table, value in (
                ("cell_rise", delay),
                ("cell_fall", delay),
                ("rise_transition", 0),
                ("fall_transition", 0),
            )
        )
        return f'      timing () {{\n        related_pin : "{source}"; {kind}\n{values}\n      }}'

    cells = []
    for gate, (function, inputs, area, delay) in GATES.items():
        pins = [f"    pin ({pin}) {{ direction : input; capacitance : 0.001; }}" for pin in inputs]
        arcs = "\n".join(arc(pin, delay, "timing_sense : non_unate;") for pin in inputs)
        cells.append(
            "\n".join([
                f"  cell ({gate}) {{",
                f"    area : {area};",
                "    leakage_power () {",
                "      value : 1.0;",
                "    }",
                *pins,
                "    pin (Y) {",
                f'      direction : output; function : "{function}";',
                arcs,
                "    }",
                "  }",
            ])
        )
    constraint = f'(scalar) {{ values ("{SETUP}"); }}'
    if flip_flop:
        cells.append(
            "\n".join([
                "  cell (DFF) {",
                "    area : 5.0;",
                '    ff (IQ, IQN) { next_state : "D"; clocked_on : "CLK"; }',
                "    pin (CLK) { direction : input; capacitance : 0.001; clock : true; }",
                "    pin (D) {",
                "      direction : input; capacitance : 0.001;",
                "      timing () {",
                '        related_pin : "CLK"; timing_type : setup_rising;',
                f"        rise_constraint {constraint}",
                f"        fall_constraint {constraint}",
                "      }",
                "    }",
                "    pin (Q) {",
                '      direction : output; function : "IQ";',
                arc("CLK", CLOCK_TO_Q, "timing_type : rising_edge;"),
                "    }",
                "  }",
            ])
        )
    return "\n".join([
        f"/* {name} {{ */",
        f"library ({name}) {{",
        "  delay_model : table_lookup;",
        '  time_unit : "1ns";',
        "  capacitive_load_unit (1, pf);",
        '  voltage_unit : "1V";',
        '  current_unit : "1uA";',
        '  pulling_resistance_unit : "1kohm";',
        "  default_max_transition : 10;",
        *cells,
        "}",
        "",
    ])


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The library as a file."""
    path = tmp_path / "toy.lib"
    path.write_text(toy_liberty())
    return path


@pytest.fixture
def toy_without_flip_flops(tmp_path: Path) -> Path:
    """The library without its flip-flop."""
    path = tmp_path / "gates.lib"
    path.write_text(toy_liberty(flip_flop=False, name="gates"))
    return path
