"""Bad usage: exit status 2, one line that names the option and the value, nothing created."""
import re

import pytest
from conftest import OFF_POLICY, ON_POLICY, SCRIPTS, run

BAD = [  # options, what the line must hold
    (["--nonsense", "1"], "--nonsense"),
    (["--gamma", "much"], "--gamma"),
    (["--gamma", "1.5"], "--gamma 1.5"),
    (["--gamma", "nan"], "--gamma nan"),
    (["--learning-rate", "0"], "--learning-rate 0.0"),
    (["--total-timesteps", "0"], "--total-timesteps 0"),
    (["--total-timesteps", "1e6"], "--total-timesteps"),
    (["--num-envs", "0"], "--num-envs 0"),
    (["--hidden-sizes", "64", "0"], "--hidden-sizes (64, 0)"),
    (["--vectorization", "fast"], "--vectorization"),
    (["--device", "tpu"], "--device tpu"),
    (["--device", "cuda:9"], "--device cuda:9"),
    (["--env-id", "NoSuchTask-v0"], "NoSuchTask"),
    (["--env-id", "no_such_module:Task-v0"], "no_such_module"),
    (["--env-id", "CartPole-v1"], "--env-id CartPole-v1"),
    (["--env-id", "FrozenLake-v1"], "--env-id FrozenLake-v1"),
    (["--resume", "nowhere"], "nowhere"),
    (["--evaluate", "nowhere"], "nowhere"),
]
BAD_OFF_POLICY = [
    (["--batch-size", "100", "--buffer-size", "50"], "--batch-size 100"),
    (["--learning-starts", "1000", "--total-timesteps", "1000"], "--learning-starts 1000"),
    (["--tau", "0"], "--tau 0.0"),
]
BAD_ON_POLICY = [(["--num-envs", "8", "--num-steps", "200", "--total-timesteps", "100"], "--total-timesteps 100"),
                 (["--max-grad-norm", "-1"], "--max-grad-norm -1.0")]
CASES = [(script, *case) for script in SCRIPTS
         for case in BAD[:: 1 if script in ("td3", "ppo_continuous") else 4]
         + (BAD_OFF_POLICY if script in OFF_POLICY else BAD_ON_POLICY if script != "reinforce" else [])]


@pytest.mark.parametrize("script, options, names", CASES, ids=lambda x: " ".join(x) if isinstance(x, list) else None)
def test_bad_usage(script, options, names, tmp_path):
    said = run(script, *options, cwd=tmp_path, status=2)
    assert said.stdout == "" and said.stderr.count("\n") == 1
    assert said.stderr.startswith(f"{script}.py: ") and names in said.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_is_never_written_over(script, tmp_path):
    (tmp_path / "run").mkdir()
    said = run(script, "--run-dir", "run", cwd=tmp_path, status=2)
    assert "--run-dir run: exists" in said.stderr and not list((tmp_path / "run").iterdir())


def test_options_of_a_run_are_fixed(tmp_path):
    script = ON_POLICY[0]
    run(script, "--env-id", "Pendulum-v1", "--total-timesteps", "2400", "--run-dir", "run", cwd=tmp_path)
    said = run(script, "--resume", "run", "--gamma", "0.5", cwd=tmp_path, status=2)
    assert "--gamma 0.5: cannot change now, this run has 0.99" in said.stderr
    said = run(script, "--resume", "run", "--total-timesteps", "1000", cwd=tmp_path, status=2)
    assert "--total-timesteps 1000: 2400 done" in said.stderr
    other = run(OFF_POLICY[0], "--resume", "run", cwd=tmp_path, status=2)
    assert "holds a run of reinforce.py" in other.stderr


def test_help_names_every_option_of_the_contract(script, tmp_path):
    said = run(script, "--help", cwd=tmp_path).stdout
    for option in ("env-id seed total-timesteps num-envs vectorization device num-threads compile eval-frequency "
                   "eval-episodes checkpoint-frequency run-dir resume evaluate capture-video track wandb-project-name "
                   "learning-rate gamma").split():
        assert re.search(rf"--{option}[ ,]", said), option
