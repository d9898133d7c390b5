"""Toy tasks whose values are known in closed form, and small agents, for the tests of the math."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ROOT, SCRIPTS


class Chain(gym.Env):
    """Eight steps; the observation is t modulo 8, one-hot. Actions change nothing."""

    observation_space = gym.spaces.Box(0, 1, (8,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.eye(8, dtype=np.float32)[0], {}

    def step(self, action):
        self.t += 1
        over = self.t == 8
        return np.eye(8, dtype=np.float32)[self.t % 8], *self.outcome(over), {}


class LastReward(Chain):
    """V(s_t) = γ^(7 − t)"""

    def outcome(self, over):
        return float(over), over, False


class Forever(Chain):
    """Reward 1, cut by a time limit only: V = 1 / (1 − γ)"""

    def outcome(self, over):
        return 1.0, False, over


class Bounds(LastReward):
    """Remembers what it was told to do; the test sets `action_space`."""

    executed = []

    def step(self, action):
        self.executed.append(action)
        return super().step(action)


for task in (LastReward, Forever, Bounds):
    gym.register(f"{task.__name__}-v0", task, disable_env_checker=True)


def labels(script):
    """The labels in a script's comments, such as "GAE-1" and "9"."""
    code = (ROOT / f"{script}.py").read_text().partition('"""\n\nimport')[2]
    comments = " ".join(re.findall("#(.*)", code))
    return set(re.findall(r"\[((?:[A-Z]+-)?\d+)\]", comments))


def carrying(label):
    """Runs a test for every script that carries the label."""
    return pytest.mark.parametrize("name", [name for name in SCRIPTS if label in labels(name)])


def options(module, **values):
    """The script's Args; values that this script has no option for are left out."""
    known = {name: value for name, value in values.items() if hasattr(module.Args, name)}
    return module.Args(**known)


def make_agent(module, obs_size=3, action_size=2, seed=0, dtype=torch.float64, **values):
    """A small agent whose parameters, also those of its targets, are all random."""
    torch.manual_seed(seed)
    torch.set_default_dtype(dtype)
    small = {"hidden_sizes": (4,), "max_grad_norm": 1e9}
    try:
        agent = module.Agent(obs_size, action_size, options(module, **(small | values)))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.normal_(0, 0.5)
    return agent


class Raw(torch.nn.Module):
    """In place of the reward scaler: leaves rewards as they are."""

    def forward(self, reward, done):
        return reward


def learn(agent, data, update=0, scaler=None):
    """One whole update, as the training loop makes it."""
    if hasattr(agent, "update"):
        return agent.update(data, scaler or Raw())
    if hasattr(agent, "update_critic"):
        metrics = agent.update_critic(data)
    else:
        metrics = agent.update_critics(data)
    if update % getattr(agent.args, "policy_frequency", 1) == 0:
        metrics |= agent.update_actor(data)
        agent.update_targets()
    return metrics


def keep_gradients(agent, meanwhile=None):
    """Lets no parameter move; keeps each update's gradients by name."""
    names = {id(parameter): name for name, parameter in agent.named_parameters()}
    kept = []

    def keeper(optimizer):
        def keep():
            gradients = {}
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    gradient = parameter.grad
                    if gradient is None:
                        gradient = torch.zeros_like(parameter)
                    gradients[names[id(parameter)]] = gradient.clone()
            kept.append(gradients)
            if meanwhile is not None:
                meanwhile(len(kept))

        return keep

    for optimizer in optimizers(agent):
        optimizer.step = keeper(optimizer)
    return kept


def optimizers(agent):
    if hasattr(agent, "optimizer"):
        return [agent.optimizer]
    return [agent.critic_optimizer, agent.actor_optimizer]


def numeric_gradient(function, parameter, step=1e-5):
    """Central differences of a number with respect to a tensor, in place."""
    gradient = torch.zeros_like(parameter)
    with torch.no_grad():
        flat = parameter.view(-1)
        out = gradient.view(-1)
        for i, value in enumerate(flat.tolist()):
            flat[i] = value + step
            high = float(function())
            flat[i] = value - step
            low = float(function())
            flat[i] = value
            out[i] = (high - low) / (2 * step)
    return gradient


def train(module, monkeypatch, tmp_path, env_id, **values):
    """Trains for real, in this process; returns the agent and what else the run saves, by name."""
    parts = {}
    start = module.Run.start

    def remember(self, **given):
        parts.update(given)
        start(self, **given)

    monkeypatch.setattr(module.Run, "start", remember)
    usual = {
        "env_id": env_id,
        "device": "cpu",
        "run_dir": tmp_path / "run",
        "eval_frequency": 0,
        "eval_episodes": 1,
        "checkpoint_frequency": 0,
        "vectorization": "sync",
    }
    module.train(options(module, **(usual | values)))
    return parts
