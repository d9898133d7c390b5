"""Tasks of images for the tests of dqn_atari.py: made as gym.make("pixel_tasks:WhichWay-v0")."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

SIZE = 36
SPEED = 3


class WhichWay(gym.Env):
    """A ball goes around on a ring, always to the left or always to the right. Say which.

    A right answer gives 1, a wrong one -1; the first one counts nothing, since nothing has moved
    yet. One frame shows the place of the ball, and at each moment each place is as likely with the
    one direction as with the other. So a policy that sees one frame is right as often as it is
    wrong, whatever it does: its expected return is 0. Two frames show the direction: 9 of 9.
    """

    answers = 10  # of an episode

    def __init__(self, colours=False):
        self.colours = colours
        shape = (SIZE, SIZE, 3) if colours else (SIZE, SIZE)
        self.observation_space = Box(0, 255, shape, np.uint8)
        self.action_space = Discrete(2)  # left, right

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start(self.np_random.integers(SIZE), self.np_random.integers(2))
        return self.frame(), {}

    def start(self, place, direction):
        self.place = int(place)
        self.direction = int(direction)
        self.steps = 0

    def frame(self):
        image = np.zeros(self.observation_space.shape, np.uint8)
        for i in range(6):
            image[14:20, (self.place + i) % SIZE] = 255
        return image

    def step(self, action):
        reward = 1.0 if action == self.direction else -1.0
        if self.steps == 0:
            reward = 0.0
        self.place = (self.place + SPEED * (2 * self.direction - 1)) % SIZE
        self.steps += 1
        return self.frame(), reward, self.steps == self.answers, False, {}


class Numbered(gym.Env):
    """Each of its frames, and each reward, is one of a kind. Episodes of 1 to 12 steps, which end
    one way or the other."""

    def __init__(self):
        self.observation_space = Box(0, 255, (SIZE, SIZE), np.uint8)
        self.action_space = Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.np_random.integers(1, 13)
        return self.frame(), {}

    def frame(self):
        return self.np_random.integers(256, size=(SIZE, SIZE), dtype=np.uint8)

    def step(self, action):
        self.left -= 1
        ends = self.left == 0
        reward = self.np_random.normal()
        is_final = bool(ends and self.np_random.random() < 0.5)
        return self.frame(), reward, is_final, bool(ends and not is_final), {}


gym.register("WhichWay-v0", WhichWay)
gym.register("Numbered-v0", Numbered)
