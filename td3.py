# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.13", "gymnasium[mujoco]>=1.4", "mujoco>=4", "numpy>=2", "tyro", "tensorboard", "tqdm",
#                 "imageio-ffmpeg"]
# ///
"""TD3, twin delayed DDPG (Fujimoto, van Hoof, Meger 2018, https://arxiv.org/abs/1802.09477).

Off-policy: the critics learn Q(s, a) from remembered transitions, the actor climbs the gradient of Q₁.

    y = r + γ (1 − terminated) min(Q′₁, Q′₂)(s′, μ′(s′) + ε)      actor: maximise E[Q₁(s, μ(s))]

Over ddpg.py, three tricks: a smoothed target action [6], the smaller of two critics [8], a delayed actor [13].
[n] are the fifteen steps of the derivation; primes are targets, slow copies of the networks.
Run `python td3.py --env-id HalfCheetah-v5`; `--help` lists the options. Sections 1 to 5 are the algorithm.
"""
import contextlib, copy, csv, ctypes.util, dataclasses, functools, importlib.metadata, io, json, math, multiprocessing
import os, platform, re, shutil, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import gymnasium as gym
import imageio.v2 as imageio
import mujoco
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


# ── 1  configuration ──────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Args:
    env_id: str = "HalfCheetah-v5"  # Gymnasium task with Box observations and actions
    seed: int = 1  # of networks, environments and noise
    total_timesteps: int = 1_000_000  # environment steps, all environments together
    num_envs: int = 1  # environments that step together
    vectorization: Literal["sync", "async"] = "sync"  # all environments in this process, or each in its own
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    num_threads: int = 1  # processor threads of PyTorch
    compile: bool = False  # torch.compile the losses
    eval_frequency: int = 50_000  # environment steps between evaluations; 0: only at the end
    eval_episodes: int = 10  # episodes an evaluation
    checkpoint_frequency: int = 50_000  # environment steps between checkpoints; 0: only after evaluations
    run_dir: Path | None = None  # the run's folder; None: runs/{env_id}__{script}__{seed}__{time}
    resume: Path | None = None  # a run's folder: go on with it, exactly; a larger --total-timesteps extends it
    evaluate: Path | None = None  # a run's folder: evaluate its policy instead of training
    capture_video: bool = False  # record the first episode of each evaluation
    track: bool = False  # log to Weights & Biases as well
    wandb_project_name: str = "continuous-control"  # the project there

    buffer_size: int = 1_000_000  # transitions in the replay memory
    hidden_sizes: tuple[int, ...] = (256, 256)  # widths of the hidden layers
    learning_starts: int = 10_000  # environment steps with random actions before learning
    exploration_noise: float = 0.1  # σ  of the noise on actions, which range over [-1, 1]
    batch_size: int = 256  # B  transitions an update
    gamma: float = 0.99  # γ  discount
    policy_noise: float = 0.2  # σ  of the noise on target actions
    noise_clip: float = 0.5  # bound of the noise on target actions
    learning_rate: float = 3e-4  # Adam's, for actor and critics
    policy_frequency: int = 2  # critic updates to one of actor and targets
    tau: float = 0.005  # τ  weight of the new in Polyak averaging


CHECKS = [  # what must hold, and what to say where it does not
    (lambda a: a.batch_size <= a.buffer_size, "--batch-size {batch_size}: must be at most --buffer-size"),
    (lambda a: a.num_envs <= a.buffer_size, "--num-envs {num_envs}: must be at most --buffer-size"),
    (lambda a: a.learning_starts < a.total_timesteps,
     "--learning-starts {learning_starts}: must be less than --total-timesteps, or nothing is learned"),
]


# ── 2  memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Transition(NamedTuple):
    obs: torch.Tensor         # s   [B, O]
    action: torch.Tensor      # a   [B, A]
    reward: torch.Tensor      # r   [B]
    next_obs: torch.Tensor    # s′  [B, O], the true successor, also where an episode ends
    terminated: torch.Tensor  #     [B], 1 where s′ is final: no reward can follow
    truncated: torch.Tensor   #     [B], 1 where a time limit cut the episode: s′ still has a value


class ReplayBuffer:                                                                         # [1] the memory
    """The last `capacity` transitions, a row each. On disk all of them, in one file that only ever grows."""

    def __init__(self, capacity, obs_size, action_size, device, folder):
        self.widths = [obs_size, action_size, 1, obs_size, 1, 1]
        self.rows = torch.empty(capacity, sum(self.widths), device=device)
        self.path, self.total, self.saved = folder / "replay" / "transitions.f32", 0, 0

    def add(self, rows):
        self.rows[torch.arange(self.total, self.total + len(rows), device=rows.device) % len(self.rows)] = rows
        self.total += len(rows)

    def sample(self, batch_size):
        index = torch.randint(min(self.total, len(self.rows)), (batch_size,), device=self.rows.device)
        obs, action, reward, next_obs, *ends = self.rows[index].split(self.widths, dim=1)
        return Transition(obs, action, reward.squeeze(1), next_obs, *(end.squeeze(1) for end in ends))

    def state_dict(self):
        self.path.parent.mkdir(exist_ok=True)
        with open(self.path, "ab") as file:           # what was written after the last checkpoint is written over
            file.truncate(self.saved * self.rows[0].nbytes)
            self.rows[torch.arange(self.saved, self.total) % len(self.rows)].cpu().numpy().tofile(file)
            os.fsync(file.fileno())
        self.saved = self.total
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = max(0, state["total"] - len(self.rows))
        while self.total < state["total"]:
            count = min(100_000, state["total"] - self.total)
            rows = np.fromfile(self.path, np.float32, count * sum(self.widths), offset=self.total * self.rows[0].nbytes)
            self.add(torch.from_numpy(rows.reshape(count, -1)).to(self.rows.device))
        self.saved = self.total


# ── 3  networks ───────────────────────────────────────────────────────────────────────────────────────────────────────
def mlp(*sizes):
    layers = [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):                                                                     # [2] μ, and its target μ′
    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__()
        self.net = mlp(obs_size, *hidden_sizes, action_size)

    def forward(self, obs):                           # [B, O] → [B, A] in [-1, 1]
        return torch.tanh(self.net(obs))


class Critic(nn.Module):                                                                    # [3] Q, and its target Q′
    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__()
        self.net = mlp(obs_size + action_size, *hidden_sizes, 1)

    def forward(self, obs, action):                   # [B, O], [B, A] → [B]
        return self.net(torch.cat([obs, action], dim=-1)).squeeze(-1)


class TwinCritic(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.q1, self.q2 = Critic(*sizes), Critic(*sizes)

    def forward(self, obs, action):                   # [B, O], [B, A] → [B], [B]
        return self.q1(obs, action), self.q2(obs, action)


# ── 4  the algorithm ──────────────────────────────────────────────────────────────────────────────────────────────────
class Agent(nn.Module):
    def __init__(self, obs_size, action_size, args):
        super().__init__()
        self.args, self.updates = args, 0
        self.actor = Actor(obs_size, action_size, args.hidden_sizes)
        self.critic = TwinCritic(obs_size, action_size, args.hidden_sizes)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), args.learning_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), args.learning_rate, fused=True)

    def get_extra_state(self):                        # what state_dict() holds beside weights
        return self.updates

    def set_extra_state(self, updates):
        self.updates = updates

    @torch.no_grad()
    def act(self, obs):                               # [N, O] → [N, A], a row of noise for each environment
        action = self.actor(obs)
        return (action + self.args.exploration_noise * torch.randn_like(action)).clamp(-1, 1)

    def learn(self, batch):
        """One update from a batch of B transitions. Returns what to log, detached."""
        y = target_q(self.actor_target, self.critic_target, batch, self.args)
        loss, q = critic_loss(self.critic, batch, y)
        descend(loss, self.critic_optimizer)
        self.updates += 1
        if self.updates % self.args.policy_frequency == 0:
            descend(actor_loss(self.actor, self.critic, batch), self.actor_optimizer)
            polyak(self.actor, self.actor_target, self.args.tau)
            polyak(self.critic, self.critic_target, self.args.tau)
        return {"losses/critic_loss": loss.detach(), "losses/q": q}


@torch.no_grad()
def target_q(actor_target, critic_target, batch, args):                                     # → [B]
    _, _, reward, next_obs, terminated, _ = batch                                           # [4] a batch from memory
    next_action = actor_target(next_obs)                                                    # [5] a′ = μ′(s′)
    noise = (args.policy_noise * torch.randn_like(next_action)).clamp(-args.noise_clip, args.noise_clip)
    next_action = (next_action + noise).clamp(-1, 1)                                        # [6] a′ + ε
    next_q1, next_q2 = critic_target(next_obs, next_action)                                 # [7] Q′₁, Q′₂ (s′, a′)
    next_q = torch.min(next_q1, next_q2)                                                    # [8] the smaller
    return reward + args.gamma * (1 - terminated) * next_q                                  # [9] y


def critic_loss(critic, batch, y):                                                          # → [], []
    q1, q2 = critic(batch.obs, batch.action)                                                # [10] Q₁, Q₂ (s, a)
    loss = F.mse_loss(q1, y) + F.mse_loss(q2, y)                                            # [11] (Q₁ − y)² + (Q₂ − y)²
    return loss, q1.detach().mean()


def descend(loss, optimizer):
    parameters = optimizer.param_groups[0]["params"]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)                                                        # [12] of these, no others
    optimizer.step()


def actor_loss(actor, critic, batch):                                                       # → []
    return -critic.q1(batch.obs, actor(batch.obs)).mean()                                   # [13] ascend Q₁(s, μ(s))


@torch.no_grad()
def polyak(model, target, tau):
    for new, slow in zip(model.parameters(), target.parameters()):
        slow.lerp_(new, tau)                                                                # [14] μ′, [15] Q′


# ── 5  training ───────────────────────────────────────────────────────────────────────────────────────────────────────
def train(args):
    envs = Environments(args, args.num_envs, stream=0, vectorization=args.vectorization)
    agent = Agent(envs.obs_size, envs.action_size, args).to(args.device)
    memory = ReplayBuffer(args.buffer_size, envs.obs_size, envs.action_size, args.device, args.run_dir)
    run = Run(args, agent.actor, envs=envs, memory=memory, agent=agent, actor_optimizer=agent.actor_optimizer,
              critic_optimizer=agent.critic_optimizer)
    metrics = {}
    while run.goes_on():
        warm_up = envs.global_step < args.learning_starts
        action = 2 * torch.rand(args.num_envs, envs.action_size, device=args.device) - 1 if warm_up else agent.act(envs.obs)
        memory.add(torch.cat([x.reshape(args.num_envs, -1) for x in envs.step(action)], dim=1))
        for _ in range(0 if warm_up else args.num_envs):
            metrics = agent.learn(memory.sample(args.batch_size))
        run.report(metrics)
    run.finish()


# ── 6  plumbing: the same text in all five scripts ────────────────────────────────────────────────────────────────────
class Task(gym.Wrapper):
    """One environment. Playing its `record` again, the generator's state before the last reset and the actions since,
    restores a deterministic environment with all its hidden numbers, to the bit."""

    def __init__(self, env_id, render_mode):
        mujoco.set_mju_user_warning(lambda text: "deprecated" in text or print("MuJoCo:", text, file=sys.stderr))
        for number in (signal.SIGINT, signal.SIGTERM) if multiprocessing.parent_process() else ():
            signal.signal(number, signal.SIG_IGN)  # a worker ends with the process that trains, not before it
        env = gym.make(env_id, render_mode=render_mode, disable_env_checker=True)
        super().__init__(gym.wrappers.RecordEpisodeStatistics(env))

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.env.reset(seed=seed)  # seeds the generator
        self.record = self.unwrapped.np_random.bit_generator.state, []
        return self.env.reset(options=options)

    def step(self, action):
        self.record[1].append(action)
        return self.env.step(action)

    def play(self, record):
        self.unwrapped.np_random.bit_generator.state, actions = record
        self.reset()
        for action in actions.numpy():
            self.step(action)

    played = property(fset=play)  # for set_attr, which reaches into workers


class Environments:
    """N copies of a task. Outside: float32 tensors, flat observations, actions in [-1, 1] whatever the task's bounds."""

    def __init__(self, args, num_envs, stream, vectorization="sync", render_mode=None):
        vector = gym.vector.AsyncVectorEnv if vectorization == "async" else gym.vector.SyncVectorEnv
        self.envs = vector([lambda: Task(args.env_id, render_mode)] * num_envs, autoreset_mode="SameStep")
        box, self.device = self.envs.single_action_space, args.device
        self.obs_size, self.action_size = math.prod(self.envs.single_observation_space.shape), math.prod(box.shape)
        self.low, self.high = box.low.astype(np.float32), box.high.astype(np.float32)
        self.global_step, self.finished = 0, []  # finished episodes: (environment, global_step, return, length)
        seeds = np.random.SeedSequence((args.seed, stream)).generate_state(num_envs).tolist()
        self.obs = self.tensor(self.envs.reset(seed=seeds)[0])

    def tensor(self, array):
        return torch.tensor(array, dtype=torch.float32, device=self.device).flatten(min(array.ndim - 1, 1))

    def step(self, action):
        """Acts in every environment, [N, A], and moves `obs` on to what to act on next. Returns the transition."""
        scaled = self.low + (action.cpu().numpy().reshape(-1, *self.low.shape) + 1) / 2 * (self.high - self.low)
        next_obs, reward, terminated, truncated, info = self.envs.step(np.clip(scaled, self.low, self.high))
        obs, self.obs = self.obs, self.tensor(next_obs)
        successor = self.obs.clone()
        self.global_step += len(reward)
        for i in np.flatnonzero(terminated | truncated):  # here self.obs begins another episode
            successor[i] = self.tensor(info["final_obs"][i][None])
            episode = info["final_info"]["episode"]
            self.finished.append((i, self.global_step, episode["r"][i].item(), episode["l"][i].item()))
        return Transition(obs, action, self.tensor(reward), successor, self.tensor(terminated), self.tensor(truncated))

    def state_dict(self):
        records = [(generator, torch.tensor(np.array(actions))) for generator, actions in self.envs.get_attr("record")]
        return {"global_step": self.global_step, "obs": self.obs, "records": records}

    def load_state_dict(self, state):
        self.global_step, self.obs = state["global_step"], state["obs"].to(self.device)
        self.envs.set_attr("played", state["records"])


@torch.no_grad()
def evaluate(actor, args, step):
    """Plays --eval-episodes episodes with the mean action, always the same ones, in environments of their own; films
    the first if asked. Returns the return's mean and standard deviation, and the mean length."""
    envs = Environments(args, args.eval_episodes, stream=1, render_mode="rgb_array" if args.capture_video else None)
    episodes, film = {}, contextlib.nullcontext()
    if args.capture_video:
        (args.run_dir / "videos").mkdir(exist_ok=True)
        film = imageio.get_writer(args.run_dir / f"videos/step_{step}.mp4", fps=envs.envs.metadata["render_fps"])
    with film:
        while len(episodes) < args.eval_episodes:
            if args.capture_video and 0 not in episodes:
                film.append_data(envs.envs.envs[0].render())
            envs.step(actor(envs.obs))
            episodes = {i: episode for i, _, *episode in reversed(envs.finished)}  # of each environment, its first
    envs.envs.close()
    returns, lengths = np.array(list(episodes.values())).T
    return returns.mean().item(), returns.std().item(), lengths.mean().item()


class Run:
    """A run's folder and what falls due in it: logs, evaluations, checkpoints. `parts`: what a checkpoint holds."""

    def __init__(self, args, actor, **parts):
        self.args, self.actor, self.parts, self.envs, self.folder = args, actor, parts, parts["envs"], args.run_dir
        self.signal, self.began, self.evaluation, state = None, time.perf_counter(), None, {}
        for number in signal.SIGINT, signal.SIGTERM:
            signal.signal(number, lambda number, _: setattr(self, "signal", number))
        if not args.resume:
            create_folder(args)
        elif (self.folder / "checkpoint.pt").exists():
            state = torch.load(self.folder / "checkpoint.pt", "cpu", weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            torch.set_rng_state(state["rng"])
            torch.cuda.set_rng_state_all(state["cuda_rng"])
            self.evaluation = state["evaluation"]  # the last one, with the actor that it was of
            self.began -= state["wall_seconds"]
        self.step, self.tables = self.envs.global_step, {}
        for name, header in {"evaluations": "global_step,wall_seconds,return_mean,return_std,episode_length_mean",
                             "episodes": "global_step,episode_return,episode_length"}.items():
            self.tables[name] = open(self.folder / f"{name}.csv", "a", buffering=1)
            self.tables[name].truncate(state.get(name, 0))  # the rows after the checkpoint will come again
            state or print(header, file=self.tables[name])
        if args.track:
            import wandb
            wandb.init(project=args.wandb_project_name, id=self.folder.name, resume="allow", sync_tensorboard=True,
                       config=json.loads((self.folder / "config.json").read_text()))
        self.writer = SummaryWriter(self.folder, purge_step=self.step or None)
        plain = {} if sys.stderr.isatty() else {
            "mininterval": 30, "bar_format": "{n_fmt}/{total_fmt} steps, {rate_fmt}{postfix}, {remaining} left\n"}
        self.bar = tqdm(total=args.total_timesteps, initial=self.step, unit=" steps", dynamic_ncols=True, **plain)
        self.command = f"python {Path(__file__).name} --resume {self.folder}"
        print(f"run folder: {self.folder}\nstop with Ctrl-C, resume with: {self.command}", flush=True)
        if args.eval_frequency and not self.evaluation:
            self.evaluate()
            self.save()

    def goes_on(self, steps=1):
        """Whether `steps` more environment steps are within the budget, and nobody has asked to stop."""
        return self.signal is None and self.envs.global_step + steps <= self.args.total_timesteps

    def report(self, metrics):
        """After each update: notes the episodes that ended, and does what has fallen due since the last report."""
        previous, self.step = self.step, self.envs.global_step
        log, evaluate, save = (every and self.step // every > previous // every
                               for every in (1000, self.args.eval_frequency, self.args.checkpoint_frequency))
        self.bar.update(self.step - previous)
        for _, step, return_, length in self.envs.finished:
            print(step, return_, length, sep=",", file=self.tables["episodes"])
            self.log(step, {"charts/episodic_return": return_, "charts/episodic_length": length})
            self.bar.set_postfix_str(f"return {return_:.1f}", refresh=False)
        self.envs.finished.clear()
        if log:
            self.log(self.step, {**metrics, "charts/SPS": self.bar.format_dict["rate"] or 0})
        if evaluate:
            self.evaluate()
        if evaluate or save:
            self.save()

    def log(self, step, scalars):
        for name, value in scalars.items():
            self.writer.add_scalar(name, float(value), step)

    def evaluate(self):
        mean, std, length = evaluate(self.actor, self.args, self.step)
        self.evaluation = {"step": self.step, "return": (mean, std), "actor": copy.deepcopy(self.actor.state_dict())}
        seconds = round(time.perf_counter() - self.began, 3)
        print(self.step, seconds, mean, std, length, sep=",", file=self.tables["evaluations"])
        self.log(self.step, {"eval/return_mean": mean, "eval/return_std": std, "eval/episode_length_mean": length})

    def save(self):
        """Writes the checkpoint beside the old one, then over it: at every moment one of them is whole."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all(),
                  "evaluation": self.evaluation, "wall_seconds": time.perf_counter() - self.began}
        for name, file in self.tables.items():
            os.fsync(file.fileno())
            state[name] = os.path.getsize(file.name)
        with open(self.folder / "checkpoint.tmp", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.folder / "checkpoint.pt")

    def finish(self):
        """The last evaluation and checkpoint, and what to do next. Ends the process if it was interrupted."""
        if self.signal is None and (not self.evaluation or self.evaluation["step"] < self.step):
            self.evaluate()
        self.save()
        for thing in self.bar, self.writer, self.envs.envs, *self.tables.values():
            thing.close()
        if self.signal is not None:
            print(f"stopped after {self.step} steps, saved; resume with: {self.command}")
            sys.exit(128 + self.signal)
        print("final evaluation: return {:.2f} ± {:.2f}".format(*self.evaluation["return"]))
        print(f"watch it with: {self.command.replace('--resume', '--evaluate')} --capture-video")


def create_folder(args):
    """Makes the run's folder with its configuration and the source that made it: whole, or not at all."""
    cpu = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    config = {"script": Path(__file__).stem, **vars(args), "processor": cpu[1] if cpu else platform.machine(),
              "python": platform.python_version(),
              "packages": {name: importlib.metadata.version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}}
    temporary = args.run_dir.with_name(f".{args.run_dir.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    (temporary / "config.json").write_text(json.dumps(config, indent=2, default=str))
    shutil.copy(__file__, temporary)
    temporary.rename(args.run_dir)


def fail(message, status=2):
    print(f"{Path(__file__).name}: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def command_line(default):
    """The options given, over `default`. What tyro says of a mistake is put in one line."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        return tyro.cli(Args, default=default, description=__doc__)
    fail(re.sub(r"[─│╭╮╰╯\s]+", " ", said.getvalue().partition("\n")[2])) if said.getvalue() else sys.exit()


MAY_BE_ZERO = {"seed", "eval_frequency", "checkpoint_frequency", "learning_starts", "gamma", "gae_lambda", "vf_coef",
               "ent_coef", "exploration_noise", "policy_noise", "noise_clip"}
AT_MOST = {"seed": 2**32 - 1, "gamma": 1, "gae_lambda": 1, "tau": 1, "learning_rate": 1}
MAY_CHANGE = {"total_timesteps", "eval_episodes", "checkpoint_frequency", "capture_video", "track", "wandb_project_name"}


def parse_args():
    """The options, over those of the run where one is resumed or evaluated; checked before anything is made."""
    args = saved = command_line(Args())
    folder = args.resume or args.evaluate
    if folder:
        try:
            config = json.loads((folder / "config.json").read_text())
            saved = Args(**{name: config[name] for name in vars(args)} | {"hidden_sizes": tuple(config["hidden_sizes"])})
            assert config["script"] == Path(__file__).stem
        except (OSError, ValueError, KeyError, AssertionError):
            fail(f"{folder}: holds no run of {Path(__file__).name}; --resume and --evaluate need one")
        saved.run_dir, saved.resume, saved.evaluate = folder, args.resume, args.evaluate
        args = command_line(saved)
    for name, value in vars(args).items():
        option = f"--{name.replace('_', '-')} {value}"
        if folder and value != getattr(saved, name) and name not in MAY_CHANGE:
            fail(f"{option}: cannot change now, this run has {getattr(saved, name)}")
        for number in np.ravel(value) if isinstance(value, (int, float, tuple)) else ():
            least = 0 if name in MAY_BE_ZERO or isinstance(value, bool) else 1 if isinstance(value, (int, tuple)) else 1e-12
            if not least <= number <= AT_MOST.get(name, 1e12):
                fail(f"{option}: must be from {least} to {AT_MOST.get(name, 1e12):g}")
    for holds, message in CHECKS:
        holds(args) or fail(message.format(**vars(args)))
    if args.track and not importlib.util.find_spec("wandb"):
        fail("--track: wandb is not installed; pip install wandb")
    devices = ["cpu", *["mps"] * torch.backends.mps.is_available(), *["cuda"] * torch.cuda.is_available()]
    args.device = devices[-1] if args.device == "auto" else args.device
    if args.device not in devices + [f"cuda:{i}" for i in range(torch.cuda.device_count())]:
        fail(f"--device {args.device}: not on this machine, which has {', '.join(devices)}")
    default = f"{args.env_id}__{Path(__file__).stem}__{args.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    args.run_dir = args.run_dir or Path("runs", re.sub(r"[^\w.-]", "_", default))
    if not folder and args.run_dir.exists():
        fail(f"--run-dir {args.run_dir}: exists; give another, or go on with --resume {args.run_dir}")
    check_task(args)
    return args


def check_task(args):
    if args.capture_video and sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")
    try:
        env = Task(args.env_id, "rgb_array" if args.capture_video else None)
    except (gym.error.Error, ImportError) as error:
        fail(f"--env-id {args.env_id}: {error}")
    if not all(isinstance(space, gym.spaces.Box) for space in (env.observation_space, env.action_space)):
        fail(f"--env-id {args.env_id}: needs Box observations and actions, has {env.observation_space}, {env.action_space}")
    if not env.action_space.is_bounded():
        fail(f"--env-id {args.env_id}: needs bounded actions, has {env.action_space}")
    try:
        env.reset()
        args.capture_video and env.render()
    except Exception as error:
        fail(f"--capture-video: no off-screen rendering ({error!r}); install libegl1, or libosmesa6 and set MUJOCO_GL=osmesa", 1)
    env.close()


def show(args):
    """Evaluates a run's policy: that of its last evaluation, which gives the same numbers again."""
    path, envs = args.run_dir / "checkpoint.pt", Environments(args, 1, stream=1)
    if not path.exists():
        fail(f"--evaluate {args.run_dir}: has no checkpoint yet; resume it")
    state = torch.load(path, args.device, weights_only=True)
    agent = Agent(envs.obs_size, envs.action_size, args).to(args.device)
    agent.load_state_dict(state["agent"])
    if state["evaluation"]:
        agent.actor.load_state_dict(state["evaluation"]["actor"])
    mean, std, length = evaluate(agent.actor, args, state["envs"]["global_step"])
    print(f"{args.eval_episodes} episodes: return {mean} ± {std}, length {length}")


def main():
    args = parse_args()
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    if args.device == "cpu":  # with oneDNN in place of MKL; ONEDNN_MAX_CPU_ISA keeps it to fp32
        torch.set_float32_matmul_precision("medium")
    try:
        show(args) if args.evaluate else train(args)
    except OSError as error:
        fail(error, 1)


if __name__ == "__main__":
    main()
