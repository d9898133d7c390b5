"""Toy tasks for hostile conditions, made as gym.make("toy_envs:Walk-v0"): fast, and strict about what they are given.

The environment variable TOY_FAULT, as in "reward nan 700", says what goes wrong in an environment from its 700th step:
`observation` or `reward` is multiplied by the number; `reset` or `step` raises; or the 3rd `make` in a process does."""
import os

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple


class Walk(gym.Env):
    """A random walk, pushed by the actions, that ends with a chance of 1/50 a step. Reward: minus the distance."""
    metadata, made = {"render_modes": []}, 0

    def __init__(self, obs=None, action=None, render_mode=None):
        self.observation_space = obs or Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = action or Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32))
        self.fault, number, step = (os.environ.get("TOY_FAULT") or "none nan 0").split()
        self.number, self.fatal, self.steps = float(number), int(step), 0
        Walk.made += 1
        self.go_wrong("make", Walk.made)

    def go_wrong(self, where, count):
        if self.fault == where and count >= self.fatal:
            raise ValueError(f"broken in {where}")

    def observe(self):
        space = self.observation_space
        self.x = np.clip(self.x, space.low, space.high)
        return self.x.astype(space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.go_wrong("reset", self.steps)
        self.x = self.np_random.normal(size=self.observation_space.shape)
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.steps += 1
        self.go_wrong("step", self.steps)
        self.x = 0.9 * self.x + self.np_random.normal(size=self.x.shape) + 0.1 * np.mean(action)
        obs, reward = self.observe(), -float(np.abs(self.x).mean())
        if self.steps >= self.fatal:
            obs = obs * self.number if self.fault == "observation" else obs
            reward = reward * self.number if self.fault == "reward" else reward
        return obs, reward, bool(self.np_random.random() < 1 / 50), False, {}


class Ordinary(gym.Env):
    """Has whatever spaces it is told, and samples from them."""
    def __init__(self, obs=None, action=None, render_mode=None):
        self.observation_space, self.action_space = obs or Box(-1, 1, (3,)), action or Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


GOOD = {  # spaces that every script must take
    "Walk": {},
    "Float64": {"obs": Box(-10, 10, (2,), np.float64), "action": Box(-0.1, 0.1, (2,), np.float64)},  # 0.1f > 0.1
    "Matrix": {"obs": Box(-np.inf, np.inf, (3, 4), np.float32), "action": Box(-2, 2, (2, 3), np.float32)},
    "Tensor": {"obs": Box(-np.inf, np.inf, (2, 2, 2), np.float64), "action": Box(0, 1, (1, 1, 1), np.float64)},
    "Asymmetric": {"action": Box(np.array([-1, 0, 5, -3], np.float32), np.array([1, 10, 5.5, -2], np.float32))},
    "Single": {"obs": Box(-1, 1, (1,), np.float32), "action": Box(-1, 1, (1,), np.float32)},
    "Scalar": {"obs": Box(-1, 1, (), np.float32), "action": Box(-1, 1, (), np.float32)},
    "Half": {"obs": Box(-1, 1, (3,), np.float16)},
    "Fixed": {"action": Box(np.array([-1, 2], np.float32), np.array([1, 2], np.float32))},
}
BAD = {  # spaces that every script must refuse
    "DiscreteObs": {"obs": Discrete(3)},
    "DictObs": {"obs": Dict(x=Box(-1, 1, (3,)))},
    "TupleObs": {"obs": Tuple([Box(-1, 1, (3,)), Box(-1, 1, (2,))])},
    "ImageObs": {"obs": Box(0, 255, (8, 8, 3), np.uint8)},
    "DiscreteAction": {"action": Discrete(3)},
    "DictAction": {"action": Dict(x=Box(-1, 1, (3,)))},
    "InfiniteAction": {"action": Box(-np.inf, np.inf, (2,))},
    "HalfInfiniteAction": {"action": Box(np.array([0, -1], np.float32), np.array([np.inf, 1], np.float32))},
    "IntegerAction": {"action": Box(-5, 5, (2,), np.int32)},
}
for kind, spaces in [(Walk, GOOD), (Ordinary, BAD)]:
    for name, kwargs in spaces.items():
        gym.register(f"{name}-v0", kind, max_episode_steps=40, kwargs=kwargs, disable_env_checker=True)
