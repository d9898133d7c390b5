"""What the tests share: the scripts, options that make a run small, running one as a user would."""

import csv
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

torch.set_num_threads(1)  # two workers run side by side
ROOT = Path(__file__).resolve().parents[1]
ON_POLICY = ["reinforce", "a2c", "ppo_continuous"]
OFF_POLICY = ["ddpg", "td3"]
SCRIPTS = ON_POLICY + OFF_POLICY
# for what is the same text in all scripts: one of each kind by default, all where slow tests run
ONE_OF_EACH = pytest.mark.parametrize(
    "script",
    [
        pytest.param(name, marks=[] if name in ("a2c", "td3") else pytest.mark.slow)
        for name in SCRIPTS
    ],
)

# for what is the same in both kinds too, and takes long
TD3_ALONE = pytest.mark.parametrize(
    "script",
    [pytest.param(name, marks=[] if name == "td3" else pytest.mark.slow) for name in SCRIPTS],
)

# seconds of training with several checkpoints and evaluations, some of them due together, and,
# off-policy, a memory that wraps
OFF_POLICY_SMALL = [
    *("--total-timesteps", "1200", "--learning-starts", "200", "--batch-size", "16"),
    *("--buffer-size", "500", "--hidden-sizes", "16", "16"),
    *("--eval-frequency", "400", "--eval-episodes", "2", "--checkpoint-frequency", "200"),
]
ON_POLICY_SMALL = [
    *("--total-timesteps", "3000", "--num-envs", "2", "--hidden-sizes", "16", "16"),
    *("--eval-frequency", "1000", "--eval-episodes", "2", "--checkpoint-frequency", "500"),
]
SMALL = {
    "reinforce": ON_POLICY_SMALL,
    "a2c": ON_POLICY_SMALL,
    "ppo_continuous": [
        *ON_POLICY_SMALL,
        *("--num-steps", "64", "--num-minibatches", "4", "--update-epochs", "2"),
    ],
    "ddpg": OFF_POLICY_SMALL,
    "td3": OFF_POLICY_SMALL,
}


def load(name):
    """A script as a module, one of those in discrete/ too."""
    return importlib.import_module(name)


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


class Printed(NamedTuple):
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Runs a script's command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(script, *options, status=0):
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, options)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            load(script).main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        for number, handler in handlers.items():
            signal.signal(number, handler)
        printed = Printed(*capsys.readouterr())
        assert code == status, f"exit status {code}\n{printed.out}\n{printed.err}"
        return printed

    return call


def command(script, *options):
    path = script if str(script).endswith(".py") else ROOT / f"{script}.py"
    return [sys.executable, str(path), *map(str, options)]


def environment(**more):
    """Of a script's process: it finds the tasks of the tests."""
    return os.environ | {"PYTHONPATH": str(ROOT / "tests")} | more


def run(script, *options, cwd, status=0, **more):
    """Runs a script to its end as a process in `cwd`."""
    done = subprocess.run(
        command(script, *options),
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(**more),
    )
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def evaluations(folder):
    """The rows of evaluations.csv without wall_seconds, as text: equal where equal to the bit."""
    with open(folder / "evaluations.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["wall_seconds"]
    return rows


def checkpoint(folder, name="checkpoint.pt"):
    return torch.load(folder / name, weights_only=True)


def leaves(value, path=""):
    """Every tensor and number in nested dicts and lists, by its path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {path: value}
    found = {}
    for key, item in items:
        found |= leaves(item, f"{path}/{key}")
    return found


def assert_same_run(left, right, but=("/seconds", "/wall_seconds")):
    """Evaluations, episodes, weights, optimizers, environments, generators are equal to the bit."""
    assert evaluations(left) == evaluations(right)
    assert (left / "episodes.csv").read_bytes() == (right / "episodes.csv").read_bytes()
    a = leaves(checkpoint(left))
    b = leaves(checkpoint(right))
    assert a.keys() == b.keys()
    for name, value in a.items():
        if any(part in name for part in but):
            continue
        if torch.is_tensor(value):
            same = torch.allclose(value.double(), b[name].double(), 0, 0, equal_nan=True)
            assert same, f"{name} differs"
        else:
            assert value == b[name], f"{name} differs"
