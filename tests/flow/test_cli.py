# amaranth: UnusedElaboratable=no
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jepa_r_flow import generate as generate_module
from jepa_r_flow import loop as loop_module
from jepa_r_flow import run as run_module
from jepa_r_flow.cli import app
from jepa_r_flow.output import RESULT
from jepa_r_sim.cosim import MissingToolError, SimulationError
from jepa_r_sim.model.units import from_units
from jepa_r_sim.planning import ChipPlanner, Loop
from jepa_r_sim.scene import Scene, draw_task

COMMANDS = {
    "run": ["run", "-o"],
    "generate": ["generate", "--top", "tile", "-o"],
    "compile": ["compile", "-o"],
    "wcet": ["wcet"],
}


def call(*arguments):
    """Run a command; its exit code, JSON object and what it said on standard error."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout), result.stderr


def message(*arguments):
    """What a refused command says, in both places where it says it."""
    code, found, stderr = call(*arguments)
    assert code == found["exit_code"] == 2
    assert stderr.splitlines() == [f"jepa-r: {found['error']}"]
    return found["error"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"jepa-r {command}" in result.stdout.split("Examples:")[1]


def test_generate_writes_what_it_lists(tmp_path):
    output = tmp_path / "new" / "verilog"
    code, found, _ = call("generate", "--top", "tile", "-o", output)
    assert code == 0
    assert found["files"][0] == "tile.v"
    listed = (output / "tile.f").read_text().split()
    assert listed == found["files"]
    assert found["bytes"] == sum((output / name).stat().st_size for name in listed)
    assert found["modules"]["tile"] == 1
    assert found["modules"].keys() == {Path(name).stem for name in listed}
    assert json.loads((output / RESULT).read_text()) == {"command": "generate", **found}
    assert [path.name for path in output.parent.iterdir()] == ["verilog"]


def test_override_changes_the_design(tmp_path):
    change = "encoder.tile.acc_rows=16"
    _, plain, _ = call("generate", "--top", "tile", "-o", tmp_path / "a")
    _, changed, _ = call("generate", "--top", "tile", "--set", change, "-o", tmp_path / "b")
    assert plain["config_hash"] != changed["config_hash"]
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["encoder"]["tile"]["acc_rows"] == 16


def test_earlier_results_are_replaced_whole(tmp_path):
    call("generate", "--top", "tile", "-o", tmp_path / "out")
    (tmp_path / "out" / "stale.v").touch()
    code, _, _ = call("generate", "--top", "tile", "-o", tmp_path / "out")
    assert code == 0
    assert not (tmp_path / "out" / "stale.v").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_that_are_not_results_are_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "holds files that are not results" in message(
        "generate", "--top", "tile", "-o", tmp_path
    )
    file = tmp_path / "thesis.tex"
    assert "is not a directory" in message("generate", "--top", "tile", "-o", file)
    assert file.read_text() == "years of work"


def test_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def fail(component, *, name, into):
        (into / "half.v").write_text("module")
        raise SimulationError("half way")

    monkeypatch.setattr(generate_module, "emit_verilog", fail)
    code, found, _ = call("generate", "--top", "tile", "-o", tmp_path / "out")
    assert code == 1
    assert found["error"] == "half way"
    assert not list(tmp_path.iterdir())


def test_compile_writes_what_the_clusters_of_a_chip_run(tmp_path):
    output = tmp_path / "images"
    code, found, _ = call("compile", "--horizon", 2, "-o", output)
    assert code == 0
    predictor = found["predictor"]
    for prefix, part in (("", found), ("predictor_", predictor)):
        images = [(output / f"{prefix}{name}.bin").read_bytes() for name in ("program", "weights")]
        assert [len(image) for image in images] == [part["program_bytes"], part["weight_bytes"]]
        assert part["weight_address"] + part["weight_bytes"] <= part["program_address"]
        # Magic, version and the cluster's hash, as the hardware finds them.
        assert images[0][:4] == (output / "program.bin").read_bytes()[:4]
        assert bytes.fromhex(part["config_hash"])[::-1] in images[0][:16]
    assert predictor["config_hash"] != found["config_hash"]
    assert predictor["horizon"] == 2
    assert found["program_address"] + found["program_bytes"] <= predictor["weight_address"]
    assert found["addresses"]["ENCODER_PROGRAM"] == found["program_address"]
    assert found["addresses"]["PREDICTOR_PROGRAM"] == predictor["program_address"]
    lengths = call("wcet", "--horizon", 2)[1]
    assert (found["cycles"], predictor["cycles"]) == (
        lengths["cycles"], lengths["rollout"]["cycles"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["--preset", "ecp5"], ["--preset", "jepa-r", "--cameras", 2]]
)
def test_compile_leaves_the_predictor_out_where_nothing_plans(tmp_path, arguments):
    code, found, _ = call("compile", *arguments, "-o", tmp_path / "out")
    assert code == 0
    assert not found.keys() & {"predictor", "addresses"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        RESULT, "program.bin", "weights.bin",
    ]  # fmt: skip
    sentence = message("compile", *arguments, "--horizon", 2, "-o", tmp_path / "new")
    assert sentence == (
        "horizon is 2; only a chip and a model with predictors, and one camera, plan"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--horizon", 4], "horizon is 4; planner.steps allows at most 3"),
        (["--set", "predictor.tile.act_words=100"], "tile.act_words is 100; this model needs at"),
        (["--set", "latent_words=95"], "latent_words is 95; a latent of this model needs 96"),
    ],
)
def test_compile_refuses_what_the_predictor_cannot_do(tmp_path, arguments, sentence):
    code, found, _ = call("compile", *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert found["error"].startswith(sentence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("preset", "top"), [("nano", "chip"), ("ecp5", "cluster")])
def test_generate_emits_all_that_a_preset_has(tmp_path, monkeypatch, preset, top):
    made = []

    def emit(component, *, name, into):
        made.append((type(component).__name__, name))
        raise SimulationError("not emitted")

    monkeypatch.setattr(generate_module, "emit_verilog", emit)
    call("generate", "--preset", preset, "-o", tmp_path / "out")
    assert made == [(top.title(), top)]


def test_wcet_stages_add_up_to_the_whole():
    code, found, _ = call("wcet")
    assert code == 0
    assert sum(stage["cycles"] for stage in found["stages"]) == found["cycles"]
    assert {stage["bound"] for stage in found["stages"]} <= {"compute", "memory", "vector"}
    assert found["milliseconds"] == found["cycles"] / 100e3
    assert 0 < found["utilisation"] < 1


BAD = {
    "preset": (["--preset", "atto"], "there is no preset 'atto'; there are nano, ecp5, jepa-r, or"),
    "field": (["--set", "encoder.colour=1"], "colour"),
    "form": (["--set", "encoder"], "--set 'encoder' is not of the form KEY=VALUE"),
    "value": (["--set", "encoder.tiles=0"], "tiles is 0; it must be a whole number from 1 to 16"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_configuration_is_refused(command, bad, tmp_path):
    arguments, expected = BAD[bad]
    output = [tmp_path / "out"] if COMMANDS[command][-1] == "-o" else []
    assert expected in message(*COMMANDS[command], *output, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "compile", "wcet"])
def test_bad_model_is_refused(command, tmp_path):
    output = [tmp_path / "out"] if COMMANDS[command][-1] == "-o" else []
    file = tmp_path / "x.safetensors"
    for model, expected in (
        ("giant", "there is no model 'giant'; there are nano, vitg-ac, or a file FILE.safetensors"),
        (file, f"model file {file} cannot be read"),
    ):
        assert expected in message(*COMMANDS[command], *output, "--model", model)
    file.write_text("not tensors")
    assert "is not a safetensors file" in message(*COMMANDS[command], *output, "--model", file)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_unknown_top_is_refused(tmp_path):
    expected = (
        "--top is 'bottom'; it must be one of chip, cluster, island, planner, predictor, robot, "
        "tile, vector"
    )
    assert message("generate", "--top", "bottom", "-o", tmp_path / "out") == expected


def test_unreadable_image_is_refused(tmp_path):
    image = tmp_path / "photograph.jpg"
    assert "does not exist" in message("run", "--image", image, "-o", tmp_path / "out")
    image.write_text("not a photograph")
    assert "cannot be read" in message("run", "--image", image, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_tool_has_its_own_exit_code(tmp_path, monkeypatch):
    def refuse():
        raise MissingToolError("Not found: g++; install with: apt-get install g++")

    monkeypatch.setattr(run_module, "require_tools", refuse)
    code, found, stderr = call("run", "-o", tmp_path / "out")
    assert (code, found["exit_code"]) == (3, 3)
    assert "apt-get install g++" in stderr


def test_wcet_says_how_long_a_plan_takes():
    _, found, _ = call("wcet", "--samples", 6, "--iterations", 2, "--elites", 3, "--horizon", 2)
    rollout, plan = found["rollout"], found["plan"]
    assert (rollout["candidates"], rollout["horizon"], plan["rollouts"]) == (4, 2, 4)
    assert rollout["cycles"] == sum(stage["cycles"] for stage in rollout["stages"])
    assert 4 * rollout["cycles"] < plan["cycles"] < 4.1 * rollout["cycles"]
    _, encodes, _ = call("wcet", "--preset", "ecp5")
    assert not encodes.keys() & {"rollout", "plan"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--horizon", 4], "horizon is 4; planner.steps allows at most 3"),
        (["--elites", 17], "elites is 17; with 800 samples on nano it is at most 16"),
        (["--samples", 5], "elites is 10; with 5 samples on nano it is at most 5"),
    ],
)
def test_plans_that_cannot_be_are_refused(arguments, sentence):
    assert message("wcet", *arguments) == sentence


def test_steps_of_what_does_not_plan_are_refused():
    assert message("wcet", "--preset", "ecp5", "--horizon", 2) == (
        "horizon is 2; only a chip and a model with predictors plan"
    )


def test_models_that_cannot_see_the_scene_are_refused(tmp_path):
    expected = (
        "model vitg-ac reads pictures of 256 pixels; the scene has 64: give --image and --goal"
    )
    assert message("run", "--model", "vitg-ac", "-o", tmp_path / "out") == expected
    assert not list(tmp_path.iterdir())


# Plans on the RTL.


@pytest.fixture
def pictures(tmp_path):
    """Two frames of the scene as files, and the pose of the first."""
    start, goal = draw_task(4)
    paths = {}
    for name, pose in (("image", start), ("goal", goal)):
        paths[name] = tmp_path / f"{name}.png"
        Image.fromarray(Scene(seed=4).render(pose).transpose(1, 2, 0)).save(paths[name])
    paths["state"] = tmp_path / "state.json"
    paths["state"].write_text(json.dumps([float(x) for x in from_units(start)]))
    return paths


SMALL = ("--samples", 4, "--iterations", 2, "--elites", 2)


def test_run_plans_in_the_scene(tmp_path):
    output = tmp_path / "out"
    code, found, _ = call("run", *SMALL, "--steps", 3, "--rtl-steps", 1, "-o", output)
    assert (code, found["match"], found["mismatches"], found["fault"]) == (0, True, 0, "NONE")
    assert found["cycles_measured"] == found["cycles_predicted"]
    assert (len(found["costs"]), len(found["distances"]), len(found["actions"])) == (2, 4, 3)
    assert found["action"] == found["actions"][0]
    assert found["distances"][-1] < found["distances"][0]
    assert 0.5 < found["utilisation"] < 1
    assert json.loads((output / RESULT).read_text()) == {"command": "run", **found}
    for name in ("picture.png", "plans.npz", "verilog/chip.v", "predictor_program.bin"):
        assert (output / name).stat().st_size > 0


def test_plans_that_were_never_made_are_not_equal(tmp_path, monkeypatch):
    def stopped(planner, goal, seen, **options):
        latent = np.zeros((16, 48), np.int8)
        return Loop(goal=latent, steps=(), packet=None)

    monkeypatch.setattr(run_module, "require_tools", lambda: None)
    monkeypatch.setattr(loop_module, "emit_verilog", lambda *_, **__: SimpleNamespace(files=[]))
    monkeypatch.setattr(loop_module, "build_files", lambda *_, **__: None)
    monkeypatch.setattr(ChipPlanner, "run", stopped)
    code, found, _ = call("run", *SMALL, "--steps", 1, "--rtl-steps", 1, "-o", tmp_path / "out")
    assert (code, found["match"], found["cycles_measured"]) == (1, False, 0)
    # One more: the goal's latent.
    assert found["mismatches"] == found["elements"] + 1


@pytest.mark.slow
def test_run_plans_for_given_pictures(tmp_path, pictures):
    given = [part for name, path in pictures.items() for part in (f"--{name}", path)]
    code, found, _ = call("run", *SMALL, *given, "-o", tmp_path / "out")
    assert (code, found["match"], found["steps"]) == (0, True, 1)
    assert found["cycles_measured"] == found["cycles_predicted"]
    assert "distances" not in found
    # The same pictures, pose and seed give the same action.
    scene = call("run", *SMALL, "--seed", 1, *given, "-o", tmp_path / "again")[1]
    assert scene["action"] == found["action"]


def test_run_without_a_goal_encodes(tmp_path, pictures):
    code, found, _ = call("run", "--image", pictures["image"], "-o", tmp_path / "out")
    assert (code, found["match"], found["elements"]) == (0, True, 768)
    assert "action" not in found
    assert found["latent_l1_vs_float"] < 0.06


def test_pictures_come_in_pairs(tmp_path, pictures):
    assert message("run", "--goal", pictures["goal"], "-o", tmp_path / "out") == (
        "--image and --goal go together: what is seen, and what is wanted"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--encode"], "--encode plans nothing"),
        (["--preset", "ecp5"], "ecp5 has no predictor"),
        (["--image", "here.png"], "without --goal, --image is only encoded"),
    ],
)
def test_poses_without_plans_are_refused(tmp_path, arguments, reason):
    found = message("run", *arguments, "--state", "pose.json", "-o", tmp_path / "out")
    assert found == f"--state is pose.json; it is of use to plans: {reason}"
    if "--image" not in arguments:
        found = message("run", *arguments, "--goal", "there.png", "-o", tmp_path / "out")
        assert found == f"--goal is there.png; it is of use to plans: {reason}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "state {path} cannot be read: No such file or directory"),
        ("[1, 2", "state {path} is not JSON: Expecting ',' delimiter: line 1 column 6 (char 5)"),
        ("[0, 0, 0, 0, 0, 0]", "state {path} is not a list of seven numbers"),
        ('[0, 0, 0, 0, 0, 0, "a"]', "state {path} is not a list of seven numbers"),
        ('{"x": 0}', "state {path} is not a list of seven numbers"),
        ("[0, 0, 0, 0, 0, 0, true]", "state {path} is not a list of seven numbers"),
        ("[2, 0, 0, 0, 0, 0, 0]", "state {path}: x is 2; it must be from -1.99213 to 1.99213"),
        ("[0, 0, 0, 0, 4, 0, 0]", "state {path}: angle 2 is 4; it must be from -3.98425 to"),
        ("[0, 0, 0, 0, 0, 0, 1.5]", "state {path}: gripper is 1.5; it must be from 0 to 1"),
        ("[0, NaN, 0, 0, 0, 0, 1]", "state {path}: y is nan; it must be from"),
    ],
)
def test_states_that_are_none_are_refused(tmp_path, text, sentence):
    path = tmp_path / "pose.json"
    if text is not None:
        path.write_text(text)
    found = message("run", "--state", path, "-o", tmp_path / "out")
    assert found.startswith(sentence.format(path=path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "jepa-r has 147,456 multipliers; run simulates at most 32,768: use wcet for its "
         "cycles, or a smaller chip"),
        (("--encode",), "jepa-r has 131,072 multipliers; run simulates at most 32,768: use wcet "
         "for its cycles, or a smaller chip"),
    ],
)  # fmt: skip
def test_a_chip_that_nobody_can_wait_for_is_refused(tmp_path, arguments, sentence):
    command = ("run", "--preset", "jepa-r", *arguments, "-o", tmp_path / "out")
    assert message(*command) == sentence
    assert not (tmp_path / "out").exists()
