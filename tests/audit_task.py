"""A task whose observations say what happened: made as gym.make("audit_task:Audit-v0")."""

import gymnasium as gym
import numpy as np


class Audit(gym.Env):
    """Observation: (identity, t, last action), identity drawn from the seed, one for each episode.

    Reward: 1000 identity + t. Ends when t is 3 + identity modulo 5, by
    termination, truncation or both.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32))
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)

    def observe(self, action):
        return np.array([self.identity, self.t, *action], np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.identity = int(self.np_random.integers(10_000))
        self.t = 0
        return self.observe((0, 0)), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        over = self.t >= 3 + self.identity % 5
        terminated = over and self.identity % 3 != 1
        truncated = over and self.identity % 3 != 0
        return self.observe(action), 1000.0 * self.identity + self.t, terminated, truncated, {}


class AuditOfNumberedActions(Audit):
    """The same with actions from 2 to 6."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Discrete(5, start=2)

    def observe(self, action):
        return np.array([self.identity, self.t, np.ravel(action)[0]], np.float64)


gym.register("Audit-v0", Audit)
gym.register("AuditOfNumberedActions-v0", AuditOfNumberedActions)
