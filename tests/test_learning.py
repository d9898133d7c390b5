"""Each script learns to balance the pendulum within seconds. An untrained policy scores 5 to 30."""
import pytest
from conftest import evaluations, run

ENOUGH = {  # options, return to reach
    "reinforce": (["--total-timesteps", "60000"], 300),
    "a2c": (["--total-timesteps", "60000"], 300),
    "ppo_continuous": (["--total-timesteps", "40960"], 300),
    "ddpg": (["--total-timesteps", "6000", "--learning-starts", "1000", "--hidden-sizes", "64", "64"], 40),
    "td3": (["--total-timesteps", "6000", "--learning-starts", "1000", "--hidden-sizes", "64", "64"], 60),
}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_learns(script, seed, tmp_path):
    options, enough = list(ENOUGH[script][0]), ENOUGH[script][1]
    options += ["--env-id", "InvertedPendulum-v5", "--eval-frequency", "0", "--seed", seed, "--run-dir", "run"]
    run(script, *options, cwd=tmp_path)
    assert float(evaluations(tmp_path / "run")[-1]["return_mean"]) > enough
