"""People copy a script and change it: each of these edits trains, resumes and is evaluated."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL, checkpoint, evaluations

LAYER_NORM = (
    "layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]",
    "layers += [nn.Linear(fan_in, fan_out), nn.LayerNorm(fan_out), nn.ReLU()]",
)
OPTION = "    # options of this algorithm\n"
UHLENBECK = '''class Noise(nn.Module):
    """Ornstein-Uhlenbeck."""

    def __init__(self, action_size):
        super().__init__()
        self.state = nn.Buffer(torch.zeros(action_size))

    def forward(self):
        self.state.add_(-0.15 * self.state + 0.2 * torch.randn_like(self.state))
        return self.state


class Agent(nn.Module):'''
EDITS = {  # script; (what is replaced, by what) in its text
    "LayerNorm after the hidden layers": (
        "td3",
        [LAYER_NORM],
    ),
    "LayerNorm on-policy": (
        "a2c",
        [
            (
                "gain=math.sqrt(2)), nn.Tanh()]",
                "gain=math.sqrt(2)), nn.LayerNorm(fan_out), nn.Tanh()]",
            ),
        ],
    ),
    "dropout": (
        "ddpg",
        [
            (
                "layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]",
                "layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(0.5)]",
            ),
        ],
    ),
    "options that are a path and a list": (
        "a2c",
        [
            (
                OPTION,
                OPTION
                + """    table: Path = Path("table.csv")  # a file
    milestones: list[int] = field(default_factory=lambda: [10, 20])  # steps
""",
            ),
            (
                "    args = set_up(args)\n    device",
                "    assert args.table.suffix == '.csv' and args.milestones == [10, 20]\n"
                "    args = set_up(args)\n    device",
            ),
        ],
    ),
    "another activation": ("ddpg", [("nn.ReLU()", "nn.SiLU()")]),
    "AdamW": ("td3", [("torch.optim.Adam,", "torch.optim.AdamW,")]),
    "AdamW on-policy": ("ppo_continuous", [("torch.optim.Adam(", "torch.optim.AdamW(")]),
    "RMSprop": (
        "a2c",
        [("torch.optim.Adam(", "torch.optim.RMSprop("), (", eps=1e-5, fused=True", "")],
    ),
    "a critic of other widths": (
        "td3",
        [
            (
                OPTION,
                OPTION + "    critic_sizes: tuple[int, ...] = (24, 12)  # units of the critics\n",
            ),
            (
                "self.critic1 = Critic(obs_size, action_size, args.hidden_sizes)",
                "self.critic1 = Critic(obs_size, action_size, args.critic_sizes)",
            ),
        ],
    ),
    "a critic of other widths on-policy": (
        "a2c",
        [
            (
                OPTION,
                OPTION + "    critic_sizes: tuple[int, ...] = (24, 12)  # units of the critic\n",
            ),
            ("Critic(obs_size, args.hidden_sizes)", "Critic(obs_size, args.critic_sizes)"),
        ],
    ),
    "double precision": ("td3", [("args).to(device)\n", "args).to(device).double()\n")]),
    "double precision on-policy": (
        "ppo_continuous",
        [("envs.action_size, args).to(device)\n", "envs.action_size, args).to(device).double()\n")],
    ),
    "log-std that does not learn": (
        "ppo_continuous",
        [("torch.ones(action_size))", "torch.ones(action_size), False)")],
    ),
    "a wrapper": (
        "a2c",
        [
            (
                "    return env\n\n\ndef make_vector_env",
                "    return gym.wrappers.TransformReward(env, abs)\n\n\ndef make_vector_env",
            )
        ],
    ),
    "a learning-rate scheduler": (
        "td3",
        [
            (
                "        run.start(\n",
                "        scheduler = torch.optim.lr_scheduler.LinearLR(agent.actor_optimizer)\n"
                "        run.start(\n            scheduler=scheduler,\n",
            ),
            (
                "            # report\n",
                "            scheduler.step()\n\n            # report\n",
            ),
        ],
    ),
    "Ornstein-Uhlenbeck noise": (
        "ddpg",
        [
            ("class Agent(nn.Module):", UHLENBECK),
            (
                "        self.actor_parameters = list",
                "        self.noise = Noise(action_size)\n        self.actor_parameters = list",
            ),
            (
                "action + self.args.exploration_noise * torch.randn_like(action)",
                "action + self.noise()",
            ),
        ],
    ),
}


@pytest.fixture
def call_copy(call, monkeypatch, tmp_path):
    """Runs the command line of mine.py, loaded anew each time, in this process."""
    monkeypatch.syspath_prepend(tmp_path)

    def call_copy(*options, status=0):
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        return call("mine", *options, status=status)

    return call_copy


def check_scheduler(before, after, said, run_dir):
    """It goes on where it was: a step of the scheduler for each step of the run."""
    rounds = [state["scheduler"]["last_epoch"] for state in (before, after)]
    assert rounds[1] * before["step"] == rounds[0] * after["step"] > 0


def check_noise(before, after, said, run_dir):
    """Its state is saved."""
    states = [state["agent"]["noise.state"] for state in (before, after)]
    assert states[0].any()
    assert not states[0].equal(states[1])


def check_memory(before, after, said, run_dir):
    """It has double precision too."""
    assert np.load(next(run_dir.glob("replay.*.npy"))).dtype == np.float64


def check_dropout(before, after, said, run_dir):
    """Nothing is dropped in an evaluation, neither the run's own nor that of what it saved."""
    assert f"return {float(evaluations(run_dir)[-1]['return_mean']):.2f} " in said


MORE_CHECKS = {
    "a learning-rate scheduler": check_scheduler,
    "Ornstein-Uhlenbeck noise": check_noise,
    "double precision": check_memory,
    "dropout": check_dropout,
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{EDITS[edit][0]}: {edit}")
def test_an_edited_copy_trains_resumes_and_is_evaluated(edit, call_copy, tmp_path):
    script, replacements = EDITS[edit]
    text = (ROOT / f"{script}.py").read_text()
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "mine.py").write_text(text)
    options = [*SMALL[script], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run"]
    call_copy(*options, "--total-timesteps", 600)
    before = checkpoint(tmp_path / "run")
    call_copy("--resume", "run", "--total-timesteps", 900)
    after = checkpoint(tmp_path / "run")
    weights = before["agent"]
    moved = {name for name in weights if not weights[name].equal(after["agent"][name])}
    assert any(name.startswith("actor.") for name in moved)
    assert ("actor.log_std" in moved) == (script not in ("td3", "ddpg") and "does not" not in edit)
    said = call_copy("--evaluate", "run").out
    assert re.search("policy of step 900, .*return -?[0-9]", said)
    if edit in MORE_CHECKS:
        MORE_CHECKS[edit](before, after, said, tmp_path / "run")


WITH_PART = ("run.start(\n", "run.start(\n            mine=Mine(),\n")
PART = """class Mine:
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


"""


def write_copy_with_a_part(folder, part):
    text = (ROOT / "td3.py").read_text()
    for old, new in (WITH_PART, ("def train(args)", part + "def train(args)")):
        assert old in text
        text = text.replace(old, new)
    (folder / "mine.py").write_text(text)


def test_a_part_that_a_checkpoint_cannot_hold_is_refused_at_the_start(call_copy, capsys, tmp_path):
    write_copy_with_a_part(tmp_path, PART.replace("{}", "{'x': np.zeros(1)}"))
    options = [*SMALL["td3"], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run"]
    with pytest.raises(TypeError, match=r"a part's state_dict\(\) holds something"):
        call_copy(*options)
    assert "evaluation at step 0" not in capsys.readouterr().out


def test_a_part_that_becomes_one_that_a_checkpoint_cannot_hold_ends_the_run_not_the_checkpoint(
    call_copy, tmp_path
):
    """The state of its third checkpoint has an array."""
    state = "{'x': self.saves.pop(0)}"
    part = PART.replace(
        "class Mine:\n", "class Mine:\n    saves = [1, np.float64(2), np.zeros(1)]\n\n"
    )
    write_copy_with_a_part(tmp_path, part.replace("{}", state))
    options = [*SMALL["td3"], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run"]
    with pytest.raises(TypeError, match=r"a part's state_dict\(\) holds something"):
        call_copy(*options)
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["mine"] == {"x": 2.0}


def test_a_run_from_before_a_part_was_added_is_refused(call_copy, tmp_path):
    options = [*SMALL["td3"], "--env-id", "people_tasks:Plain-v0", "--run-dir", "run"]
    shutil.copy(ROOT / "td3.py", tmp_path / "mine.py")
    call_copy(*options, "--total-timesteps", 300)
    write_copy_with_a_part(tmp_path, PART)
    said = call_copy("--resume", "run", "--total-timesteps", 400, status=2)
    assert "--resume run: it has no mine" in said.err
