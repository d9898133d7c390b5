"""Times the scripts beside Stable-Baselines3 and SBX at the same work, on a machine that is idle.

    python benchmark/speed.py                              everything
    python benchmark/speed.py --cells td3 ddpg --rounds 3  a part; its results replace that part
    python benchmark/report.py                             makes the tables from the results

A cell is a script with its options. Its sides take turns, each in a process of its own, and are
timed within it, after `warm` steps: neither start nor compilation nor evaluations count. All sides
have the same task, networks, batches, updates per step and threads.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from runs import HERE, command_words, fail, find_script, missing, require, version_of, write

ROOT = HERE.parent
PACKAGES = ("torch", "gymnasium", "mujoco", "numpy", "stable-baselines3", "sbx-rl", "jax")


class Cell(NamedTuple):
    title: str
    script: str
    task: str
    options: dict  # of the script
    sides: tuple
    warm: int  # steps before the time counts
    steps: int  # steps that are timed


A2C = {"hidden_sizes": (64, 64), "num_envs": 16, "num_steps": 5}
PPO = {
    "hidden_sizes": (64, 64),
    "num_envs": 8,
    "num_steps": 256,
    "num_minibatches": 32,
    "update_epochs": 10,
}
LARGE = {"hidden_sizes": (256, 256), "batch_size": 256, "learning_starts": 500, "num_envs": 1}
DQN = {"hidden_sizes": (128, 128), "batch_size": 128, "learning_starts": 500}
DQN_8 = DQN | {"num_envs": 8, "train_frequency": 8}
DQN_1 = DQN | {"num_envs": 1, "train_frequency": 10}

PPO_TITLE = "PPO, 8 × 256 steps, 10 epochs of 32 minibatches of 64"
DQN_8_TITLE = "DQN, 8 environments, an update of 128 after each step of all"
DQN_1_TITLE = "DQN with 1 environment, an update of 128 every 10 steps"
DDPG_TITLE = "DDPG, an update of 256 per step"
TD3_TITLE = "TD3, an update of 256 per step"

CHEETAH = "HalfCheetah-v5"
POLE = "CartPole-v1"
WHOLE_RUNS = ("ours", "compiled", "sb3")
OFF_POLICY = (*WHOLE_RUNS, "sbx", "ours busy", "sb3 busy", "update", "compiled update", "products")
CELLS = {
    "ppo_continuous": Cell(PPO_TITLE, "ppo_continuous", CHEETAH, PPO, WHOLE_RUNS, 4096, 16384),
    "a2c": Cell("A2C, 16 × 5 steps", "a2c", CHEETAH, A2C, WHOLE_RUNS, 4000, 24000),
    "ddpg": Cell(DDPG_TITLE, "ddpg", CHEETAH, LARGE, OFF_POLICY, 1000, 2000),
    "td3": Cell(TD3_TITLE, "td3", CHEETAH, LARGE, OFF_POLICY, 1000, 2000),
    "dqn": Cell(DQN_8_TITLE, "dqn", POLE, DQN_8, WHOLE_RUNS, 2000, 10000),
    "dqn1": Cell(DQN_1_TITLE, "dqn", POLE, DQN_1, WHOLE_RUNS, 2000, 10000),
}


@dataclass
class Args:
    cells: tuple[str, ...] = tuple(CELLS)  # of ppo_continuous, a2c, ddpg, td3, dqn, dqn1
    rounds: int = 5  # times that all sides of a cell take their turn
    threads: int = 1  # CPU threads of every side
    results: Path = HERE / "results" / "speed.jsonl"  # where the times are kept
    device: str = "cpu"  # cpu or cuda
    side: str | None = None  # time this side of the one cell here, and print what came out


def rate(measured):
    return measured["steps"] / measured["seconds"]


# ── sides: each returns {"steps", "seconds"} ─────────────────────────────────────────────────────


def between(marks, warm):
    """From the first mark (steps, time) after `warm` steps to the last."""
    first_steps, start = next(mark for mark in marks if mark[0] >= warm)
    last_steps, end = marks[-1]
    return {"steps": last_steps - first_steps, "seconds": end - start}


def ours(cell, device, threads, more=()):
    """A whole run; its log has the time of each report of progress."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {
        "env-id": cell.task,
        "total-timesteps": str(cell.warm + cell.steps),
        "device": device,
        "num-threads": str(threads),
        "eval-frequency": "0",
        "eval-episodes": "1",
        "checkpoint-frequency": "0",
    }
    for name, value in cell.options.items():
        words = value if isinstance(value, tuple) else (value,)
        options[name.replace("_", "-")] = " ".join(map(str, words))
    with tempfile.TemporaryDirectory() as folder:
        words = [*command_words(options), "--run-dir", f"{folder}/run", *more]
        command = [sys.executable, str(find_script(cell.script)), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"{cell.script}.py: {done.stderr}")
        log = EventAccumulator(f"{folder}/run", size_guidance={"scalars": 0}).Reload()
        marks = [(event.step, event.wall_time) for event in log.Scalars("charts/SPS")]
    return between(marks, cell.warm)


def peer(package, cell, device, threads):
    """The same work by Stable-Baselines3 or SBX."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(threads)
    envs = make_vec_env(cell.task, n_envs=cell.options["num_envs"])
    if cell.script in ("ppo_continuous", "a2c"):
        envs = VecNormalize(envs)
    options = peer_options(package, cell, envs)
    marks = []

    class Mark(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            marks.append((self.num_timesteps, time.perf_counter()))

    name = {"ppo_continuous": "PPO"}.get(cell.script, cell.script.upper())
    algorithm = getattr(importlib.import_module(package), name)
    model = algorithm("MlpPolicy", envs, device=device, **options)
    model.learn(cell.warm + cell.steps, callback=Mark())
    marks.append((model.num_timesteps, time.perf_counter()))
    return between(marks, cell.warm)


def peer_options(package, cell, envs):
    import numpy as np
    from stable_baselines3.common.noise import NormalActionNoise

    ours = cell.options
    widths = list(ours["hidden_sizes"])
    if cell.script in ("ppo_continuous", "a2c"):
        options = {
            "n_steps": ours["num_steps"],
            "normalize_advantage": False,
            "policy_kwargs": {"net_arch": {"pi": widths, "vf": widths}},
        }
        if cell.script == "a2c":
            return options | {"use_rms_prop": False}
        batch_size = ours["num_envs"] * ours["num_steps"] // ours["num_minibatches"]
        return options | {"batch_size": batch_size, "n_epochs": ours["update_epochs"]}

    options = {
        "batch_size": ours["batch_size"],
        "learning_starts": ours["learning_starts"],
        "gradient_steps": 1,
        "policy_kwargs": {"net_arch": widths},
    }
    if cell.script == "dqn":
        return options | {
            "learning_rate": 2.5e-4,
            "train_freq": ours["train_frequency"] // ours["num_envs"],
            "target_update_interval": 500,
            "buffer_size": 10_000,
        }
    zeros = np.zeros(envs.action_space.shape)
    options |= {
        "learning_rate": 3e-4,
        "train_freq": 1,
        "action_noise": NormalActionNoise(zeros, zeros + 0.1),
    }
    if package == "sbx":
        options["qf_learning_rate"] = 3e-4
    return options


# ── an off-policy update, and what of it is matrix products ──────────────────────────────────────


def updates(cell, device, threads, is_compiled):
    """A function that makes two updates, as in two steps of training."""
    import torch

    sys.path.insert(0, str(ROOT))
    script = importlib.import_module(cell.script)
    torch.set_num_threads(threads)
    args = script.Args(env_id=cell.task, **cell.options)
    with script.Environments(args, 1, torch.device(device)) as envs:
        agent = script.Agent(envs.obs_size, envs.action_size, args).to(device)
        memory = script.ReplayBuffer(
            10_000, envs.obs_size, envs.action_size, like=agent.actor_parameters[0]
        )
        envs.begin_all()
        for _ in range(2000):
            memory.add(envs.step(envs.random_action()))
    if is_compiled:
        for name in ("critic_backward", "actor_backward", "update_targets"):
            setattr(agent, name, script.compiled(getattr(agent, name)))

    def two_updates():
        for step in range(2):
            batch = memory.sample(args.batch_size)
            if cell.script == "td3":
                agent.update_critics(batch)
            else:
                agent.update_critic(batch)
            if cell.script == "ddpg" or step == 0:
                agent.update_actor(batch)
                agent.update_targets()

    return two_updates


def time_pairs(two_steps, seconds=3.0):
    """Times a function that does the work of two steps; a fifth of the time is to warm up."""
    import torch

    for duration in (seconds / 5, seconds):
        steps = 0
        start = time.perf_counter()
        while time.perf_counter() - start < duration:
            two_steps()
            steps += 2
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        passed = time.perf_counter() - start
    return {"steps": steps, "seconds": passed}


def update(cell, device, threads, is_compiled=False):
    two_updates = updates(cell, device, threads, is_compiled)
    for _ in range(5):
        two_updates()
    return time_pairs(two_updates)


def products(cell, device, threads):
    """The matrix products of an update alone: no script can be faster with this PyTorch."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    factors = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            products = {torch.ops.aten.mm.default: args, torch.ops.aten.addmm.default: args[1:]}
            if function in products:
                factors.append([x.detach().clone() for x in products[function]])
            return function(*args, **(kwargs or {}))

    two_updates = updates(cell, device, threads, is_compiled=False)
    two_updates()
    with Record():
        two_updates()
    outputs = [a @ b for a, b in factors]

    def all_products():
        for (a, b), out in zip(factors, outputs, strict=True):
            torch.mm(a, b, out=out)

    with torch.no_grad():
        return time_pairs(all_products)


@contextlib.contextmanager
def busy_processes(count):
    """Other work on the machine."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def time_side(cell, side, device, threads):
    """Times one side, in this process or in one that it starts."""
    if side == "ours":
        return ours(cell, device, threads)
    if side == "compiled":
        return ours(cell, device, threads, ["--compile"])
    if side == "sb3":
        return peer("stable_baselines3", cell, device, threads)
    if side == "sbx":
        return peer("sbx", cell, device, threads)
    if side == "update":
        return update(cell, device, threads)
    if side == "compiled update":
        return update(cell, device, threads, is_compiled=True)
    if side == "products":
        return products(cell, device, threads)
    with busy_processes(2):
        return time_side(cell, side.removesuffix(" busy"), device, threads)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


def pin(threads):
    """Gives this process, and what it starts, as many processors as threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def start_side(name, side, device, threads):
    """Times a side in a process of its own."""
    words = ["--cells", name, "--side", side, "--device", device, "--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, str(HERE / "speed.py"), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu" if device == "cpu" else "cuda"},
    )
    if done.returncode != 0:
        fail(f"{name}, {side}: {done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine():
    text = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    names = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name")]
    return {
        "processor": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def save(record, path):
    """Puts a record in the place of an older one of the same cell, device and threads."""
    records = {}
    lines = path.read_text().splitlines() if path.exists() else []
    for each in [*map(json.loads, lines), record]:
        records[each["cell"], each["device"], each["threads"]] = each
    write(path, "".join(json.dumps(records[key]) + "\n" for key in sorted(records)))


def main(args):
    unknown = set(args.cells) - set(CELLS)
    if unknown:
        fail(f"--cells {' '.join(unknown)}: must be of {', '.join(CELLS)}")
    if args.side:
        if not args.side.endswith("busy"):
            pin(args.threads)
        measured = time_side(CELLS[args.cells[0]], args.side, args.device, args.threads)
        print(json.dumps(measured))
        return
    require("stable_baselines3", "sbx", "jax")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: something else runs here (load {load:.1f}); do not trust these times")
    for name in args.cells:
        cell = CELLS[name]
        rounds = []
        for number in range(1, args.rounds + 1):
            measured = {}
            for side in cell.sides:
                measured[side] = start_side(name, side, args.device, args.threads)
                text = f"{rate(measured[side]):,.0f} per second"
                print(f"{name}, round {number} of {args.rounds}, {side}: {text}", flush=True)
            rounds.append(measured)
        record = {
            "cell": name,
            "device": args.device,
            "threads": args.threads,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "version": version_of(find_script(cell.script).read_text()),
            **machine(),
            "rounds": rounds,
        }
        save(record, args.results)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__ + missing("stable_baselines3", "sbx", "jax")))
