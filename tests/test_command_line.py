"""Bad input gets a line that names the option, the value and what would be right; status 2; no
traceback; nothing is created. And what --help shows."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ON_POLICY, ONE_OF_EACH, ROOT, SCRIPTS, SMALL, TD3_ALONE, load, run

TASK = ["--env-id", "people_tasks:Plain-v0"]
BAD_LINES = [  # options; what the message must name
    (["--num-envs", "0"], ["--num-envs 0", "at least 1"]),
    (["--total-timesteps", "0"], ["--total-timesteps 0", "at least 1"]),
    (["--eval-episodes", "0"], ["--eval-episodes 0", "at least 1"]),
    (["--eval-max-steps", "0"], ["--eval-max-steps 0", "at least 1"]),
    (["--num-threads", "0"], ["--num-threads 0", "at least 1"]),
    (["--seed", "-1"], ["--seed -1", "at least 0"]),
    (["--seed", str(2**32)], [f"--seed {2**32}", "less than 2**32"]),
    (["--eval-frequency", "-1"], ["--eval-frequency -1", "at least 0"]),
    (["--max-episode-steps", "0"], ["--max-episode-steps 0", "at least 1"]),
    (["--gamma", "1.5"], ["--gamma 1.5", "from 0 to 1"]),
    (["--gamma", "nan"], ["--gamma nan", "from 0 to 1"]),
    (["--learning-rate", "-1"], ["--learning-rate -1", "at least 0"]),
    (["--learning-rate", "nan"], ["--learning-rate nan", "at least 0"]),
    (["--hidden-sizes", "64", "0"], ["--hidden-sizes (64, 0)", "at least 1"]),
    (["--env-id", "Nope-v3"], ["--env-id Nope-v3", "doesn't exist"]),
    (["--env-id", "HalfCheetah-v3"], ["--env-id HalfCheetah-v3", "gymnasium-robotics"]),
    (["--env-id", "nope:Nope-v3"], ["--env-id nope:Nope-v3", "no module nope"]),
    (["--env-id", "people_tasks.py:Plain-v0"], ["no module people_tasks.py"]),
    (["--env-id", "gymnasium.nope:Plain-v0"], ["no module gymnasium.nope"]),
    (["--env-id", "CartPole-v1"], ["--env-id CartPole-v1", "continuous actions", "Discrete(2)"]),
    (["--env-id", "CartPole-v1"], ["the scripts in discrete/ are for discrete actions"]),
    (["--env-id", "people_tasks:Clipped-v0"], ["need bounds", "leave the wrapper out"]),
    (["--env-id", "people_tasks:VeryWide-v0"], ["need bounds in every dimension"]),
    (["--env-kwargs", "3"], ["--env-kwargs 3", "JSON object"]),
    (["--env-kwargs", '{"max_episode_steps": 3}'], ["--max-episode-steps", "--capture-video"]),
    (["--env-kwargs", '{"no_such": 3}'], ["--env-kwargs", "no_such"]),
    (["--device", "cuda:77"], ["--device cuda:77"]),
    (["--device", "gpu"], ["--device gpu"]),
    (["--vectorization", "native"], ["--vectorization native", "MuJoCo v5 tasks"]),
    (["--resume", "nowhere"], ["nowhere is not the folder of a run"]),
    (["--evaluate", "nowhere"], ["nowhere is not the folder of a run"]),
    (["--init-from", "nowhere"], ["--init-from nowhere", "no checkpoint.pt"]),
    (["--best"], ["--best: needs --evaluate"]),
    (["--capture-video"], ["--capture-video", "cannot give frames", "rgb_array"]),
    (
        ["--env-id", "people_tasks:NoScreen-v0", "--capture-video"],
        ["--capture-video", "this machine cannot render (no display)", "libegl1"],
    ),
    (
        ["--env-id", "people_tasks:NoFrame-v0", "--capture-video"],
        ["--capture-video: people_tasks:NoFrame-v0's render() returns no frame"],
    ),
    (["--run-dir", "."], ["--run-dir .", "exists"]),
]


@pytest.mark.parametrize("options, named", BAD_LINES, ids=lambda x: " ".join(x))
@ONE_OF_EACH
def test_a_bad_line_is_refused_by_name(script, options, named, call, tmp_path):
    said = call(script, *SMALL[script], *TASK, *options, status=2).err
    for part in named:
        assert part in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


BAD_OF_ONE = [
    ("td3", ["--learning-starts", "2000"], ["--learning-starts 2000", "nothing is learned"]),
    # steps 0, 4, 8 are before the 10th, at 12 no step of all four is left
    (
        "ddpg",
        ["--learning-starts", "10", "--num-envs", "4", "--total-timesteps", "14"],
        ["--learning-starts 10", "nothing is learned"],
    ),
    ("td3", ["--tau", "2"], ["--tau 2", "from 0 to 1"]),
    ("ppo_continuous", ["--clip-coef", "-0.1"], ["--clip-coef -0.1", "at least 0"]),
    ("ddpg", ["--num-envs", "501"], ["--num-envs 501", "--buffer-size 500"]),
    ("td3", ["--policy-frequency", "0"], ["--policy-frequency 0", "at least 1"]),
    ("ddpg", ["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
    ("a2c", ["--num-steps", "2000"], ["--total-timesteps 3000", "at least one rollout, 4000"]),
    (
        "ppo_continuous",
        ["--num-steps", "2000"],
        ["--total-timesteps 3000", "at least one rollout, 4000"],
    ),
    ("ppo_continuous", ["--num-minibatches", "7"], ["--num-minibatches 7", "must divide"]),
    ("reinforce", ["--num-envs", "5000"], ["--num-envs 5000", "--total-timesteps"]),
]


@pytest.mark.parametrize("script, options, named", BAD_OF_ONE)
def test_what_an_algorithm_cannot_do_is_refused_by_name(script, options, named, call, tmp_path):
    said = call(script, *SMALL[script], *TASK, *options, status=2).err
    for part in named:
        assert part in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--sed", "3"], ["--seed", "x"], ["--env-kwargs", '{"a": 1']])
def test_what_tyro_refuses_has_its_own_message(script, options, call, tmp_path):
    said = call(script, *options, status=2).err
    assert options[0] in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


@ONE_OF_EACH
def test_a_refused_line_is_one_line_of_a_process(script, tmp_path):
    said = run(script, "--env-id", "CartPole-v1", cwd=tmp_path, status=2)
    assert len(said.stderr.splitlines()) == 1 and said.stderr.startswith(f"{script}.py: ")
    assert said.stdout == ""


@ONE_OF_EACH
def test_what_a_resume_may_not_change_names_the_way_out(script, call):
    call(script, *SMALL[script], *TASK, "--run-dir", "run")
    for option, value in [("--gamma", 0.5), ("--seed", 3), ("--num-envs", 7)]:
        said = call(script, "--resume", "run", option, value, status=2).err
        assert f"{option} {value}: this run has" in said and "--init-from run" in said
    said = call(script, "--resume", "run", "--total-timesteps", 300, status=2).err
    assert "--total-timesteps 300" in said and "already" in said
    call(script, "--resume", "run", "--eval-frequency", 150)


MAY_DIFFER = {  # of a run that is resumed, of one that is evaluated
    "resume": {
        *("vectorization", "device", "num_threads", "eval_episodes", "eval_max_steps"),
        *("capture_video", "total_timesteps", "eval_frequency", "checkpoint_frequency"),
        *("track", "wandb_project_name"),
    },
    "evaluate": {
        *("vectorization", "device", "num_threads", "eval_episodes", "eval_max_steps"),
        *("capture_video", "env_kwargs", "max_episode_steps", "seed"),
    },
}


@pytest.mark.parametrize("how", MAY_DIFFER)
@pytest.mark.parametrize("name", [*SCRIPTS, "dqn", "double_dqn", "dqn_atari", "q_learning"])
def test_all_other_options_of_a_run_that_is_there_stay(name, how, tmp_path):
    module = load(name)
    module.write_config(module.Args(), tmp_path)
    may_differ = set()
    for option in module.saved_options(module.Args()):
        args = module.Args(**{option: "another", how: tmp_path})
        try:
            module.check_unchanged(args)
            may_differ.add(option)
        except module.UsageError as error:
            assert f"--{option.replace('_', '-')} another: this run has" in str(error)
    assert may_differ == MAY_DIFFER[how]


@TD3_ALONE
def test_what_does_not_go_with_a_run_that_is_there_is_refused_by_name(
    script, call, monkeypatch, tmp_path
):
    call(script, *SMALL[script], *TASK, "--run-dir", "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for options, named in [
        (["--resume", "run", "--evaluate", "run"], "--resume and --evaluate: choose one"),
        (["--resume", "run", "--run-dir", "other"], "--run-dir other: this run stays in run"),
        (["--evaluate", "run", "--gamma", "0.5"], "--gamma 0.5: this run has 0.99"),
        (["--evaluate", "run", "--total-timesteps", "7"], "--total-timesteps 7: this run has"),
    ]:
        assert named in call(script, *options, status=2).err
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

    (tmp_path / "run" / "best.pt").unlink()
    assert "run has no best.pt yet" in call(script, "--evaluate", "run", "--best", status=2).err
    config = tmp_path / "run" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"gamma"', '"gama"'))
    assert "made by another version of td3.py" in call(script, "--resume", "run", status=2).err
    config.write_text(text[:-5])
    assert "run/config.json is damaged" in call(script, "--resume", "run", status=2).err
    monkeypatch.setenv("CXX", "no_such_compiler")
    said = call(script, *SMALL[script], *TASK, "--compile", status=2).err
    assert "--compile: needs a C++ compiler; no_such_compiler is not installed" in said


@ONE_OF_EACH
def test_a_folder_of_another_script_is_refused(script, call):
    other = "reinforce" if script == "a2c" else "ddpg"
    call(script, *SMALL[script], *TASK, "--run-dir", "run")
    assert f"run of {script}.py, not of {other}.py" in call(other, "--resume", "run", status=2).err


def test_help_shows_the_docstring_and_each_option_with_its_meaning(script, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    said = call(script, "--help").out
    lines = [line.strip() for line in said.splitlines()]
    for line in load(script).__doc__.strip().splitlines():
        assert line.strip() in lines
    assert "this algorithm's from --num-envs on" in said
    module = load(script)
    for name in module.Args.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in said
    source = (ROOT / f"{script}.py").read_text()
    for comment in re.findall(r"^    \w+: .* = .*  # (.*)$", source, re.M):
        assert "".join(comment.split()) in "".join(re.sub("[│]", "", said).split())


@TD3_ALONE
def test_help_that_is_read_in_part_is_no_error(script):
    command = [sys.executable, ROOT / f"{script}.py", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == b""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@TD3_ALONE
def test_output_that_is_not_utf8_is_no_error(script, encoding, tmp_path):
    options = {"cwd": tmp_path, "PYTHONIOENCODING": encoding}
    run(script, "--help", **options)
    run(script, "--env-id", "Bäd-v0", status=2, **options)
    steps = ["--total-timesteps", 800, "--eval-frequency", 0]
    small = [*SMALL[script], *steps, *TASK, "--run-dir", "läuft"]
    assert "evaluation" in run(script, *small, **options).stdout


@TD3_ALONE
def test_printed_commands_can_be_pasted(script, tmp_path):
    folder = tmp_path / "meine Läufe & mehr"
    folder.mkdir()
    shutil.copy(ROOT / f"{script}.py", folder)
    options = [*SMALL[script], *TASK, "--run-dir", "lauf 'eins'"]
    said = run(folder / f"{script}.py", *options, cwd=folder).stdout
    (resume,) = re.findall("resume with: python (.*)", said)
    (watch,) = re.findall("watch: python (.*)", said)
    for line in (resume, watch):
        path = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
        shell = f"{shlex.quote(sys.executable)} {line}"
        done = subprocess.run(shell, shell=True, cwd=folder, env=path, capture_output=True)
        assert done.returncode == 0, done.stderr


@ONE_OF_EACH
def test_hints_say_uv_run_where_uv_runs_the_script(script, call, monkeypatch):
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    said = call(script, *SMALL[script], *TASK, "--run-dir", "run").out
    assert "resume with: uv run " in said and "watch: uv run " in said


@ONE_OF_EACH
def test_track_without_wandb_is_refused_also_beside_a_folder_of_that_name(script, call, tmp_path):
    (tmp_path / "wandb").mkdir()
    said = call(script, *SMALL[script], *TASK, "--track", status=2).err
    assert "--track: needs wandb; install it with: pip install wandb" in said


@TD3_ALONE
def test_runs_that_start_in_the_same_second_have_folders_of_their_own(script, tmp_path):
    options = [*SMALL[script], *TASK, "--total-timesteps", 600, "--eval-frequency", 0]
    path = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    line = [sys.executable, str(ROOT / f"{script}.py"), *map(str, options)]
    runs = []
    for rate in ("0.1", "0.01", "0.001", "0.0001"):
        process = subprocess.Popen(
            [*line, "--learning-rate", rate], cwd=tmp_path, env=path, stdout=subprocess.DEVNULL
        )
        runs.append(process)
    assert [process.wait() for process in runs] == [0, 0, 0, 0]
    assert len(list((tmp_path / "runs").glob("*/best.pt"))) == 4


@pytest.mark.parametrize("script", ON_POLICY)
def test_no_hidden_layers_is_a_linear_policy(script, call, tmp_path):
    small = [option for option in SMALL[script] if option not in ("--hidden-sizes", "16")]
    call(script, *small, *TASK, "--run-dir", "run", "--hidden-sizes")
    agent, _ = load(script).load_agent(tmp_path / "run")
    points = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]])
    at_0, at_1, between = agent.actor(points)
    torch.testing.assert_close(between, (at_0 + at_1) / 2)
    assert not at_0.allclose(at_1)
