"""A run that is killed or stopped, at any moment, and resumed equals one that was never stopped, to
the bit; and what is damaged is named, with nothing lost."""

import csv
import errno
import itertools
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    OFF_POLICY,
    ONE_OF_EACH,
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

EXACT_TASKS = ("HalfCheetah", "Ant", "Humanoid", "Hopper")


@pytest.fixture(autouse=True)
def hangups_are_not_ignored():
    """Even where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(script, *options, cwd, **more):
    return subprocess.Popen(
        command(script, *options),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(**more),
        start_new_session=True,
    )


def wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)


def processes_of(process):
    """Those that are left of the session that it began."""
    found = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True)
    return found.stdout.split()


def assert_kills_change_nothing(script, options, kills, moments, tmp_path):
    """A run that is killed at random moments of its training ends as one that never stopped."""
    folder = tmp_path / "killed"
    run(script, *options, "--run-dir", "whole", cwd=tmp_path)
    seconds = checkpoint(tmp_path / "whole")["seconds"]
    for kill in range(kills):
        how = ["--resume", folder] if kill else [*options, "--run-dir", folder]
        process = start(script, *how, cwd=tmp_path)
        for line in process.stdout:
            if line.startswith("stop with Ctrl-C"):
                break
        time.sleep(moments.uniform(0, 0.5 * seconds / kills))  # a busy machine varies
        assert process.poll() is None, "the run ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(script, "--resume", folder, cwd=tmp_path)
    assert_same_run(tmp_path / "whole", folder)
    assert not list(folder.glob("*.tmp"))


@ONE_OF_EACH
def test_a_run_killed_at_random_moments_goes_on_to_the_bit(script, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", 2]
    assert_kills_change_nothing(script, options, 2, random.Random(script), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("vectorization", ["sync", "async", "native"])
@pytest.mark.parametrize("task", EXACT_TASKS)
def test_kills_on_mujoco_tasks(script, task, vectorization, tmp_path):
    """With two kills each, of all five scripts, 120 kills."""
    options = [*SMALL[script], "--env-id", f"{task}-v5", "--vectorization", vectorization]
    moments = random.Random(f"{script} {task} {vectorization}")
    assert_kills_change_nothing(script, options, 2, moments, tmp_path)
    shutil.rmtree(tmp_path)


def die_after(saves, script, options, call, monkeypatch):
    """Trains in the folder "died" until the process dies, as far as the run can see, right after
    so many checkpoints."""
    module = load(script)
    count = 0
    save = module.Run.save

    def save_and_die(self):
        nonlocal count
        save(self)
        count += 1
        if count == saves:
            raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "save", save_and_die)
        with pytest.raises(MemoryError):
            call(script, *options, "--run-dir", "died")


@pytest.mark.parametrize("saves", [1, 3, 4])  # at the third an evaluation is due too
def test_a_run_goes_on_from_each_of_its_checkpoints(script, saves, call, monkeypatch, tmp_path):
    """What was written after the checkpoint, until the process died, comes again and only once."""
    options = [*SMALL[script], "--env-id", "audit_task:Audit-v0", "--num-envs", 2]
    call(script, *options, "--run-dir", "whole")
    die_after(saves, script, options, call, monkeypatch)
    with open(tmp_path / "died" / "episodes.csv", "a") as file:
        file.write("99999,1.0,1\n")
    call(script, "--resume", "died")
    assert_same_run(tmp_path / "whole", tmp_path / "died")


def test_a_run_that_was_asked_to_stop_goes_on_as_if_it_had_not(script, call, monkeypatch, tmp_path):
    """Ctrl-C comes between two evaluations: none is made of the step where it came."""
    module = load(script)
    options = [*SMALL[script], "--env-id", "audit_task:Audit-v0", "--num-envs", 2]
    call(script, *options, "--run-dir", "whole")
    advance = module.Run.advance

    def advance_and_stop(run):
        advance(run)
        if run.step == 62:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "advance", advance_and_stop)
        call(script, *options, "--run-dir", "stopped", status=130)
    assert 62 <= checkpoint(tmp_path / "stopped")["step"] < checkpoint(tmp_path / "whole")["step"]
    call(script, "--resume", "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@TD3_ALONE
def test_an_interrupted_evaluation_starts_over_when_the_run_is_resumed(
    script, call, monkeypatch, tmp_path
):
    module = load(script)
    options = [*SMALL[script], "--env-id", "audit_task:Audit-v0", "--run-dir"]
    call(script, *options, "whole")
    evaluate = module.evaluate
    evaluations = itertools.count()

    def interrupted_evaluate(agent, args, video_folder):
        if next(evaluations) == 1:
            signal.raise_signal(signal.SIGINT)
        return evaluate(agent, args, video_folder)

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", interrupted_evaluate)
        call(script, *options, "stopped", status=130)
    call(script, "--resume", "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@TD3_ALONE
def test_a_run_killed_before_its_first_checkpoint_begins_anew(script, call, monkeypatch, tmp_path):
    module = load(script)
    options = [*SMALL[script], "--env-id", "audit_task:Audit-v0", "--run-dir"]
    call(script, *options, "whole")

    def die(run):
        raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "save", die)
        with pytest.raises(MemoryError):
            call(script, *options, "died")
    call(script, "--resume", "died")
    assert_same_run(tmp_path / "whole", tmp_path / "died")


@TD3_ALONE
def test_best_is_that_of_the_whole_run_also_after_a_resume(script, call, monkeypatch, tmp_path):
    """Returns of 1, 3, 2 and 2.5; the process dies after the second evaluation."""
    module = load(script)
    returns = iter([1.0, 3.0, 2.0, 2.5])

    def evaluate(agent, args, video_folder):
        return [module.Episode(0, 0, next(returns), 1, None)]

    monkeypatch.setattr(module, "evaluate", evaluate)
    die_after(3, script, [*SMALL[script], "--env-id", "Pendulum-v1"], call, monkeypatch)
    call(script, "--resume", "died")
    rows = evaluations(tmp_path / "died")
    assert [float(row["return_mean"]) for row in rows] == [1, 3, 2, 2.5]
    best = checkpoint(tmp_path / "died", "best.pt")
    assert best["step"] == int(rows[1]["global_step"]) and best["return_mean"] == 3


@ONE_OF_EACH
def test_a_run_may_be_resumed_with_another_vectorization(script, call, monkeypatch, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", 2]
    call(script, *options, "--vectorization", "async", "--run-dir", "whole")
    die_after(4, script, [*options, "--vectorization", "sync"], call, monkeypatch)
    call(script, "--resume", "died", "--vectorization", "native")
    but = ("seconds", "/generators/numpy", "/generators/python")
    assert_same_run(tmp_path / "whole", tmp_path / "died", but)


@pytest.mark.parametrize(
    "task, vectorization",
    [
        ("GlobalNoise", "async"),  # draws from global generators
        ("ChangesItsAction", "sync"),
    ],
)
@ONE_OF_EACH
def test_tasks_with_side_effects_are_resumed_exactly(
    script, task, vectorization, call, monkeypatch, tmp_path
):
    options = [*SMALL[script], "--env-id", f"people_tasks:{task}-v0", "--num-envs", 2]
    options += ["--vectorization", vectorization, "--max-episode-steps", 30]
    call(script, *options, "--run-dir", "whole")
    die_after(2, script, options, call, monkeypatch)
    assert len(checkpoint(tmp_path / "died")["envs"]["actions"]) > 0  # to be played again
    assert "warning" not in call(script, "--resume", "died").out
    assert_same_run(tmp_path / "whole", tmp_path / "died")


@ONE_OF_EACH
def test_a_replay_keeps_the_actions_for_the_next_replay(script):
    module = load(script)
    args = module.Args(env_id="people_tasks:ChangesItsAction-v0")
    with module.Environments(args, 2, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(3):
            envs.step(torch.ones(2, 2))
        saved = envs.state_dict()
        assert (saved["actions"] == 1).all()
        envs.load_state_dict(saved)
        envs.replay()
        assert (envs.state_dict()["actions"] == 1).all()


@ONE_OF_EACH
def test_a_replay_warns_of_a_task_that_remembers_earlier_episodes(script, capsys):
    """Its observations come back, but not its rewards: each is the number of the episode."""
    module = load(script)
    args = module.Args(env_id="people_tasks:Remembers-v0")
    with module.Environments(args, 2, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(14):  # episodes have 10
            envs.step(torch.ones(2, 2))
        assert envs.episode_return.tolist() == [8, 8]
        saved = envs.state_dict()
    with module.Environments(args, 2, torch.device("cpu")) as envs:
        envs.load_state_dict(saved)
        envs.replay()
    assert "remembers something from one episode to the next" in capsys.readouterr().out


@ONE_OF_EACH
def test_an_optimizer_that_would_not_be_saved_is_refused(script, monkeypatch):
    module = load(script)
    run = module.Run(module.Args())
    agent = module.Agent(3, 1, module.Args())
    agent.another = torch.optim.SGD(agent.parameters())
    with pytest.raises(TypeError, match="run.start needs agent.another too"):
        run.start(None, agent, **{name: x for name, x in vars(agent).items() if name != "another"})


def test_a_resumed_rollout_of_reinforce_knows_which_environments_have_finished():
    module = load("reinforce")
    ends = module.Transition(
        obs=torch.zeros(2, 1),
        action=torch.zeros(2, 1),
        reward=torch.zeros(2),
        next_obs=torch.zeros(2, 1),
        terminated=torch.tensor([1.0, 0.0]),
        truncated=torch.zeros(2),
    )
    rollout = module.RolloutBuffer(2, torch.device("cpu"))
    rollout.add(ends)
    resumed = module.RolloutBuffer(2, torch.device("cpu"))
    resumed.load_state_dict(rollout.state_dict())
    assert not resumed.is_full()
    resumed.add(ends._replace(terminated=torch.tensor([0.0, 1.0])))
    assert resumed.is_full()
    assert resumed.take().terminated.tolist() == [[1, 0], [0, 1]]


@ONE_OF_EACH
def test_an_extended_run_equals_a_long_one(script, call, tmp_path):
    """Without annealing; the extended one has one evaluation more, where it first ended."""
    anneal = [] if script in ("ddpg", "td3") else ["--no-anneal-lr"]
    options = [*SMALL[script], *anneal, "--env-id", "InvertedPendulum-v5"]
    steps = int(SMALL[script][1])
    call(script, *options, "--total-timesteps", 2 * steps, "--run-dir", "long")
    call(script, *options, "--run-dir", "short")
    said = call(script, "--resume", "short", "--total-timesteps", 2 * steps).out
    assert f"--total-timesteps: {2 * steps}, was {steps}" in said
    long = (tmp_path / "long" / "episodes.csv").read_bytes()
    assert long == (tmp_path / "short" / "episodes.csv").read_bytes()
    assert evaluations(tmp_path / "long")[-1] == evaluations(tmp_path / "short")[-1]


def test_schedules_of_an_extended_run_follow_the_new_length(call, tmp_path):
    """Of 78 whole rollouts, each of 32 steps in two environments, the last begins at 77 * 64."""
    options = ["--env-id", "Pendulum-v1", "--learning-rate", 0.003, "--run-dir", "run"]
    call("a2c", *SMALL["a2c"], *options)
    said = call("a2c", "--resume", "run", "--total-timesteps", 5000).out
    assert "schedules, if any, follow the new length" in said
    (group,) = checkpoint(tmp_path / "run")["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(0.003 * (1 - 77 * 64 / 5000))


def test_the_time_of_a_resumed_run_goes_on(call, tmp_path):
    """As if it had taken 1000 seconds so far."""
    call("a2c", *SMALL["a2c"], "--env-id", "Pendulum-v1", "--run-dir", "run")
    state = checkpoint(tmp_path / "run")
    torch.save(state | {"seconds": 1000.0}, tmp_path / "run" / "checkpoint.pt")
    call("a2c", "--resume", "run", "--total-timesteps", 4000)
    with open(tmp_path / "run" / "evaluations.csv") as file:
        seconds = [float(row["wall_seconds"]) for row in csv.DictReader(file)]
    assert 1000 < seconds[-1] < 1500


@ONE_OF_EACH
def test_a_resume_may_repeat_the_options_of_the_run(script, call):
    options = [*SMALL[script], "--env-id", "Pendulum-v1", "--hidden-sizes", "16", "8"]
    call(script, *options, "--total-timesteps", 600, "--run-dir", "run")
    said = call(script, *options, "--total-timesteps", 900, "--resume", "run").out
    assert "finished at step 900" in said


@ONE_OF_EACH
def test_a_finished_run_says_so_and_how_to_extend_it(script, call):
    call(script, *SMALL[script], "--env-id", "Pendulum-v1", "--run-dir", "run")
    said = call(script, "--resume", "run").out
    assert "finished; to extend it, add for example --total-timesteps" in said


SLOW = ["--env-id", "people_tasks:SlowSteps-v0", "--eval-max-steps", 4, "--eval-episodes", 2]
SLOW_OPTIONS = {
    "a2c": [*SLOW, "--num-envs", 2],
    "td3": [*SLOW, "--learning-starts", 10, "--total-timesteps", 500, "--hidden-sizes", 8],
}


QUICK_STOPS = [("a2c", "async", signal.SIGINT), ("td3", "sync", signal.SIGINT)]
SLOW_STOPS = [
    pytest.param(script, vectorization, number, marks=pytest.mark.slow)
    for script in ("a2c", "td3")
    for vectorization in ("sync", "async")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if (script, vectorization, number) not in QUICK_STOPS
]


@pytest.mark.parametrize("script, vectorization, number", QUICK_STOPS + SLOW_STOPS)
def test_a_request_to_stop_is_granted_at_once_and_saves(script, vectorization, number, tmp_path):
    """In the middle of training, of an evaluation, of a resume's replay; no process is left."""
    options = [*SLOW_OPTIONS[script], "--vectorization", vectorization, "--run-dir"]
    moments = [
        ("training", [*options, "run"], 1.0, "0.15"),
        ("replay", ["--resume", "run"], 0.3, "60"),
        ("evaluation of a run", [*options, "another"], 0.3, "60"),
        ("evaluation", ["--evaluate", "run"], 0.5, "60"),
    ]
    for what, how, pause, seconds in moments:
        process = start(script, *how, cwd=tmp_path, ANNOUNCE_STEPS="1", SECONDS_PER_STEP=seconds)
        for line in process.stdout:
            if "steps of the task begin" in line:
                break
        if what == "training":
            wait_for(tmp_path / "run" / "checkpoint.pt", process)
            time.sleep(2)
        time.sleep(pause)
        began = time.monotonic()
        os.killpg(process.pid, number)
        said = process.communicate(timeout=30)[0]
        assert process.returncode == 128 + number, said
        # a second, and what a busy machine adds; a step alone would take a minute
        assert time.monotonic() - began < 5, what
        assert not processes_of(process), what
        assert "Traceback" not in said, said
        if what == "training":
            assert "saved step" in said
            assert 0 < checkpoint(tmp_path / "run")["step"]


def in_a_training_step(options, cwd, script="td3"):
    """A process in the first step of training, which takes a second and a half."""
    more = {"ANNOUNCE_STEPS": "1", "SECONDS_PER_STEP": "1.5"}
    slow = [*SLOW_OPTIONS[script], "--eval-max-steps", 1]
    process = start(script, *slow, *options, cwd=cwd, **more)
    announced = 0
    for line in process.stdout:
        announced += "steps of the task begin" in line
        if announced == 3:  # the first two are of the evaluation's episodes
            return process


def handles(process, number):
    """Whether a signal has a handler there, rather than the system's way."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    handled = int(re.search("^SigCgt:\t(.*)", status, re.M)[1], 16)
    return bool(handled >> (number - 1) & 1)


@TD3_ALONE
def test_a_second_ctrl_c_quits_at_once(script, tmp_path):
    process = in_a_training_step(["--run-dir", "run"], tmp_path, script)
    process.send_signal(signal.SIGINT)
    while handles(process, signal.SIGINT):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == -signal.SIGINT
    assert checkpoint(tmp_path / "run")["step"] == 0


@TD3_ALONE
def test_a_stopped_run_is_saved_also_where_nobody_reads_what_it_says(script, tmp_path):
    """Ctrl-C ends the tee of `python td3.py | tee log` too."""
    process = in_a_training_step(["--run-dir", "run"], tmp_path, script)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert checkpoint(tmp_path / "run")["step"] == 1


# shells send SIGHUP twice, timeout and systemd SIGTERM; and people close what they have stopped
TWICE = [
    (signal.SIGHUP, signal.SIGHUP),
    (signal.SIGTERM, signal.SIGTERM),
    (signal.SIGINT, signal.SIGHUP),
]


@pytest.mark.parametrize("first, second", TWICE)
@TD3_ALONE
def test_a_second_signal_other_than_ctrl_c_does_not_keep_a_run_from_saving(
    script, first, second, tmp_path
):
    process = in_a_training_step(["--run-dir", "run"], tmp_path, script)
    process.send_signal(first)
    while handles(process, first):
        time.sleep(0.01)
    process.send_signal(second)
    said = process.communicate(timeout=30)[0]
    assert "saved step 1;" in said
    assert process.returncode == 128 + first
    assert checkpoint(tmp_path / "run")["step"] == 1


@TD3_ALONE
def test_a_signal_that_comes_while_an_evaluation_begins_interrupts_it(script, monkeypatch):
    module = load(script)
    monkeypatch.setattr(module.signal, "signal", lambda *arguments: None)
    run = module.Run(module.Args())

    def comes_just_after(this):
        run.request_stop(signal.SIGINT, None)
        return False

    monkeypatch.setattr(module.Run, "stop_requested", comes_just_after)
    with pytest.raises(KeyboardInterrupt), run.interruptible():
        pytest.fail("the evaluation began")


@TD3_ALONE
def test_a_line_to_a_terminal_that_was_closed_is_no_error(script):
    ours, theirs = os.openpty()
    os.close(ours)
    with open(theirs, "w") as terminal:
        load(script).say("saved", file=terminal)


def test_a_run_under_nohup_outlives_its_terminal():
    module = load("td3")
    assert signal.SIGHUP in module.stop_signals()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in module.stop_signals()
    finally:
        signal.signal(signal.SIGHUP, before)


@ONE_OF_EACH
def test_a_killed_process_of_an_environment_ends_the_run_with_a_line(script, tmp_path):
    """Such as by a system that is out of memory; to wait for its answer would be for ever."""
    options = [*SLOW_OPTIONS[script], "--vectorization", "async", "--run-dir", "run"]
    process = start(script, *options, cwd=tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    main_process, worker, *_ = sorted(map(int, processes_of(process)))
    assert main_process == process.pid
    os.kill(worker, signal.SIGKILL)
    try:
        said = process.communicate(timeout=30)[0]
    finally:
        process.kill()
    assert process.returncode == 1
    assert "a process of an environment was killed at step" in said
    assert "Traceback" not in said
    assert not processes_of(process)


@ONE_OF_EACH
def test_dying_while_a_checkpoint_is_written_leaves_the_one_before(
    script, call, monkeypatch, tmp_path
):
    module = load(script)
    options = [*SMALL[script], "--env-id", "Pendulum-v1", "--run-dir"]
    call(script, *options, "whole")
    save = torch.save
    count = 0

    def die(state, file):
        nonlocal count
        save(state, file)
        count += "envs" in state
        if count == 6:  # the replay buffer is full by then
            file.truncate(1000)
            with open("/dev/full", "wb", buffering=0) as full:
                save(state, full)

    with monkeypatch.context() as patch:
        patch.setattr(module.torch, "save", die)
        said = call(script, *options, "died", status=1).err
    assert "died/checkpoint.pt cannot be written: [Errno 28] No space left on device\n" in said
    assert "Traceback" not in said
    call(script, "--resume", "died")
    assert_same_run(tmp_path / "whole", tmp_path / "died")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@TD3_ALONE
def test_a_full_disk_is_a_line_also_where_logs_are_written(script, number, call, monkeypatch):
    def log(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(load(script).Run, "log", log)
    said = call(script, *SMALL[script], "--env-id", "Pendulum-v1", status=1).err
    assert said.endswith(f"{script}.py: [Errno {number}] {os.strerror(number)}\n")
    assert "Traceback" not in said


@TD3_ALONE
def test_a_part_that_has_something_new_to_load_is_refused(script):
    module = load(script)
    part = types.SimpleNamespace(load_state_dict=lambda state: state["noise"])
    with pytest.raises(module.UsageError, match="runs/1: what it saved does not fit: 'noise'"):
        module.load_state(part, {}, "runs/1")


@ONE_OF_EACH
@pytest.mark.parametrize("damage", ["cut short", "one byte", "empty", "a stranger's code"])
def test_a_damaged_checkpoint_is_named_and_left_as_it_is(script, damage, call, tmp_path):
    call(script, *SMALL[script], "--env-id", "Pendulum-v1", "--run-dir", "run")
    path = tmp_path / "run" / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    if damage == "cut short":
        content = content[: len(content) // 2]
    elif damage == "one byte":
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda part: part.file_size)
        content[largest.header_offset + largest.file_size // 2 + 200] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        torch.save({"agent": Stranger(str(tmp_path / "owned"))}, path)
        content = bytearray(path.read_bytes())
    path.write_bytes(content)
    before = {each.name: each.read_bytes() for each in (tmp_path / "run").iterdir()}
    for how in ("--resume", "--evaluate"):
        said = call(script, how, "run", status=2).err
        assert "checkpoint.pt is damaged" in said and "Traceback" not in said
    after = {each.name: each.read_bytes() for each in (tmp_path / "run").iterdir()}
    assert before == after
    assert not (tmp_path / "owned").exists()


@ONE_OF_EACH
def test_files_of_other_programs_are_refused(script, call, tmp_path):
    options = [*SMALL[script], "--env-id", "people_tasks:Plain-v0"]
    other = tmp_path / "other"
    other.mkdir()
    torch.save({"weights": 1}, other / "checkpoint.pt")
    said = call(script, *options, "--init-from", "other", status=2).err
    assert "other/checkpoint.pt was not written by this script" in said
    with zipfile.ZipFile(other / "checkpoint.pt", "w") as archive:
        archive.writestr("notes.txt", "not PyTorch's")
    said = call(script, *options, "--init-from", "other", status=2).err
    assert "other/checkpoint.pt is damaged, or was not written by this script" in said
    (other / "config.json").write_text('{"name": "of another program"}')
    said = call(script, "--resume", "other", status=2).err
    assert "other/config.json was not written by this script" in said


@ONE_OF_EACH
def test_a_resume_without_the_table_of_episodes_begins_another(script, call, tmp_path):
    options = [*SMALL[script], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run"]
    call(script, *options)
    table = tmp_path / "run" / "episodes.csv"
    table.unlink()
    steps = checkpoint(tmp_path / "run")["step"]
    call(script, "--resume", "run", "--total-timesteps", 2 * steps)
    header, *rows = table.read_text().splitlines()
    assert header == "global_step,episode_return,episode_length"
    assert rows and all(int(row.split(",")[0]) > steps for row in rows)


def test_the_generator_of_apples_gpus_is_saved_and_restored(monkeypatch):
    a2c = load("a2c")
    numbers = iter(range(10))
    restored = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: next(numbers))
    monkeypatch.setattr(torch.mps, "set_rng_state", restored.append)
    states = [a2c.generators_state() for _ in range(2)]
    a2c.set_generators_state(states[0])
    assert restored == [0]


class Stranger:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_stranger_would_have_made_the_file(tmp_path):
    pickle.loads(pickle.dumps(Stranger(str(tmp_path / "owned")))).close()
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("script", ["ddpg", "td3"])
def test_the_memory_on_disk_is_bounded_and_comes_back(script, call, tmp_path):
    options = [*SMALL[script], "--env-id", "Pendulum-v1", "--total-timesteps", 3000]
    call(script, *options, "--learning-starts", 2999, "--run-dir", "run")
    call(script, "--resume", "run", "--total-timesteps", 3200)
    files = list((tmp_path / "run").glob("replay.*"))
    row = 4 * (3 + 1 + 1 + 3 + 1 + 1)
    held = sum(file.stat().st_size - 128 for file in files) / row  # NumPy's header is 128 bytes
    assert 500 <= held <= 500 + 2 * 200  # --buffer-size, and what is new since two checkpoints
    spans = sorted(path.name.split(".")[1].split("-") for path in files)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end == start  # no transition is missing, or written twice
    module = load(script)
    memory = module.ReplayBuffer(500, 3, 1, torch.zeros(1))
    memory.load_state_dict(checkpoint(tmp_path / "run")["memory"])
    memory.load_files(tmp_path / "run")
    steps = memory.columns.next_obs[:-1] == memory.columns.obs[1:]
    ends = (memory.columns.truncated[:-1] == 1) | (torch.arange(499) == 3200 % 500 - 1)
    assert (steps.all(dim=1) | ends).all()  # row follows row, but where an episode ends


@pytest.mark.slow
@pytest.mark.parametrize("script", ["a2c", "td3", "ppo_continuous"])
def test_a_compiled_run_killed_at_random_moments_goes_on_to_the_bit(script, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", 2, "--compile"]
    assert_kills_change_nothing(script, options, 2, random.Random(script), tmp_path)


@pytest.mark.parametrize("script", OFF_POLICY)
def test_a_replay_buffer_that_lacks_a_file_is_refused(script, call, tmp_path):
    """Each of the files that the checkpoint needs, and no other."""
    call(script, "--env-id", "people_tasks:Plain-v0", *SMALL[script], "--run-dir", "run")
    files = sorted(Path("run").glob("replay.*"))
    needed = [path for path in files if int(path.name.split(".")[1].split("-")[1]) > 1200 - 500]
    assert len(needed) > 2
    left_over = Path("run/replay.000000000001-000000000002.npy.tmp")
    left_over.write_text("of a process that was killed")
    for path in needed:
        hidden = path.rename("hidden")
        said = call(script, "--resume", "run", "--total-timesteps", 1300, status=2)
        assert "run: transition" in said.err
        hidden.rename(path)
    call(script, "--resume", "run", "--total-timesteps", 1300)
    assert not left_over.exists()


def test_a_run_is_resumed_from_python_with_its_own_options_only(call, tmp_path):
    options = [*SMALL["a2c"], "--env-id", "people_tasks:Plain-v0", "--gamma", 0.9]
    call("a2c", *options, "--run-dir", "run")
    before = Path("run/config.json").read_bytes()
    a2c = load("a2c")
    with pytest.raises(a2c.UsageError, match="this run has"):
        a2c.train(a2c.Args(resume=Path("run"), total_timesteps=3100))
    assert Path("run/config.json").read_bytes() == before
    args = a2c.load_args("run")
    args.resume = Path("run")
    args.total_timesteps = 3100
    assert a2c.train(args) == Path("run")
    assert evaluations(Path("run"))[-1]["global_step"] == "3100"


def test_folders_may_be_given_as_text_in_a_program(call, tmp_path):
    call("a2c", *SMALL["a2c"], "--env-id", "people_tasks:Plain-v0", "--run-dir", "first")
    a2c = load("a2c")
    args = a2c.load_args("first")
    args.run_dir = "second"
    args.init_from = "first"
    assert a2c.train(args) == Path("second")


@ONE_OF_EACH
def test_options_may_be_lists_and_numbers_of_numpy_in_a_program(script, call, tmp_path):
    call(script, *SMALL[script], "--env-id", "people_tasks:Plain-v0", "--run-dir", "first")
    module = load(script)
    args = module.load_args("first")
    args.run_dir = "second"
    args.seed = np.int64(args.seed)
    args.total_timesteps = float(args.total_timesteps)  # as by 1e6
    args.learning_rate = np.geomspace(args.learning_rate, 1, 3)[0]
    args.hidden_sizes = np.array(args.hidden_sizes)
    module.train(args)
    first, second = [
        json.loads(Path(run, "config.json").read_text()) for run in ("first", "second")
    ]
    assert first["options"] == second["options"]
    assert_same_run(Path("first"), Path("second"))
    args.resume = "second"
    args.run_dir = None
    args.hidden_sizes = list(args.hidden_sizes)
    args.total_timesteps = args.total_timesteps + 100
    module.train(args)
    assert evaluations(Path("second"))[-1]["global_step"] == f"{args.total_timesteps:.0f}"


@ONE_OF_EACH
def test_task_options_that_config_json_cannot_hold_are_refused(script, call, tmp_path):
    module = load(script)
    with pytest.raises(module.UsageError, match="--env-kwargs .*must be JSON"):
        module.train(module.Args(env_kwargs={"goal": np.zeros(2)}))
    with pytest.raises(module.UsageError, match="--vectorization subproc: must be one of auto"):
        module.train(module.Args(vectorization="subproc"))
    assert not Path("runs").exists()


WRONG_TYPES = [  # as configuration files and sweeps give them; what the message says
    ({"compile": "False"}, "--compile 'False': must be of type bool"),
    ({"learning_rate": "1e-3"}, "--learning-rate '1e-3': must be of type float"),
    ({"num_envs": 2.5}, "--num-envs 2.5: must be of type int"),
    ({"seed": None}, "--seed None: must be of type int"),
    ({"max_episode_steps": "7"}, r"--max-episode-steps '7': must be of type int \| None"),
    ({"hidden_sizes": 64}, r"--hidden-sizes 64: must be of type tuple\[int, ...\]"),
    ({"hidden_sizes": [64.5]}, r"--hidden-sizes \(64.5,\): must be of type tuple"),
    ({"run_dir": 5}, "--run-dir 5: must be of type pathlib.Path | None"),
]


@pytest.mark.parametrize("options, said", WRONG_TYPES)
@ONE_OF_EACH
def test_options_of_the_wrong_type_are_refused_by_name_in_a_program(script, options, said):
    module = load(script)
    with pytest.raises(module.UsageError, match=said):
        module.train(module.Args(**options))


@ONE_OF_EACH
def test_a_folder_for_runs_that_leads_nowhere_is_refused(script, call, tmp_path):
    Path("runs").symlink_to("gone/away")
    options = [*SMALL[script], "--env-id", "people_tasks:Plain-v0"]
    assert "--run-dir runs: [Errno 17] File exists: 'runs'" in call(script, *options, status=2).err
    said = call(script, *options, "--run-dir", "runs/1", status=2)
    assert "--run-dir runs/1: [Errno 17] File exists: 'runs'" in said.err
    Path("a file").touch()
    said = call(script, *options, "--run-dir", "a file/1/2", status=2)
    assert "--run-dir a file/1/2: [Errno 20] Not a directory" in said.err


@ONE_OF_EACH
def test_a_stop_while_an_evaluation_ends_leaves_training_its_generators(
    script, call, monkeypatch, tmp_path
):
    options = [*SMALL[script], "--env-id", "people_tasks:GlobalNoise-v0", "--run-dir"]
    call(script, *options, "whole")
    module = load(script)
    restore = module.set_generators_state

    def restore_when_stopped(state):
        os.kill(os.getpid(), signal.SIGINT)
        restore(state)

    with monkeypatch.context() as patch:
        patch.setattr(module, "set_generators_state", restore_when_stopped)
        call(script, *options, "stopped", status=130)
    call(script, "--resume", "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_an_interrupted_replay_leaves_the_state_that_was_to_be_reached(monkeypatch):
    td3 = load("td3")
    args = td3.Args(env_id="people_tasks:Plain-v0")
    with td3.Environments(args, 1, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(5):
            envs.step(envs.random_action())
        reached = envs.obs
        steps = iter(range(3))
        step = envs.envs.step

        def interrupted_step(action):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return step(action)

        monkeypatch.setattr(envs.envs, "step", interrupted_step)
        with pytest.raises(KeyboardInterrupt):
            envs.replay()
        assert envs.obs.equal(reached)
