# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch>=2.13", "gymnasium[mujoco]>=1.4", "mujoco>=4", "numpy>=2", "tyro", "tensorboard",
#     "tqdm", "moviepy",
# ]
# ///
"""REINFORCE, Monte Carlo policy gradient (Williams 1992, https://doi.org/10.1007/BF00992696).

On-policy: the actor is a Gaussian N(μ(s), σ²). It learns from whole episodes: an update follows as
soon as each environment has finished one.

    G_t = Σ γᵏ r_{t+k}, to the end of the episode
    actor: maximise Σ_t log π(a_t|s_t) (G_t − b_t)      b_t: the mean of G_t in earlier episodes

The algorithm is in sections 3 to 6. Sections 2 and 7 (environments; folders, checkpoints, command
line) are the same text in all five scripts. Labels such as [PG-1] number the equations, as the
derivations in docs/ do.
"""

import contextlib
import copy
import csv
import dataclasses
import errno
import functools
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import pickle
import platform
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import uuid
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args, get_origin

import gymnasium as gym
import mujoco
import numpy as np
import torch
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

try:
    import native_mujoco  # optional: the MuJoCo tasks as fast vector environments
except ImportError:
    native_mujoco = None

# ── 1  options ───────────────────────────────────────────────────────────────────────────────────

Json = Annotated[dict, tyro.conf.arg(constructor=json.loads, metavar="JSON")]


@dataclass
class Args:
    """All options: `reinforce.train(reinforce.Args(env_id="Hopper-v5"))`."""

    # options of every script
    env_id: str = "HalfCheetah-v5"  # Gymnasium task; my_module:MyTask-v0 for one of your own
    env_kwargs: Json = field(default_factory=dict)  # options of the task: '{"frame_skip": 2}'
    max_episode_steps: int | None = None  # time limit in steps; None: the task's own
    seed: int = 1  # seed of the networks, the environments and all noise
    total_timesteps: int = 1_000_000  # environment steps, summed over all environments
    # how environments step: sync, one after the other; async, each in a process of its own; native,
    # by native_mujoco.py; auto, native if possible, else sync
    vectorization: Literal["auto", "sync", "async", "native"] = "auto"
    device: str = "auto"  # cpu, cuda, cuda:1 or mps; auto: a CUDA GPU if there is one, else cpu
    num_threads: int = 1  # CPU threads; more can help if nothing else is running
    # precision of float32 matrix products, as torch.set_float32_matmul_precision takes it
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    compile: bool = False  # compile the updates with torch.compile
    # environment steps between evaluations; 0: evaluate at the start and the end only
    eval_frequency: int = 50_000
    # episodes per evaluation; with 1 here and --num-envs 1, only one simulator is open at a time:
    # each evaluation closes training's, which is then made anew and its actions replayed
    eval_episodes: int = 10
    eval_max_steps: int = 30_000  # steps after which an evaluation cuts an episode short
    # environment steps between checkpoints; 0: save at the start and the end only
    checkpoint_frequency: int = 50_000
    run_dir: Path | None = None  # folder of the new run; None: a new folder in runs/
    resume: Path | None = None  # folder of a run to continue exactly where it was saved
    evaluate: Path | None = None  # folder of a run whose policy to evaluate, without training
    # with --evaluate: the policy of the best evaluation instead of the last; add another --seed to
    # test it on episodes that did not select it
    best: bool = False
    init_from: Path | None = None  # folder of a run whose weights this new run starts from
    capture_video: bool = False  # record each evaluation's first episode, held in memory
    track: bool = False  # log to Weights & Biases too
    wandb_project_name: str = "continuous-control"  # project in Weights & Biases

    # options of this algorithm
    num_envs: int = 4  # N, environments that step together
    hidden_sizes: tuple[int, ...] = (64, 64)  # units of each hidden layer
    initial_log_std: float = -0.5  # log σ of the policy at the start; actions lie in [-1, 1]
    gamma: float = 0.99  # γ, discount factor
    baseline_steps: int = 1000  # time steps with a baseline of their own; later ones share the last
    learning_rate: float = 3e-3  # learning rate of Adam
    anneal_lr: bool = True  # let the learning rate fall linearly to 0 over the run
    max_grad_norm: float = 0.5  # largest norm of the gradient, of all parameters together


def check_algorithm_args(args):
    for name in ("num_envs", "baseline_steps"):
        must_be_at_least(1, name, args)
    for name in ("learning_rate", "max_grad_norm"):
        must_be_at_least(0, name, args)
    must_be_sizes("hidden_sizes", args)
    must_be_fraction("gamma", args)
    if args.num_envs > args.total_timesteps:
        raise UsageError(
            f"--num-envs {args.num_envs}: must be at most --total-timesteps {args.total_timesteps}"
        )


# ── 2  environments: the same text in all scripts ────────────────────────────────────────────────


class Transition(NamedTuple):
    """One step of N environments; a batch [B] or a rollout [T, N] of them has the same fields."""

    obs: torch.Tensor  # s [N, O]
    action: torch.Tensor  # a [N, A]
    reward: torch.Tensor  # r [N]
    next_obs: torch.Tensor  # s′ [N, O], never the observation of a reset
    terminated: torch.Tensor  # [N], 1 where s′ is final: nothing follows, its value is 0
    truncated: torch.Tensor  # [N], 1 where a time limit ends the episode: s′ still has a value


class Episode(NamedTuple):
    """An episode of one environment, when it ends."""

    env: int  # which of the N environments
    global_step: int  # environment steps that the run had made by then
    total_reward: float
    length: int
    success: float | None  # the last info["is_success"], None if there was none


def make_env(args, **options):
    """One environment, for training, evaluation and video. Change or wrap it here.

    `options` go to gym.make; recording passes render_mode. A wrapper that scales rewards scales the
    returns of evaluations too. What a wrapper learns, such as the statistics of
    NormalizeObservation, is neither saved nor shared with evaluations.
    """
    env = gym.make(
        args.env_id,
        max_episode_steps=args.max_episode_steps,
        **args.env_kwargs,
        **options,
    )
    return env


def make_vector_env(args, num_envs, video_folder=None):
    """`num_envs` environments that step together, and the name of the backend.

    sync, async and native give the same numbers, except for tasks that use Python's or NumPy's
    global generator, which sync environments share: with several of them such a task does not
    resume exactly. A task that uses PyTorch's generator resumes exactly with async only, since it
    shares it with the networks otherwise.
    """
    if args.vectorization == "async" and video_folder is None:
        env_fn = functools.partial(make_worker_task, args, os.getpid())
        envs = gym.vector.AsyncVectorEnv([env_fn] * num_envs, autoreset_mode="Disabled")
        return envs, "async"

    backend = "sync"
    if args.vectorization in ("auto", "native") and video_folder is None:
        reason = "native_mujoco.py could not be imported"
        if native_mujoco is not None:
            env = make_env(args)
            try:
                return native_mujoco.vectorize(env, num_envs, args.num_threads), "native"
            except ValueError as error:  # a wrapped or changed task, or not a MuJoCo task
                reason = error
        if args.vectorization == "native":
            raise UsageError(f"--vectorization native: {reason}")
        backend = f"sync, not native: {reason}"

    env_fns = [functools.partial(make_task, args)] * num_envs
    if video_folder is not None:
        env_fns[0] = functools.partial(make_filmed_task, args, video_folder)
    return gym.vector.SyncVectorEnv(env_fns, autoreset_mode="Disabled"), backend


class Task(gym.Wrapper):
    """Any task, with observations as a flat float32 vector and with plain Python numbers.

    A reset seeds `random` and np.random too, for tasks that draw from them. If the task
    returns something malformed, an error names it. Of `info` only is_success is kept. To change a
    task, wrap it in `make_env`: not all backends use this class.
    """

    def __init__(self, env):
        super().__init__(env)
        self.task_space = env.observation_space
        size = gym.spaces.flatdim(self.task_space)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(self, *, seed=None, options=None):
        random.seed(seed)
        np.random.seed(seed)
        result = self.env.reset(seed=seed)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"the task's reset() must return (observation, info), not {result!r}")
        return self.flat(result[0]), {}

    def step(self, action):
        expected = "(observation, reward, terminated, truncated, info)"
        try:
            result = self.env.step(action)
        except ValueError as error:
            raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
            if "unpack (expected 5" in str(error) and "gymnasium" in raised_in:
                raise TypeError(f"the task's step() must return {expected}") from error
            raise
        if not isinstance(result, tuple) or len(result) != 5:
            raise TypeError(f"the task's step() must return {expected}, not {result!r}")
        obs, reward, terminated, truncated, info = result
        if not isinstance(info, dict):
            raise TypeError(f"the task's info must be a dict, not {info!r}")
        reward = to_number("reward", reward)
        terminated = bool(to_number("terminated", terminated))
        truncated = bool(to_number("truncated", truncated))
        kept = {}
        if "is_success" in info:
            kept["is_success"] = to_number('info["is_success"]', info["is_success"])
        return self.flat(obs), reward, terminated, truncated, kept

    def flat(self, obs):
        """An observation of the task → float32 [O]."""
        try:
            must_fit(self.task_space, obs)
            if not isinstance(self.task_space, gym.spaces.Box):  # such as a Dict of Boxes
                return gym.spaces.flatten(self.task_space, obs).astype(np.float32)
            return np.asarray(obs, dtype=np.float32).reshape(-1)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise TypeError(
                f"the task's observation must match its observation_space {self.task_space}, "
                f"not {obs!r} ({error})"
            ) from None


def must_fit(space, obs):
    """Refuses an observation that gym.spaces.flatten would silently misread.

    The bounds of a Box may be exceeded.
    """
    if isinstance(space, gym.spaces.Box):
        if np.shape(obs) != space.shape:
            raise ValueError(f"a shape is {np.shape(obs)}, not {space.shape}")
    elif isinstance(space, gym.spaces.Dict):
        for name, part in space.spaces.items():
            must_fit(part, obs[name])
    elif isinstance(space, gym.spaces.Tuple):
        for part, value in zip(space.spaces, obs, strict=True):
            must_fit(part, value)
    elif not space.contains(obs):
        raise ValueError(f"{obs!r} is not in {space}")


def to_number(name, value):
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"the task's {name} must be a number, not {value!r}")
    return float(array.item())


class WorkerTask(Task):
    """A task in a process of its own.

    It sends errors to the main process as text, since not every exception can be pickled, and it
    seeds PyTorch's generator too: every process starts with the same copy of it.
    """

    def reset(self, **options):
        torch.manual_seed(options["seed"])
        return self.with_traceback(super().reset, **options)

    def step(self, action):
        return self.with_traceback(super().step, action)

    def with_traceback(self, function, *args, **options):
        try:
            return function(*args, **options)
        except Exception:
            raise RuntimeError(f"in an environment's process:\n{traceback.format_exc()}") from None


def make_task(args):
    return Task(make_env(args))


def make_worker_task(args, main_process):
    if os.getpid() != main_process:
        for number in stop_signals():
            signal.signal(number, signal.SIG_IGN)  # the main process handles it
    return WorkerTask(make_env(args))


def make_filmed_task(args, video_folder):
    env = make_rendering_env(args)
    return Task(gym.wrappers.RecordVideo(env, str(video_folder), lambda episode: episode == 0))


def make_rendering_env(args):
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")  # renders without a screen, as "osmesa" does
    env = make_env(args, render_mode="rgb_array")
    # MuJoCo's walking tasks have a camera that follows the robot
    with contextlib.suppress(AttributeError, KeyError):
        camera = env.unwrapped.model.camera("track")
        if not any("camera" in name for name in args.env_kwargs):
            env.unwrapped.mujoco_renderer.camera_id = camera.id
    return env


def print_mujoco_warning(text):
    if "deprecated" not in text:  # caused by Gymnasium's models, not by the user
        print(f"MuJoCo: {text}", file=sys.stderr)


# otherwise MuJoCo writes its warnings to a file in the user's folder
mujoco.set_mju_user_warning(print_mujoco_warning)


def scale_action(action, space):
    """From [-1, 1] to the bounds of the task: [N, A] → [N, *shape of an action].

    A Gaussian policy can leave [-1, 1]: the task gets the clipped action, the algorithm learns from
    the one that was drawn.
    """
    unit = action.reshape(-1, *space.shape)
    scaled = space.low + (unit + 1) / 2 * (space.high - space.low)  # [ACT-1] to the bounds
    return scaled.clip(space.low, space.high).astype(space.dtype)  # [ACT-1] clipped


class Environments:
    """N environments as the algorithm sees them: flat float32 tensors, actions in [-1, 1].

    Resuming needs the simulators in the exact state they had, which most cannot save. So each
    episode starts from a seed of its own, a checkpoint keeps the seeds and the actions of the
    unfinished episodes, and `replay` plays them again.
    """

    def __init__(self, args, num_envs, device, purpose="training", video_folder=None):
        self.args = args
        self.num_envs = num_envs
        self.device = device
        self.purpose = purpose
        self.video_folder = video_folder
        self.global_step = 0
        self.is_stepping = False  # stays True if Ctrl-C interrupts a step
        self.open()
        self.action_space = self.envs.single_action_space
        self.obs_size = math.prod(self.envs.single_observation_space.shape)
        self.action_size = math.prod(self.action_space.shape)
        self.episode_seed = np.zeros(num_envs, dtype=np.int64)
        self.episode_return = np.zeros(num_envs)
        self.episode_length = np.zeros(num_envs, dtype=np.int64)
        self.episode_success = np.full(num_envs, np.nan)
        self.actions = []  # since the start of the oldest unfinished episode
        self.finished = []  # episodes that ended since the last take_finished()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def open(self):
        others = multiprocessing.active_children()
        try:
            self.envs, self.backend = make_vector_env(self.args, self.num_envs, self.video_folder)
        except BaseException:
            for worker in set(multiprocessing.active_children()) - set(others):
                worker.kill()  # it ignores SIGTERM, with which Python would end it
            raise

    def close(self):
        if self.backend == "async" and self.is_stepping:
            try:
                self.envs.step_wait(timeout=1)
            except Exception:
                for worker in self.envs.processes:
                    worker.kill()
                self.envs.close(terminate=True)
        self.envs.close()

    def begin_all(self):
        """Begins an episode in each environment."""
        self.begin_episodes(np.ones(self.num_envs, dtype=bool))

    def begin_episodes(self, where):
        """Begins an episode in each environment where the mask `where` [N] is true."""
        stream = 0 if self.purpose == "training" else 1
        sequence = np.random.SeedSequence((self.args.seed, stream, self.global_step))
        self.episode_seed[where] = sequence.generate_state(self.num_envs)[where]
        self.episode_return[where] = 0
        self.episode_length[where] = 0
        self.episode_success[where] = np.nan
        longest = self.episode_length.max()  # older actions belong to episodes that have ended
        self.actions = self.actions[len(self.actions) - longest :]
        self.obs = self.tensor(self.reset(where))

    def reset(self, where):
        """Resets the environments where the mask [N] is true. Returns all observations."""
        with self.naming_the_step():
            obs, _ = self.envs.reset(seed=self.episode_seed.tolist(), options={"reset_mask": where})
        self.must_be_finite("task's first observation", obs)
        return obs

    def step(self, action):
        """Steps all environments with actions [N, A], and begins new episodes where one ended.

        `self.obs` is then the observation to act on next: that of the reset where an episode
        ended, not next_obs.
        """
        task_action = scale_action(action.cpu().numpy(), self.action_space)
        self.must_be_finite("action, and so probably the network,", task_action)
        with self.naming_the_step():
            # a copy, since a task may change what it gets
            next_obs, reward, terminated, truncated, info = self.envs.step(task_action.copy())
        self.must_be_finite("task's observation", next_obs)
        self.must_be_finite("task's reward", reward)
        transition = Transition(
            obs=self.obs,
            action=action,
            reward=self.tensor(reward),
            next_obs=self.tensor(next_obs),
            terminated=self.tensor(terminated),
            truncated=self.tensor(truncated),
        )
        self.obs = transition.next_obs
        self.global_step += self.num_envs
        self.actions.append(task_action)
        self.episode_return += reward
        self.episode_length += 1
        if "is_success" in info:
            reported = info["_is_success"]
            self.episode_success[reported] = info["is_success"][reported]
        done = terminated | truncated
        if done.any():
            for i in np.flatnonzero(done):
                self.finished.append(self.episode(i))
            self.begin_episodes(done)
        return transition

    def episode(self, i):
        """The episode of environment i, as far as it has come."""
        success = self.episode_success[i].item()
        return Episode(
            env=i,
            global_step=self.global_step,
            total_reward=self.episode_return[i].item(),
            length=self.episode_length[i].item(),
            success=None if math.isnan(success) else success,
        )

    def take_finished(self):
        finished = self.finished
        self.finished = []
        return finished

    def random_action(self):
        """[N, A], uniform in [-1, 1]."""
        return 2 * torch.rand(self.num_envs, self.action_size, device=self.device) - 1

    def tensor(self, array):
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)

    def must_be_finite(self, name, array):
        if not np.isfinite(array).all():
            raise TrainingError(f"the {name} is not finite at {self.moment()}: {array}")

    @contextlib.contextmanager
    def naming_the_step(self):
        """Adds the step number to an exception of the task, keeping its traceback.

        `is_stepping` stays True if a process of an async environment was killed, or if Ctrl-C
        interrupted the step: close() then kills what does not answer within a second.
        """
        self.is_stepping = True
        try:
            yield
        except Exception as error:
            if self.backend == "async" and isinstance(error, (EOFError, OSError)):
                raise TrainingError(
                    f"a process of an environment was killed at {self.moment()} (out of memory?)"
                ) from error
            error.add_note(f"The task raised this at {self.moment()}.")
            self.is_stepping = False
            raise
        self.is_stepping = False

    def moment(self):
        return f"step {self.global_step} of {self.purpose}"

    def state_dict(self):
        return {
            "global_step": self.global_step,
            "obs": self.obs.cpu(),
            "actions": torch.as_tensor(np.array(self.actions)),
            "episode_seed": torch.as_tensor(self.episode_seed),
            "episode_return": torch.as_tensor(self.episode_return),
            "episode_length": torch.as_tensor(self.episode_length),
            "episode_success": torch.as_tensor(self.episode_success),
        }

    def load_state_dict(self, state):
        """`replay` must follow: it brings the environments themselves to this state."""
        self.global_step = state["global_step"]
        self.obs = state["obs"].to(self.device)
        self.actions = list(state["actions"].numpy())
        self.episode_seed = state["episode_seed"].numpy().copy()
        self.episode_return = state["episode_return"].numpy().copy()
        self.episode_length = state["episode_length"].numpy().copy()
        self.episode_success = state["episode_success"].numpy().copy()

    def replay(self):
        """Plays the unfinished episodes again, from their seeds and actions.

        All environments step together: one with a younger episode is stepped too, and reset where
        its own episode began.
        """
        obs = self.reset(np.ones(self.num_envs, dtype=bool))
        returns = np.zeros(self.num_envs)
        steps_left = len(self.actions)
        for action in self.actions:
            with self.naming_the_step():
                obs, reward, terminated, truncated, _ = self.envs.step(action.copy())
            returns += reward
            steps_left -= 1
            begins = self.episode_length == steps_left
            resets = begins | terminated | truncated
            if resets.any():
                obs = self.reset(resets)
                returns[resets] = 0
        obs = self.tensor(obs)
        if not torch.equal(obs, self.obs) or not np.array_equal(returns, self.episode_return):
            say(
                "warning: replaying the saved actions did not restore the saved state (the task is "
                "not deterministic, remembers something from one episode to the next, or has "
                "changed, or another processor rounds differently); "
                "training continues from the state that was reached"
            )
        self.obs = obs


# ── 3  memory ────────────────────────────────────────────────────────────────────────────────────


class RolloutBuffer:
    """The transitions since the last update, of all environments."""

    def __init__(self, num_envs, device):
        self.num_envs = num_envs
        self.device = device
        self.transitions = []
        self.ended = torch.zeros(num_envs)  # 1 where an environment has finished an episode

    def add(self, transition):
        self.transitions.append(transition)
        done = torch.maximum(transition.terminated, transition.truncated)
        self.ended = torch.maximum(self.ended, done.cpu())

    def is_full(self):
        return self.ended.all()

    def take(self):
        """Returns one Transition of [T, N, …] tensors, and empties the rollout."""
        columns = [torch.stack(column) for column in zip(*self.transitions, strict=True)]
        self.transitions = []
        self.ended = torch.zeros(self.num_envs)
        return Transition(*columns)

    def state_dict(self):
        transitions = [tuple(transition) for transition in self.transitions]
        return {"transitions": transitions, "ended": self.ended}

    def load_state_dict(self, state):
        self.transitions = []
        for columns in state["transitions"]:
            self.transitions.append(Transition(*[x.to(self.device) for x in columns]))
        self.ended = state["ended"]


class Batch(NamedTuple):
    """B steps, in any order, as an update needs them."""

    obs: torch.Tensor  # normalised s [B, O]
    action: torch.Tensor  # a [B, A]
    advantage: torch.Tensor  # G_t − b_t [B], 0 after the end of an environment's first episode


# ── 4  networks ──────────────────────────────────────────────────────────────────────────────────


class RunningStatistics(nn.Module):
    """Mean and variance of every x so far (Chan, Golub, LeVeque 1983)."""

    def __init__(self, size):
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(size))
        self.var = nn.Buffer(torch.ones(size))
        self.count = nn.Buffer(torch.zeros(()))

    def update(self, x):
        """Adds n values, x [n, …]."""
        self.count += len(x)
        weight = len(x) / self.count
        delta = x.mean(dim=0) - self.mean
        self.mean += weight * delta  # [NORM-2] m
        self.var += weight * (
            x.var(dim=0, correction=0) - self.var + (1 - weight) * delta**2  # [NORM-3] v
        )

    def normalize(self, x):
        return ((x - self.mean) / torch.sqrt(self.var + 1e-8)).clamp(-10, 10)  # [NORM-1]


class RewardScaler(nn.Module):
    """Divides rewards by the running standard deviation of the discounted return.

    That return runs forward in time: u ← γ u + r, from 0 at the start of an episode.
    """

    def __init__(self, num_envs, gamma):
        super().__init__()
        self.gamma = gamma
        self.discounted_return = nn.Buffer(torch.zeros(num_envs))
        self.statistics = RunningStatistics(())

    def forward(self, reward, done):
        """[T, N], [T, N] → [T, N]. Updates the statistics first: call once per rollout."""
        discounted_returns = []
        running = self.discounted_return
        for reward_t, done_t in zip(reward, done, strict=True):
            discounted_returns.append(self.gamma * running + reward_t)  # [NORM-4] u
            running = (1 - done_t) * discounted_returns[-1]  # 0 after the end of an episode
        self.discounted_return = running
        self.statistics.update(torch.cat(discounted_returns))
        return reward / torch.sqrt(self.statistics.var + 1e-8)  # [NORM-5]


def orthogonal_linear(fan_in, fan_out, gain):
    linear = nn.Linear(fan_in, fan_out)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


def mlp(sizes, last_gain):
    """Linear layers with tanh between them."""
    layers = []
    *hidden, output = itertools.pairwise(sizes)
    for fan_in, fan_out in hidden:
        layers += [orthogonal_linear(fan_in, fan_out, gain=math.sqrt(2)), nn.Tanh()]
    return nn.Sequential(*layers, orthogonal_linear(*output, last_gain))


class Actor(nn.Module):
    """The policy N(μ(s), σ²)."""

    def __init__(self, obs_size, action_size, hidden_sizes, initial_log_std):
        super().__init__()
        self.net = mlp([obs_size, *hidden_sizes, action_size], last_gain=0.01)
        self.log_std = nn.Parameter(initial_log_std * torch.ones(action_size))

    def forward(self, obs):
        """[..., O] → μ [..., A]"""
        return self.net(obs)

    # fmt: off
    def log_prob(self, obs, action):
        """[..., O], [..., A] → log π(a|s) [...]"""
        z = (action - self(obs)) / self.log_std.exp()                          # [PG-1] (a − μ) / σ
        log_density = -(z**2 / 2 + self.log_std + math.log(2 * math.pi) / 2)   #        elementwise
        return log_density.sum(dim=-1)                                         #        log π(a|s)
    # fmt: on


# ── 5  the algorithm ─────────────────────────────────────────────────────────────────────────────


# fmt: off
def returns_to_go(reward, done, gamma):
    """G [T, N] of rewards [T, N], each to the end of its episode."""
    return_ = torch.zeros_like(reward)
    running = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        running = reward[t] + gamma * (1 - done[t]) * running                  # [PG-2] G_t
        return_[t] = running
    return return_
# fmt: on


class Agent(nn.Module):
    """The networks see normalised observations only: `act` and `make_batch` normalise them."""

    def __init__(self, obs_size, action_size, args):
        super().__init__()
        self.args = args
        self.obs_statistics = RunningStatistics(obs_size)
        self.actor = Actor(obs_size, action_size, args.hidden_sizes, args.initial_log_std)
        self.baseline = nn.Buffer(torch.zeros(args.baseline_steps))
        self.baseline_count = nn.Buffer(torch.zeros(args.baseline_steps))
        self.all_parameters = list(self.parameters())
        self.optimizer = torch.optim.Adam(
            self.all_parameters, args.learning_rate, eps=1e-5, fused=True
        )
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]

    def anneal_learning_rate(self, fraction):
        """Sets each group's learning rate to `fraction` of its initial one."""
        for group in self.optimizer.param_groups:
            group["lr"] = fraction * group["initial_lr"]

    @torch.no_grad()
    def act(self, obs, explore=True):
        """[N, O] → [N, A]"""
        mean = self.actor(self.obs_statistics.normalize(obs))
        if not explore:
            return mean
        return mean + self.actor.log_std.exp() * torch.randn_like(mean)

    def update(self, rollout, reward_scaler):
        """Learns from a rollout [T, N, …]. Returns what to log."""
        batch, metrics = self.make_batch(rollout, reward_scaler)
        self.optimizer.zero_grad()
        metrics |= self.backward(batch)
        self.optimizer.step()  # [PG-5] θ
        return metrics

    @torch.no_grad()
    def make_batch(self, rollout, reward_scaler):
        """A Batch of B = T·N steps from a rollout [T, N, …], and metrics.

        Updates the running statistics of observations and rewards too.
        """
        args = self.args
        obs = self.obs_statistics.normalize(rollout.obs)
        self.obs_statistics.update(rollout.obs.flatten(0, 1))  # for the next rollout
        done = torch.maximum(rollout.terminated, rollout.truncated)
        # 1 in each environment's first episode; what follows it, while others still play theirs,
        # counts only in the statistics of observations and rewards
        in_first_episode = (done.cumsum(dim=0) - done == 0).to(self.baseline.dtype)
        done[-1] = 1  # after a rollout all environments begin new episodes
        reward = reward_scaler(rollout.reward, done)  # unlike obs, this rollout included
        return_ = returns_to_go(reward, done, args.gamma)
        t = torch.arange(len(return_), device=return_.device).clamp(max=len(self.baseline) - 1)
        # fmt: off
        baseline = self.baseline[t]                                            # [PG-3] b_t
        advantage = (return_ - baseline[:, None]) * in_first_episode           # [PG-3] G_t − b_t
        self.baseline_count.index_add_(0, t, in_first_episode.sum(dim=1))
        count = self.baseline_count[t]
        self.baseline.index_add_(0, t, advantage.sum(dim=1) / count)           # [PG-3] the next b_t
        # fmt: on
        batch = Batch(obs, rollout.action, advantage)
        metrics = {"losses/baseline": baseline.mean()}
        return Batch(*[column.flatten(0, 1) for column in batch]), metrics

    # fmt: off
    def backward(self, batch):
        """The loss and its gradients (one graph with --compile). Returns metrics."""
        args = self.args
        log_prob = self.actor.log_prob(batch.obs, batch.action)
        actor_loss = -(log_prob * batch.advantage).sum() / args.num_envs        # [PG-4] per episode
        actor_loss.backward()
        nn.utils.clip_grad_norm_(self.all_parameters, args.max_grad_norm)
        return {
            "losses/policy_loss": actor_loss.detach(),
        }
    # fmt: on


# ── 6  training ──────────────────────────────────────────────────────────────────────────────────


def train(args):
    """Trains, and returns the folder of the run."""
    args = set_up(args)
    device = choose_device(args.device)
    with Run(args) as run, Environments(args, args.num_envs, device) as envs:
        agent = Agent(envs.obs_size, envs.action_size, args).to(device)
        reward_scaler = RewardScaler(args.num_envs, args.gamma).to(device)
        rollout = RolloutBuffer(args.num_envs, device)
        run.start(
            envs=envs,
            rollout=rollout,
            agent=agent,
            reward_scaler=reward_scaler,
            optimizer=agent.optimizer,
        )
        if args.compile:
            agent.backward = compiled(agent.backward)
        if run.evaluation_pending:  # at step 0, or if the last one was interrupted
            run.evaluate()

        metrics = {}
        while envs.global_step + args.num_envs <= args.total_timesteps and not run.stop_requested():
            # act
            action = agent.act(envs.obs)

            # step and store
            rollout.add(envs.step(action))

            # learn (an incomplete last rollout is saved, and completed if the run is extended)
            if rollout.is_full():
                transitions = rollout.take()
                if args.anneal_lr:
                    first_step = envs.global_step - transitions.reward.numel()
                    agent.anneal_learning_rate(1 - first_step / args.total_timesteps)
                metrics = agent.update(transitions, reward_scaler)
                envs.begin_all()

            # report
            run.advance()
            if run.due(1000):
                run.log(metrics)
            if run.due(args.eval_frequency):
                run.evaluate()
            if run.due(args.checkpoint_frequency):
                run.save()

        if not metrics and run.first_step == 0 and not run.stop_requested():
            say("warning: nothing was learned, since not every environment finished an episode")
        run.finish()
    return run.folder


# ── 7  run folder, checkpoint, evaluation, command line: the same text in all scripts ────────────

SCRIPT = Path(__file__).resolve()
MAY_CHANGE = {  # options that may differ when a run is resumed or evaluated
    "vectorization",
    "device",
    "num_threads",
    "eval_episodes",
    "eval_max_steps",
    "capture_video",
}
RESUME_MAY_CHANGE = MAY_CHANGE | {
    "total_timesteps",
    "eval_frequency",
    "checkpoint_frequency",
    "track",
    "wandb_project_name",
}
EVALUATE_MAY_CHANGE = MAY_CHANGE | {"env_kwargs", "max_episode_steps", "seed"}
NOT_SAVED = {"run_dir", "resume", "evaluate", "best"}  # options that config.json leaves out


class UsageError(Exception):
    """A mistake that the user can correct on the command line."""


class TrainingError(Exception):
    """Training cannot continue; the message says why."""


class Run:
    """A run: its folder, its logs and checkpoints, and the signals that stop it.

    Ctrl-C, SIGTERM and SIGHUP (a terminal is closed) ask the training loop to stop, so that the run
    can be saved. They interrupt an evaluation, which starts over when the run is resumed. After the
    first signal only Ctrl-C counts: it quits at once.
    """

    def __init__(self, args):
        self.args = args
        self.step = 0
        self.previous_step = 0
        self.earlier_seconds = 0.0  # time that the run took before it was resumed
        self.evaluations = []  # rows of evaluations.csv
        self.evaluation_pending = True  # at step 0, and if a signal interrupted one
        self.episodes_size = 0  # bytes of episodes.csv at the last checkpoint
        self.stop_signal = None
        self.is_interruptible = False
        self.to_close = contextlib.ExitStack()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                old_handler = signal.signal(number, self.request_stop)
                self.to_close.callback(signal.signal, number, old_handler)
        return self

    def __exit__(self, kind, error, trace):
        self.to_close.close()
        if kind is KeyboardInterrupt and self.stop_signal not in (None, signal.SIGINT):
            sys.exit(128 + self.stop_signal)

    def request_stop(self, number, frame):
        self.stop_signal = number
        for each in stop_signals():
            signal.signal(each, signal.SIG_IGN)  # some senders send theirs twice
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.is_interruptible:
            raise KeyboardInterrupt

    def stop_requested(self):
        return self.stop_signal is not None

    @contextlib.contextmanager
    def interruptible(self):
        """For code that is safe to interrupt anywhere: a signal ends it at once."""
        self.is_interruptible = True
        try:
            if self.stop_requested():
                raise KeyboardInterrupt
            yield
        finally:
            self.is_interruptible = False

    def start(self, envs, agent, **parts):
        """Makes the folder, or restores all parts from the checkpoint of the resumed run.

        Only what is passed here is saved and resumed: parts with `state_dict` and
        `load_state_dict`. A part too large to be written whole each time has `save_files` and
        `load_files` too.
        """
        self.envs = envs
        self.agent = agent
        self.parts = {"envs": envs, "agent": agent, **parts}
        for name, value in vars(agent).items():
            if isinstance(value, torch.optim.Optimizer) and value not in parts.values():
                raise TypeError(f"run.start needs agent.{name} too, or it is not saved")
        if self.args.resume and (self.args.resume / "checkpoint.pt").exists():
            self.folder = self.args.resume
            note_changed_script(self.folder)
            self.restore()
        else:
            if self.args.init_from:
                initialize(agent, self.args.init_from)
            envs.begin_all()
            # a run that was killed before its first checkpoint has a folder already
            self.folder = self.args.resume or make_folder(self.args)
            shutil.copy(SCRIPT, self.folder)
        write_config(self.args, self.folder)
        self.open_logs()
        if self.step == 0:
            self.save()
        say(f"run folder: {self.folder}\nenvironments: {self.args.num_envs}, {envs.backend}")
        command = command_to("--resume", self.folder)
        say(f"stop with Ctrl-C (twice: without saving), resume with: {command}")

    def open_logs(self):
        self.first_step = self.step
        self.start_time = time.perf_counter()
        self.write_evaluations()
        self.episodes = open(self.folder / "episodes.csv", "a", buffering=1)
        self.to_close.callback(self.episodes.close)
        size = min(self.episodes_size, os.fstat(self.episodes.fileno()).st_size)
        self.episodes.truncate(size)  # the resumed run writes the later rows again
        if size == 0:
            print("global_step,episode_return,episode_length", file=self.episodes)
        if self.args.track:
            import wandb

            id_file = self.folder / "wandb_id"
            if not id_file.exists():
                id_file.write_text(uuid.uuid4().hex)
            wandb.init(
                project=self.args.wandb_project_name,
                id=id_file.read_text(),
                name=self.folder.name,
                config=saved_options(self.args),
                resume="allow",
                sync_tensorboard=True,
            )
            self.to_close.callback(wandb.finish)
        self.writer = SummaryWriter(
            self.folder,
            purge_step=self.step + 1 if self.step else 0,  # these points are written again
        )
        self.to_close.callback(self.writer.close)
        rows = [f"|{name}|{value}|" for name, value in saved_options(self.args).items()]
        self.writer.add_text("hyperparameters", "\n".join(["|option|value|", "|-|-|", *rows]))
        self.last_line = time.perf_counter()
        self.bar = tqdm(
            total=self.args.total_timesteps - self.args.total_timesteps % self.args.num_envs,
            initial=self.step,
            unit=" steps",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),  # lines instead, see `print_progress`
        )
        self.to_close.callback(self.bar.close)

    def advance(self):
        """Logs the step that the environments made, and the episodes that ended with it."""
        self.previous_step = self.step
        self.step = self.envs.global_step
        self.bar.update(self.step - self.previous_step)
        for episode in self.envs.take_finished():
            row = (episode.global_step, episode.total_reward, episode.length)
            print(*row, sep=",", file=self.episodes)
            self.add_scalar("charts/episodic_return", episode.total_reward)
            self.add_scalar("charts/episodic_length", episode.length)
            if episode.success is not None:
                self.add_scalar("charts/success", episode.success)
            self.bar.set_postfix_str(f"return {episode.total_reward:.1f}", refresh=False)
        if self.bar.disable and time.perf_counter() - self.last_line > 30:
            self.print_progress()

    def print_progress(self):
        """A line instead of the progress bar, if there is no terminal."""
        self.last_line = time.perf_counter()
        seconds_per_step = (self.last_line - self.start_time) / max(1, self.step - self.first_step)
        left = timedelta(seconds=round(seconds_per_step * (self.args.total_timesteps - self.step)))
        percent = 100 * self.step / self.bar.total
        say(f"step {self.step}, {percent:.0f}%, {1 / seconds_per_step:.0f} steps/s, {left} left")

    def due(self, every):
        """Whether the last step reached or passed a multiple of `every` steps; 0: never."""
        return every > 0 and self.step // every > self.previous_step // every

    def log(self, metrics):
        seconds = time.perf_counter() - self.start_time
        self.add_scalar("charts/SPS", (self.step - self.first_step) / seconds)
        optimizers = [x for x in self.parts.values() if isinstance(x, torch.optim.Optimizer)]
        if optimizers:
            self.add_scalar("charts/learning_rate", optimizers[0].param_groups[0]["lr"])
        for name, value in metrics.items():
            self.add_scalar(name, value)

    def add_scalar(self, name, value):
        self.writer.add_scalar(name, float(value), self.step)

    def evaluate(self):
        self.evaluation_pending = True
        seconds = round(self.seconds(), 3)
        one_at_a_time = self.args.num_envs == 1 and self.args.eval_episodes == 1
        if one_at_a_time:  # for simulators limited to one instance
            self.envs.close()
        video_folder = self.folder / "videos" / f"step-{self.step}"
        generators = generators_state()
        self.agent.eval()
        try:
            with self.interruptible():
                episodes = evaluate(self.agent, self.args, video_folder)
                if one_at_a_time and self.step < self.args.total_timesteps:
                    self.envs.open()
                    self.envs.replay()
        except KeyboardInterrupt:
            if not self.stop_requested():
                raise
            return
        finally:
            self.agent.train()
            set_generators_state(generators)
        self.evaluation_pending = False
        result = summary(episodes)
        best = max((row["return_mean"] for row in self.evaluations), default=-math.inf)
        is_best = result["return_mean"] > best
        self.evaluations.append({"global_step": self.step, "wall_seconds": seconds, **result})
        self.write_evaluations()
        for name, value in result.items():
            self.add_scalar(f"eval/{name}", value)
        say(f"evaluation at step {self.step}: {describe(result)}")
        if self.bar.disable and self.step > self.first_step:
            self.print_progress()
        if is_best:
            state = {"agent": self.agent.state_dict(), "step": self.step, **result}
            with replacing(self.folder / "best.pt") as file:
                torch.save(state, file)

    def write_evaluations(self):
        columns = ["global_step", "wall_seconds"]
        columns += ["return_mean", "return_std", "episode_length_mean"]
        if any("success_rate" in row for row in self.evaluations):
            columns.append("success_rate")
        with replacing(self.folder / "evaluations.csv", "w") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self.evaluations)

    def seconds(self):
        """Time that the run took so far, including before it was resumed."""
        return self.earlier_seconds + time.perf_counter() - self.start_time

    def save(self):
        for name, value in self.agent.state_dict().items():
            if not torch.isfinite(value).all():
                raise TrainingError(f"{name} is not finite at step {self.step} of training")
        for part in self.parts.values():
            if hasattr(part, "save_files"):
                part.save_files(self.folder)
        os.fsync(self.episodes.fileno())
        state = {name: without_numpy(part.state_dict()) for name, part in self.parts.items()}
        state["generators"] = generators_state()
        state["step"] = self.step
        state["seconds"] = self.seconds()
        state["total_timesteps"] = self.args.total_timesteps
        state["evaluations"] = self.evaluations
        state["evaluation_pending"] = self.evaluation_pending
        state["episodes_size"] = os.fstat(self.episodes.fileno()).st_size
        with replacing(self.folder / "checkpoint.pt") as file:
            torch.save(state, file)
            file.flush()
            must_be_loadable(file.name)

    def restore(self):
        state = load_checkpoint(self.folder / "checkpoint.pt")
        self.step = state["step"]
        if self.step > self.args.total_timesteps:
            raise UsageError(
                f"--total-timesteps {self.args.total_timesteps}: this run has reached step "
                f"{self.step} already; give a larger number"
            )
        self.earlier_seconds = state["seconds"]
        self.evaluations = state["evaluations"]
        self.evaluation_pending = state["evaluation_pending"]
        self.episodes_size = state["episodes_size"]
        for name, part in self.parts.items():
            if name not in state:
                raise UsageError(
                    f"--resume {self.folder}: it has no {name}, which {SCRIPT.name} saves now; to "
                    f"go on from its weights, start a new run with --init-from {self.folder}"
                )
            load_state(part, state[name], f"--resume {self.folder}")
            if hasattr(part, "load_files"):
                part.load_files(self.folder)
        with self.interruptible():
            self.envs.replay()
        set_generators_state(state["generators"])
        if state["total_timesteps"] != self.args.total_timesteps:
            say(
                f"--total-timesteps: {self.args.total_timesteps}, was {state['total_timesteps']}; "
                "schedules, if any, follow the new length from here"
            )

    def finish(self):
        """Saves, then evaluates. A run that was asked to stop saves only."""
        last_evaluated = self.evaluations[-1]["global_step"] if self.evaluations else None
        if last_evaluated != self.step and not self.stop_requested():
            self.evaluation_pending = True
        self.save()
        if self.evaluation_pending and not self.stop_requested():
            self.evaluate()
            self.save()
        self.bar.close()
        if self.stop_requested():
            say(f"saved step {self.step}; resume with: {command_to('--resume', self.folder)}")
            raise KeyboardInterrupt
        if self.first_step == self.step:
            more = 2 * self.args.total_timesteps
            say(f"this run is finished; to extend it, add for example --total-timesteps {more}")
        can_render = "rgb_array" in (self.envs.envs.metadata.get("render_modes") or [])
        video = ["--capture-video"] if can_render else []
        say(f"finished at step {self.step}; watch: {command_to('--evaluate', self.folder, *video)}")


def stop_signals():
    """The signals that stop a run; SIGHUP only if it is not ignored, as it is under nohup."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def say(text, file=None):
    """Prints above the progress bar."""
    stream = file or sys.stdout
    try:
        tqdm.write(text, file=stream)
        stream.flush()
    except OSError:  # nobody reads any more: Ctrl-C ended `| tee log`, or the terminal is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def command_to(*arguments):
    """A command line that can be pasted."""
    program = "uv run" if "UV_RUN_RECURSION_DEPTH" in os.environ else "python"
    script = str(SCRIPT)
    if SCRIPT.is_relative_to(Path.cwd()):
        script = str(SCRIPT.relative_to(Path.cwd()))
    words = [script, *map(str, arguments)]
    quoted = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
    return f"{program} {quoted}"


def note_changed_script(folder):
    original = folder / SCRIPT.name
    if original.exists() and original.read_bytes() != SCRIPT.read_bytes():
        say(f"note: {SCRIPT.name} has changed since it made this run; that version is {original}")


def make_folder(args):
    """A new folder for this run alone, even when many runs start in the same second."""
    parent = args.run_dir.parent if args.run_dir else Path("runs")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if args.run_dir:
            args.run_dir.mkdir()
            return args.run_dir
        name = f"{args.env_id}__{SCRIPT.stem}__{args.seed}__{datetime.now():%Y%m%d-%H%M%S}"
        name = re.sub(r"[^\w.-]", "_", name)
        for number in itertools.count(1):
            folder = parent / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:  # such as a folder without write permission, a dangling link
        raise UsageError(f"--run-dir {args.run_dir or parent}: {error}") from None


@contextlib.contextmanager
def replacing(path, mode="wb"):
    """Opens a file that replaces `path` once it is complete, so that `path` is always whole."""
    new_path = path.with_name(path.name + ".tmp")
    try:
        with open(new_path, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new_path, path)
    except (OSError, RuntimeError) as error:
        # torch.save raises a RuntimeError of its own where a full disk raised an OSError
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise TrainingError(f"{path} cannot be written: {reason}") from error


def must_be_loadable(path):
    try:
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(
            "a part's state_dict() holds something that a checkpoint cannot: it must be made "
            "of tensors, numbers, strings, lists, tuples and dicts"
        ) from error


def load_checkpoint(path):
    """Loads what torch.save wrote: a zip file, which has a checksum of each part."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged, or was not written by this script: {error}") from None
    if not isinstance(state, dict) or "agent" not in state:
        raise UsageError(f"{path} was not written by this script: it has no agent")
    return state


def generators_state():
    """The state of this process's random generators: PyTorch's, NumPy's, Python's."""
    _, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
        "numpy": [keys.tolist(), *rest],
        "python": random.getstate(),
    }


def set_generators_state(state):
    torch.set_rng_state(state["torch"])
    for i, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, i)
    if torch.backends.mps.is_available():
        for mps_state in state["mps"]:
            torch.mps.set_rng_state(mps_state)
    np.random.set_state(("MT19937", *state["numpy"]))
    random.setstate(state["python"])


@torch.no_grad()
def evaluate(agent, args, video_folder):
    """Plays `eval_episodes` episodes without exploration, with the same seeds each time.

    Each has an environment of its own, so that short episodes do not count more than long ones.
    Returns a list of Episode.
    """
    device = next(agent.parameters()).device
    video_folder = video_folder if args.capture_video else None
    episodes = {}
    with Environments(args, args.eval_episodes, device, "evaluation", video_folder) as envs:
        envs.begin_all()
        for _ in range(args.eval_max_steps):
            envs.step(agent.act(envs.obs, explore=False))
            for episode in envs.take_finished():
                episodes.setdefault(episode.env, episode)
            if len(episodes) == args.eval_episodes:
                break
        for i in range(args.eval_episodes):
            episodes.setdefault(i, envs.episode(i))  # what eval_max_steps cut short
    if video_folder:
        say(f"video: {video_folder}")
    return list(episodes.values())


def summary(episodes):
    returns = np.array([episode.total_reward for episode in episodes])
    result = {
        "return_mean": returns.mean().item(),
        "return_std": returns.std().item(),
        "episode_length_mean": np.mean([episode.length for episode in episodes]).item(),
    }
    successes = [episode.success for episode in episodes if episode.success is not None]
    if successes:
        result["success_rate"] = np.mean(successes).item()
    return result


def describe(result):
    text = f"return {result['return_mean']:.2f} ± {result['return_std']:.2f}"
    if "success_rate" in result:
        text += f", success rate {result['success_rate']:.2f}"
    return text


def compiled(method):
    """Compiles a method as one graph, `backward()` included; an optimizer's step would break it."""
    torch._dynamo.config.trace_autograd_ops = True
    return torch.compile(method, fullgraph=True)


def load_agent(run_dir, best=False, args=None):
    """The agent and the step of a run's last checkpoint, or of its best evaluation.

    `args` are for a task with other options than the run's.
    """
    args = args or load_args(run_dir)
    path = Path(run_dir) / ("best.pt" if best else "checkpoint.pt")
    if not path.exists():
        raise UsageError(f"{run_dir} has no {path.name} yet")
    state = load_checkpoint(path)
    with contextlib.closing(make_task(args)) as env:
        obs_size = math.prod(env.observation_space.shape)
        agent = Agent(obs_size, math.prod(env.action_space.shape), args)
    options = f" with --env-kwargs {json.dumps(args.env_kwargs)}" if args.env_kwargs else ""
    load_state(agent, state["agent"], f"{run_dir}{options}")
    return agent.eval(), state["step"]


def load_policy(run_dir, best=False):
    """The policy of a run, for your own programs: a function from an observation of the task to an
    action of the task, both NumPy.

        policy = load_policy("runs/...")
        obs, reward, terminated, truncated, info = env.step(policy(obs))
    """
    agent, _ = load_agent(run_dir, best)
    task = make_task(load_args(run_dir))
    task.close()  # its spaces are enough

    def policy(obs):
        obs = torch.as_tensor(task.flat(obs)).unsqueeze(0)
        action = agent.act(obs, explore=False)
        return scale_action(action.numpy(), task.action_space)[0]

    return policy


def initialize(agent, run_dir):
    """Gives a new agent the weights of another run, of a task with the same shapes."""
    weights = load_checkpoint(Path(run_dir) / "checkpoint.pt")["agent"]
    load_state(agent, weights, f"--init-from {run_dir}")


def load_state(part, state, source):
    """Loads the saved state of a part, such as a network, that may have changed since."""
    try:
        part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{source}: what it saved does not fit: {reason}") from None


def saved_options(args):
    options = dataclasses.asdict(args)
    return {name: value for name, value in options.items() if name not in NOT_SAVED}


def write_config(args, folder):
    modules = (torch, gym, mujoco, np)
    config = {
        "script": SCRIPT.name,
        "options": saved_options(args),
        "versions": {module.__name__: module.__version__ for module in modules},
        "python": platform.python_version(),
        "processor": processor_name(),
        "device": str(choose_device(args.device)),
    }
    with replacing(folder / "config.json", "w") as file:
        json.dump(config, file, indent=2, default=str)


def processor_name():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.machine()


def as_declared(option, value):
    """Converts an option's value, from JSON or from a program, to its declared type."""
    if isinstance(value, str) and Path in (option.type, *get_args(option.type)):
        return Path(value)
    if isinstance(value, (list, np.ndarray)) and get_origin(option.type) is tuple:
        value = tuple(value)
    is_int = int in (option.type, *get_args(option.type))
    if is_int and isinstance(value, float) and value.is_integer():
        value = int(value)  # such as 1e6 in a program
    return without_numpy(value)


def without_numpy(value):
    """NumPy's numbers as Python's, inside lists, tuples and dicts too.

    Neither config.json nor a checkpoint can hold them.
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(without_numpy, value))
    if type(value) is dict:
        return {name: without_numpy(each) for name, each in value.items()}
    return value


def load_args(run_dir):
    """The options of a run."""
    path = Path(run_dir) / "config.json"
    if not path.exists():
        raise UsageError(f"{run_dir} is not the folder of a run: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from None
    if not isinstance(config, dict) or "script" not in config:
        raise UsageError(f"{path} was not written by this script")
    if config["script"] != SCRIPT.name:
        raise UsageError(f"{run_dir} is a run of {config['script']}, not of {SCRIPT.name}")
    options = config["options"]
    for each in dataclasses.fields(Args):
        if each.name in options:
            options[each.name] = as_declared(each, options[each.name])
    try:
        args = Args(**options)
    except TypeError as error:
        raise UsageError(f"{run_dir}: made by another version of {SCRIPT.name}: {error}") from None
    args.run_dir = Path(run_dir)
    return args


def choose_device(name):
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def set_up(args):
    """Checks the options, sets up PyTorch and seeds. Returns a copy of the options for the run."""
    args = copy.copy(args)
    convert_options(args)
    check_args(args)
    check_unchanged(args)
    check_task(args)
    check_algorithm_args(args)
    torch.set_num_threads(args.num_threads)
    torch.set_float32_matmul_precision(args.matmul_precision)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    return args


def must_be_at_least(least, name, args):
    value = getattr(args, name)
    if not value >= least:  # so that NaN is refused too
        raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least {least}")


def must_be_fraction(name, args):
    value = getattr(args, name)
    if not 0 <= value <= 1:
        raise UsageError(f"--{name.replace('_', '-')} {value}: must be from 0 to 1")


def must_be_sizes(name, args):
    sizes = getattr(args, name)
    if min(sizes, default=1) < 1:
        raise UsageError(f"--{name.replace('_', '-')} {sizes}: each must be at least 1")


def convert_options(args):
    """To the declared types: a program may give paths as text, lists, NumPy's numbers."""
    for each in dataclasses.fields(args):
        value = as_declared(each, getattr(args, each.name))
        setattr(args, each.name, value)
        name = each.name.replace("_", "-")
        choices = get_args(each.type)
        if get_origin(each.type) is Literal:
            if value not in choices:
                known = ", ".join(map(str, choices))
                raise UsageError(f"--{name} {value}: must be one of {known}")
        elif not has_type(value, each.type):
            kind = each.type.__name__ if isinstance(each.type, type) else each.type
            raise UsageError(f"--{name} {value!r}: must be of type {kind}")


def has_type(value, declared):
    """Whether a value fits an option's declared type; types not named here take any value."""
    kinds = get_args(declared)
    if Ellipsis in kinds:  # such as tuple[int, ...]
        return isinstance(value, tuple) and all(has_type(each, kinds[0]) for each in value)
    if type(None) in kinds:  # such as int | None
        return any(has_type(value, kind) for kind in kinds)
    if declared is float:
        return isinstance(value, (int, float))
    if declared in (bool, int, Path, type(None)):
        return isinstance(value, declared)
    return True


def check_args(args):
    for name in ("total_timesteps", "num_threads", "eval_episodes", "eval_max_steps"):
        must_be_at_least(1, name, args)
    for name in ("seed", "eval_frequency", "checkpoint_frequency"):
        must_be_at_least(0, name, args)
    if args.max_episode_steps is not None:
        must_be_at_least(1, "max_episode_steps", args)
    if args.seed >= 2**32:
        raise UsageError(f"--seed {args.seed}: must be less than 2**32, NumPy's limit")
    if not isinstance(args.env_kwargs, dict):
        raise UsageError(
            f"--env-kwargs {args.env_kwargs}: must be a JSON object, such as '{{\"name\": 1}}'"
        )
    try:
        args.env_kwargs = json.loads(json.dumps(args.env_kwargs))  # as config.json will have it
    except TypeError as error:
        raise UsageError(f"--env-kwargs {args.env_kwargs}: must be JSON: {error}") from None
    if {"max_episode_steps", "render_mode"} & args.env_kwargs.keys():
        raise UsageError(
            "--env-kwargs: use --max-episode-steps and --capture-video for "
            "max_episode_steps and render_mode"
        )
    if args.resume and args.evaluate:
        raise UsageError("--resume and --evaluate: choose one")
    if args.best and not args.evaluate:
        raise UsageError("--best: needs --evaluate RUN_DIR")
    try:
        torch.empty(0, device=choose_device(args.device))
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {args.device}: {str(error).splitlines()[0]}") from None
    if not args.evaluate:
        check_training_args(args)


def check_training_args(args):
    is_new = not args.resume
    if is_new and args.run_dir and args.run_dir.exists():
        raise UsageError(f"--run-dir {args.run_dir}: exists; give a new folder, or --resume it")
    if is_new and args.init_from and not (args.init_from / "checkpoint.pt").exists():
        raise UsageError(f"--init-from {args.init_from}: there is no checkpoint.pt in it")
    usual_compiler = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual_compiler)
    if args.compile and not shutil.which(compiler):
        raise UsageError(f"--compile: needs a C++ compiler; {compiler} is not installed")
    if args.track:
        wandb = importlib.util.find_spec("wandb")
        if wandb is None or wandb.origin is None:  # no origin: just a folder of that name
            raise UsageError("--track: needs wandb; install it with: pip install wandb")


def check_unchanged(args):
    """A run that is resumed or evaluated keeps its options; few may change."""
    folder = args.resume or args.evaluate
    if folder is None:
        return
    saved = saved_options(load_args(folder))
    may_change = RESUME_MAY_CHANGE if args.resume else EVALUATE_MAY_CHANGE
    for name, value in saved_options(args).items():
        if name not in may_change and value != saved[name]:
            raise UsageError(
                f"--{name.replace('_', '-')} {value}: this run has {saved[name]}; to "
                f"change it, start a new run, from these weights with --init-from {folder}"
            )
    if args.run_dir not in (None, folder):
        raise UsageError(f"--run-dir {args.run_dir}: this run stays in {folder}; leave it out")


def check_task(args):
    """Makes the task once, to check that these scripts can learn it."""
    option = f"--env-id {args.env_id}"
    try:
        env = make_env(args)
    except gym.error.Error as error:
        raise UsageError(f"{option}: {error}") from None
    except ModuleNotFoundError as error:
        module = args.env_id.partition(":")[0]
        missing = getattr(error.__cause__, "name", None)
        if missing is None or not f"{module}.".startswith(f"{missing}."):
            raise  # the task's module is there; another one, which it imports, is missing
        raise UsageError(f"{option}: no module {module}, here or installed") from None
    except ImportError as error:
        if "gymnasium-robotics" not in str(error):  # what Gymnasium says of HalfCheetah-v3
            raise
        raise UsageError(f"{option}: {error}") from None
    except TypeError as error:
        if any(f"unexpected keyword argument '{name}'" in str(error) for name in args.env_kwargs):
            raise UsageError(f"--env-kwargs {json.dumps(args.env_kwargs)}: {error}") from None
        raise
    with contextlib.closing(env):
        check_spaces(option, env)
        limit = env.spec.max_episode_steps if env.spec else None
        render_modes = env.metadata.get("render_modes") or []
    if args.capture_video:
        check_video(args, render_modes)
    if limit is None or limit > args.eval_max_steps:
        known = f"a time limit of {limit}" if limit else "no time limit known to Gymnasium"
        say(
            f"note: {args.env_id} has {known}; "
            f"evaluations end an episode after --eval-max-steps {args.eval_max_steps}",
            file=sys.stderr,
        )


def check_spaces(option, env):
    if not env.observation_space.is_np_flattenable:
        raise UsageError(
            f"{option}: its observations {env.observation_space} cannot be flattened to a "
            "vector; wrap the task so that they are a Box, or a Dict or Tuple of Boxes"
        )
    actions = env.action_space
    if not isinstance(actions, gym.spaces.Box) or actions.dtype.kind != "f":
        message = f"{option}: this script needs continuous actions, a Box of floats, not {actions}"
        if (SCRIPT.parent / "discrete").is_dir():
            message += "; the scripts in discrete/ are for discrete actions"
        raise UsageError(message)
    with np.errstate(over="ignore"):  # the largest numbers are bounds too, but infinitely far apart
        widths = actions.high - actions.low
    if not np.isfinite(widths).all():
        raise UsageError(
            f"{option}: its actions {actions} need bounds in every dimension; give the task an "
            "action_space that has them, or, if a wrapper such as ClipAction hides them, leave "
            "the wrapper out: this script clips actions"
        )


def check_video(args, render_modes):
    if "rgb_array" not in render_modes:
        raise UsageError(
            f"--capture-video: {args.env_id} cannot give frames: "
            "rgb_array is not in its metadata's render_modes"
        )
    env = make_rendering_env(args)
    with contextlib.closing(env):
        env.reset()
        try:
            frame = env.render()
        except Exception as error:
            raise UsageError(
                f"--capture-video: this machine cannot render ({error}); without a screen, set "
                "MUJOCO_GL=egl (package libegl1) or MUJOCO_GL=osmesa (libosmesa6)"
            ) from error
    if frame is None:
        raise UsageError(f"--capture-video: {args.env_id}'s render() returns no frame")


def command_line(defaults):
    text = f"{__doc__}\nOptions of every script come first, this algorithm's from --num-envs on."
    description = textwrap.indent(text, " ")  # indented, or tyro would join the lines
    try:
        return tyro.cli(Args, default=defaults, description=description)
    except BrokenPipeError:  # the reader has enough: `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def parse_args():
    """The options. With --resume and --evaluate they default to the run's; few may change."""
    args = command_line(Args())
    folder = args.resume or args.evaluate
    if folder is None:
        return args
    saved = load_args(folder)
    saved.resume = args.resume
    saved.evaluate = args.evaluate
    return command_line(saved)  # once more, with the run's options as defaults


def evaluate_run(args):
    args = set_up(args)
    note_changed_script(args.evaluate)
    agent, step = load_agent(args.evaluate, args.best, args)
    agent.to(choose_device(args.device))
    video_folder = args.evaluate / "videos" / f"evaluate-step-{step}"
    result = summary(evaluate(agent, args, video_folder))
    say(f"policy of step {step}, {args.eval_episodes} episodes: {describe(result)}")


def exit_on_signal(number, frame):
    sys.exit(128 + number)


def main():
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's streams cannot
            stream.reconfigure(errors="replace")  # for a terminal that cannot show a γ
    sys.path.append(os.getcwd())  # to find your own task in the current folder
    for number in stop_signals():
        if number != signal.SIGINT:  # which Python turns into KeyboardInterrupt
            signal.signal(number, exit_on_signal)  # so that environments are closed
    try:
        args = parse_args()
        if args.evaluate:
            evaluate_run(args)
        else:
            train(args)
    except UsageError as error:
        print(f"{SCRIPT.name}: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"{SCRIPT.name}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # disk full, or its quota
            raise
        print(f"{SCRIPT.name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
