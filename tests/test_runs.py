"""What a user sees of a run: the same seed gives the same run, evaluating changes nothing, one file
is enough, the folder holds what it promises."""

import contextlib
import csv
import json
import math
import os
import pty
import re
import shutil
import subprocess
import termios

import numpy as np
import pytest
import torch
from conftest import (
    OFF_POLICY,
    ONE_OF_EACH,
    ROOT,
    SCRIPTS,
    SMALL,
    TD3_ALONE,
    assert_same_run,
    checkpoint,
    command,
    environment,
    evaluations,
    leaves,
    load,
    run,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.mark.parametrize("script", [*SCRIPTS, "dqn", "double_dqn", "dqn_atari"])
def test_the_seed_is_that_of_the_networks_and_of_the_noise(script, monkeypatch):
    """Whatever PyTorch draws after set_up, it draws from a generator with this seed."""
    module = load(script)
    monkeypatch.setattr(module, "check_task", lambda args: None)  # dqn_atari's needs ale-py
    for seed in (1, 2):
        module.set_up(module.Args(seed=seed))
        expected = torch.rand(5, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(torch.rand(5), expected)


@ONE_OF_EACH
def test_a_summary_by_hand(script):
    module = load(script)
    rows = [(0, 1.0, 1, 1.0), (1, 2.0, 2, 0.0), (2, 9.0, 9, None)]
    episodes = [module.Episode(i, 10, total, length, success) for i, total, length, success in rows]
    assert module.summary(episodes) == {
        "return_mean": 4.0,
        "return_std": pytest.approx(math.sqrt((9 + 4 + 25) / 3)),
        "episode_length_mean": 4.0,
        "success_rate": 0.5,  # of those that reported it
    }


def test_the_same_seed_gives_the_same_run_to_the_bit(script, call, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", 2]
    call(script, *options, "--run-dir", "first")
    call(script, *options, "--run-dir", "second")
    call(script, *options, "--seed", 2, "--run-dir", "other")
    assert_same_run(tmp_path / "first", tmp_path / "second")
    first = (tmp_path / "first" / "episodes.csv").read_text()
    assert first != (tmp_path / "other" / "episodes.csv").read_text()


@ONE_OF_EACH
def test_sync_async_and_native_give_the_same_run_to_the_bit(script, call, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", 2]
    for how in ("sync", "async", "native"):
        said = call(script, *options, "--vectorization", how, "--run-dir", how).out
        assert f"environments: 2, {how}\n" in said
    # tasks that draw from `random` and np.random do so in their own process
    but = ("seconds", "/generators/numpy", "/generators/python")
    assert_same_run(tmp_path / "sync", tmp_path / "async", but)
    assert_same_run(tmp_path / "sync", tmp_path / "native", but)


@pytest.mark.parametrize(
    "script, task",
    [
        *((script, "InvertedPendulum-v5") for script in SCRIPTS),
        ("td3", "people_tasks:GlobalNoise-v0"),
    ],
)
def test_evaluating_more_often_does_not_change_training_by_a_bit(script, task, call, tmp_path):
    """Nor if the task draws from generators that training's environments use too."""
    options = [*SMALL[script], "--env-id", task]
    call(script, *options, "--run-dir", "often")
    options += ["--eval-frequency", 0, "--eval-episodes", 3, "--checkpoint-frequency", 0]
    call(script, *options, "--run-dir", "once")
    often = tmp_path / "often"
    once = tmp_path / "once"
    assert (often / "episodes.csv").read_bytes() == (once / "episodes.csv").read_bytes()
    assert len(evaluations(often)) > 2 == len(evaluations(once))
    weights = leaves(checkpoint(once)["agent"])
    for name, value in leaves(checkpoint(often)["agent"]).items():
        assert (value == weights[name]).all(), name


@ONE_OF_EACH
def test_evaluate_repeats_the_last_evaluation_of_training(script, call, tmp_path):
    call(script, *SMALL[script], "--env-id", "Hopper-v5", "--run-dir", "run")
    last = evaluations(tmp_path / "run")[-1]
    expected = f"return {float(last['return_mean']):.2f} ± {float(last['return_std']):.2f}"
    said = call(script, "--evaluate", "run").out
    assert expected in said and f"step {last['global_step']}" in said
    other = call(script, "--evaluate", "run", "--seed", 5).out
    assert expected not in other


@ONE_OF_EACH
def test_evaluating_with_other_sizes_of_observations_is_refused(script, call):
    call(script, *SMALL[script], "--env-id", "Hopper-v5", "--run-dir", "run")
    kwargs = '{"exclude_current_positions_from_observation": false}'  # a twelfth number
    said = call(script, "--evaluate", "run", "--env-kwargs", kwargs, status=2).err
    assert f"--env-kwargs {kwargs}: " in said and "size mismatch" in said
    assert "11]" in said and "12]" in said  # the shapes of first layers, or of statistics


@ONE_OF_EACH
def test_evaluation_plays_other_episodes_than_training(script):
    module = load(script)
    args = module.Args(env_id="InvertedPendulum-v5")
    seeds = []
    for purpose in ("training", "evaluation"):
        with module.Environments(args, 3, torch.device("cpu"), purpose) as envs:
            envs.begin_all()
            seeds += envs.episode_seed.tolist()
    assert len(set(seeds)) == 6


@ONE_OF_EACH
def test_what_steps_of_several_environments_pass_by_is_due(script):
    """Seven at a time: 100 lies between 98 and 105."""
    module = load(script)
    run = module.Run(module.Args())
    due = []
    for step in range(7, 211, 7):
        run.previous_step = step - 7
        run.step = step
        if run.due(100):
            due.append(step)
        assert not run.due(0)
    assert due == [105, 203]


@ONE_OF_EACH
def test_an_evaluation_has_one_episode_of_each_environment(script):
    """Short episodes do not count more often; each has 3 + identity modulo 5 steps."""
    module = load(script)
    args = module.Args(env_id="audit_task:Audit-v0", eval_episodes=6)
    with module.Environments(args, 6, torch.device("cpu"), "evaluation") as envs:
        envs.begin_all()
        lengths = (3 + envs.obs[:, 0] % 5).tolist()
        agent = module.Agent(envs.obs_size, envs.action_size, args)
    episodes = module.evaluate(agent, args, video_folder=None)
    assert sorted(episode.env for episode in episodes) == list(range(6))
    assert {episode.env: episode.length for episode in episodes} == dict(enumerate(lengths))


@ONE_OF_EACH
def test_best_is_the_policy_of_the_best_evaluation(script, call, tmp_path):
    call(script, *SMALL[script], "--env-id", "InvertedPendulum-v5", "--run-dir", "run")
    rows = evaluations(tmp_path / "run")
    best = max(rows, key=lambda row: float(row["return_mean"]))
    said = call(script, "--evaluate", "run", "--best").out
    assert f"policy of step {best['global_step']}," in said
    assert f"return {float(best['return_mean']):.2f} ±" in said
    module = load(script)
    agent, _ = module.load_agent(tmp_path / "run", best=True)
    obs = np.array([0.1, -0.2, 0.3, 0.4])
    action = agent.act(torch.tensor(obs, dtype=torch.float32)[None], explore=False)
    policy = module.load_policy(tmp_path / "run", best=True)
    its_action = 3 * action[0].clamp(-1, 1).numpy()  # its bounds are ±3
    np.testing.assert_allclose(policy(obs), its_action, rtol=1e-5)


@ONE_OF_EACH
def test_one_file_alone_trains_extends_evaluates(script, tmp_path):
    shutil.copy(ROOT / f"{script}.py", tmp_path)
    here = tmp_path / f"{script}.py"
    task = ["--env-id", "HalfCheetah-v5", "--max-episode-steps", 50]
    said = run(here, *SMALL[script], *task, cwd=tmp_path).stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"resume with: python {script}.py --resume runs/{folder.name}" in said
    assert folder.name.startswith(f"HalfCheetah-v5__{script}__1__")
    files = {"config.json", "evaluations.csv", "episodes.csv", "checkpoint.pt", "best.pt"}
    files.add(f"{script}.py")
    found = {path.name for path in folder.iterdir() if "tfevents" not in path.name}
    replay = {name for name in found if name.startswith("replay.")}
    assert found - replay == files
    assert bool(replay) == (script in OFF_POLICY)
    header = "global_step,wall_seconds,return_mean,return_std,episode_length_mean\n0,"
    assert (folder / "evaluations.csv").read_text().startswith(header)
    header = "global_step,episode_return,episode_length\n"
    assert (folder / "episodes.csv").read_text().startswith(header)
    config = json.loads((folder / "config.json").read_text())
    assert config["options"]["env_id"] == "HalfCheetah-v5"
    assert config["options"]["device"] == "auto" and config["device"] == "cpu"
    steps = int(evaluations(folder)[-1]["global_step"])
    run(here, "--resume", folder, "--total-timesteps", 2 * steps, cwd=tmp_path)
    assert int(evaluations(folder)[-1]["global_step"]) == 2 * steps
    assert f"policy of step {2 * steps}" in run(here, "--evaluate", folder, cwd=tmp_path).stdout
    # no file with MuJoCo's warnings, such as that Gymnasium's model of the cheetah is deprecated
    assert {path.name for path in tmp_path.iterdir()} == {f"{script}.py", "runs"}


@pytest.mark.parametrize("num_envs", [1, 3])
def test_total_timesteps_counts_the_steps_of_all_environments(script, num_envs, call, tmp_path):
    options = [*SMALL[script], "--num-envs", num_envs, "--total-timesteps", 1000]
    if script == "ppo_continuous":
        options += ["--num-minibatches", 1]
    call(script, *options, "--env-id", "Pendulum-v1", "--run-dir", "run")
    state = checkpoint(tmp_path / "run")
    assert state["step"] == 1000 - 1000 % num_envs
    if script in OFF_POLICY:
        assert state["memory"]["total"] == state["step"]


@TD3_ALONE
def test_threads_and_precision_are_as_asked_for(script, call):
    short = [*SMALL[script], "--env-id", "people_tasks:Plain-v0", "--learning-starts", 1100]
    try:
        call(script, *short, "--num-threads", 2, "--matmul-precision", "medium")
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "medium"
        call(script, *short)
        assert torch.get_num_threads() == 1
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")


@ONE_OF_EACH
def test_the_threads_asked_for_are_those_of_native_physics(script):
    module = load(script)
    envs, _ = module.make_vector_env(module.Args(env_id="Hopper-v5", num_threads=1), 2)
    assert envs.batch.nthread == 1
    envs.close()


@ONE_OF_EACH
def test_a_gpu_is_used_if_there_is_one(script, monkeypatch):
    module = load(script)
    for is_there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        assert module.choose_device("auto").type == kind
    assert module.choose_device("cpu").type == "cpu"


@ONE_OF_EACH
def test_a_video_changes_no_number_and_is_named(script, call, tmp_path):
    call(script, *SMALL[script], "--env-id", "audit_task:Audit-v0", "--run-dir", "run")
    plain = call(script, "--evaluate", "run").out
    filmed = call(script, "--evaluate", "run", "--capture-video").out
    assert plain.splitlines()[-1] == filmed.splitlines()[-1]
    (video,) = (tmp_path / "run" / "videos").rglob("*.mp4")
    assert b"ftyp" in video.read_bytes()[:16]
    assert f"video: {video.parent.relative_to(tmp_path)}" in filmed


@ONE_OF_EACH
def test_track_begins_a_run_of_wandb(script, call, monkeypatch, tmp_path):
    """With a stand-in for the package that writes down what it is called with."""
    stand_in = "import json\n\n"
    stand_in += "def init(**options):\n    json.dump(options, open('said', 'w'), default=str)\n\n"
    stand_in += "def finish():\n    open('finished', 'w')\n"
    (tmp_path / "wandb.py").write_text(stand_in)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--env-id", "Pendulum-v1", "--run-dir", "run", "--track"]
    call(script, *SMALL[script], *options, "--wandb-project-name", "mine")
    said = json.loads((tmp_path / "said").read_text())
    assert said["project"] == "mine" and said["name"] == "run" and said["sync_tensorboard"] is True
    assert said["resume"] == "allow"
    assert said["config"]["env_id"] == "Pendulum-v1"
    assert (tmp_path / "finished").exists()
    # a run of the same name elsewhere is another run, this one resumed is the same
    call(script, "--resume", "run", "--total-timesteps", 4000)
    assert json.loads((tmp_path / "said").read_text())["id"] == said["id"]
    call(script, *SMALL[script], *options[:2], "--track", "--run-dir", "other/run")
    assert json.loads((tmp_path / "said").read_text())["id"] != said["id"]


KNOWN_CHARTS = {  # names that people know from CleanRL
    "a2c": {"policy_loss", "value_loss", "entropy", "explained_variance"},
    "ppo_continuous": {
        *("policy_loss", "value_loss", "entropy", "approx_kl", "clipfrac", "explained_variance"),
    },
    "reinforce": {"policy_loss", "baseline"},
    "ddpg": {"actor_loss", "qf1_loss", "qf1_values"},
    "td3": {"actor_loss", "qf_loss", "qf1_loss", "qf2_loss", "qf1_values", "qf2_values"},
}


def test_tensorboard_has_the_charts_and_each_point_once(script, call, tmp_path):
    options = [*SMALL[script], "--env-id", "Pendulum-v1", "--run-dir", "run"]
    call(script, *options)
    steps = int(SMALL[script][1])
    call(script, "--resume", "run", "--total-timesteps", 2 * steps)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    charts = set(events.Tags()["scalars"])
    expected = {f"losses/{name}" for name in KNOWN_CHARTS[script]}
    expected |= {f"charts/{name}" for name in ("SPS", "learning_rate", "episodic_return")}
    expected |= {"eval/return_mean", "eval/return_std", "eval/episode_length_mean"}
    assert expected <= charts
    assert "hyperparameters/text_summary" in events.Tags()["tensors"]
    for chart in charts - {"charts/episodic_return", "charts/episodic_length"}:
        points = [event.step for event in events.Scalars(chart)]
        assert len(points) == len(set(points)), chart
    table = evaluations(tmp_path / "run")
    for name in ("return_mean", "return_std", "episode_length_mean"):
        assert_shows(events, f"eval/{name}", table, name)
    with open(tmp_path / "run" / "episodes.csv") as file:
        table = list(csv.DictReader(file))
    assert_shows(events, "charts/episodic_return", table, "episode_return")
    assert_shows(events, "charts/episodic_length", table, "episode_length")


def assert_shows(events, chart, table, column):
    """The chart has the steps and values of the table's column."""
    points = [(event.step, event.value) for event in events.Scalars(chart)]
    expected = [(int(row["global_step"]), float(row[column])) for row in table]
    np.testing.assert_allclose(points, expected, rtol=1e-6)


def test_without_a_terminal_progress_comes_as_lines(script, call):
    said = call(script, *SMALL[script], "--env-id", "Pendulum-v1", "--run-dir", "run").out
    steps = int(SMALL[script][1])
    assert f"evaluation at step {steps}: return -" in said
    assert f"step {steps}, 100%," in said and "left\n" in said


@ONE_OF_EACH
def test_on_a_terminal_a_bar_shows_progress_and_evaluations_stay_above_it(script, tmp_path):
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    command_line = command(script, *SMALL[script], "--env-id", "Pendulum-v1", "--run-dir", "run")
    process = subprocess.Popen(
        command_line, stdout=terminal, stderr=terminal, cwd=tmp_path, env=environment()
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # where Linux ends a terminal
        while chunk := os.read(controller, 4096):
            shown += chunk
    assert process.wait() == 0
    lines = re.split("[\r\n]+", shown.decode())
    steps = int(SMALL[script][1])
    assert any(line.startswith("100%|") and f"{steps}/{steps} [" in line for line in lines)
    assert any(line.startswith(f"evaluation at step {steps}: return -") for line in lines)
    assert not any(line.startswith(f"step {steps}") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "script, steps, at_least",
    [
        ("reinforce", 300_000, 500),
        ("a2c", 150_000, 900),
        ("ppo_continuous", 100_000, 950),
        ("ddpg", 20_000, 500),
        ("td3", 20_000, 500),
    ],
)
def test_each_script_learns_to_balance_a_pendulum(script, steps, at_least, seed, tmp_path):
    task = ["--env-id", "InvertedPendulum-v5", "--seed", seed, "--total-timesteps", steps]
    run(script, *task, "--eval-frequency", 0, "--run-dir", "run", cwd=tmp_path)
    assert float(evaluations(tmp_path / "run")[-1]["return_mean"]) >= at_least
    assert load(script).load_policy(tmp_path / "run") is not None
