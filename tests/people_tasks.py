"""Small tasks as people write them, for the tests: made as gym.make("people_tasks:Plain-v0")."""

import os
import random
import socket
import time
import zlib

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple


class Point(gym.Env):
    """A point that the action pushes. Its constructor takes no render_mode."""

    def __init__(self, bound=1.0, dtype=np.float32):
        self.observation_space = Box(-10, 10, (2,), dtype)
        self.action_space = Box(-bound, bound, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).clip(-9, 9)
        return self.observe(), {}

    def observe(self):
        return self.x.astype(self.observation_space.dtype)

    def reward(self):
        return -float(np.abs(self.x).sum())

    def step(self, action):
        assert self.action_space.contains(action), action
        self.x = np.clip(self.x + 0.1 * action, -9, 9)
        return self.observe(), self.reward(), False, False, {}


class Goal(Point):
    """Observations in a Dict, one of whose entries is a Tuple."""

    def __init__(self):
        super().__init__()
        place = Box(-10, 10, (2,), np.float64)
        self.observation_space = Dict(
            position=place,
            goal=Tuple([Box(-1, 1, (1, 2)), Box(0, 255, (1,), np.uint8), Discrete(3)]),
        )

    def observe(self):
        return {"position": self.x, "goal": (np.ones((1, 2), np.float32), np.array([7]), 2)}


class Kinds(Point):
    """Numbers of every kind that Gymnasium's checker lets pass."""

    def __init__(self, reward="float64", end="bool", dtype="float32"):
        super().__init__(dtype=np.float32 if dtype == "uint8" else np.dtype(dtype).type)
        self.kinds = (reward, end)
        if dtype == "uint8":
            self.observation_space = Box(0, 20, (2,), np.uint8)

    def observe(self):
        if self.observation_space.dtype == np.uint8:
            return (self.x + 10).astype(np.uint8)
        return super().observe()

    def step(self, action):
        obs, reward, *_ = super().step(action)
        reward = 10 * reward
        rewards = {
            "float64": np.float64(reward),
            "float32": np.float32(reward),
            "int": int(reward),
            "int64": np.int64(reward),
            "bool": bool(reward < -1),
            "array": np.array([reward]),
            "scalar array": np.array(reward),
        }
        ends = {"bool": False, "numpy": np.bool_(False), "int": 0, "array": np.array([False])}
        end = ends[self.kinds[1]]
        return obs, rewards[self.kinds[0]], end, end, {}


class Wrong(Point):
    """Returns something wrong, from the third step on."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.steps = 0

    def reset(self, **options):
        obs, info = super().reset(**options)
        if self.what == "reset without info":
            return obs
        if self.what == "nan first observation":
            obs = obs * np.float32(np.nan)
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        if self.steps < 3:
            return obs, reward, terminated, truncated, info
        if self.what == "reward None":
            reward = None
        if self.what == "reward of shape (2,)":
            reward = np.zeros(2)
        if self.what == "observation of shape (3,)":
            obs = np.zeros(3, np.float32)
        if self.what == "terminated None":
            terminated = None
        if self.what == "four values":
            return obs, reward, terminated, info
        if self.what == "nan observation":
            obs = obs * np.float32(np.nan)
        if self.what == "infinite reward":
            reward = np.inf
        return obs, reward, terminated, truncated, info


class Broken(Point):
    """A mistake in the task: people want to see where."""

    def __init__(self, where="step", unpicklable=False):
        super().__init__()
        self.where = where
        self.unpicklable = unpicklable

    def fail(self):
        if not self.unpicklable:
            return {}["speed"]

        class LocalError(Exception):
            def __init__(self, number, text):
                super().__init__(text)
                self.file = open(os.devnull)  # noqa: SIM115

        raise LocalError(3, "no speed")

    def reset(self, **options):
        if self.where == "reset":
            self.fail()
        return super().reset(**options)

    def step(self, action):
        if self.where == "step":
            self.fail()
        return super().step(action)


class Reach(Point):
    """No time limit. Noise reaches the goal; a mean action near 0 never does."""

    def step(self, action):
        self.x = self.x + 0.3 * np.round(action)
        return (
            self.x.clip(-10, 10).astype(np.float32),
            -0.01,
            bool(abs(self.x).max() > 5),
            False,
            {},
        )


class GlobalNoise(Point):
    """Randomness from np.random and random; the seed of reset is not used."""

    def reset(self, *, seed=None, options=None):
        self.x = np.random.normal(size=2)
        return self.observe(), {}

    def step(self, action):
        self.x = (0.9 * self.x + 0.2 * np.random.normal(size=2)).clip(-9, 9)
        return self.observe(), self.reward(), random.random() < 0.05, False, {}


class TorchNoise(Point):
    """Randomness from PyTorch, as of a learned model."""

    def step(self, action):
        self.x = torch.randn(2).numpy().clip(-9, 9)
        return self.observe(), self.reward(), False, False, {}


class Undetermined(Point):
    """Neither seed nor actions determine it."""

    def step(self, action):
        obs, *rest = super().step(action)
        noise = int.from_bytes(os.urandom(1)) / 1000
        return np.clip(obs + noise, -10, 10).astype(np.float32), *rest


class RaggedInfo(Point):
    """An info whose arrays change their length."""

    def step(self, action):
        *rest, _ = super().step(action)
        contacts = np.zeros(self.np_random.integers(1, 4))
        return *rest, {"contacts": contacts, "names": ["a"], "nested": {"x": contacts}}


class Success(Point):
    """Tells at the end whether it succeeded; every third episode does."""

    def reset(self, *, seed=None, options=None):
        self.succeeds = seed % 3 == 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, {"is_success": np.bool_(self.succeeds)}


class SuccessOfEvenSeeds(Point):
    """Tells of success in episodes with an even seed, and nothing in the others."""

    def reset(self, *, seed=None, options=None):
        self.tells = seed % 2 == 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        *rest, info = super().step(action)
        if self.tells:
            info["is_success"] = True
        return *rest, info


class SuccessUntilTheLastStep(Point):
    """Succeeds, but not to the end: the fifth step is terminal."""

    def reset(self, **options):
        self.steps = 0
        return super().reset(**options)

    def step(self, action):
        obs, reward, *_ = super().step(action)
        self.steps += 1
        return obs, reward, self.steps == 5, False, {"is_success": self.steps < 5}


class ChangesItsAction(Point):
    """Works on the action that it gets, in place."""

    def step(self, action):
        action *= 0.5
        return super().step(action)


class Remembers(Point):
    """Its reward is the number of its episode."""

    episode = 0

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, self.episode, terminated, truncated, info


class OneInstance(Point):
    """A simulator of which one instance can run at a time: it holds a port until close()."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    servers = []  # so that Python's garbage collection frees no port

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode
        # each test has a folder, and so a port, of its own
        port = 20_000 + zlib.crc32(os.getcwd().encode()) % 12_000
        self.server = socket.create_server(("127.0.0.1", port))
        self.servers.append(self.server)

    def render(self):
        return np.zeros((64, 64, 3), dtype=np.uint8)

    def close(self):
        self.server.close()


class NoScreen(Point):
    """It has frames, but not on this machine."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        raise RuntimeError("no display")


class NoFrame(NoScreen):
    """Says that it has frames, but render() is not written yet."""

    def render(self):
        pass


class NoRenderModes(Point):
    metadata = {"render_modes": None}


class SlowSteps(Point):
    """No time limit, and steps that take their time."""

    def __init__(self, pause=0.15):
        super().__init__()
        self.pause = float(os.environ.get("SECONDS_PER_STEP", pause))
        self.announced = "ANNOUNCE_STEPS" not in os.environ

    def step(self, action):
        if not self.announced:
            print("steps of the task begin", flush=True)
            self.announced = True
        time.sleep(self.pause)
        return super().step(action)


class Shifted(Point):
    """Three actions, which are numbered from 5."""

    def __init__(self):
        super().__init__()
        self.action_space = Discrete(3, start=5)

    def step(self, action):
        assert self.action_space.contains(action), action
        self.x = np.clip(self.x + 0.1 * (action - 6), -9, 9)
        return self.observe(), self.reward(), False, False, {}


class Parts(Point):
    """An action has two parts, each from a few."""

    def __init__(self):
        super().__init__()
        self.action_space = MultiDiscrete([2, 3])


gym.register("Plain-v0", Point, max_episode_steps=50)
gym.register("Goal-v0", Goal, max_episode_steps=50)
gym.register("Kinds-v0", Kinds, max_episode_steps=50)
gym.register("Wrong-v0", Wrong, max_episode_steps=50, disable_env_checker=True)
# without any of Gymnasium's wrappers
gym.register("WrongBare-v0", Wrong, disable_env_checker=True, order_enforce=False)
gym.register("Broken-v0", Broken, max_episode_steps=50)
gym.register("Reach-v0", Reach)
gym.register("GlobalNoise-v0", GlobalNoise, max_episode_steps=50)
gym.register("Undetermined-v0", Undetermined, max_episode_steps=500)
gym.register("RaggedInfo-v0", RaggedInfo, max_episode_steps=50)
gym.register("Success-v0", Success, max_episode_steps=50)
gym.register("SuccessOfEvenSeeds-v0", SuccessOfEvenSeeds, max_episode_steps=50)
gym.register("ChangesItsAction-v0", ChangesItsAction, max_episode_steps=50)
gym.register("Remembers-v0", Remembers, max_episode_steps=10)
gym.register("TorchNoise-v0", TorchNoise, max_episode_steps=50)
gym.register("NoFrame-v0", NoFrame, max_episode_steps=50)
gym.register("NoRenderModes-v0", NoRenderModes, max_episode_steps=50)
gym.register("SuccessUntilTheLastStep-v0", SuccessUntilTheLastStep, max_episode_steps=50)
gym.register("OneInstance-v0", OneInstance, max_episode_steps=50)
gym.register("NoScreen-v0", NoScreen, max_episode_steps=50)
gym.register("SlowSteps-v0", SlowSteps)
gym.register("Shifted-v0", Shifted, max_episode_steps=50)
gym.register("Parts-v0", Parts, max_episode_steps=50)
gym.register("Flattened-v0", lambda: gym.wrappers.FlattenObservation(Goal()), max_episode_steps=50)
gym.register(
    "FlattenedBySpec-v0",
    Goal,
    max_episode_steps=50,
    additional_wrappers=(gym.wrappers.FlattenObservation.wrapper_spec(),),
)
gym.register(  # the wrapper's own action space has no bounds
    "Clipped-v0", lambda: gym.wrappers.ClipAction(Point(2.0)), max_episode_steps=50
)
gym.register(  # from the lowest to the largest float32, whose difference is infinite
    "VeryWide-v0", lambda: Point(np.finfo(np.float32).max), max_episode_steps=50
)
gym.register(
    "Rescaled-v0",
    lambda: gym.wrappers.RescaleAction(Point(2.0), np.float32(-1), np.float32(3)),
    max_episode_steps=50,
)
