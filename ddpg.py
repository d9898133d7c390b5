# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.13", "gymnasium[mujoco]>=1.4", "mujoco>=4", "moviepy", "tensorboard", "tqdm", "tyro"]
# ///
"""DDPG, deep deterministic policy gradient (Lillicrap et al. 2015, https://arxiv.org/abs/1509.02971).

Off-policy: a critic learns Q(s, a) from remembered transitions, the actor climbs what the critic says of its actions.
    y = r + γ (1 − terminated) Q′(s′, μ′(s′))                     critic: minimise (Q(s, a) − y)²
    μ′ and Q′ are targets, slow copies of the networks            actor: maximise Q(s, μ(s))
td3.py is this plus three tricks, which are the steps that are missing here: [6], [8] and the delay of [13]. [n] are the
fifteen steps of TD3, [DPG-n] those of the derivation. Sections 1 to 5 are the algorithm; --help lists the options.
"""
import atexit, collections, contextlib, copy, ctypes.util, dataclasses, functools, hashlib, importlib.util, io, json
import math, multiprocessing, os, pickle, platform, re, shutil, signal, sys, threading, time, typing, zlib
from pathlib import Path
import gymnasium as gym, mujoco, numpy as np, torch, torch.utils.tensorboard, tqdm, tyro
from torch import nn
# ── 1  configuration ──────────────────────────────────────────────────────────────────────────────────────────────────
@dataclasses.dataclass
class Args:
    env_id: str = "HalfCheetah-v5"  # Gymnasium task with Box observations and actions
    seed: int = 1  # of networks, environments and noise
    total_timesteps: int = 1_000_000  # environment steps, all environments together
    num_envs: int = 1  # environments that step together
    vectorization: typing.Literal["auto", "sync", "async", "native"] = "auto"  # native_mujoco.py where it can, or sync
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    num_threads: int = 0  # processor threads; 1: for runs side by side; 0: PyTorch one (wide networks: two), native all
    compile: bool = False  # compile the update with torch.compile
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
    learning_rate: float = 3e-4  # Adam's, for actor and critics
    tau: float = 0.005  # τ  weight of the new in Polyak averaging

def checks(a):  # what must hold, and what to say where it does not
    yield a.batch_size <= a.buffer_size, f"--batch-size {a.batch_size}: more than --buffer-size {a.buffer_size}"
    yield a.num_envs <= min(a.buffer_size, a.total_timesteps), f"--num-envs {a.num_envs}: more than memory or run hold"
    last = (a.total_timesteps // a.num_envs - 1) * a.num_envs  # where the last step of all begins
    yield a.learning_starts <= last, f"--learning-starts {a.learning_starts}: at most {last}, or nothing is learned"
# ── 2  memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────
# s [B, O], a [B, A], r [B], s′ [B, O]: the true successor, also where an episode ends. terminated [B] is 1 where s′ is
# final and nothing can follow, truncated [B] is 1 where a time limit cut the episode and s′ still has a value.
Transition = collections.namedtuple("Transition", "obs action reward next_obs terminated truncated")

class ReplayBuffer:                                                                         # [1] the memory
    """The last `capacity` transitions, a row each. On disk all of them, in a file that is only appended to."""
    def __init__(self, capacity, obs_size, action_size, device, folder):
        self.widths = [obs_size, action_size, 1, obs_size, 1, 1]
        with blame(f"--buffer-size {capacity}", 2):
            self.rows = torch.empty(capacity, sum(self.widths), device=device)
        self.path, self.total, self.saved, self.crc = folder / "replay" / "transitions.f32", 0, 0, 0
    def add(self, *columns):                          # [N, …] each
        rows = torch.cat([column.reshape(len(column), -1) for column in columns], dim=1)
        self.rows[torch.arange(self.total, self.total + len(rows), device=rows.device) % len(self.rows)] = rows
        self.total += len(rows)
    def sample(self, batch_size):
        index = torch.randint(min(self.total, len(self.rows)), (batch_size,), device=self.rows.device)
        obs, action, reward, next_obs, *ends = self.rows[index].split(self.widths, dim=1)
        return Transition(obs, action, reward.squeeze(1), next_obs, *(end.squeeze(1) for end in ends))
    def state_dict(self):
        self.path.parent.mkdir(exist_ok=True)
        with open(self.path, "ab") as file:
            file.truncate(self.saved * self.rows[0].nbytes)  # a run that died may have written more than it saved
            new = self.rows[torch.arange(self.saved, self.total) % len(self.rows)].cpu().numpy()
            file.write(new)
            os.fsync(file.fileno())
        self.saved, self.crc = self.total, zlib.crc32(new, self.crc)
        return {"total": self.total, "crc": self.crc}
    def load_state_dict(self, state):
        self.total, self.saved, self.crc = 0, state["total"], 0
        with open(self.path, "rb") as file:
            while rows := min(self.saved - self.total, 8192, len(self.rows)):
                data = bytearray(file.read(rows * self.rows[0].nbytes)).ljust(rows * self.rows[0].nbytes)
                self.crc = zlib.crc32(data, self.crc)
                self.add(torch.frombuffer(data, dtype=torch.float32).view(rows, -1).to(self.rows))
        self.crc == state["crc"] or refuse(f"{self.path} is damaged")
# ── 3  networks ───────────────────────────────────────────────────────────────────────────────────────────────────────
def mlp(*sizes):
    return [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Linear(*pair), nn.ReLU())][:-1]

class Actor(nn.Sequential):                           # [B, O] → [B, A] in [-1, 1]         # [2] μ, and its target μ′
    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__(*mlp(obs_size, *hidden_sizes, action_size), nn.Tanh())
class Critic(nn.Sequential):                          # [B, O], [B, A] → [B]                # [3] Q, and its target Q′
    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__(*mlp(obs_size + action_size, *hidden_sizes, 1))
    def forward(self, obs, action):
        return super().forward(torch.cat([obs, action], dim=-1)).squeeze(-1)
# ── 4  the algorithm ──────────────────────────────────────────────────────────────────────────────────────────────────
@torch.no_grad()
def target_q(actor_target, critic_target, batch, args):                                     # → y [B]
    _, _, reward, next_obs, terminated, _ = batch                                           # [4] a batch from memory
    next_action = actor_target(next_obs)                                                    # [5] a′ = μ′(s′)
    next_q = critic_target(next_obs, next_action)                                           # [7] Q′(s′, a′)
    return reward + args.gamma * (1 - terminated) * next_q                                  # [9] [DPG-1] y
def backward(loss, optimizer):
    optimizer.vector.grad = torch.cat([g.flatten() for g in torch.autograd.grad(loss, optimizer.parameters)])
@torch.no_grad()
def polyak(model, target, tau):
    for new, slow in zip(model.parameters(), target.parameters()):
        slow.lerp_(new, tau)

class Agent(nn.Module):
    def __init__(self, obs_size, action_size, args):
        super().__init__()
        self.args, self.actor = args, Actor(obs_size, action_size, args.hidden_sizes)
        self.critic = Critic(obs_size, action_size, args.hidden_sizes)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimizer = Adam(self.actor, args.learning_rate)
        self.critic_optimizer = Adam(self.critic, args.learning_rate)
    @torch.no_grad()
    def act(self, obs):                               # [N, O] → [N, A], a row of noise for each environment
        action = self.actor(obs)
        return (action + self.args.exploration_noise * torch.randn_like(action)).clamp(-1, 1)
    def learn(self, batch):                           # one update; returns what to log
        y = target_q(self.actor_target, self.critic_target, batch, self.args)
        q = self.critic(batch.obs, batch.action)                                            # [10] Q(s, a)
        critic_loss = nn.functional.mse_loss(q, y)                                          # [11] [DPG-2] error
        metrics = {"losses/critic_loss": critic_loss.detach(), "losses/q": q.detach().mean()}
        backward(critic_loss, self.critic_optimizer)
        self.critic_optimizer.step()                                                        # [12]
        actor_loss = -self.critic(batch.obs, self.actor(batch.obs)).mean()                  # [13] [DPG-3] ascent
        backward(actor_loss, self.actor_optimizer)
        self.actor_optimizer.step()
        polyak(self.actor, self.actor_target, self.args.tau)                                # [14] [DPG-4] μ′ ← τ μ + …
        polyak(self.critic, self.critic_target, self.args.tau)                              # [15] [DPG-4] Q′ ← τ Q + …
        return metrics
# ── 5  training ───────────────────────────────────────────────────────────────────────────────────────────────────────
def train(args):
    envs = Environments(args, args.num_envs, 0)
    with torch.device(args.device):
        agent = Agent(envs.obs_size, envs.action_size, args)
    memory, metrics = ReplayBuffer(args.buffer_size, envs.obs_size, envs.action_size, args.device, args.run_dir), {}
    run = Run(args, envs=envs, memory=memory, agent=agent, actor_optimizer=agent.actor_optimizer,
              critic_optimizer=agent.critic_optimizer)
    if args.compile:  # losses and gradients as graphs, broken at the optimizers' steps
        torch._dynamo.config.trace_autograd_ops, agent.learn = True, torch.compile(agent.learn)
    while run.goes_on(metrics, args.num_envs):
        learning = envs.global_step >= args.learning_starts
        action = agent.act(envs.obs) if learning else 2 * torch.rand(len(envs.obs), envs.action_size) - 1
        memory.add(*envs.step(action.to(args.device)))
        for _ in range(args.num_envs if learning else 0):
            metrics = agent.learn(memory.sample(args.batch_size))
# ── 6  plumbing: the same text in all five scripts ────────────────────────────────────────────────────────────────────
def make_env(env_id, video=None):
    mujoco.set_mju_user_warning(lambda text: "deprecated" in text or print("MuJoCo:", text, file=sys.stderr))
    for number in (signal.SIGINT, signal.SIGTERM) if multiprocessing.parent_process() else ():
        signal.signal(number, signal.SIG_IGN)  # a worker ends with the process that trains, not before it
    env = gym.make(env_id, render_mode="rgb_array" if video else None, disable_env_checker=True)
    return gym.wrappers.RecordVideo(env, video.parent, lambda i: i == 0, name_prefix=video.name) if video else env
def native(args):  # native_mujoco.py's class, the same numbers in less time, where that file and its task are there
    with contextlib.suppress(ImportError):
        return getattr(importlib.import_module("native_mujoco"), args.env_id.removesuffix("-v5"), None)
def fail(message, status=2):  # ends the program, with one line that says why
    sys.exit(tqdm.tqdm.write(f"{Path(__file__).name}: {' '.join(str(message).split())}", sys.stderr) or status)
def refuse(reason):
    raise ValueError(reason)
class Adam(torch.optim.Adam):  # on one vector: the module's parameters become views of it, and must stay so: no .to()
    def __init__(self, module, learning_rate, **options):
        self.parameters = list(module.parameters())
        self.vector = nn.utils.parameters_to_vector(self.parameters).detach()
        nn.utils.vector_to_parameters(self.vector, self.parameters)
        super().__init__([self.vector], learning_rate, fused=True, **options)
@contextlib.contextmanager
def blame(what, status=1):  # for an error within it
    try:
        yield
    except Exception as error:
        fail(f"{what}: {error or repr(error)}", status)
class Environments:
    """N copies of a task. Outside: float32 tensors, flat observations, actions in [-1, 1] whatever the task's bounds.
    Each episode has a seed of its own; seeds and actions of the episodes under way restore all that a task hides."""
    def __init__(self, args, num_envs, stream, video=None):  # stream 0 is training's, 1 evaluation's
        env_fns = [functools.partial(make_env, args.env_id, None if i else video) for i in range(num_envs)]
        vector = gym.vector.AsyncVectorEnv if args.vectorization == "async" and not stream else gym.vector.SyncVectorEnv
        if args.vectorization in ("auto", "native") and not video and native(args):
            vector, env_fns = functools.partial(native(args), num_threads=args.num_threads), num_envs
        self.args, self.entropy, self.global_step = args, [args.seed, stream], 0
        with self.blame():
            self.envs = vector(env_fns, autoreset_mode="Disabled")
        space, self.box = self.envs.single_observation_space, self.envs.single_action_space
        self.obs_size, self.action_size = math.prod(space.shape), math.prod(self.box.shape)
        self.seeds, self.lengths, self.returns = np.zeros(num_envs, int), np.zeros(num_envs, int), np.zeros(num_envs)
        self.actions, self.finished = [], []  # finished: (i, global_step, return, length) of each episode
        self.begin(np.ones(num_envs, bool))
    def begin(self, new):  # an episode in every environment i where new[i]
        self.seeds[new] = np.random.SeedSequence([*self.entropy, self.global_step]).generate_state(len(new))[new]
        self.lengths[new], self.returns[new] = 0, 0
        self.actions = self.actions[len(self.actions) - self.lengths.max():]
        self.obs = self.reset(new)
    def reset(self, new):
        with self.blame():
            return self.tensors(self.envs.reset(seed=self.seeds.tolist(), options={"reset_mask": new})[0])[0]
    def blame(self):
        return blame(f"{self.args.env_id}, {'evaluation' if self.entropy[1] else 'training'} step {self.global_step}")
    def tensors(self, obs, *columns):  # [N, …], [N], [N], … → [N, O], [N], [N], …
        obs, columns = obs.reshape(len(obs), -1).astype(np.float32), np.array(columns, np.float32)
        np.isfinite(obs).all() or refuse("observation is NaN or infinite")
        np.isfinite(columns).all() or refuse("reward is NaN or infinite")
        return torch.from_numpy(obs).to(self.args.device), *torch.from_numpy(columns).to(self.args.device)
    def step(self, action):  # [N, A] → Transition, and `obs` moves on to what to act on next
        unit, box = action.cpu().numpy().reshape(-1, *self.box.shape).astype(self.box.dtype), self.box
        self.actions.append((box.low + (unit + 1) / 2 * (box.high - box.low)).clip(box.low, box.high))
        with self.blame():
            np.isfinite(unit).all() or refuse("action, and so some weight, is NaN or infinite")
            obs, reward, terminated, truncated, _ = self.envs.step(self.actions[-1])
            next_obs, *rest = self.tensors(obs, reward, terminated, truncated)
        transition = Transition(self.obs, action, rest[0], next_obs, *rest[1:])
        self.obs, done, self.global_step = next_obs, terminated | truncated, self.global_step + len(action)
        self.lengths, self.returns = self.lengths + 1, self.returns + reward
        if done.any():
            self.finished += [(i, self.global_step, self.returns[i], self.lengths[i]) for i in np.flatnonzero(done)]
            self.begin(done)
        return transition
    def state_dict(self):
        return {"global_step": self.global_step, "actions": torch.tensor(np.array(self.actions)),
                "episodes": [torch.tensor(array) for array in (self.seeds, self.lengths, self.returns)]}
    def load_state_dict(self, state):
        self.global_step, self.actions = state["global_step"], list(state["actions"].numpy())
        self.seeds, self.lengths, self.returns = (array.numpy() for array in state["episodes"])
        self.obs = self.reset(np.ones(len(self.seeds), bool))
        for left, action in zip(range(len(self.actions) - 1, -1, -1), self.actions):
            with self.blame():
                obs, _, terminated, truncated, _ = self.envs.step(action)
            new = terminated | truncated | (self.lengths == left)  # where what the checkpoint knows of begins
            self.obs = self.reset(new) if new.any() else self.tensors(obs)[0]
@torch.no_grad()
def evaluate(actor, args, step):  # → return's mean and deviation, mean length: of --eval-episodes, always the same
    envs = Environments(args, args.eval_episodes, 1, video=args.capture_video and args.run_dir / f"videos/step-{step}")
    while len({i for i, *_ in envs.finished}) < args.eval_episodes:
        envs.step(actor(envs.obs))
    episodes = {i: episode for i, _, *episode in reversed(envs.finished)}  # the first of each environment
    envs.envs.close()
    returns, lengths = np.array(sorted(episodes.values())).T
    return returns.mean().item(), returns.std().item(), lengths.mean().item()
def fixed(args):  # the options that make a run what it is
    return {"script": Path(__file__).stem} | {name: str(x) for name, x in vars(args).items() if name not in MAY_CHANGE}
def write_config(folder, config):  # with a checksum of the rest; beside the old one, then over it
    text = json.dumps(config | {"checksum": 0}, default=str)
    (folder / "config.tmp").write_text(json.dumps(json.loads(text) | {"checksum": zlib.crc32(text.encode())}, indent=2))
    os.replace(folder / "config.tmp", folder / "config.json")
def restore(args, parts):  # from the latest checkpoint that is whole and this run's; returns it, {} where there is none
    damage = []
    for path in filter(Path.exists, [args.run_dir / name for name in ("checkpoint.pt", "checkpoint.previous.pt")]):
        try:
            content = path.read_bytes()
            hashlib.sha256(content[:-32]).digest() == content[-32:] or refuse("damaged")
            state = torch.load(io.BytesIO(content[:-32]), "cpu", weights_only=True)
            (others := state["config"].items() - fixed(args).items()) and refuse(f"of another run, with {dict(others)}")
            (total := args.total_timesteps) < state["step"] and fail(f"--total-timesteps {total}: {state['step']} done")
            for name, (size, crc) in state["tables"].items():
                zlib.crc32((args.run_dir / name).read_bytes()[:size]) == crc or refuse(f"{name} is damaged")
            for name, part in parts.items():
                part.load_state_dict(state[name])
            torch.set_rng_state(state["rng"])
            torch.cuda.set_rng_state_all(state["cuda_rng"][:torch.cuda.device_count()])
            list(map(torch.mps.set_rng_state, state["mps_rng"][:torch.mps.device_count()]))
            damage and print(f"{damage[0]}; going on from {path.name}, step {state['step']}", file=sys.stderr)
            damage and args.resume and os.replace(path, args.run_dir / "checkpoint.pt")
            return state
        except Exception as error:
            damage.append(f"{path}: {'no checkpoint' if isinstance(error, pickle.UnpicklingError) else error}")
    return fail("; ".join(damage), 1) if damage else {}
class Run:
    """A run's folder and what falls due in it: logs, evaluations, checkpoints. `parts`: what a checkpoint holds."""
    def __init__(self, args, **parts):
        self.args, self.parts, self.envs, self.path = args, parts, parts["envs"], args.run_dir / "checkpoint.pt"
        self.signal, self.command = None, f"python {sys.argv[0]} --resume {args.run_dir}"
        for number in signal.SIGINT, signal.SIGTERM:
            signal.signal(number, lambda number, frame: setattr(self, "signal", number))
        if not args.resume:  # the folder appears when it holds all that --resume needs
            new = args.run_dir.with_name(args.run_dir.name + ".new")
            new.mkdir(parents=True, exist_ok=True)
            shutil.copy(__file__, new)
            cpu = re.findall("model name.*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else []
            versions = {module.__name__: module.__version__ for module in (torch, gym, mujoco, np)}
            write_config(new, {"script": Path(__file__).stem, **vars(args), "processor": [*cpu, platform.machine()][0],
                               "python": platform.python_version(), **versions})
            new.rename(args.run_dir)
        self.tables = {name: open(args.run_dir / name, "a", buffering=1) for name in HEADERS}
        with blame(f"{args.run_dir}: in use by another process"), contextlib.suppress(ImportError):
            (lock := importlib.import_module("fcntl")).flock(self.tables["episodes.csv"], lock.LOCK_EX | lock.LOCK_NB)
        self.state = {"step": -1, "wall_seconds": 0, "evaluation": {}, "tables": dict.fromkeys(HEADERS, [0])}
        if args.resume:
            self.state |= restore(args, parts)
            config = json.loads((args.run_dir / "config.json").read_text())
            write_config(args.run_dir, config | {name: getattr(args, name) for name in MAY_CHANGE})
        self.step, self.began = self.state["step"], time.perf_counter() - self.state["wall_seconds"]
        for name, file in self.tables.items():  # the rows after the checkpoint will come again
            file.truncate(self.state["tables"][name][0]) or print(HEADERS[name], file=file)
        args.track and importlib.import_module("wandb").init(project=args.wandb_project_name, id=args.run_dir.name,
                                                             resume="allow", sync_tensorboard=True, config=vars(args))
        self.writer = torch.utils.tensorboard.SummaryWriter(args.run_dir, purge_step=self.step + 1 or None)
        print(f"run folder: {args.run_dir}\nstop with Ctrl-C, resume with: {self.command}", flush=True)
        look = {"dynamic_ncols": True} if sys.stderr.isatty() else {  # without a terminal, a line now and then
            "mininterval": 30, "bar_format": "{n_fmt}/{total_fmt} steps, {rate_fmt}{postfix}, {remaining} left\n"}
        self.bar = tqdm.tqdm(total=args.total_timesteps, initial=max(self.step, 0), unit=" steps", **look)
    def goes_on(self, metrics, steps=1):  # does what has fallen due; says whether `steps` more fit in, or ends the run
        previous, self.step = self.step, self.envs.global_step
        stop = self.step + steps > self.args.total_timesteps or self.signal
        log, test, save = (every and self.step // every > previous // every
                           for every in (1000, self.args.eval_frequency, self.args.checkpoint_frequency))
        self.bar.update(self.step - max(previous, 0))
        for _, step, return_, length in self.envs.finished:
            print(step, return_, length, sep=",", file=self.tables["episodes.csv"])
            self.log(step, {"charts/episodic_return": return_, "charts/episodic_length": length})
            self.bar.set_postfix_str(f"return {return_:.1f}", refresh=False)
        self.envs.finished.clear()
        log and self.log(self.step, {**metrics, "charts/SPS": self.step / (time.perf_counter() - self.began)})
        if log or test or save or stop:
            for name, value in self.parts["agent"].state_dict().items():
                value.isfinite().all() or fail(f"training step {self.step}: weight {name} is NaN or infinite", 1)
        if test or stop and not self.signal and self.state["evaluation"].get("step", -1) < self.step:
            actor, now = self.parts["agent"].actor, round(time.perf_counter() - self.began, 3)
            mean, std, length = evaluate(actor, self.args, self.step)
            self.state["evaluation"] = dict(step=self.step, mean=mean, std=std, actor=copy.deepcopy(actor.state_dict()))
            print(self.step, now, mean, std, length, sep=",", file=self.tables["evaluations.csv"])
            self.log(self.step, {"eval/return_mean": mean, "eval/return_std": std, "eval/episode_length_mean": length})
        (test or save or stop) and self.save()
        return not stop or self.end(metrics or self.args.resume)
    def log(self, step, scalars):
        for name, value in scalars.items():
            math.isfinite(value) or fail(f"training step {step}: {name} is NaN or infinite", 1)
            self.writer.add_scalar(name, float(value), step)
    def save(self):  # beside the old checkpoint: at every moment one of them is whole, and ends with its SHA-256
        rows = {name: Path(file.name).read_bytes() for name, file in self.tables.items()}
        self.state |= {name: part.state_dict() for name, part in self.parts.items()} | {
            "step": self.step, "wall_seconds": time.perf_counter() - self.began, "config": fixed(self.args),
            "tables": {name: (len(rows[name]), zlib.crc32(rows[name])) for name in rows},
            "rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all(),
            "mps_rng": [torch.mps.get_rng_state() for _ in range(torch.mps.device_count())]}
        torch.save(self.state, content := io.BytesIO())
        with open(self.path.with_suffix(".tmp"), "wb") as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())
            file.flush()
            for each in file, *self.tables.values():
                os.fsync(each.fileno())
        self.path.exists() and os.replace(self.path, self.path.with_suffix(".previous.pt"))
        os.replace(file.name, self.path)
    def end(self, learned):
        for thing in self.bar, self.writer, self.envs.envs, *self.tables.values():
            thing.close()
        self.signal and sys.exit(print(f"saved step {self.step}; resume with: {self.command}") or 128 + self.signal)
        print("final evaluation: return {mean:.2f} ± {std:.2f}".format(**self.state["evaluation"]))
        print(f"watch: python {sys.argv[0]} --evaluate {self.args.run_dir} --capture-video" if learned else "no update")
HEADERS = {"evaluations.csv": "global_step,wall_seconds,return_mean,return_std,episode_length_mean",
           "episodes.csv": "global_step,episode_return,episode_length"}
MAY_BE_ZERO = {"seed", "num_threads", "eval_frequency", "checkpoint_frequency", "learning_starts", "gamma",
               "gae_lambda", "vf_coef", "ent_coef", "exploration_noise", "policy_noise", "noise_clip"}
AT_MOST = {"seed": 2**32 - 1, "gamma": 1, "gae_lambda": 1, "tau": 1, "learning_rate": 1, "num_envs": 4096,
           "num_threads": 1024, "hidden_sizes": 2**16, "buffer_size": 1e9}
MAY_CHANGE = {"total_timesteps", "vectorization", "eval_episodes", "checkpoint_frequency", "capture_video", "track",
              "device", "num_threads", "run_dir", "resume", "evaluate"}
def command_line(default):  # what tyro says of a mistake is put in one line
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        return tyro.cli(Args, default=default, description=__doc__)
    fail(re.sub(r"(-{3,}|[─│╭╮╰╯\s])+", " ", said.getvalue().partition("\n")[2])) if said.getvalue() else sys.exit()
def parse_args():  # over the options of the run where one is resumed or evaluated; checked before anything is made
    args = saved = command_line(Args())
    if folder := args.resume or args.evaluate:
        path = folder / "config.json"
        path.exists() or fail(f"{folder}: holds no run; --resume and --evaluate need a run's folder")
        with blame(f"{path}: damaged, or of another version of this script"):
            config = json.loads(path.read_text())
            zlib.crc32(json.dumps(config | {"checksum": 0}).encode()) == config["checksum"] or refuse("wrong checksum")
            Path(__file__).stem == config["script"] or fail(f"{folder}: holds a run of {config['script']}.py")
            saved = Args(**{name: config[name] for name in vars(args)} | {
                "hidden_sizes": tuple(config["hidden_sizes"]), "run_dir": folder, "resume": args.resume,
                "evaluate": args.evaluate})
        args = command_line(saved)
    for name, value in vars(args).items():
        option = f"--{name.replace('_', '-')} {value}"
        if folder and value != getattr(saved, name) and (name not in MAY_CHANGE or name == "run_dir"):
            fail(f"{option}: cannot change now, this run has {getattr(saved, name)}")
        for number in np.ravel(value) if type(value) in (int, float, tuple) else ():
            least, most = 0 if name in MAY_BE_ZERO else 1e-12 if type(value) is float else 1, AT_MOST.get(name, 1e12)
            least <= number <= most or fail(f"{option}: must be from {least} to {most:g}")
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")
    with blame(f"--env-id {args.env_id}", 2):
        (env := make_env(args.env_id, args.capture_video and Path()).unwrapped).reset()
    with blame("--capture-video: cannot render here; install libegl1, or libosmesa6 and set MUJOCO_GL=osmesa", 2):
        assert not args.capture_video or env.render() is not None
    args.env_id, spaces = re.sub("[^:]+$", env.spec.id, args.env_id), (env.observation_space, env.action_space)
    devices = ["cpu", *["mps"] * torch.backends.mps.is_available(), *["cuda"] * torch.cuda.is_available()]
    args.device = devices[-1] if args.device == "auto" else args.device
    name = f"{args.env_id}__{Path(__file__).stem}__{args.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    args.run_dir = args.run_dir or Path("runs", re.sub(r"[^\w.-]", "_", name))
    for holds, message in (
            (all(isinstance(x, gym.spaces.Box) and x.dtype.kind == "f" for x in spaces) and spaces[1].is_bounded(),
             f"--env-id {args.env_id}: observations and bounded actions must be Boxes of real numbers, not {spaces}"),
            *checks(args),
            (args.vectorization != "native" or native(args), "--vectorization native: is for native_mujoco.py's tasks"),
            (args.device in devices + [f"cuda:{i}" for i in range(torch.cuda.device_count())],
             f"--device {args.device}: not on this machine, which has {', '.join(devices)}"),
            (folder or not args.run_dir.exists(), f"--run-dir {args.run_dir}: exists; give a new one, or --resume it"),
            (not args.resume or not args.evaluate, f"--resume {args.resume}: not together with --evaluate"),
            (not args.compile or shutil.which(os.environ.get("CXX", "c++")), "--compile: no C++ compiler; install g++"),
            (not args.track or importlib.util.find_spec("wandb"), "--track: needs wandb; pip install wandb")):
        holds or fail(message)
    return args
def show(args):  # evaluates the policy of the run's last evaluation, which gives the same numbers again
    envs = Environments(args, 1, 1)
    with torch.device(args.device):
        agent = Agent(envs.obs_size, envs.action_size, args)
    state = restore(args, {"agent": agent}) or fail(f"{args.run_dir}: has no checkpoint yet; --resume it first")
    last = {"step": state["step"], "actor": agent.actor.state_dict()} | state["evaluation"]
    agent.actor.load_state_dict(last["actor"])
    print(args.eval_episodes, "episodes: return {} ± {}, length {}".format(*evaluate(agent.actor, args, last["step"])))
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the run begins there is nothing to save
    gym.logger.min_level = gym.logger.ERROR + 1  # what environments have to say comes as an exception
    sys.unraisablehook = threading.excepthook = lambda _: None  # nor do threads that die with it have more to say
    atexit.register(lambda: [worker.kill() for worker in multiprocessing.active_children()])
    try:
        args = parse_args()
        wide = args.device == "cpu" and min(args.hidden_sizes, default=0) >= 256
        torch.set_num_threads(args.num_threads or min(1 + wide, torch.get_num_threads()))
        torch.manual_seed(args.seed)
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"  # of oneDNN's instructions those that keep fp32 what it is
        torch.set_float32_matmul_precision("medium" if wide else "highest")  # oneDNN in place of MKL where that pays
        show(args) if args.evaluate else train(args)
    except OSError as error:
        fail(f"{os.fsdecode(error.filename or args.run_dir)}: {error.strerror or error}", 1)
