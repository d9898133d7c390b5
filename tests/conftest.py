"""What the tests share: the scripts, options that make a run small, and running one as a user would."""
import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nursery import Nursery

torch.set_num_threads(1)  # two workers run side by side
ROOT = Path(__file__).resolve().parents[1]
ON_POLICY = [name for name in ("reinforce", "a2c", "ppo_continuous") if (ROOT / f"{name}.py").exists()]
OFF_POLICY = [name for name in ("ddpg", "td3") if (ROOT / f"{name}.py").exists()]
SCRIPTS = ON_POLICY + OFF_POLICY
# by default one script of each kind: what its tests see is in the plumbing, which is the same text in all
ONE_OF_EACH = pytest.mark.parametrize("script", ["a2c", "td3", *(
    pytest.param(name, marks=pytest.mark.slow) for name in SCRIPTS if name not in ("a2c", "td3"))])

OFF_POLICY_SMALL = ("--total-timesteps 2400 --eval-frequency 800 --eval-episodes 2 --checkpoint-frequency 300 "
                    "--hidden-sizes 32 32 --batch-size 32 --learning-starts 400 --buffer-size 1000").split()
SMALL = {  # seconds of training with several checkpoints, evaluations and, off-policy, a memory that wraps around
    "reinforce": "--total-timesteps 6000 --eval-frequency 2000 --eval-episodes 2 --checkpoint-frequency 1000".split(),
    "a2c": "--total-timesteps 8192 --eval-frequency 2000 --eval-episodes 2 --checkpoint-frequency 1000".split(),
    "ppo_continuous": ("--total-timesteps 8192 --eval-frequency 2048 --eval-episodes 2 --checkpoint-frequency 1000 "
                       "--num-steps 64 --num-minibatches 4 --update-epochs 2").split(),
    "ddpg": OFF_POLICY_SMALL,
    "td3": OFF_POLICY_SMALL,
}


def load(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


def command(script, *options):
    path = script if str(script).endswith(".py") else ROOT / f"{script}.py"
    return [sys.executable, str(path), *map(str, options)]


def environment():
    return os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT / "tests")}  # where audit_env.py is


def run(script, *options, cwd, status=0):
    """Runs a script to its end, in `cwd`. Returns the finished process; fails where its exit status is not `status`."""
    done = subprocess.run(command(script, *options), cwd=cwd, capture_output=True, text=True, env=environment())
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def evaluations(folder):
    """The rows of evaluations.csv without wall_seconds, as text: equal only where equal to the bit."""
    rows = list(csv.DictReader(open(folder / "evaluations.csv")))
    return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in rows]


def checkpoint(folder, name="checkpoint.pt"):
    return torch.load(folder / name, weights_only=True)


def flatten(value, name=""):
    """Every tensor and number in nested dicts and lists, by its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flatten(item, f"{name}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in flatten(item, f"{name}/{i}").items()}
    return {name: value}


def assert_same_run(a, b):
    """The runs have the same evaluations, episodes, weights, optimizers, environments, generators, to the bit."""
    assert evaluations(a) == evaluations(b)
    assert (a / "episodes.csv").read_bytes() == (b / "episodes.csv").read_bytes()
    left, right = flatten(checkpoint(a)), flatten(checkpoint(b))
    assert left.keys() == right.keys()
    timed = {"/wall_seconds", "/tables/evaluations.csv/0", "/tables/evaluations.csv/1"}  # has wall_seconds too
    for name in left.keys() - timed:
        same = torch.equal(left[name], right[name]) if torch.is_tensor(left[name]) else left[name] == right[name]
        assert same, f"{name} differs"


@pytest.fixture(scope="session")
def nursery():
    started = Nursery()
    yield started
    started.process.stdin.close()
    started.process.wait()


@pytest.fixture(scope="session")
def whole(nursery, tmp_path_factory):
    """The folder of an undisturbed run with these options, made once."""
    made, here = {}, tmp_path_factory.mktemp("whole")

    def folder(script, *options):
        if (script, *options) not in made:
            path = here / f"{script}{len(made)}"
            child = nursery.start(ROOT / f"{script}.py", *options, "--run-dir", path, cwd=here)
            assert child.wait() == 0, child.stderr
            made[script, *options] = path
        return made[script, *options]
    return folder
