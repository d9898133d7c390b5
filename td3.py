# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch>=2.13", "gymnasium[mujoco]>=1.4", "mujoco>=4", "numpy>=2", "tyro", "tensorboard",
#     "tqdm", "moviepy",
# ]
# ///
"""TD3, twin delayed DDPG (Fujimoto, van Hoof, Meger 2018, https://arxiv.org/abs/1802.09477).

Off-policy: a critic learns Q(s, a) from remembered transitions, and the actor climbs it.

    y = r + γ (1 − terminated) min(Q′₁, Q′₂)(s′, μ′(s′) + ε)
    critics: minimise (Qᵢ(s, a) − y)²        actor: maximise Q₁(s, μ(s))

μ′ and Q′ are targets, slow copies of the networks. To DDPG it adds three tricks: noise on target
actions [6], the smaller of two critics [8], and an actor that learns less often [13].
Sections 1 to 6 are the algorithm; [1] to [15] number its steps.
"""

import contextlib
import copy
import csv
import dataclasses
import functools
import importlib.util
import itertools
import json
import math
import os
import pickle
import platform
import random
import re
import shlex
import shutil
import signal
import sys
import textwrap
import threading
import time
import traceback
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
import torch
import tyro
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

try:
    import native_mujoco  # optional: the MuJoCo tasks as fast vector environments
except ImportError:
    native_mujoco = None

# ── 1  options ───────────────────────────────────────────────────────────────────────────────────

Json = Annotated[dict, tyro.conf.arg(constructor=json.loads, metavar="JSON")]


@dataclass
class RunArgs:
    """What all scripts have."""

    env_id: str = "HalfCheetah-v5"  # Gymnasium task; my_module:MyTask-v0 for one of your own
    env_kwargs: Json = field(default_factory=dict)  # options of the task, '{"frame_skip": 2}'
    max_episode_steps: int | None = None  # time limit in steps; None: the task's own
    seed: int = 1  # seed of networks, environments and noise
    total_timesteps: int = 1_000_000  # environment steps, all environments together
    vectorization: Literal["auto", "sync", "async", "native"] = "auto"  # auto: native or else sync
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    num_threads: int = 1  # processor threads; more may pay for a run that has the machine to itself
    matmul_precision: Literal["highest", "high", "medium"] = "highest"  # PyTorch's, of float32
    compile: bool = False  # compile the updates with torch.compile
    eval_frequency: int = (
        50_000  # environment steps between evaluations; 0: at the start and the end
    )
    eval_episodes: int = 10  # episodes per evaluation; 1, with --num-envs 1: one environment exists
    eval_max_steps: int = 30_000  # steps after which an evaluation ends an episode
    checkpoint_frequency: int = (
        50_000  # environment steps between checkpoints; 0: at the start and the end
    )
    run_dir: Path | None = None  # folder of the new run; None: one in runs/ with a name of its own
    resume: Path | None = None  # folder of a run to go on with, exactly where it was saved
    evaluate: Path | None = None  # folder of a run whose policy to evaluate instead of training
    best: bool = False  # with --evaluate: the policy of the best evaluation, not the last policy
    init_from: Path | None = None  # folder of a run whose weights this new run begins with
    capture_video: bool = False  # record the first episode of each evaluation
    track: bool = False  # log to Weights & Biases as well
    wandb_project_name: str = "continuous-control"  # project there


@dataclass
class AlgorithmArgs:
    """What this algorithm has."""

    num_envs: int = 1  # N, environments that step together
    # transitions in the memory and, at most, in its files: a million of HalfCheetah's take 172 MB,
    # of Humanoid's 2.9 GB
    buffer_size: int = 1_000_000
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer
    learning_starts: int = 10_000  # environment steps with random actions before learning
    exploration_noise: float = 0.1  # σ of the noise on actions, which range over [-1, 1]
    batch_size: int = 256  # B, transitions per update
    gamma: float = 0.99  # γ, discount factor
    policy_noise: float = 0.2  # σ of the noise on target actions
    noise_clip: float = 0.5  # bound of the noise on target actions
    learning_rate: float = 3e-4  # Adam's, of all networks
    policy_frequency: int = 2  # critic updates per update of the actor and the targets
    tau: float = 0.005  # τ, step of the targets towards the networks


@dataclass
class Args(AlgorithmArgs, RunArgs):
    """All options: `td3.train(td3.Args(env_id="Hopper-v5"))`."""


def check_algorithm_args(args):
    """Yields what cannot work, in words."""
    for name in ("num_envs", "buffer_size", "batch_size", "policy_frequency"):
        if getattr(args, name) < 1:
            yield f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1"
    if args.num_envs > args.buffer_size:
        yield f"--num-envs {args.num_envs}: must be at most --buffer-size {args.buffer_size}"
    if args.learning_starts + args.num_envs > args.total_timesteps:
        yield (
            f"--learning-starts {args.learning_starts}: must be less than --total-timesteps "
            f"{args.total_timesteps} by a step of each environment, or nothing is learned"
        )


# ── 2  environments: the same text in all scripts ────────────────────────────────────────────────


class Transition(NamedTuple):
    """One step of N environments; a batch [B] or a rollout [T, N] of them has the same fields."""

    obs: torch.Tensor  # s [N, O]
    action: torch.Tensor  # a [N, A]
    reward: torch.Tensor  # r [N]
    next_obs: torch.Tensor  # s′ [N, O], the true successor, also where the episode ends
    terminated: torch.Tensor  # [N], 1 where s′ is final: nothing follows, its value is 0
    truncated: torch.Tensor  # [N], 1 where a time limit ends the episode: s′ still has a value


class Episode(NamedTuple):
    """What is known of an episode when it ends."""

    env: int  # which of the N environments
    global_step: int  # environment steps of the run by then
    total_reward: float
    length: int
    success: float | None  # the task's info["is_success"] at the end, where it tells


def make_env(args, **options):
    """One environment, for training, evaluation and video: change it or wrap it here.

    `options` are those of gym.make; a video passes render_mode.
    """
    env = gym.make(
        args.env_id,
        max_episode_steps=args.max_episode_steps,
        **args.env_kwargs,
        **options,
    )
    return env


def make_vector_env(args, num_envs, video_folder=None):
    """`num_envs` environments that step together, and how: all ways give the same numbers.

    native_mujoco.py stands in for `make_env` only where that makes a MuJoCo task, unchanged.
    """
    env_fns = [functools.partial(make_task, args)] * num_envs
    if args.vectorization == "async" and video_folder is None:
        env_fns = [functools.partial(make_worker_task, args, os.getpid())] * num_envs
        return gym.vector.AsyncVectorEnv(env_fns, autoreset_mode="Disabled"), "async"
    backend = "sync"
    if video_folder is not None:
        env_fns[0] = functools.partial(make_filmed_task, args, video_folder)
    elif args.vectorization in ("auto", "native"):
        reason = why_not_native(args)
        if reason is None:
            return native_mujoco.vectorize(make_env(args), num_envs, args.num_threads), "native"
        backend = f"sync, not native: {reason}"
    return gym.vector.SyncVectorEnv(env_fns, autoreset_mode="Disabled"), backend


def why_not_native(args):
    """Why native_mujoco.py cannot stand in for `make_env`, in words; None where it can."""
    if native_mujoco is None:
        return "native_mujoco.py is not there"
    with contextlib.closing(make_env(args)) as env:
        return native_mujoco.difference(env)


class Task(gym.Wrapper):
    """A task with flat float32 observations and plain numbers, whatever kinds it has them in.

    It seeds `random` and np.random too, for tasks that draw from them, and says what is wrong with
    what a task returns. Of `info` it keeps is_success.
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
            if "unpack (expected 5" in str(error):  # in a wrapper of Gymnasium, before we can look
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
            if not isinstance(self.task_space, gym.spaces.Box):  # a Dict or Tuple of Boxes
                return gym.spaces.flatten(self.task_space, obs).astype(np.float32)
            array = np.asarray(obs, dtype=np.float32)
            if array.shape != self.task_space.shape:
                raise ValueError(f"its shape is {array.shape}")
        except (TypeError, ValueError, KeyError) as error:
            raise TypeError(
                f"the task's observation must be of its observation_space {self.task_space}, "
                f"not {obs!r} ({error})"
            ) from None
        return array.reshape(-1)


def to_number(name, value):
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"the task's {name} must be a number, not {value!r}")
    return float(array.item())


class WorkerTask(Task):
    """A task in a process of its own: its errors come to the main process as text."""

    def reset(self, **options):
        return self.in_words(super().reset, **options)

    def step(self, action):
        return self.in_words(super().step, action)

    def in_words(self, function, *args, **options):
        try:
            return function(*args, **options)
        except Exception:
            raise RuntimeError(f"in an environment's process:\n{traceback.format_exc()}") from None


def make_task(args):
    return Task(make_env(args))


def make_worker_task(args, main_process):
    if os.getpid() != main_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a request to stop is for the main process
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return WorkerTask(make_env(args))


def make_filmed_task(args, video_folder):
    env = make_rendering_env(args)
    return Task(gym.wrappers.RecordVideo(env, str(video_folder), lambda episode: episode == 0))


def make_rendering_env(args):
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")  # renders without a screen, as "osmesa" does
    env = make_env(args, render_mode="rgb_array")
    with contextlib.suppress(AttributeError, KeyError):  # MuJoCo's runners have a camera that
        camera = env.unwrapped.model.camera("track")  # goes along with them
        env.unwrapped.mujoco_renderer.camera_id = camera.id
    return env


def print_mujoco_warning(text):
    if "deprecated" not in text:  # of Gymnasium's models, which a user cannot change
        print(f"MuJoCo: {text}", file=sys.stderr)


# without this MuJoCo writes its warnings to a file in the user's folder
mujoco.set_mju_user_warning(print_mujoco_warning)


def scale_action(action, space):
    """From [-1, 1] to the bounds of the task, [N, A] → [N, …], each dimension by its own."""
    unit = action.reshape(-1, *space.shape)
    scaled = space.low + (unit + 1) / 2 * (space.high - space.low)
    return scaled.clip(space.low, space.high).astype(space.dtype)


class Environments:
    """N environments as the algorithms see them: flat float32 tensors, actions in [-1, 1].

    They can be restored exactly: each episode has a seed of its own, a checkpoint has the seeds and
    the actions of the episodes under way, and `replay` plays them again. So everything comes back
    that a task hides, as long as seed and actions determine it.
    """

    def __init__(self, args, num_envs, device, purpose="training", video_folder=None):
        self.args = args
        self.num_envs = num_envs
        self.device = device
        self.purpose = purpose
        self.video_folder = video_folder
        self.global_step = 0
        self.is_stepping = False  # also where a step was interrupted
        self.open()
        self.action_space = self.envs.single_action_space
        self.obs_size = math.prod(self.envs.single_observation_space.shape)
        self.action_size = math.prod(self.action_space.shape)
        self.episode_seed = np.zeros(num_envs, dtype=np.int64)
        self.episode_return = np.zeros(num_envs)
        self.episode_length = np.zeros(num_envs, dtype=np.int64)
        self.episode_success = np.full(num_envs, np.nan)
        self.actions = []  # all since the oldest episode under way began
        self.finished = []  # episodes, until someone takes them

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def open(self):
        self.envs, self.backend = make_vector_env(self.args, self.num_envs, self.video_folder)

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
        """Begins an episode in each environment i where where[i]."""
        stream = 0 if self.purpose == "training" else 1
        sequence = np.random.SeedSequence((self.args.seed, stream, self.global_step))
        self.episode_seed[where] = sequence.generate_state(self.num_envs)[where]
        self.episode_return[where] = 0
        self.episode_length[where] = 0
        self.episode_success[where] = np.nan
        oldest = self.episode_length.max()
        self.actions = self.actions[len(self.actions) - oldest :]
        self.reset(where)

    def reset(self, where):
        with self.naming_the_step():
            obs, _ = self.envs.reset(seed=self.episode_seed.tolist(), options={"reset_mask": where})
        self.obs = self.tensor(obs)

    def step(self, action):
        """Steps all environments with actions [N, A]. What to act on next is then in `obs`."""
        task_action = scale_action(action.cpu().numpy(), self.action_space)
        self.must_be_finite("action, and so some weight of the network,", task_action)
        with self.naming_the_step():
            next_obs, reward, terminated, truncated, info = self.envs.step(task_action)
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
            told = info["_is_success"]
            self.episode_success[told] = info["is_success"][told]
        done = terminated | truncated
        if done.any():
            for i in np.flatnonzero(done):
                self.finished.append(self.episode(i))
            self.begin_episodes(done)
        return transition

    def episode(self, i):
        """The episode under way in environment i, as far as it has come."""
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
            raise TrainingError(f"the {name} is not finite at {self.place()}: {array}")

    @contextlib.contextmanager
    def naming_the_step(self):
        """An error of the task goes on with its traceback, and says when it came."""
        self.is_stepping = True
        try:
            yield
        except Exception as error:
            error.add_note(f"This error of the task came at {self.place()}.")
            self.is_stepping = False
            raise
        self.is_stepping = False

    def place(self):
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
        """`replay` must follow, to bring the environments themselves to this state."""
        self.global_step = state["global_step"]
        self.obs = state["obs"].to(self.device)
        self.actions = list(state["actions"].cpu().numpy())
        self.episode_seed = state["episode_seed"].cpu().numpy().copy()
        self.episode_return = state["episode_return"].cpu().numpy().copy()
        self.episode_length = state["episode_length"].cpu().numpy().copy()
        self.episode_success = state["episode_success"].cpu().numpy().copy()

    def replay(self):
        """Plays the episodes under way again.

        All environments must step together, so those whose episode is younger step along before it
        begins, where it does not matter how.
        """
        expected = self.obs
        self.reset(np.ones(self.num_envs, dtype=bool))
        steps_left = len(self.actions)
        for action in self.actions:
            with self.naming_the_step():
                obs, _, terminated, truncated, _ = self.envs.step(action)
            self.obs = self.tensor(obs)
            steps_left -= 1
            begins = self.episode_length == steps_left
            if (begins | terminated | truncated).any():
                self.reset(begins | terminated | truncated)
        if not torch.equal(self.obs, expected):
            say(
                "warning: seed and actions did not bring the task back to the state that it had; "
                "going on from the one that it has now"
            )


# ── 3  memory ────────────────────────────────────────────────────────────────────────────────────


class ReplayBuffer:
    """The newest `capacity` transitions.

    A checkpoint comes with a file of the transitions that are new since the one before, so saving
    costs what is new; files that only hold forgotten transitions are deleted.
    """

    def __init__(self, capacity, obs_size, action_size, like):
        """`like` is a parameter of the agent: the memory has its device and its type of number."""
        self.capacity = capacity
        widths = [obs_size, action_size, 1, obs_size, 1, 1]
        size = like.element_size() * capacity * sum(widths)
        warn_if_larger_than_memory(f"--buffer-size {capacity}", size)
        self.rows = like.detach().new_empty(capacity, sum(widths))  # [1] a transition per row
        obs, action, reward, next_obs, terminated, truncated = self.rows.split(widths, dim=1)
        self.columns = Transition(  # views of the rows
            obs=obs,
            action=action,
            reward=reward.squeeze(1),
            next_obs=next_obs,
            terminated=terminated.squeeze(1),
            truncated=truncated.squeeze(1),
        )
        self.total = 0  # transitions so far; number i is in row i % capacity
        self.saved = 0  # how many of them the last checkpoint knows

    def add(self, transition):
        """Takes a transition of N environments."""
        rows = self.rows_of(self.total, self.total + len(transition.reward))
        for column, values in zip(self.columns, transition, strict=True):
            column[rows] = values.to(column)
        self.total += len(rows)

    def sample(self, batch_size):
        """B transitions, drawn uniformly with replacement."""
        size = min(self.total, self.capacity)
        rows = torch.randint(size, (batch_size,), device=self.rows.device)  # [4] draw
        return Transition(*[column[rows] for column in self.columns])

    def rows_of(self, start, end):
        return torch.arange(start, end, device=self.rows.device) % self.capacity

    def save_files(self, folder):
        """Must come before the checkpoint, which says how many transitions count."""
        for _, end, path in self.files(folder):
            if end <= self.saved - self.capacity:
                path.unlink()  # neither this checkpoint nor the one before needs it
        start = max(self.saved, self.total - self.capacity)
        if start < self.total:
            new = self.rows[self.rows_of(start, self.total)]
            with replacing(folder / f"replay.{start:012d}-{self.total:012d}.npy") as file:
                np.save(file, new.cpu().numpy())
        self.saved = self.total

    def load_files(self, folder):
        """Must come after the checkpoint."""
        for start, end, path in self.files(folder):
            if start >= self.total:
                path.unlink()  # a killed run wrote it after its last checkpoint
            elif end > self.total - self.capacity:
                rows = self.rows_of(start, end)
                self.rows[rows] = torch.as_tensor(np.load(path)).to(self.rows)

    def files(self, folder):
        """(number of the first transition, of the last + 1, path) of each file, oldest first."""
        for path in sorted(folder.glob("replay.*-*.npy")):
            start, end = path.name.split(".")[1].split("-")
            yield int(start), int(end), path

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]
        self.saved = state["total"]


def warn_if_larger_than_memory(option, size):
    """`size` in bytes, of what is going to be filled."""
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
        if found and size > 1024 * int(found[1]):
            say(
                f"warning: {option} may grow to {size / 1e9:.1f} GB, this machine has "
                f"{1024 * int(found[1]) / 1e9:.1f} GB free",
                file=sys.stderr,
            )


# ── 4  networks ──────────────────────────────────────────────────────────────────────────────────


def mlp(sizes):
    """Linear layers with ReLUs between them."""
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):
    """The policy μ: [B, O] → [B, A] in [-1, 1]."""

    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_size, *hidden_sizes, action_size])

    def forward(self, obs):
        return torch.tanh(self.net(obs))  # [2] μ(s)


class Critic(nn.Module):
    """The value Q of an action: [B, O], [B, A] → [B]."""

    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_size + action_size, *hidden_sizes, 1])

    def forward(self, obs, action):
        return self.net(torch.cat([obs, action], dim=-1)).squeeze(-1)  # [3] Q(s, a)


# ── 5  the algorithm ─────────────────────────────────────────────────────────────────────────────


class Agent(nn.Module):
    """The actor, two critics, the target of each, and their updates."""

    def __init__(self, obs_size, action_size, args):
        super().__init__()
        self.args = args
        self.actor = Actor(obs_size, action_size, args.hidden_sizes)
        self.critic1 = Critic(obs_size, action_size, args.hidden_sizes)
        self.critic2 = Critic(obs_size, action_size, args.hidden_sizes)
        self.actor_target = copy.deepcopy(self.actor)  # [2] μ′
        self.critic1_target = copy.deepcopy(self.critic1)  # [3] Q′₁
        self.critic2_target = copy.deepcopy(self.critic2)  # [3] Q′₂
        self.actor_parameters = list(self.actor.parameters())
        self.critic_parameters = [*self.critic1.parameters(), *self.critic2.parameters()]
        adam = functools.partial(torch.optim.Adam, lr=args.learning_rate, fused=True)
        self.actor_optimizer = adam(self.actor_parameters)
        self.critic_optimizer = adam(self.critic_parameters)

    @torch.no_grad()
    def act(self, obs, explore=True):
        """[N, O] → [N, A] in [-1, 1]."""
        action = self.actor(obs.to(self.actor_parameters[0]))
        if explore:
            action = action + self.args.exploration_noise * torch.randn_like(action)
        return action.clamp(-1, 1)

    # fmt: off
    @torch.no_grad()
    def target(self, batch):
        """y [B], what a critic learns towards."""
        args = self.args
        next_action = self.actor_target(batch.next_obs)                     # [5]  a′ = μ′(s′)
        noise = args.policy_noise * torch.randn_like(next_action)           # [6]  ε
        noise = noise.clamp(-args.noise_clip, args.noise_clip)
        next_action = (next_action + noise).clamp(-1, 1)                    #      a′ + ε
        next_q1 = self.critic1_target(batch.next_obs, next_action)          # [7]  Q′₁(s′, a′)
        next_q2 = self.critic2_target(batch.next_obs, next_action)          #      Q′₂(s′, a′)
        next_q = torch.min(next_q1, next_q2)                                # [8]  the smaller
        return batch.reward + args.gamma * (1 - batch.terminated) * next_q  # [9]  [DPG-1] y

    def update_critics(self, batch):
        self.critic_optimizer.zero_grad()
        metrics = self.critic_gradients(batch)
        self.critic_optimizer.step()                                        # [12] step
        return metrics

    def critic_gradients(self, batch):
        target = self.target(batch)
        q1 = self.critic1(batch.obs, batch.action)                          # [10] Q₁(s, a)
        q2 = self.critic2(batch.obs, batch.action)                          #      Q₂(s, a)
        q1_loss = F.mse_loss(q1, target)                                    # [11] [DPG-2] (Q₁ − y)²
        q2_loss = F.mse_loss(q2, target)                                    #      (Q₂ − y)²
        critic_loss = q1_loss + q2_loss
        critic_loss.backward()
        return {
            "losses/qf_loss": critic_loss.detach(),
            "losses/qf1_loss": q1_loss.detach(),
            "losses/qf2_loss": q2_loss.detach(),
            "losses/qf1_values": q1.detach().mean(),
            "losses/qf2_values": q2.detach().mean(),
        }

    def update_actor(self, batch):
        self.actor_optimizer.zero_grad()
        metrics = self.actor_gradients(batch)
        self.actor_optimizer.step()
        return metrics

    def actor_gradients(self, batch):
        q = self.critic1(batch.obs, self.actor(batch.obs))
        actor_loss = -q.mean()                                              # [13] [DPG-3] climb Q₁
        actor_loss.backward(inputs=self.actor_parameters)
        return {"losses/actor_loss": actor_loss.detach()}

    def update_targets(self):
        polyak(self.actor, self.actor_target, self.args.tau)                # [14] [DPG-4] μ′
        polyak(self.critic1, self.critic1_target, self.args.tau)            # [15] [DPG-4] Q′₁
        polyak(self.critic2, self.critic2_target, self.args.tau)            #      Q′₂
    # fmt: on


@torch.no_grad()
def polyak(network, target, tau):
    """target ← τ network + (1 − τ) target"""
    for parameter, slow in zip(network.parameters(), target.parameters(), strict=True):
        slow.lerp_(parameter, tau)


# ── 6  training ──────────────────────────────────────────────────────────────────────────────────


def train(args):
    """Trains, and returns the folder of the run."""
    args = prepare(args)
    device = choose_device(args.device)
    with Run(args) as run, Environments(args, args.num_envs, device) as envs:
        agent = Agent(envs.obs_size, envs.action_size, args).to(device)
        memory = ReplayBuffer(
            args.buffer_size, envs.obs_size, envs.action_size, like=agent.actor_parameters[0]
        )
        run.start(
            envs=envs,
            memory=memory,
            agent=agent,
            actor_optimizer=agent.actor_optimizer,
            critic_optimizer=agent.critic_optimizer,
        )
        if args.compile:
            agent.critic_gradients = compiled(agent.critic_gradients)
            agent.actor_gradients = compiled(agent.actor_gradients)
            agent.update_targets = compiled(agent.update_targets)
        if run.evaluation_pending:
            run.evaluate()

        metrics = {}
        while envs.global_step + args.num_envs <= args.total_timesteps and not run.stop_requested():
            # act: at random until there is something to learn from
            learning = envs.global_step >= args.learning_starts
            if learning or args.init_from:
                action = agent.act(envs.obs)
            else:
                action = envs.random_action()

            # step and store
            memory.add(envs.step(action))

            # learn: one update per environment step
            if learning:
                for update in range(envs.global_step - args.num_envs, envs.global_step):
                    batch = memory.sample(args.batch_size)
                    metrics |= agent.update_critics(batch)
                    if update % args.policy_frequency == 0:
                        metrics |= agent.update_actor(batch)
                        agent.update_targets()

            # report
            run.advance()
            if run.due(100):
                run.log(metrics)
            if run.due(args.eval_frequency):
                run.evaluate()
            if run.due(args.checkpoint_frequency):
                run.save()

        run.finish()
    return run.folder


# ── 7  run folder, checkpoint, evaluation, command line: the same text in all scripts ────────────

SCRIPT = Path(__file__).resolve()
RESUME_MAY_CHANGE = {  # options that a resumed run may have other values of
    "total_timesteps",
    "vectorization",
    "device",
    "num_threads",
    "eval_episodes",
    "eval_max_steps",
    "checkpoint_frequency",
    "capture_video",
    "track",
}
EVALUATE_MAY_CHANGE = {
    "best",
    "env_kwargs",
    "max_episode_steps",
    "seed",
    "vectorization",
    "device",
    "num_threads",
    "eval_episodes",
    "eval_max_steps",
    "capture_video",
}
NOT_SAVED = {"run_dir", "resume", "evaluate", "best"}  # options that config.json leaves out


class UsageError(Exception):
    """Something that the user can mend on the command line."""


class TrainingError(Exception):
    """Training cannot go on, for a reason that the message names."""


class Run:
    """The folder of a run, its progress, and the wish to stop it.

    Ctrl-C and SIGTERM ask the training loop to stop, so that the run can be saved; they interrupt
    evaluations, which begin anew when the run is resumed. A second one quits at once.
    """

    def __init__(self, args):
        self.args = args
        self.step = 0
        self.previous_step = 0
        self.earlier_seconds = 0.0  # that the run took before it was resumed
        self.evaluations = []  # rows of evaluations.csv
        self.evaluation_pending = True  # at the beginning, and where a stop cut one short
        self.episodes_size = 0  # bytes of episodes.csv at the checkpoint
        self.stop_signal = None
        self.is_interruptible = False
        self.old_handlers = {}
        self.to_close = contextlib.ExitStack()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old_handlers[number] = signal.signal(number, self.request_stop)
        return self

    def __exit__(self, kind, error, where):
        self.to_close.close()
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler)
        if kind is KeyboardInterrupt and self.stop_signal == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)

    def request_stop(self, number, frame):
        self.stop_signal = number
        for each in self.old_handlers:
            signal.signal(each, signal.SIG_DFL)
        if self.is_interruptible:
            raise KeyboardInterrupt

    def stop_requested(self):
        return self.stop_signal is not None

    @contextlib.contextmanager
    def interruptible(self):
        """What runs in this may be interrupted at any point: nothing of it is saved."""
        if self.stop_requested():
            raise KeyboardInterrupt
        self.is_interruptible = True
        try:
            yield
        finally:
            self.is_interruptible = False

    def start(self, envs, agent, **parts):
        """Makes the folder, or restores all parts from the checkpoint of the run that is resumed.

        Parts have `state_dict` and `load_state_dict`; those with more than a checkpoint should hold
        have `save_files` and `load_files` too.
        """
        self.envs = envs
        self.agent = agent
        self.parts = {"envs": envs, "agent": agent, **parts}
        if self.args.resume and (self.args.resume / "checkpoint.pt").exists():
            self.folder = self.args.resume
            note_changed_script(self.folder)
            self.restore()
        else:
            if self.args.init_from:
                initialize(agent, self.args.init_from)
            envs.begin_all()
            # a run that ended before its first checkpoint has a folder already
            self.folder = self.args.resume or make_folder(self.args)
            shutil.copy(SCRIPT, self.folder)
        write_config(self.args, self.folder)
        self.open_logs()
        if self.step == 0:
            self.save()
        say(f"run folder: {self.folder}\nenvironments: {self.args.num_envs}, {envs.backend}")
        command = command_to("--resume", self.folder)
        say(f"stop with Ctrl-C (a second one does not wait for saving), resume with: {command}")

    def open_logs(self):
        self.first_step = self.step
        self.start_time = time.perf_counter()
        self.write_evaluations()
        self.episodes = open(self.folder / "episodes.csv", "a", buffering=1)
        self.to_close.callback(self.episodes.close)
        self.episodes.truncate(self.episodes_size)  # rows after the checkpoint come again
        if self.episodes_size == 0:
            print("global_step,episode_return,episode_length", file=self.episodes)
        if self.args.track:
            import wandb

            wandb.init(
                project=self.args.wandb_project_name,
                id=self.folder.name,
                config=saved_options(self.args),
                resume="allow",
                sync_tensorboard=True,
            )
            self.to_close.callback(wandb.finish)
        self.writer = SummaryWriter(
            self.folder,
            purge_step=self.step + 1 if self.step else None,  # what comes again is not shown twice
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
        """Takes note of the step that the environments made, and of the episodes that ended."""
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
        """A line now and then, where there is no terminal for a progress bar."""
        self.last_line = time.perf_counter()
        seconds_per_step = (self.last_line - self.start_time) / max(1, self.step - self.first_step)
        left = timedelta(seconds=round(seconds_per_step * (self.args.total_timesteps - self.step)))
        percent = 100 * self.step / self.bar.total
        say(f"step {self.step}, {percent:.0f}%, {1 / seconds_per_step:.0f} steps/s, {left} left")

    def due(self, every):
        """Whether the last step passed a multiple of `every` environment steps; 0: never."""
        return every > 0 and self.step // every > self.previous_step // every

    def log(self, metrics):
        seconds = time.perf_counter() - self.start_time
        self.add_scalar("charts/SPS", (self.step - self.first_step) / seconds)
        optimizers = [x for x in self.parts.values() if isinstance(x, torch.optim.Optimizer)]
        self.add_scalar("charts/learning_rate", optimizers[0].param_groups[0]["lr"])
        for name, value in metrics.items():
            self.add_scalar(name, value)

    def add_scalar(self, name, value):
        self.writer.add_scalar(name, float(value), self.step)

    def evaluate(self):
        self.evaluation_pending = True
        seconds = round(self.seconds(), 3)
        one_at_a_time = self.args.num_envs == 1 and self.args.eval_episodes == 1
        if one_at_a_time:  # for simulators of which only one instance can run
            self.envs.close()
        video_folder = self.folder / "videos" / f"step-{self.step}"
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
        self.evaluation_pending = False
        result = summary(episodes)
        is_best = result["return_mean"] > max(
            (row["return_mean"] for row in self.evaluations), default=-math.inf
        )
        self.evaluations.append({"global_step": self.step, "wall_seconds": seconds, **result})
        self.write_evaluations()
        for name, value in result.items():
            self.add_scalar(f"eval/{name}", value)
        say(f"evaluation at step {self.step}: {in_words(result)}")
        if self.bar.disable and self.step > self.first_step:
            self.print_progress()
        if is_best:
            state = {"agent": self.agent.state_dict(), "step": self.step, **result}
            with replacing(self.folder / "best.pt") as file:
                torch.save(state, file)

    def write_evaluations(self):
        columns = dict.fromkeys(
            ("global_step", "wall_seconds", "return_mean", "return_std", "episode_length_mean")
        )
        for row in self.evaluations:
            columns |= row  # a task may add columns
        with replacing(self.folder / "evaluations.csv", "w") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self.evaluations)

    def seconds(self):
        """That the run took so far, with the time before it was resumed."""
        return self.earlier_seconds + time.perf_counter() - self.start_time

    def save(self):
        for name, value in self.agent.state_dict().items():
            if not torch.isfinite(value).all():
                raise TrainingError(f"{name} is not finite at step {self.step} of training")
        for part in self.parts.values():
            if hasattr(part, "save_files"):
                part.save_files(self.folder)
        os.fsync(self.episodes.fileno())
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["generators"] = generators_state()
        state["step"] = self.step
        state["seconds"] = self.seconds()
        state["total_timesteps"] = self.args.total_timesteps
        state["evaluations"] = self.evaluations
        state["evaluation_pending"] = self.evaluation_pending
        state["episodes_size"] = os.fstat(self.episodes.fileno()).st_size
        with replacing(self.folder / "checkpoint.pt") as file:
            torch.save(state, file)

    def restore(self):
        state = load_checkpoint(self.folder / "checkpoint.pt")
        self.step = state["step"]
        if self.step > self.args.total_timesteps:
            raise UsageError(
                f"--total-timesteps {self.args.total_timesteps}: the run is at step {self.step} "
                "already; give more"
            )
        self.earlier_seconds = state["seconds"]
        self.evaluations = state["evaluations"]
        self.evaluation_pending = state["evaluation_pending"]
        self.episodes_size = state["episodes_size"]
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
            if hasattr(part, "load_files"):
                part.load_files(self.folder)
        with self.interruptible():
            self.envs.replay()
        set_generators_state(state["generators"])
        if state["total_timesteps"] != self.args.total_timesteps:
            say(f"--total-timesteps was {state['total_timesteps']}, is {self.args.total_timesteps}")
            if getattr(self.args, "anneal_lr", False):
                say("the learning rate follows the schedule of the new length from here on")

    def finish(self):
        """Saves, evaluates and says how to go on. A run that was asked to stop only saves."""
        last_evaluated = self.evaluations[-1]["global_step"] if self.evaluations else None
        self.evaluation_pending = self.evaluation_pending or last_evaluated != self.step
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
            say(f"this run is finished; extend it with --total-timesteps {more} or the like")
        can_render = "rgb_array" in self.envs.envs.metadata.get("render_modes", [])
        video = ["--capture-video"] if can_render else []
        say(f"finished at step {self.step}; watch: {command_to('--evaluate', self.folder, *video)}")


def say(text, file=None):
    """Prints above the progress bar."""
    tqdm.write(text, file=file or sys.stdout)
    (file or sys.stdout).flush()


def command_to(*arguments):
    """A command line that can be pasted."""
    program = "uv run" if "UV_RUN_RECURSION_DEPTH" in os.environ else "python"
    script = os.path.relpath(SCRIPT)
    if script.startswith(".."):
        script = str(SCRIPT)
    return f"{program} {shlex.join([script, *map(str, arguments)])}"


def note_changed_script(folder):
    original = folder / SCRIPT.name
    if original.exists() and original.read_bytes() != SCRIPT.read_bytes():
        say(f"note: {SCRIPT.name} has changed since this run was made with {original}")


def make_folder(args):
    """A new folder, of this run alone, also where many begin in the same second."""
    if args.run_dir:
        try:
            args.run_dir.mkdir(parents=True)
        except FileExistsError:
            raise UsageError(f"--run-dir {args.run_dir}: exists; give a new one") from None
        return args.run_dir
    name = f"{args.env_id}__{SCRIPT.stem}__{args.seed}__{datetime.now():%Y%m%d-%H%M%S}"
    name = re.sub(r"[^\w.-]", "_", name)
    for number in itertools.count(1):
        folder = Path("runs", name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            pass


@contextlib.contextmanager
def replacing(path, mode="wb"):
    """Opens a file that takes the place of `path` when complete: at each moment one is whole."""
    new_path = path.with_name(path.name + ".tmp")
    with open(new_path, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(new_path, path)


def load_checkpoint(path):
    """What `torch.save` wrote: a zip file, which has a checksum of each part."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise UsageError(f"{path} is damaged, or not of this script: {error}") from None


def generators_state():
    """Of all generators that this process draws from: PyTorch's, NumPy's, Python's."""
    _, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": [keys.tolist(), *rest],
        "python": random.getstate(),
    }


def set_generators_state(state):
    torch.set_rng_state(state["torch"])
    for i, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, i)
    np.random.set_state(("MT19937", *state["numpy"]))
    random.setstate(state["python"])


@torch.no_grad()
def evaluate(agent, args, video_folder):
    """`eval_episodes` episodes of the policy without exploration, from the same starts each time.

    Each is of an environment of its own, so that short ones do not count more often. Returns a list
    of Episode. Leaves training's generators as they were.
    """
    device = next(agent.parameters()).device
    video_folder = video_folder if args.capture_video else None
    episodes = {}
    generators = generators_state()
    try:
        with Environments(args, args.eval_episodes, device, "evaluation", video_folder) as envs:
            envs.begin_all()
            for _ in range(args.eval_max_steps):
                envs.step(agent.act(envs.obs, explore=False))
                for episode in envs.take_finished():
                    episodes.setdefault(episode.env, episode)
                if len(episodes) == args.eval_episodes:
                    break
            for i in range(args.eval_episodes):
                episodes.setdefault(i, envs.episode(i))  # cut short by eval_max_steps
    finally:
        set_generators_state(generators)
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


def in_words(result):
    text = f"return {result['return_mean']:.2f} ± {result['return_std']:.2f}"
    if "success_rate" in result:
        text += f", success rate {result['success_rate']:.2f}"
    return text


def compiled(method):
    """The method as one graph, with the gradients; the optimizer's step must stay outside."""
    torch._dynamo.config.trace_autograd_ops = True
    return torch.compile(method, fullgraph=True)


def load_agent(run_dir, best=False):
    """The agent of a run as it was saved last, or of its best evaluation, and the step it is of."""
    args = load_args(run_dir)
    path = Path(run_dir) / ("best.pt" if best else "checkpoint.pt")
    if not path.exists():
        raise UsageError(f"{run_dir} has no {path.name} yet")
    state = load_checkpoint(path)
    with contextlib.closing(make_task(args)) as env:
        obs_size = math.prod(env.observation_space.shape)
        agent = Agent(obs_size, math.prod(env.action_space.shape), args)
    agent.load_state_dict(state["agent"])
    return agent, state["step"]


def load_policy(run_dir, best=False):
    """The policy of a run for programs of your own: a function from an observation of the task to
    an action of the task.

        policy = load_policy("runs/...")
        obs, reward, terminated, truncated, info = env.step(policy(obs))
    """
    agent, _ = load_agent(run_dir, best)
    task = make_task(load_args(run_dir))
    task.close()  # only its spaces are needed

    def policy(obs):
        obs = torch.as_tensor(task.flat(obs)).unsqueeze(0)
        action = agent.act(obs, explore=False)
        return scale_action(action.numpy(), task.action_space)[0]

    return policy


def initialize(agent, run_dir):
    """Gives a new agent the weights of another run, of a task with the same shapes."""
    weights = load_checkpoint(Path(run_dir) / "checkpoint.pt")["agent"]
    try:
        agent.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--init-from {run_dir}: its weights do not fit: {reason}") from None


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


def load_args(run_dir):
    """The options of a run."""
    path = Path(run_dir) / "config.json"
    if not path.exists():
        raise UsageError(f"{run_dir} holds no run: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from None
    if config["script"] != SCRIPT.name:
        raise UsageError(f"{run_dir} holds a run of {config['script']}, not of {SCRIPT.name}")
    options = config["options"]
    for name, value in options.items():
        if isinstance(value, list):
            options[name] = tuple(value)
    try:
        args = Args(**options)
    except TypeError as error:
        raise UsageError(f"{run_dir}: made by another version of {SCRIPT.name}: {error}") from None
    if args.init_from:
        args.init_from = Path(args.init_from)
    args.run_dir = Path(run_dir)
    return args


def choose_device(name):
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def prepare(args):
    """Checks the options, sets up PyTorch, seeds, and returns a copy of the options for one run."""
    args = copy.copy(args)
    for mistake in itertools.chain(check_args(args), check_algorithm_args(args)):
        raise UsageError(mistake)
    check_task(args)
    torch.set_num_threads(args.num_threads)
    torch.set_float32_matmul_precision(args.matmul_precision)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    return args


def check_args(args):
    """Yields what cannot work, in words."""
    for name in ("total_timesteps", "num_threads", "eval_episodes", "eval_max_steps"):
        if getattr(args, name) < 1:
            yield f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1"
    for name in ("seed", "eval_frequency", "checkpoint_frequency"):
        if getattr(args, name) < 0:
            yield f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 0"
    if args.seed >= 2**32:
        yield f"--seed {args.seed}: must be less than 2**32, as NumPy wants it"
    if args.max_episode_steps is not None and args.max_episode_steps < 1:
        yield f"--max-episode-steps {args.max_episode_steps}: must be at least 1"
    if not isinstance(args.env_kwargs, dict):
        yield f"--env-kwargs {args.env_kwargs}: must be a JSON object, such as '{{\"name\": 1}}'"
    elif {"max_episode_steps", "render_mode"} & args.env_kwargs.keys():
        yield "--env-kwargs: max_episode_steps and render_mode have options of their own"
    if args.resume and args.evaluate:
        yield "--resume and --evaluate exclude each other"
    if args.best and not args.evaluate:
        yield "--best goes with --evaluate"
    is_new = not (args.resume or args.evaluate)
    if is_new and args.run_dir and args.run_dir.exists():
        yield f"--run-dir {args.run_dir}: exists; give a new one, or --resume it"
    if is_new and args.init_from and not (args.init_from / "checkpoint.pt").exists():
        yield f"--init-from {args.init_from}: holds no run with a checkpoint"
    if args.compile and not args.evaluate and not shutil.which(os.environ.get("CXX", "c++")):
        yield "--compile: needs a C++ compiler, such as g++"
    wandb = importlib.util.find_spec("wandb") if args.track else None
    if (
        args.track and not args.evaluate and (wandb is None or wandb.origin is None)
    ):  # no origin: a folder of that name
        yield "--track: needs wandb; pip install wandb"
    try:
        torch.empty(0, device=choose_device(args.device))
    except (RuntimeError, AssertionError) as error:
        yield f"--device {args.device}: {str(error).splitlines()[0]}"


def check_task(args):
    """Makes the task once, and looks whether these scripts can learn it."""
    option = f"--env-id {args.env_id}"
    try:
        env = make_env(args)
    except gym.error.Error as error:
        raise UsageError(f"{option}: {error}") from None
    except ModuleNotFoundError as error:
        module = args.env_id.partition(":")[0]
        if error.__cause__ is None or error.__cause__.name != module.partition(".")[0]:
            raise  # the task's own module was found, and imports another that is not there
        raise UsageError(f"{option}: there is no module {module} here or installed") from None
    except TypeError as error:
        if any(f"unexpected keyword argument '{name}'" in str(error) for name in args.env_kwargs):
            raise UsageError(f"--env-kwargs {json.dumps(args.env_kwargs)}: {error}") from None
        raise
    with contextlib.closing(env):
        check_spaces(option, env)
        if args.capture_video:
            check_video(args, option, env)
        limit = env.spec.max_episode_steps if env.spec else None
    if limit is None or limit > args.eval_max_steps:
        say(
            f"note: {args.env_id} has {f'a time limit of {limit}' if limit else 'no time limit'}; "
            f"evaluations end an episode after --eval-max-steps {args.eval_max_steps}",
            file=sys.stderr,
        )
    if args.vectorization == "native":
        reason = why_not_native(args)
        if reason is not None:
            raise UsageError(f"--vectorization native: {reason}")


def check_spaces(option, env):
    if not env.observation_space.is_np_flattenable:
        raise UsageError(
            f"{option}: its observations {env.observation_space} cannot be made a vector; "
            "wrap the task so that they are a Box, or a Dict or Tuple of Boxes"
        )
    actions = env.action_space
    if not isinstance(actions, gym.spaces.Box) or actions.dtype.kind != "f":
        message = f"{option}: this script is for continuous actions, a Box of floats, not {actions}"
        if (SCRIPT.parent / "discrete").is_dir():
            message += "; for discrete actions there are the scripts in discrete/"
        raise UsageError(message)
    if not actions.is_bounded():
        raise UsageError(
            f"{option}: its actions {actions} have no bounds; give the task a bounded "
            "action_space, or wrap it in gymnasium.wrappers.RescaleAction if its own is bounded"
        )


def check_video(args, option, env):
    if "rgb_array" not in env.metadata.get("render_modes", []):
        raise UsageError(
            f"--capture-video: {option} cannot give frames: "
            "rgb_array is not in its metadata's render_modes"
        )
    env = make_rendering_env(args)
    with contextlib.closing(env):
        env.reset()
        try:
            env.render()
        except Exception as error:
            raise UsageError(
                f"--capture-video: this machine cannot render ({error}); install libegl1, or "
                "libosmesa6 and set MUJOCO_GL=osmesa"
            ) from error


@dataclass
class CommandLine:
    """The options in two groups, for --help."""

    run: tyro.conf.OmitArgPrefixes[RunArgs]
    algorithm: tyro.conf.OmitArgPrefixes[AlgorithmArgs]


def command_line(defaults):
    def part(kind):
        return kind(
            **{each.name: getattr(defaults, each.name) for each in dataclasses.fields(kind)}
        )

    default = CommandLine(run=part(RunArgs), algorithm=part(AlgorithmArgs))
    description = textwrap.indent(__doc__, " ")  # else tyro joins its lines
    given = tyro.cli(CommandLine, default=default, description=description)
    return Args(**vars(given.run), **vars(given.algorithm))


def parse_args():
    """The options; of a run that is resumed or evaluated, its own but for those given anew."""
    args = command_line(Args())
    folder = args.resume or args.evaluate
    if folder is None:
        return args
    saved = load_args(folder)
    saved.resume = args.resume
    saved.evaluate = args.evaluate
    args = command_line(saved)
    may_change = RESUME_MAY_CHANGE if args.resume else EVALUATE_MAY_CHANGE
    for name, value in vars(args).items():
        if name not in may_change and value != getattr(saved, name):
            raise UsageError(
                f"--{name.replace('_', '-')} {value}: this run has {getattr(saved, name)}; "
                "for another value begin a new run, with these weights if you like: "
                f"--init-from {folder}"
            )
    return args


def evaluate_run(args):
    args = prepare(args)
    note_changed_script(args.evaluate)
    agent, step = load_agent(args.evaluate, args.best)
    agent.to(choose_device(args.device))
    video_folder = args.evaluate / "videos" / f"evaluate-step-{step}"
    result = summary(evaluate(agent, args, video_folder))
    say(f"policy of step {step}, --eval-episodes {args.eval_episodes}: {in_words(result)}")


def exit_on_signal(number, frame):
    sys.exit(128 + number)


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # where it cannot show a γ
    sys.path.append(os.getcwd())  # for a task of your own in the current folder
    signal.signal(signal.SIGTERM, exit_on_signal)
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
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
