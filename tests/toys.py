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

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.eye(8, dtype=np.float32)[0], {}

    def step(self, action):
        self.t += 1
        return (np.eye(8, dtype=np.float32)[self.t % 8], *self.outcome(self.t == 8), {})


class LastReward(Chain):  # V(s_t) = γ^(7 − t)
    def outcome(self, over):
        return float(over), over, False


class Forever(Chain):  # reward 1, cut by a time limit only: V = 1 / (1 − γ)
    def outcome(self, over):
        return 1.0, False, over


class Bounds(Chain):  # remembers what it was told to do; the test sets `action_space`
    executed = []

    def step(self, action):
        self.executed.append(action)
        return super().step(action)

    outcome = LastReward.outcome


for task in LastReward, Forever, Bounds:
    gym.register(f"{task.__name__}-v0", task)


def labels(script):
    """The labels in a script's comments, such as "GAE-1" and "9"."""
    body = (ROOT / f"{script}.py").read_text().partition('"""\nimport')[2]
    return {
        label
        for comment in re.findall("#(.*)", body)
        for label in re.findall(r"\[((?:[A-Z]+-)?\d+)\]", comment)
    }


def carrying(label):
    """Runs a test for every script that carries the label."""
    return pytest.mark.parametrize(
        "name", [script for script in SCRIPTS if label in labels(script)]
    )


def options(module, **values):
    """The script's Args; values that this script has no option for are left out."""
    return module.Args(
        **{name: value for name, value in values.items() if hasattr(module.Args, name)}
    )


def make_agent(module, obs_size=3, action_size=2, seed=0, dtype=torch.float64, **values):
    """A small agent whose parameters, also those of its targets, are all random."""
    torch.manual_seed(seed)
    torch.set_default_dtype(dtype)
    try:
        agent = module.Agent(
            obs_size, action_size, options(module, **{"hidden_sizes": (4,), **values})
        )
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


def spy_gradients(module, monkeypatch, agent, meanwhile=None):
    """Replaces `backward`, without which no parameter moves: keeps each loss's gradient by name."""
    seen = []

    def keep(loss, optimizer, *rest):
        names = {id(p): name for name, p in agent.named_parameters()}
        parameters = optimizer.parameters
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        seen.append({names[id(p)]: grad for p, grad in zip(parameters, grads, strict=True)})
        if meanwhile:
            meanwhile(len(seen))

    monkeypatch.setattr(module, "backward", keep)
    return seen


def numeric_gradient(function, parameter, step=1e-5):
    """Central differences of a number with respect to a tensor, in place."""
    gradient = torch.zeros_like(parameter)
    with torch.no_grad():
        flat, out = parameter.view(-1), gradient.view(-1)
        for i, value in enumerate(flat.tolist()):
            high, low = [
                (flat[i].fill_(value + sign * step), float(function()))[1] for sign in (1, -1)
            ]
            flat[i] = value
            out[i] = (high - low) / (2 * step)
    return gradient


def train(module, monkeypatch, tmp_path, env_id, **values):
    """Trains for real, in this process; returns the agent."""
    agents, init = [], module.Agent.__init__

    def remember(self, *args):
        agents.append(self)
        init(self, *args)

    monkeypatch.setattr(module.Agent, "__init__", remember)
    torch.manual_seed(values.get("seed", 1))
    module.train(
        options(
            module,
            **{
                "env_id": env_id,
                "device": "cpu",
                "run_dir": tmp_path / "run",
                "eval_frequency": 0,
                "eval_episodes": 1,
                "checkpoint_frequency": 0,
                **values,
            },
        )
    )
    return agents[0]
