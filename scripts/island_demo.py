"""The accelerator stops in the middle of a plan, and the island holds the arm: a picture.

A script of its own, not a command: it shows one thing, and takes minutes.

    python scripts/island_demo.py island.png
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from jepa_r.config import SafetyConfig
from jepa_r_sim.drivers.packets import command_packet, joint_packet
from jepa_r_sim.firmware import IMAGE
from jepa_r_sim.island import IslandModel, build_island, image_words

mpl.use("Agg")
from matplotlib import pyplot as plt

ONE = 1 << 16
HOME = np.array([0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0])

#: kg m² and Nm s/rad of each joint, seen from its motor; weight is compensated elsewhere.
INERTIA = np.array([1.0, 1.0, 1.0, 0.5, 0.2, 0.2, 0.1])
FRICTION = np.full(7, 0.5)

#: Periods with the accelerator, and after it stopped: until the arm is at rest, to 4 mrad/s.
MOVING, HELD = 20, 300


def q16(values):
    return [round(float(value) * ONE) for value in values]


class Arm:
    """Seven joints that do not feel each other, in steps of a tenth of a period."""

    def __init__(self):
        self.position, self.velocity = HOME.copy(), np.zeros(7)
        self.torque = np.zeros(7)

    def step(self, seconds):
        for _ in range(10):
            force = self.torque - FRICTION * self.velocity
            self.velocity += force / INERTIA * seconds / 10
            self.position += self.velocity * seconds / 10


def record(model):
    """Run; by period: time in ms, positions, targets, torques, state, gate."""
    arm, rows, sequence = Arm(), [], 1

    def period(target, *, commands=True):
        nonlocal sequence
        model.packet("joints", joint_packet(sequence, q16(arm.position), q16(arm.velocity)))
        if commands:
            model.packet("commands", command_packet(sequence, q16(target), [0] * 7, [0] * 7))
        sequence += 1
        before = len(model.torques)
        model.run(1000)
        if len(model.torques) > before:
            arm.torque = np.array(model.torques[-1][1]) / ONE
        elif not model.shown["is_open"]:
            arm.torque = np.zeros(7)
        arm.step(1e-3)
        rows.append((
            model.time_ps / 1e9, arm.position.copy(), np.array(target), arm.torque.copy(),
            model.state(), model.shown["is_open"],
        ))  # fmt: skip

    model.power_on()
    model.packet("image", image_words(IMAGE.read_bytes()))
    while model.state() == "SELFTEST" or model.state() == "RESET":
        period(HOME)
    model.rearm()
    period(HOME)
    model.pin("arm", 1)
    while model.state() == "LOCKED":
        period(HOME)
    target = HOME.copy()
    for _ in range(MOVING):
        target = target + np.array([0.002, 0.001, 0.0, 0.0015, 0.0, 0.0, 0.0])
        period(target)
    stopped_ms = model.time_ps / 1e9
    for _ in range(HELD):
        period(target, commands=False)
    return rows, stopped_ms


def draw(rows, events, stopped_ms, path):
    first = next(n for n, row in enumerate(rows) if row[4] == "RUN")
    rows = rows[max(first - 3, 0) :]
    time = np.array([row[0] for row in rows])
    fallback = next(
        (e.time_ps / 1e9 for e in events if e.name == "state" and e.value == 0xFF), None
    )
    figure, axes = plt.subplots(
        3, 1, figsize=(9, 7), sharex=True, height_ratios=[3, 3, 1], layout="constrained"
    )
    for joint, colour in ((0, "tab:blue"), (1, "tab:orange"), (3, "tab:green")):
        position = np.array([row[1][joint] - HOME[joint] for row in rows]) * 1e3
        target = np.array([row[2][joint] - HOME[joint] for row in rows]) * 1e3
        torque = np.array([row[3][joint] for row in rows])
        axes[0].plot(time, position, color=colour, label=f"joint {joint + 1}")
        axes[0].plot(
            time[time <= stopped_ms], target[time <= stopped_ms], color=colour, ls=":", lw=1
        )
        axes[1].step(time, torque, where="post", color=colour)
    axes[0].set_ylabel("position (mrad), dotted: plan")
    axes[0].legend(loc="upper right", frameon=False)
    axes[1].set_ylabel("torque (Nm)")
    axes[2].step(time, [row[5] for row in rows], where="post", color="black")
    axes[2].set_yticks([0, 1], ["closed", "open"])
    axes[2].set_ylim(-0.2, 1.2)
    axes[2].set_ylabel("gate")
    axes[2].set_xlabel("time since power on (ms)")
    for axis in axes:
        axis.axvline(stopped_ms, color="tab:red", lw=1)
        if fallback:
            axis.axvline(fallback, color="tab:purple", lw=1, ls="--")
        axis.spines[["top", "right"]].set_visible(False)
    notes = [(stopped_ms, 1, "accelerator stops", "tab:red")]
    if fallback:
        notes.append((fallback, 0.9, "FALLBACK: held where it is", "tab:purple"))
    for place, height, text, colour in notes:
        axes[0].annotate(
            text, (place, height), xycoords=axes[0].get_xaxis_transform(), xytext=(8, 0),
            textcoords="offset points", color=colour, va="top",
        )  # fmt: skip
    figure.savefig(path, dpi=150)


def main():
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "island.png")
    config = SafetyConfig(rearm_min_cycles=320)
    with IslandModel(
        simulation=build_island(config, ai_mhz=100), config=config, ai_mhz=100
    ) as model:
        rows, stopped_ms = record(model)
        draw(rows, model.events, stopped_ms, path)


if __name__ == "__main__":
    main()
