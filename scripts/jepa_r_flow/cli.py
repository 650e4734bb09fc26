"""``jepa-r``: parses arguments, prints results. The work is in the modules beside this one."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from amaranth.hdl import UnusedElaboratable
from rich.console import Console
from rich.table import Table

from jepa_r.config import PRESETS, ConfigError
from jepa_r.tops import TOPS
from jepa_r_sim.cosim import MissingToolError, SimulationError
from jepa_r_sim.faults.campaign import CLASSES, ClusterError, FaultsError
from jepa_r_sim.faults.subject import SubjectError
from jepa_r_sim.faults.targets import TARGETS
from jepa_r_sim.model.preprocess import ImageError
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import WeightsError
from jepa_r_sim.yosys import SynthesisError

from .compile import compile_model
from .console import Stages, stages_on_stderr
from .faults import KINDS, faults
from .generate import generate
from .loop import StateError
from .output import OutputError
from .run import run
from .synth import synth, synth_ecp5
from .synthesis.liberty import PDKS, LibertyError
from .wcet import wcet

__all__ = ["app", "main"]

#: Exit codes, the same for all commands.
CHECK_FAILED, BAD_INPUT, TOOL_MISSING = 1, 2, 3

#: Which exit code says what; anything else is a defect and shows its traceback.
_CODES: dict[type[Exception], int] = {
    SimulationError: CHECK_FAILED,
    SubjectError: CHECK_FAILED,
    SynthesisError: CHECK_FAILED,
    ClusterError: BAD_INPUT,
    ConfigError: BAD_INPUT,
    FaultsError: BAD_INPUT,
    ImageError: BAD_INPUT,
    LibertyError: BAD_INPUT,
    OutputError: BAD_INPUT,
    StateError: BAD_INPUT,
    WeightsError: BAD_INPUT,
    MissingToolError: TOOL_MISSING,
}

#: Cases that people see of those that must not be; the files have all of them.
_MOST_CASES = 10

Preset = Annotated[
    str, typer.Option(help=f"One of {', '.join(PRESETS)}, or a file FILE.toml of the same fields.")
]
Model = Annotated[
    str,
    typer.Option(
        help=f"One of {', '.join(MODELS)} (nano is trained, others have random weights), or "
        "FILE.safetensors."
    ),
]
Cameras = Annotated[int, typer.Option(min=1, max=16, help="Images encoded together.")]
Seed = Annotated[int, typer.Option(min=0, help="Of random weights.")]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one field, dotted; may be repeated."),
]
Horizon = Annotated[int, typer.Option(min=1, max=16, help="Steps of a plan.")]
Samples = Annotated[int, typer.Option(min=1, max=65535, help="Candidates of an iteration.")]
Iterations = Annotated[int, typer.Option(min=1, max=255, help="Iterations of a plan.")]
Elites = Annotated[int, typer.Option(min=1, max=64, help="Best candidates that are kept.")]
Top = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"What to emit: {', '.join(sorted(TOPS))}. Without it, the chip; the cluster, if "
        "the preset only encodes.",
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Directory to write.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object on standard output, logs on standard error.")
]

app = typer.Typer(
    name="jepa-r",
    help="Generator of latent-prediction silicon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _commands() -> None:
    """Generate the chip, run it in simulation, and say how long it takes."""


def _epilog(*examples: str) -> str:
    return "\n\n".join(["Examples:", *(f"[bold]{example}[/bold]" for example in examples)])


@app.command(
    "run",
    epilog=_epilog(
        "jepa-r run",
        "jepa-r run --steps 12 --samples 32 --seed 2 -o out --json",
        "jepa-r run --image now.png --goal wanted.png --state pose.json",
        "jepa-r run --encode --image photograph.jpg",
    ),
)
def run_command(
    output: Output = Path("out"),
    preset: Preset = "nano",
    model: Model = "nano",
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What is seen; alone, it is only encoded."),
    ] = None,
    goal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture of what is wanted.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Pose: JSON list of x, y, z (m), three angles, gripper (0..1)."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of scene, samples and random weights.")
    ] = 1,
    samples: Samples = 16,
    iterations: Iterations = 4,
    elites: Elites = 4,
    horizon: Horizon = 1,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps of the scene.")] = 8,
    rtl_steps: Annotated[
        int, typer.Option(min=1, max=1000, help="The first of them are planned on the RTL, too.")
    ] = 3,
    encode: Annotated[
        bool, typer.Option("--encode", help="Only encode a photograph; one is shipped.")
    ] = False,
    waves: Annotated[bool, typer.Option(help="Write a waveform (VCD).")] = False,
    overrides: Overrides = [],  # noqa: B006 - typer reads it and never changes it
    as_json: AsJson = False,
) -> None:
    """Plan on the generated hardware and compare everything with the golden model.

    Without pictures, a gripper in a simulated scene is moved towards a goal step by step.
    """

    def work(stages: Stages) -> dict[str, Any]:
        return run(
            preset=preset,
            model=model,
            overrides=overrides,
            image=image,
            goal=goal,
            state=state,
            seed=seed,
            samples=samples,
            iterations=iterations,
            elites=elites,
            horizon=horizon,
            steps=steps,
            rtl_steps=rtl_steps,
            encode_only=encode,
            waves=waves,
            output=output,
            stages=stages,
        )

    def show(result: dict[str, Any], console: Console) -> None:
        agree = result["cycles_measured"] == result["cycles_predicted"]
        equal = result["elements"] - result["mismatches"]
        if "action" in result:
            _print_plan(console, result)
        _print_table(
            console,
            {
                "equal to the golden model": f"{equal:,} of {result['elements']:,} numbers",
                "fault": str(result["fault"]).lower(),
                "cycles": f"{result['cycles_measured']:,} measured, "
                f"{result['cycles_predicted']:,} predicted: {'equal' if agree else 'NOT EQUAL'}",
                "time": f"{result['milliseconds']:.3f} ms",
                "utilisation": f"{result['utilisation']:.1%}",
                "latent, integer against float": f"L1 {result['latent_l1_vs_float']:.4f}, "
                f"cosine {result['cosine_vs_float']:.5f}",
                "picture": str(Path(result["directory"]) / "picture.png"),
            },
        )

    def passed(result: dict[str, Any]) -> bool:
        return result["match"] and result["cycles_measured"] == result["cycles_predicted"]

    _perform(work, show, as_json, passed=passed)


@app.command(
    "generate",
    epilog=_epilog(
        "jepa-r generate --preset nano -o build/nano",
        "jepa-r generate --preset ecp5 -o build/ecp5",
        "jepa-r generate --preset nano --top tile --set encoder.tile.rows=16 -o build/tile",
    ),
)
def generate_command(
    output: Output,
    preset: Preset = "nano",
    top: Top = None,
    overrides: Overrides = [],  # noqa: B006 - typer reads it and never changes it
    as_json: AsJson = False,
) -> None:
    """Write the Verilog of a chip, its file list and its configuration."""

    def work(stages: Stages) -> dict[str, Any]:
        return generate(preset=preset, top=top, overrides=overrides, output=output, stages=stages)

    def show(result: dict[str, Any], console: Console) -> None:
        _print_table(
            console,
            {
                "top": result["top"],
                "files": f"{len(result['files'])} in {result['directory']}",
                "modules": sum(result["modules"].values()),
                "bytes": f"{result['bytes']:,}",
                "seconds": result["seconds"],
                "config hash": result["config_hash"],
            },
        )

    _perform(work, show, as_json)


@app.command(
    "synth",
    epilog=_epilog(
        "jepa-r synth --preset nano --top tile --pdk asap7 --pdk-dir pdk -o build/tile",
        "jepa-r synth --preset nano --top tile --liberty typical.lib --timing-liberty slow.lib",
        "jepa-r synth --preset ecp5 --target ecp5 -o build/ecp5",
    ),
)
def synth_command(
    preset: Preset = "nano",
    top: Top = None,
    target: Annotated[
        str | None, typer.Option(help="ecp5: place and route for a Lattice ECP5.")
    ] = None,
    device: Annotated[str, typer.Option(help="ECP5 to place for.")] = "LFE5U-85F",
    seed: Annotated[int, typer.Option(min=1, help="Of the placer.")] = 1,
    liberty: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Liberty file to map to, or .gz; may be repeated."),
    ] = [],  # noqa: B006 - typer reads it and never changes it
    timing_liberty: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="To time with, if another corner; may be repeated."),
    ] = [],  # noqa: B006 - as above
    pdk: Annotated[
        str | None, typer.Option(help=f"A known process instead of files: {', '.join(PDKS)}.")
    ] = None,
    pdk_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its files are, at any depth.")
    ] = None,
    corner: Annotated[str | None, typer.Option(help="Corner to time in, such as slow.")] = None,
    dont_use: Annotated[
        list[str], typer.Option(metavar="PATTERN", help="Cells to leave alone; may be repeated.")
    ] = [],  # noqa: B006 - as above
    clock_mhz: Annotated[
        float | None, typer.Option(min=0.001, help="Clock to map for; default as configured.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="For netlists and the picture."),
    ] = None,
    overrides: Overrides = [],  # noqa: B006 - as above
    as_json: AsJson = False,
) -> None:
    """Map the Verilog to cells, and say how large and how fast it is.

    Liberty files: each module is mapped once with yosys and timed with OpenSTA; memories are left
    to SRAM macros. ECP5: yosys and nextpnr, timing after routing. The exit code is 0 if everything
    meets the clock.
    """

    def work(stages: Stages) -> dict[str, Any]:
        if target is not None and target != "ecp5":
            raise ConfigError(f"--target is {target!r}; it must be ecp5")
        if target is not None and (liberty or pdk):
            raise ConfigError("--target ecp5 goes without --liberty and --pdk")
        if target is not None:
            return synth_ecp5(
                preset=preset,
                top=top,
                overrides=overrides,
                device=device,
                seed=seed,
                clock_mhz=clock_mhz,
                output=output,
                stages=stages,
            )
        return synth(
            preset=preset,
            top=top,
            overrides=overrides,
            liberty=liberty,
            timing_liberty=timing_liberty,
            dont_use=dont_use,
            pdk=pdk,
            pdk_dir=pdk_dir,
            corner=corner,
            clock_mhz=clock_mhz,
            output=output,
            stages=stages,
        )

    def show(result: dict[str, Any], console: Console) -> None:
        if target is None:
            _print_modules(console, result)
        else:
            _print_device(console, result)

    def passed(result: dict[str, Any]) -> bool:
        return bool(result["fits"] and result.get("meets", True))

    _perform(work, show, as_json, passed=passed)


@app.command(
    "compile",
    epilog=_epilog(
        "jepa-r compile --preset nano --model nano -o build/model",
        "jepa-r compile --preset nano --model nano --horizon 3 -o build/model",
        "jepa-r compile --preset ecp5 --model nano --cameras 2 -o build/model",
    ),
)
def compile_command(
    output: Output,
    preset: Preset = "nano",
    model: Model = "nano",
    seed: Seed = 1,
    cameras: Cameras = 1,
    horizon: Horizon = 1,
    overrides: Overrides = [],  # noqa: B006 - typer reads it and never changes it
    as_json: AsJson = False,
) -> None:
    """Quantise a model and compile it: program and weight images for the chip's clusters."""

    def work(stages: Stages) -> dict[str, Any]:
        return compile_model(
            preset=preset,
            model=model,
            overrides=overrides,
            seed=seed,
            cameras=cameras,
            horizon=horizon,
            output=output,
            stages=stages,
        )

    def show(result: dict[str, Any], console: Console) -> None:
        for name, part in (("encoder", result), ("predictor", result.get("predictor"))):
            if part is not None:
                console.print(name, style="bold")
                _print_table(
                    console,
                    {
                        "program": f"{part['program_bytes']:,} bytes, {part['bundles']:,} bundles",
                        "weights": f"{part['weight_bytes']:,} bytes",
                        "cycles": f"{part['cycles']:,}",
                    },
                )
        console.print(f"written to {result['directory']}")

    _perform(work, show, as_json)


@app.command(
    "wcet",
    epilog=_epilog(
        "jepa-r wcet --preset nano --model nano",
        "jepa-r wcet --preset jepa-r --model vitg-ac --cameras 6 --json",
        "jepa-r wcet --preset jepa-r --model vitg-ac --samples 400 --iterations 10",
    ),
)
def wcet_command(
    preset: Preset = "nano",
    model: Model = "nano",
    cameras: Cameras = 1,
    horizon: Horizon = 1,
    samples: Samples = 800,
    iterations: Iterations = 10,
    elites: Elites = 10,
    overrides: Overrides = [],  # noqa: B006 - typer reads it and never changes it
    as_json: AsJson = False,
) -> None:
    """Say how many cycles a model takes: exactly, since nothing in the schedule depends on data."""

    def work(stages: Stages) -> dict[str, Any]:
        return wcet(
            preset=preset,
            model=model,
            overrides=overrides,
            cameras=cameras,
            horizon=horizon,
            samples=samples,
            iterations=iterations,
            elites=elites,
            stages=stages,
        )

    def show(result: dict[str, Any], console: Console) -> None:
        _print_stages(console, "encoder", result)
        if "rollout" not in result:
            return
        rollout, plan = result["rollout"], result["plan"]
        _print_stages(
            console,
            f"predictor, {rollout['candidates']} candidates at once, {rollout['horizon']} step(s)",
            rollout,
        )
        console.print("plan", style="bold")
        _print_table(
            console,
            {
                "rollouts": f"{plan['rollouts']:,} ({plan['samples']} samples, "
                f"{plan['iterations']} iterations)",
                "cycles": f"{plan['cycles']:,}",
                "time": f"{plan['milliseconds']:,.3f} ms",
            },
        )

    _perform(work, show, as_json)


@app.command(
    "faults",
    epilog=_epilog(
        "jepa-r faults --faults 2000",
        "jepa-r faults --faults 38416 --seed 1 --workers 2 -o out/faults --json",
        "jepa-r faults --target single --faults 4000",
        "jepa-r faults --kind stuck-at --faults 9604 --scheduler tcp://127.0.0.1:8786 --resume",
    ),
)
def faults_command(
    output: Output = Path("out/faults"),
    target: Annotated[str, typer.Option(help=f"What is hurt: {', '.join(TARGETS)}.")] = "lockstep",
    kind: Annotated[
        str,
        typer.Option(
            help=f"{' or '.join(KINDS)}: bits of registers, or gates and flip-flops of the netlist."
        ),
    ] = "flips",
    count: Annotated[int, typer.Option("--faults", min=1, help="How many are drawn.")] = 2000,
    every: Annotated[
        bool, typer.Option("--all", help="All there are, of stuck-at faults.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the draw.")] = 1,
    cycles: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Cycles that faults are drawn from.")
    ] = 4096,
    window: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Cycles watched after a flip.")
    ] = 2048,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes on this machine.")
    ] = os.cpu_count() or 1,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Work on a dask.distributed cluster instead."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the same campaign where it was interrupted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Inject faults into the safety island, and count what became of them.

    The exit code is 0 if no wrong value left, nothing hung, and every wrong output raised the
    alert in time; a baseline, a single processor, only counts.
    """

    def work(stages: Stages) -> dict[str, Any]:
        return faults(
            target=target,
            kind=kind,
            count=None if every else count,
            seed=seed,
            cycles=cycles,
            window=window,
            workers=workers,
            scheduler=scheduler,
            resume=resume,
            output=output,
            stages=stages,
        )

    _perform(work, _print_faults, as_json, passed=lambda result: result["passed"])


def _perform(
    work: Callable[[Stages], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
    as_json: bool,
    *,
    passed: Callable[[dict[str, Any]], bool] = lambda result: True,
) -> None:
    """Do the work of a command, print what it found, and exit with the code that says so."""
    try:
        with stages_on_stderr() as stages:
            result = work(stages)
    except tuple(_CODES) as error:
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        _refuse(str(error), code, as_json)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        show(result, Console())
    if not passed(result):
        raise typer.Exit(CHECK_FAILED)


def _refuse(message: str, code: int, as_json: bool) -> NoReturn:
    """Say in one sentence what is wrong, and exit."""
    if as_json:
        sys.stdout.write(json.dumps({"error": message, "exit_code": code}) + "\n")
    sys.stderr.write(f"jepa-r: {message}\n")
    raise typer.Exit(code)


def _print_plan(console: Console, result: dict[str, Any]) -> None:
    """Action of the first plan, how it came about, and where the others lead."""
    x, y, z, *_angles, gripper = result["action"]
    console.print(
        f"action  x {100 * x:+.2f} cm, y {100 * y:+.2f} cm, z {100 * z:+.2f} cm, "
        f"gripper {gripper:+.2f}"
    )
    table = Table("iteration", "best cost", "mean of the elites")
    for number, cost in enumerate(result["costs"], 1):
        table.add_row(str(number), f"{cost['best']:.4f}", f"{cost['mean']:.4f}")
    console.print(table)
    if "distances" in result:
        way = ", ".join(f"{100 * d:.1f}" for d in result["distances"])
        console.print(f"distance to the goal (cm)  {way}")


def _print_modules(console: Console, result: dict[str, Any]) -> None:
    """Area and speed of modules, the largest first, and of all together."""
    table = Table("module", "times", "um²", "um² of all", "registers", "MHz", "recipe")
    for column in table.columns[1:6]:
        column.justify = "right"
    modules = sorted(
        result["modules"].items(), key=lambda item: -item[1]["area_um2"] * item[1]["instances"]
    )
    for name, module in modules:
        area, times = module["area_um2"], module["instances"]
        table.add_row(
            name,
            f"{times:,}",
            f"{area:,.1f}",
            f"{area * times:,.0f}",
            f"{module['sequential_um2'] / area:.0%}" if area else "",
            f"{module['fmax_mhz']:,.0f}" if module["fmax_mhz"] else "",
            module["recipe"],
        )
    console.print(table)
    path = result["worst_path"]
    _print_table(
        console,
        {
            "area": f"{result['area_um2'] / 1e6:,.4f} mm² of cells",
            "memories": f"{result['memory_bits']:,} bits apart",
            **{
                name: f"{clock['mhz']:g} MHz, {clock['fmax_mhz']:g} MHz reached"
                for name, clock in result["clocks"].items()
                if clock["fmax_mhz"] is not None
            },
            "constraints": "met" if result["fits"] else "missed",
            "worst path": f"{path['ps']:.0f} ps in {path['module']}, "
            f"{path['steps'][0]['pin']} to {path['steps'][-1]['pin']}",
            "assumed": result["assumptions"],
        },
    )


def _print_faults(result: dict[str, Any], console: Console) -> None:
    """Counts of a campaign, with intervals, and what must not be, one by one."""
    table = Table(result["name"], "faults", "%", "95 % interval")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in CLASSES:
        low, high = result["intervals"][name]
        table.add_row(
            name.replace("_", " "),
            f"{result[name]:,}",
            f"{100 * result[name] / result['injected']:.2f}",
            f"{100 * low:.3f} .. {100 * high:.3f}",
        )
    table.add_section()
    table.add_row("injected", f"{result['injected']:,}", "", f"of {result['population']:,}")
    console.print(table)
    slowest = max(map(int, result["latency"]), default=None)
    rows = {
        "first wrong output to alert": "no alerts"
        if slowest is None
        else f"{slowest} cycles at most",
        "late": f"{result['late']:,}" + (f" (bound {result['bound']})" if result["bound"] else ""),
        "time": f"{result['seconds']:.1f} s, and {result['build_seconds']:.1f} s of building",
        "picture": str(Path(result["directory"]) / "picture.png"),
    }
    if "reached" in result:
        share = result["reached"] / result["injected"]
        rows["reached an output"] = f"{result['reached']:,} ({share:.1%})"
    _print_table(console, rows)
    for name in ("silent", "timeout"):
        cases = result[f"{name}_cases"]
        for case in cases[:_MOST_CASES]:
            console.print(f"{name}: {case}", highlight=False, markup=False, soft_wrap=True)
        if len(cases) > _MOST_CASES:
            console.print(f"{name}: {len(cases) - _MOST_CASES:,} more in jepa-r.json")


def _print_device(console: Console, result: dict[str, Any]) -> None:
    """What of an FPGA is taken, and how fast it is."""
    table = Table(result["device"], "used", "of", "%")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, resource in result["utilisation"].items():
        table.add_row(
            name, f"{resource['used']:,}", f"{resource['available']:,}", f"{resource['percent']:g}"
        )
    console.print(table)
    module = result["modules"][result["top"]]
    console.print(
        f"{module['fmax_mhz']:g} MHz after routing, {result['clock_mhz']:g} MHz asked for; "
        "the worst path, steps of 0.2 ns and more:"
    )
    for step in result["worst_path"]["steps"]:
        if float(step.split()[0]) >= 0.2:
            console.print(f"  {step:.90}", highlight=False, markup=False, no_wrap=True)


def _print_stages(console: Console, title: str, result: dict[str, Any]) -> None:
    """Stages of a schedule, those of all layers in one line, and its sums."""
    console.print(title, style="bold")
    table = Table("stage", "times", "cycles", "bound by")
    for column in table.columns[1:3]:
        column.justify = "right"
    for name, group in _layers_together(result["stages"]).items():
        bounds = ", ".join(dict.fromkeys(stage["bound"] for stage in group))
        cycles = sum(stage["cycles"] for stage in group)
        table.add_row(name, str(len(group)), f"{cycles:,}", bounds)
    console.print(table)
    _print_table(
        console,
        {
            "cycles": f"{result['cycles']:,}",
            "time": f"{result['milliseconds']:.3f} ms",
            "utilisation": f"{result['utilisation']:.1%}",
            "memory": f"{result['memory_bytes']:,} bytes",
        },
    )


def _layers_together(stages: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Stages by name, those of all layers under one, in the order of the first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        _layer, colon, part = stage["name"].partition(": ")
        groups.setdefault(part if colon else stage["name"], []).append(stage)
    return groups


def _print_table(console: Console, values: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row(name, str(value))
    console.print(table)


def main() -> None:
    """Entry point of the command."""
    # Components are also built to ask for their latency, and then not elaborated.
    warnings.simplefilter("ignore", UnusedElaboratable)
    # End as on an error, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    app()
