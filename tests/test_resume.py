"""A run that is killed and resumed equals one that was never stopped, to the bit."""
import json
import random
import shutil
import signal
import subprocess
import time

import pytest
from conftest import ONE_OF_EACH, SMALL, assert_same_run, command, environment, run

TASKS = ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum",
         "Pusher", "Reacher", "Swimmer", "Walker2d"]


def run_and_kill(script, *options, cwd, after, number=signal.SIGKILL, file="config.json"):
    """Starts a run, sends it a signal `after` seconds from when `file` is there, waits. Returns the exit status."""
    folder = cwd / options[options.index("--resume" if "--resume" in options else "--run-dir") + 1]
    process = subprocess.Popen(command(script, *options), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=environment())
    while not (folder / file).exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after)
    process.send_signal(number)
    return process.wait()


def check(script, options, tmp_path, kills, seed):
    start = time.monotonic()
    run(script, *options, "--run-dir", "whole", cwd=tmp_path)
    seconds = max(1, 0.7 * (time.monotonic() - start) - 2)  # not the last ones: it may have ended, or be ending
    moments = random.Random(seed)
    for kill in range(kills):
        how = ["--resume", "killed"] if kill else [*options, "--run-dir", "killed"]
        after = 2 + moments.uniform(0, seconds / 2) if kill else moments.uniform(0, seconds)
        run_and_kill(script, *how, cwd=tmp_path, after=after)
    run(script, "--resume", "killed", "--num-threads", 1, cwd=tmp_path)
    assert json.loads((tmp_path / "killed" / "config.json").read_text())["num_threads"] == 1
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@ONE_OF_EACH  # test_faults.py does it with all five on toy tasks
def test_resume_after_kill(script, tmp_path):
    check(script, [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", "2"], tmp_path, kills=2, seed=1)
    assert not list((tmp_path / "killed").glob("*.tmp"))


@pytest.mark.slow  # test_faults.py does it with toy tasks
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_resume_async_after_a_request_to_stop(script, number, status, tmp_path):
    options = [*SMALL[script], "--env-id", "InvertedPendulum-v5", "--num-envs", "2", "--vectorization", "async"]
    run(script, *options, "--run-dir", "whole", cwd=tmp_path)
    options += ["--run-dir", "killed"]
    assert run_and_kill(script, *options, cwd=tmp_path, after=0, number=number, file="checkpoint.pt") == status
    run(script, "--resume", "killed", "--vectorization", "native", cwd=tmp_path)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["reinforce", "a2c", "ppo_continuous", "td3"])
def test_resume_compiled(script, tmp_path):
    check(script, [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", "2", "--compile"], tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_resume_everywhere(script, task, num_envs, vectorization, tmp_path):
    options = [*SMALL[script], "--env-id", f"{task}-v5", "--num-envs", str(num_envs), "--vectorization", vectorization]
    check(script, options, tmp_path, kills=3, seed=num_envs)
    shutil.rmtree(tmp_path)
