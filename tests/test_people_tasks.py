"""Tasks and habits that people have: what Gymnasium calls a valid continuous task trains, and what
goes wrong says what and where."""

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
import threading

import gymnasium as gym
import numpy as np
import people_tasks
import pytest
import torch
from conftest import (
    ONE_OF_EACH,
    SCRIPTS,
    SMALL,
    TD3_ALONE,
    assert_same_run,
    checkpoint,
    command,
    environment,
    evaluations,
    load,
    run,
)
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SYNC = ["--vectorization", "sync"]
ASYNC = ["--vectorization", "async"]
BRIEF = {  # a run of a second
    name: [*SMALL[name], "--total-timesteps", "600", "--eval-frequency", "300", *SYNC]
    for name in SCRIPTS
}


def brief_args(script, **options):
    """Options of such a run, for training from Python."""
    small = {
        "env_id": "people_tasks:Plain-v0",
        "total_timesteps": 600,
        "eval_frequency": 0,
        "eval_episodes": 2,
        "hidden_sizes": (8,),
    }
    own = {
        "a2c": {"num_envs": 2, "num_steps": 16},
        "ppo_continuous": {"num_envs": 2, "num_steps": 16, "num_minibatches": 2},
        "reinforce": {"num_envs": 2},
        "ddpg": {"learning_starts": 100, "batch_size": 8},
        "td3": {"learning_starts": 100, "batch_size": 8},
    }
    return load(script).Args(**(small | own[script] | options))


@pytest.mark.parametrize(
    "task",
    [
        *("Plain", "Goal", "Flattened", "FlattenedBySpec", "RaggedInfo", "Success", "Rescaled"),
        "GlobalNoise",
    ],
)
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
@ONE_OF_EACH
def test_tasks_of_people_train_and_are_evaluated(script, task, how, call, tmp_path):
    options = [*BRIEF[script], "--env-id", f"people_tasks:{task}-v0", *how, "--num-envs", 2]
    call(script, *options, "--run-dir", "run")
    assert "policy of step 600" in call(script, "--evaluate", "run").out
    assert len(evaluations(tmp_path / "run")) == 3


@TD3_ALONE
def test_numbers_of_any_kind_work_alike_in_sync_and_async(script, call, tmp_path):
    expected = {}
    rewards = ("float64", "float32", "int", "int64", "bool", "array", "scalar array")
    for reward in rewards:
        kind = "int" if reward == "int64" else reward
        ends = ["bool", "array", "int", "numpy"] if reward == "float64" else ["bool", "array"]
        for end in ends:
            how = ASYNC if end in ("array", "int") else SYNC
            name = f"{reward} {end}"
            kinds = json.dumps({"reward": reward, "end": end})
            options = [*BRIEF[script], "--env-id", "people_tasks:Kinds-v0", "--env-kwargs", kinds]
            call(script, *options, *how, "--run-dir", name, "--total-timesteps", 300)
            episodes = (tmp_path / name / "episodes.csv").read_text()
            assert expected.setdefault(kind, episodes) == episodes, name
    lines = {kind: text.splitlines()[1] for kind, text in expected.items()}
    assert lines["float64"] == lines["array"] == lines["scalar array"]
    assert len({lines[kind] for kind in ("float64", "int", "bool")}) == 3


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
@TD3_ALONE
def test_observations_of_any_number_type_train(script, dtype, call):
    kinds = ["--env-id", "people_tasks:Kinds-v0", "--env-kwargs", json.dumps({"dtype": dtype})]
    call(script, *BRIEF[script], *kinds)


WRONG = {  # what a task returns; what must be said of it
    "reward None": ["reward must be a number", "None"],
    "reward of shape (2,)": ["reward must be a number", "array([0., 0.])"],
    "terminated None": ["terminated must be a number", "None"],
    "observation of shape (3,)": ["observation must match its observation_space", "(3,)"],
    "four values": ["step() must return", "terminated, truncated, info"],
    "reset without info": ["reset() must return (observation, info)"],
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("task", ["Wrong-v0", "WrongBare-v0"])
@TD3_ALONE
def test_what_a_task_returns_wrong_is_named(script, task, what, how, call):
    options = ["--env-id", f"people_tasks:{task}", "--env-kwargs", json.dumps({"what": what})]
    with pytest.raises((TypeError, RuntimeError)) as caught:
        call(script, *BRIEF[script], *options, *how)
    for part in WRONG[what]:
        assert part in str(caught.value)


@TD3_ALONE
def test_unpacking_that_fails_in_the_users_own_code_is_not_taken_for_a_wrong_return(
    script, monkeypatch
):
    def step(action):
        for x, y, z, roll, pitch in [(1, 2, 3)]:
            return x + y + z + roll + pitch

    task = load(script).Task(gym.make("Pendulum-v1").unwrapped)
    monkeypatch.setattr(task.env, "step", step)
    with pytest.raises(ValueError, match="expected 5, got 3"):
        task.step(np.zeros(1))


TWO = Box(-1, 1, (2,))
UNFIT = [  # a space; what is not in it, although gym.spaces.flatten may take it for something else
    (Discrete(3), 3),
    (Discrete(3), -1),
    (Discrete(3, start=5), 4),
    (MultiDiscrete([3, 3]), [3, 0]),
    (MultiBinary(4), np.ones(3, np.int8)),
    (TWO, np.zeros((2, 1))),
    (TWO, [[0.0], [0.0, 1.0]]),
    (TWO, None),
    (Dict(a=TWO, b=TWO), {"a": np.zeros(3), "b": np.zeros(1)}),
    (Dict(a=TWO, b=TWO), {"a": np.zeros(2)}),
    (Dict(a=TWO, b=TWO), np.zeros(4)),
    (Dict(a=Box(-1, 1, (2, 3))), {"a": np.zeros((3, 2))}),
    (Tuple([TWO, TWO]), (np.zeros(2), np.zeros(3))),
    (Tuple([TWO, TWO]), (np.zeros(2),)),
    (Tuple([TWO, Dict(a=Discrete(2))]), (np.zeros(2), {"a": 2})),
]


def task_with(module, space):
    env = people_tasks.Point()
    env.observation_space = space
    return module.Task(env)


@pytest.mark.parametrize("space, obs", UNFIT, ids=str)
@TD3_ALONE
def test_an_observation_outside_of_its_space_is_named(script, space, obs):
    task = task_with(load(script), space)
    message = f"must match its observation_space {space}, not {obs!r}"
    with pytest.raises(TypeError, match=re.escape(message)):
        task.flat(obs)


@ONE_OF_EACH
def test_observations_beyond_the_bounds_of_a_box_are_taken_as_they_are(script):
    """As people's tasks and MuJoCo's have them now and then."""
    task = task_with(load(script), Dict(a=TWO, b=Tuple([Discrete(3, start=5), TWO])))
    flat = task.flat({"a": [7, -8.5], "b": (np.int64(6), np.array([9, 0]))})
    assert flat.tolist() == [7, -8.5, 0, 1, 0, 9, 0]
    assert flat.dtype == np.float32


NOT_FINITE = [
    ("nan observation", "task's observation is not finite at step"),
    ("nan first observation", "task's first observation is not finite at step"),
    ("infinite reward", "task's reward is not finite at step"),
]


@pytest.mark.parametrize("what, named", NOT_FINITE)
@ONE_OF_EACH
def test_numbers_that_are_not_finite_end_the_run_with_a_line(script, what, named, call):
    options = ["--env-id", "people_tasks:Wrong-v0", "--env-kwargs", json.dumps({"what": what})]
    said = call(script, *BRIEF[script], *options, status=1).err
    assert named in said
    assert "Traceback" not in said


@ONE_OF_EACH
def test_actions_that_are_not_finite_end_the_run_with_a_line(script, call, monkeypatch):
    module = load(script)
    advance = module.Run.advance

    def spoil(run):
        advance(run)
        if run.step >= 310:
            next(run.agent.actor.parameters()).data[:] = torch.nan

    monkeypatch.setattr(module.Run, "advance", spoil)
    said = call(script, *BRIEF[script], "--env-id", "people_tasks:Plain-v0", status=1).err
    assert "the action, and so probably the network, is not finite at step 310 of training" in said
    assert "Traceback" not in said


def test_weights_that_are_not_finite_are_not_saved(script, monkeypatch, tmp_path):
    """A checkpoint that holds them would end every run that is resumed from it."""
    monkeypatch.chdir(tmp_path)
    module = load(script)
    save = module.Run.save

    def spoil(run):
        if run.step > 0:
            next(run.agent.parameters()).data[0] = torch.nan
        save(run)

    monkeypatch.setattr(module.Run, "save", spoil)
    args = brief_args(script, run_dir=tmp_path / "run")
    with pytest.raises(module.TrainingError, match="is not finite at step [1-9][0-9]* of training"):
        module.train(args)
    assert checkpoint(tmp_path / "run")["step"] == 0


@pytest.mark.parametrize("where", ["reset", "step"])
@pytest.mark.parametrize("unpicklable", [False, True])
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
@TD3_ALONE
def test_an_error_of_the_task_keeps_its_traceback_and_says_when(
    script, where, unpicklable, how, tmp_path
):
    kinds = json.dumps({"where": where, "unpicklable": unpicklable})
    options = ["--env-id", "people_tasks:Broken-v0", "--env-kwargs", kinds, *how]
    said = run(script, *BRIEF[script], *options, cwd=tmp_path, status=1).stderr
    assert re.search(rf'people_tasks.py", line \d+, in {where}\n', said)
    assert ("no speed" if unpicklable else "KeyError: 'speed'") in said
    assert re.search(r"The task raised this at step 0 of (training|evaluation)\.", said)


@ONE_OF_EACH
def test_an_evaluation_ends_where_the_task_has_no_time_limit(script, call, tmp_path):
    options = ["--env-id", "people_tasks:Reach-v0", "--eval-max-steps", 70, "--run-dir", "run"]
    said = call(script, *BRIEF[script], *options)
    assert "has no time limit" in said.err and "--eval-max-steps 70" in said.err
    assert float(evaluations(tmp_path / "run")[0]["episode_length_mean"]) == 70
    silent = call(script, *BRIEF[script], "--env-id", "people_tasks:NoRenderModes-v0")
    assert "time limit" not in silent.err


@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("script", ["td3", "ddpg", "a2c"])
def test_a_simulator_of_which_one_instance_can_run(script, how, call, tmp_path):
    one = ["--num-envs", 1, "--eval-episodes", 1, "--env-id", "people_tasks:OneInstance-v0"]
    call(script, *BRIEF[script], *one, *how, "--run-dir", "run")
    call(script, "--evaluate", "run")
    call(script, "--resume", "run", "--total-timesteps", 700)
    # the evaluations in between leave no trace in training
    call(script, *BRIEF[script], *one, *how, "--total-timesteps", 700, "--run-dir", "whole")
    plain = ["--num-envs", 1, "--eval-episodes", 2, "--env-id", "people_tasks:Plain-v0"]
    call(script, *BRIEF[script], *plain, *how, "--total-timesteps", 700, "--run-dir", "plain")
    whole = (tmp_path / "whole" / "episodes.csv").read_bytes()
    assert whole == (tmp_path / "plain" / "episodes.csv").read_bytes()
    assert gym.make("people_tasks:OneInstance-v0").close() is None  # all were closed


def test_a_simulator_of_which_one_instance_can_run_is_filmed(call, tmp_path):
    one = ["--num-envs", 1, "--eval-episodes", 1, "--env-id", "people_tasks:OneInstance-v0"]
    call("a2c", *BRIEF["a2c"], *one, "--capture-video", "--run-dir", "run")
    assert list((tmp_path / "run" / "videos").rglob("*.mp4"))


@ONE_OF_EACH
def test_success_is_a_column_where_the_task_tells_it(script, call, tmp_path):
    options = [*BRIEF[script], "--eval-episodes", 30, "--run-dir"]
    said = call(script, *options, "run", "--env-id", "people_tasks:Success-v0").out
    rates = [float(row["success_rate"]) for row in evaluations(tmp_path / "run")]
    charts = EventAccumulator(str(tmp_path / "run")).Reload()
    assert {event.value for event in charts.Scalars("charts/success")} == {0.0, 1.0}
    assert len(set(rates)) == 1 and 0 < rates[0] < 0.8  # of the same episodes; a third in the mean
    assert f"success rate {rates[0]:.2f}" in said
    call(script, *options, "plain", "--env-id", "people_tasks:Plain-v0")
    assert "success_rate" not in (tmp_path / "plain" / "evaluations.csv").read_text()


def test_success_is_of_the_episode_that_told_it(script):
    module = load(script)
    args = module.Args(env_id="people_tasks:SuccessOfEvenSeeds-v0")
    successes = []
    with module.Environments(args, 4, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(200):
            seeds = envs.episode_seed.tolist()
            envs.step(envs.random_action())
            for episode in envs.take_finished():
                assert episode.success == (1.0 if seeds[episode.env] % 2 == 0 else None)
                successes.append(episode.success)
    assert len(successes) == 16 and len(set(successes)) == 2


def test_success_is_what_the_last_step_told(script):
    module = load(script)
    args = module.Args(env_id="people_tasks:SuccessUntilTheLastStep-v0")
    with module.Environments(args, 2, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(5):
            envs.step(envs.random_action())
        assert [episode.success for episode in envs.take_finished()] == [0, 0]


@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
@ONE_OF_EACH
def test_the_seed_also_seeds_random_and_numpy(script, how, call, tmp_path):
    options = [*BRIEF[script], "--env-id", "people_tasks:GlobalNoise-v0", *how, "--num-envs", 2]
    call(script, *options, "--run-dir", "first")
    np.random.seed(None)
    call(script, *options, "--run-dir", "second")
    call(script, *options, "--seed", 2, "--run-dir", "other")
    assert_same_run(tmp_path / "first", tmp_path / "second")
    first = (tmp_path / "first" / "episodes.csv").read_text()
    assert first != (tmp_path / "other" / "episodes.csv").read_text()


@ONE_OF_EACH
def test_tasks_that_draw_from_pytorch_differ_in_processes_of_their_own_and_resume_exactly(
    script, call, tmp_path
):
    options = [*BRIEF[script], "--env-id", "people_tasks:TorchNoise-v0", *ASYNC, "--num-envs", 2]
    call(script, *options, "--run-dir", "whole", "--total-timesteps", 1200)
    obs = checkpoint(tmp_path / "whole")["envs"]["obs"]
    assert not obs[0].equal(obs[1])
    call(script, *options, "--run-dir", "run", "--total-timesteps", 640)  # amid an episode
    call(script, "--resume", "run", "--total-timesteps", 1200)
    whole = (tmp_path / "whole" / "episodes.csv").read_text().splitlines()
    resumed = (tmp_path / "run" / "episodes.csv").read_text().splitlines()
    assert whole == resumed
    assert len(whole) == 1 + 1200 // 50


@ONE_OF_EACH
def test_a_task_that_cannot_be_replayed_says_so_and_goes_on(script, call, tmp_path):
    options = [*BRIEF[script], "--env-id", "people_tasks:Undetermined-v0", "--run-dir", "run"]
    call(script, *options)
    said = call(script, "--resume", "run", "--total-timesteps", 700).out
    assert "replaying the saved actions did not restore the saved state" in said
    assert checkpoint(tmp_path / "run")["step"] == 700


@ONE_OF_EACH
def test_task_options_and_a_time_limit_are_saved_with_the_run(script, call, tmp_path):
    kinds = ["--env-kwargs", '{"reward": "bool"}', "--max-episode-steps", 20]
    call(script, *BRIEF[script], "--env-id", "people_tasks:Kinds-v0", *kinds, "--run-dir", "run")
    for _ in range(2):
        row = evaluations(tmp_path / "run")[-1]
        assert float(row["episode_length_mean"]) == 20 and 0 <= float(row["return_mean"]) <= 20
        assert f"return {float(row['return_mean']):.2f} ±" in call(script, "--evaluate", "run").out
        call(script, "--resume", "run", "--total-timesteps", 700)


@ONE_OF_EACH
def test_a_task_module_in_the_current_folder_is_found(script, call, tmp_path):
    text = "import gymnasium as gym\nfrom people_tasks import Point\n\n"
    text += f"gym.register('Here{script}-v0', Point, max_episode_steps=50)\n"
    (tmp_path / f"tasks_of_{script}.py").write_text(text)
    task = ["--env-id", f"tasks_of_{script}:Here{script}-v0"]
    call(script, *BRIEF[script], *task, "--run-dir", "run")


EDITS_OF_MAKE_ENV = {
    "a wrapper": "env = gym.wrappers.TransformReward(env, lambda reward: 100 * reward)",
    "an attribute": "env.unwrapped._forward_reward_weight = 100.0",
    "a method": "step = env.unwrapped.step\n"
    "    env.unwrapped.step = lambda a: tuple(\n"
    "        100 * x if i == 1 else x for i, x in enumerate(step(a))\n"
    "    )",
    "the model": "env.unwrapped.model.opt.gravity[2] = -1.0",
    "a time limit": "env = gym.wrappers.TimeLimit(env, 30)",
}


@pytest.mark.parametrize("edit", EDITS_OF_MAKE_ENV)
@TD3_ALONE
def test_an_edited_make_env_is_obeyed_whatever_the_backend(
    script, edit, call, monkeypatch, tmp_path
):
    """The same numbers with auto, sync and async, and with video; native refuses."""
    module = load(script)
    make_env = module.make_env

    def edited(args, **options):
        names = {"env": make_env(args, **options), "gym": gym}
        exec(EDITS_OF_MAKE_ENV[edit].replace("\n    ", "\n"), names)
        return names["env"]

    options = [*BRIEF[script], "--env-id", "Hopper-v5", "--max-episode-steps", 60]
    call(script, *options, "--run-dir", "unedited")
    monkeypatch.setattr(module, "make_env", edited)
    texts = set()
    for how in ("auto", "sync", "async"):
        said = call(script, *options, "--vectorization", how, "--run-dir", how).out
        texts.add(str(evaluations(tmp_path / how)))
        if how == "auto":
            assert "sync, not native: " in said
    assert len(texts) == 1
    assert evaluations(tmp_path / "auto") != evaluations(tmp_path / "unedited")
    call(script, *options, "--vectorization", "native", status=2)


@ONE_OF_EACH
def test_gym_makes_options_are_native_too(script, call, tmp_path):
    kinds = ["--env-kwargs", '{"forward_reward_weight": 100}', "--max-episode-steps", 60]
    options = [*BRIEF[script], "--env-id", "Hopper-v5", *kinds]
    for how in ("native", "sync"):
        call(script, *options, "--vectorization", how, "--run-dir", how)
    assert evaluations(tmp_path / "native") == evaluations(tmp_path / "sync")


@pytest.mark.parametrize("script", SCRIPTS)
def test_load_policy_plays_as_evaluate_does(script, call, tmp_path):
    call(script, *BRIEF[script], "--env-id", "people_tasks:Goal-v0", "--run-dir", "run")
    module = load(script)
    policy = module.load_policy(tmp_path / "run")
    args = module.load_args(tmp_path / "run")
    device = torch.device("cpu")
    with module.Environments(args, args.eval_episodes, device, "evaluation") as envs:
        envs.begin_all()
        seeds = envs.episode_seed.tolist()
    returns = []
    env = gym.make("people_tasks:Goal-v0")
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        total = 0
        truncated = False
        while not truncated:
            action = policy(obs)
            assert env.action_space.contains(action)
            obs, reward, _, truncated, _ = env.step(action)
            total += reward
        returns.append(total)
    row = evaluations(tmp_path / "run")[-1]
    np.testing.assert_allclose(np.mean(returns), float(row["return_mean"]), rtol=1e-4)


@ONE_OF_EACH
def test_init_from_begins_with_another_runs_weights(script, call, tmp_path):
    plain = [*BRIEF[script], "--env-id", "people_tasks:Plain-v0"]
    call(script, *plain, "--run-dir", "old")
    new = [*plain, "--init-from", "old", "--num-envs", 3, "--learning-rate", 1e-5]
    call(script, *new, "--env-id", "people_tasks:Reach-v0", "--eval-max-steps", 50)
    (folder,) = (tmp_path / "runs").iterdir()
    old = evaluations(tmp_path / "old")[-1]
    call(script, *plain, "--init-from", "old", "--run-dir", "same")
    assert evaluations(tmp_path / "same")[0]["return_mean"] == old["return_mean"]
    (tmp_path / "old").rename(tmp_path / "moved")  # its weights are in the new run
    call(script, "--evaluate", "same")
    (tmp_path / "moved").rename(tmp_path / "old")
    said = call(script, *plain, "--init-from", "old", "--env-id", "Pendulum-v1", status=2).err
    assert "--init-from old: what it saved does not fit" in said
    call(script, "--resume", folder)


@pytest.mark.parametrize("script", ["ddpg", "td3"])
def test_init_from_explores_with_its_policy_from_the_first_step(script, monkeypatch, tmp_path):
    """Random actions would fill the memory with what the policy never does."""
    monkeypatch.chdir(tmp_path)
    module = load(script)
    first = module.train(brief_args(script))
    with monkeypatch.context() as patch:
        patch.setattr(module.Environments, "random_action", None)
        module.train(brief_args(script, init_from=first))
        with pytest.raises(TypeError, match="not callable"):
            module.train(brief_args(script))


def test_the_agent_is_in_training_mode_except_in_evaluations(script, monkeypatch, tmp_path):
    """For layers such as Dropout."""
    monkeypatch.chdir(tmp_path)
    module = load(script)
    act = module.Agent.act
    modes = set()

    def watched(agent, obs, explore=True):
        modes.add((explore, agent.training))
        return act(agent, obs, explore)

    monkeypatch.setattr(module.Agent, "act", watched)
    module.train(brief_args(script, eval_frequency=300))
    assert modes == {(True, True), (False, False)}


@ONE_OF_EACH
def test_a_changed_script_is_noted(script, call, tmp_path):
    call(script, *BRIEF[script], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run")
    assert "has changed" not in call(script, "--resume", "run").out
    with open(tmp_path / "run" / f"{script}.py", "a") as file:
        file.write("# what it was\n")
    assert f"note: {script}.py has changed" in call(script, "--resume", "run").out
    assert f"note: {script}.py has changed" in call(script, "--evaluate", "run").out


@pytest.mark.parametrize("script", SCRIPTS)
def test_training_from_python_twice_leaves_no_trace(script, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = load(script)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    args = brief_args(script)
    before = dict(vars(args))
    first = module.train(args)
    second = module.train(args)
    assert vars(args) == before
    assert first != second
    assert_same_run(tmp_path / first, tmp_path / second)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for path in re.findall(r"python (\S+\.py)", capsys.readouterr().out):
        assert (tmp_path / path).exists()


@ONE_OF_EACH
def test_a_notebook_runs_the_script(script, call, monkeypatch, capsys, tmp_path):
    """As %run does, where the streams are no files."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    call(script, *BRIEF[script], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run")
    assert evaluations(tmp_path / "run")[-1]["global_step"] == "600"
    assert "finished at step 600" in sys.stdout.getvalue()


@ONE_OF_EACH
def test_training_in_a_thread(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folders = []

    def work():
        folders.append(load(script).train(brief_args(script)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert evaluations(tmp_path / folders[0])[-1]["global_step"] == "600"


class Promised:
    """Like a parameter on the CPU, but what is made like it takes no memory."""

    device = torch.device("cpu")

    def element_size(self):
        return 4

    def new_empty(self, *shape):
        return torch.empty(shape, device="meta")


@pytest.mark.parametrize("script", ["td3", "ddpg"])
def test_a_memory_larger_than_the_machines_is_a_warning(script, capsys):
    load(script).ReplayBuffer(10**12, 3, 1, like=Promised())
    assert "--buffer-size 1000000000000 needs 40000.0 GB" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["td3", "ddpg"])
def test_the_warning_names_sizes(script, capsys):
    load(script).warn_if_larger_than_ram("--buffer-size 7", 10**16)
    said = capsys.readouterr().err
    assert "--buffer-size 7 needs 10000000.0 GB" in said
    load(script).warn_if_larger_than_ram("--buffer-size 7", 1000)
    assert capsys.readouterr().err == ""


@ONE_OF_EACH
def test_the_tracking_camera_follows_the_robot(script, monkeypatch):
    monkeypatch.setenv("DISPLAY", "none")  # no renderer is begun here
    module = load(script)
    env = module.make_rendering_env(module.Args(env_id="HalfCheetah-v5"))
    assert env.unwrapped.mujoco_renderer.camera_id == env.unwrapped.model.camera("track").id
    env.close()


@pytest.mark.parametrize("camera", ['{"camera_id": -1}', '{"default_camera_config": {}}'])
@ONE_OF_EACH
def test_a_camera_that_the_user_chose_stays(script, camera, monkeypatch):
    monkeypatch.setenv("DISPLAY", "none")
    module = load(script)
    args = module.Args(env_id="HalfCheetah-v5", env_kwargs=json.loads(camera))
    with contextlib.closing(module.make_rendering_env(args)) as env:
        assert env.unwrapped.mujoco_renderer.camera_id == -1


LICENSED = """
import os
from pathlib import Path

import gymnasium as gym
from people_tasks import Point


main_process = os.getpid()


class Licensed(Point):
    def __init__(self):
        super().__init__()
        if os.getpid() != main_process:
            try:
                Path("licence").touch(exist_ok=False)
            except FileExistsError:
                raise RuntimeError("no licence left") from None


gym.register("Licensed-v0", "licensed:Licensed")
"""


def test_a_worker_that_cannot_start_ends_the_run(tmp_path):
    """A task of which only so many instances may run. The others must not be waited for."""
    (tmp_path / "licensed.py").write_text(LICENSED)
    words = ["--env-id", "licensed:Licensed-v0", "--num-envs", "3", *ASYNC]
    done = subprocess.run(
        command("td3", *words),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert done.returncode == 1
    assert "no licence left" in done.stderr
