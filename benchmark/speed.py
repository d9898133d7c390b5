"""Steps per second of the scripts beside Stable-Baselines3, SBX and minimal.py, at the same work, and their limits.

    python benchmark/speed.py                                      everything, on a machine that does nothing else
    python benchmark/speed.py --cells td3 ddpg --rounds 3          a part, whose results replace only that part
    python benchmark/report.py                                     makes the tables from the results

A cell is a script with its options. Its sides take turns, each in a process of its own, and are timed within it: from
the first iteration that ends after `warm` steps to the last one, so that neither start, compilation nor final
evaluation counts. All sides have the same environments, networks, batches, updates a step and processors (--threads);
PyTorch has as many threads on all sides as the scripts give it: one, and for networks 256 wide two on a CPU.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from common import HERE, fail, git_hash, write

ROOT = HERE.parent
ENV = "HalfCheetah-v5"
PACKAGES = "torch", "gymnasium", "mujoco", "numpy", "stable-baselines3", "sbx-rl", "jax"
NUM_ENVS = 1, 4, 16, 64, 256


class Cell(NamedTuple):
    title: str
    script: str
    options: dict  # of the script; empty: its defaults
    sides: dict  # {side: the least that ours / side should be, or None}
    warm: int  # steps before the time counts
    steps: int  # steps that are timed


LIMITS = {"environment": None, "update": None, "peak": None}
SMALL, LARGE = (
    {"hidden-sizes": (64, 64)},
    {"hidden-sizes": (256, 256), "batch-size": 256, "learning-starts": 500},
)
PPO = SMALL | {"num-minibatches": 32, "update-epochs": 10}
OFF_POLICY = {"ours": None, "sb3": 1.8, "sbx": 1.0, "minimal": None, "compiled": None} | LIMITS
SCALING = {f"{kind} {n}": None for n in NUM_ENVS for kind in ("native", "sync")}
PARTS = {
    "acting": ("Agent", ["act"]),
    "environments": ("Environments", ["step"]),
    "learning": (
        "Agent",
        ["update", "update_critic", "update_critics", "update_actor", "update_targets"],
    ),
}
CELLS = {
    "ppo_continuous": Cell(
        "8 × 256 steps, 10 × 32 minibatches of 64",
        "ppo_continuous",
        PPO | {"num-envs": 8, "num-steps": 256},
        {"ours": None, "sb3": 2.2, "sbx": None, "minimal": None, "compiled": None} | LIMITS,
        4096,
        16384,
    ),
    "ppo_continuous-1": Cell(
        "1 × 2048 steps, 10 × 32 minibatches of 64",
        "ppo_continuous",
        PPO | {"num-envs": 1, "num-steps": 2048},
        {"ours": None, "sb3": 2.0, "sbx": None, "minimal": None, "compiled": None} | LIMITS,
        4096,
        10240,
    ),
    "a2c": Cell(
        "16 × 5 steps",
        "a2c",
        SMALL | {"num-envs": 16, "num-steps": 5},
        {"ours": None, "sb3": 1.6, "minimal": None, "compiled": None} | LIMITS,
        4000,
        24000,
    ),
    "reinforce": Cell(
        "default options",
        "reinforce",
        {},
        {"ours": None, "minimal": None} | LIMITS | {"environment": 0.6},
        8000,
        32000,
    ),
    "ddpg": Cell(
        "1 environment, an update of 256 a step",
        "ddpg",
        LARGE | {"num-envs": 1},
        OFF_POLICY,
        1000,
        2000,
    ),
    "td3": Cell(
        "1 environment, an update of 256 a step",
        "td3",
        LARGE | {"num-envs": 1},
        OFF_POLICY,
        1000,
        2000,
    ),
    "ppo_continuous-scaling": Cell("", "ppo_continuous", {}, SCALING, 2048, 4096),
    "td3-scaling": Cell("", "td3", {"learning-starts": 500}, SCALING, 1000, 1000),
}
CELLS |= {
    f"{name}-parts": cell._replace(sides={"parts": None})
    for name, cell in CELLS.items()
    if "ours" in cell.sides
}


# ── sides: each gives {steps, seconds}, or None where it cannot run ──────────────────────────────────────────────────


def between(marks, warm):
    """From the first mark (steps, time) after `warm` steps to the last."""
    (first, start), (last, end) = (
        next((mark for mark in marks if mark[0] >= warm), marks[-1]),
        marks[-1],
    )
    return (
        {"steps": last - first, "seconds": end - start}
        if last > first
        else fail("too few steps to time")
    )


def timed(work, least=1.5):
    """Repeats work, of some steps each time, for `least` seconds, after a fifth of that which does not count."""
    import torch

    for seconds in least / 5, least:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            steps += work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        passed = time.perf_counter() - start
    return {"steps": steps, "seconds": passed}


def load(script):
    spec = importlib.util.spec_from_file_location(script, ROOT / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_options(cell):  # the script's defaults too
    return {
        name.replace("_", "-"): value for name, value in vars(load(cell.script).Args()).items()
    } | cell.options


def words(cell, total, device, threads, folder, **more):
    """The command line of a script."""
    options = (
        {
            "env-id": ENV,
            "total-timesteps": total,
            "eval-frequency": 0,
            "eval-episodes": 1,
            "run-dir": folder,
            "checkpoint-frequency": 0,
            "device": device,
            "num-threads": threads,
        }
        | cell.options
        | more
    )
    return [
        str(word)
        for name, value in options.items()
        for word in (f"--{name}", *(value if isinstance(value, tuple) else [value]))
    ]


def ours(cell, warm, total, device, threads, **more):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        options = words(cell, total, device, threads, f"{folder}/run", **more)
        done = subprocess.run(
            [sys.executable, ROOT / f"{cell.script}.py", *options], capture_output=True, text=True
        )
        done.returncode and fail(
            f"{cell.script}.py: {(done.stderr.strip() or 'failed').splitlines()[-1]}"
        )
        events = (
            EventAccumulator(f"{folder}/run", size_guidance={"scalars": 0})
            .Reload()
            .Scalars("charts/SPS")
        )
    return between([(event.step, event.wall_time) for event in events], warm)


def peer(package, cell, warm, total, device, threads):
    if package == "sbx":
        import jax

        if jax.default_backend() != {"cpu": "cpu", "cuda": "gpu"}[device]:
            return None
    import numpy as np
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(threads)
    algorithms, options, marks = importlib.import_module(package), cell.options, []
    envs, widths = make_vec_env(ENV, n_envs=options["num-envs"]), list(options["hidden-sizes"])
    if cell.script in ("ppo_continuous", "a2c"):
        options = {"n_steps": options["num-steps"]} | (
            {
                "batch_size": options["num-envs"]
                * options["num-steps"]
                // options["num-minibatches"],
                "n_epochs": options["update-epochs"],
            }
            if cell.script == "ppo_continuous"
            else {"use_rms_prop": False}
        )
        options |= {
            "normalize_advantage": False,
            "policy_kwargs": {"net_arch": {"pi": widths, "vf": widths}},
        }
        envs = VecNormalize(envs)
    else:
        zeros = np.zeros(envs.action_space.shape)
        options = {
            "learning_rate": 3e-4,
            "batch_size": options["batch-size"],
            "train_freq": 1,
            "gradient_steps": 1,
            "learning_starts": options["learning-starts"],
            "action_noise": NormalActionNoise(zeros, zeros + 0.1),
            "policy_kwargs": {"net_arch": widths},
        } | ({"qf_learning_rate": 3e-4} if package == "sbx" else {})

    class Mark(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            marks.append((self.num_timesteps, time.perf_counter()))

    name = {"ppo_continuous": "PPO"}.get(cell.script, cell.script.upper())
    model = getattr(algorithms, name)("MlpPolicy", envs, device=device, **options)
    model.learn(total, callback=Mark())
    return between([*marks, (model.num_timesteps, time.perf_counter())], warm)


def minimal(cell, warm, total, device, threads):
    import minimal as algorithms
    import torch

    torch.set_num_threads(threads)
    marks = []
    getattr(algorithms, cell.script)(
        all_options(cell), total, lambda steps: marks.append((steps, time.perf_counter())), device
    )
    return between(marks, warm)


def environment(cell, warm, total, device, threads):
    sys.path.insert(0, str(ROOT))
    import native_mujoco

    num_envs = all_options(cell)["num-envs"]
    envs = getattr(native_mujoco, ENV.removesuffix("-v5"))(num_envs, num_threads=threads)
    envs.reset(seed=1)
    actions = itertools.cycle([envs.action_space.sample() for _ in range(100)])
    return timed(lambda: envs.step(next(actions)) and num_envs)


def run_here(cell, total, device, threads, change):
    """Runs the script in this process, as if it had been called, after change(its module)."""
    sys.path.insert(0, str(ROOT))
    script = importlib.import_module(cell.script)
    change(script)
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [f"{cell.script}.py", *words(cell, total, device, threads, f"{folder}/run")]
        script.main()


def whole_update(agent, batch):
    """All that an off-policy script does to learn from a batch, twice: td3.py's actor waits."""
    for number in range(2):
        if hasattr(agent, "update_critic"):
            agent.update_critic(batch)
        else:
            agent.update_critics(batch)
        if number % getattr(agent.args, "policy_frequency", 1) == 0:
            agent.update_actor(batch)
            agent.update_targets()


def update(cell, warm, total, device, threads):
    """The updates alone, again and again on what training gave them first."""
    from torch.utils.flop_counter import FlopCounterMode

    def report(work, steps):
        found = timed(lambda: work() or steps)
        with FlopCounterMode(display=False) as counter:
            work()
        flops = counter.get_total_flops() / steps
        print(json.dumps(found | {"flops": flops}), flush=True)
        sys.exit()

    def change(script):
        if hasattr(script.Agent, "update"):
            learn = script.Agent.update

            def repeated(agent, rollout, reward_scaler):
                def work():
                    learn(agent, rollout, reward_scaler)

                report(work, rollout.reward.numel())

            script.Agent.update = repeated
            return
        name = "update_critic" if hasattr(script.Agent, "update_critic") else "update_critics"
        original = getattr(script.Agent, name)

        def repeated_off_policy(agent, batch):
            setattr(script.Agent, name, original)
            report(lambda: whole_update(agent, batch), 2)

        setattr(script.Agent, name, repeated_off_policy)

    run_here(cell, total, device, threads, change)
    fail(f"{cell.script}.py: did not learn within {total} steps")


def parts(cell, warm, total, device, threads):
    """Where the time goes in training: seconds in the agent's acting and learning and in the environments' steps."""
    import torch

    spent = dict.fromkeys(PARTS, 0.0)
    marks = []

    def clocked(work, name):
        def clock(*given, **options):
            start = time.perf_counter()
            done = work(*given, **options)
            if device == "cuda":
                torch.cuda.synchronize()
            spent[name] += time.perf_counter() - start
            return done

        return clock

    def change(script):
        for name, (owner, methods) in PARTS.items():
            kind = getattr(script, owner)
            for method in methods:
                if hasattr(kind, method):
                    setattr(kind, method, clocked(getattr(kind, method), name))
        advance = script.Run.advance

        def marked(run):
            advance(run)
            marks.append((run.step, time.perf_counter(), dict(spent)))

        script.Run.advance = marked

    run_here(cell, total, device, threads, change)
    first = next(mark for mark in marks if mark[0] >= warm)
    last = marks[-1]
    found = between([mark[:2] for mark in marks], warm)
    for name in PARTS:
        found[name] = last[2][name] - first[2][name]
    return found


def peak(cell, warm, total, device, threads):
    """Floating-point operations of matrix products, the best of sizes and precisions; its steps are operations."""
    import torch

    torch.set_num_threads(threads)
    found, sizes = [], (512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192)
    for precision, size in itertools.product(("highest", "medium"), sizes):
        torch.set_float32_matmul_precision(precision)
        a, b, c = (torch.randn(size, size, device=device) for _ in range(3))

        def product(size=size, a=a, b=b, c=c):
            torch.mm(a, b, out=c)
            return 2 * size**3

        found.append(timed(product, 0.3))
    return max(found, key=rate)


SIDES = {
    "ours": ours,
    "compiled": functools.partial(ours, compile=()),
    "minimal": minimal,
    "sb3": functools.partial(peer, "stable_baselines3"),
    "sbx": functools.partial(peer, "sbx"),
    "environment": environment,
    "update": update,
    "peak": peak,
    "parts": parts,
}


def rate(measured):
    return measured["steps"] / measured["seconds"]


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def lengths(cell, side, steps=None):
    """(steps before the time counts, steps in all) of a side: whole rollouts, also with many environments."""
    warm, steps, at_once = cell.warm, steps or cell.steps, 1
    if " " in side:
        at_once = int(side.split()[1]) * (256 if cell.script == "ppo_continuous" else 1)
        warm, steps = max(warm, at_once), max(steps, 2 * at_once)
    return warm, -(-(warm + steps) // at_once) * at_once


def run(cell, side, steps, device, threads):  # in the process that is this side's
    warm, total = lengths(cell, side, steps)
    if " " in side:
        kind, n = side.split()
        return ours(cell, warm, total, device, threads, **{"num-envs": n, "vectorization": kind})
    return SIDES[side](cell, warm, total, device, threads)


def measure(name, side, steps, device, threads):  # starts that process
    options = ["--cell", name, "--side", side, "--device", device, "--threads", threads]
    command = [sys.executable, HERE / "speed.py", *options, *(["--steps", steps] if steps else [])]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu" if device == "cpu" else ""},
    )
    done.returncode and fail(
        f"{name}, {side}: {(done.stderr.strip() or 'failed').splitlines()[-1]}"
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def read_speed(path):
    """{(cell, device): its results}, of those cells that there are."""
    try:
        records = [*map(json.loads, path.read_text().splitlines())] if path.exists() else []
        return {
            (record["cell"], record["device"]): record
            for record in records
            if record["cell"] in CELLS
        }
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path}: damaged: {error}")


def save(path, record):
    """Puts a cell's results in the place of its older ones."""
    records = read_speed(path) | {(record["cell"], record["device"]): record}
    order = sorted(records, key=lambda key: ([*CELLS].index(key[0]), key[1]))
    write(path, "".join(json.dumps(records[key]) + "\n" for key in order).encode())


def machine(device, threads):
    cpu = (
        re.findall("model name.*: (.*)", Path("/proc/cpuinfo").read_text())
        if sys.platform == "linux"
        else []
    )
    about = {
        "processor": f"{[*cpu, platform.machine()][0]}, {os.cpu_count()} cores",
        "threads": threads,
    }
    if device == "cuda":
        import torch

        about["accelerator"] = torch.cuda.get_device_name()
    return about | {
        "python": platform.python_version(),
        "native": git_hash((ROOT / "native_mujoco.py").read_bytes()),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def main():
    cores = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else range(os.cpu_count())
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.error = lambda message: fail(f"speed.py: {message}")
    parser.add_argument(
        "--cells", nargs="+", choices=CELLS, default=[*CELLS], metavar="CELL", help=", ".join(CELLS)
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="times that all sides of a cell take their turn"
    )
    parser.add_argument("--threads", type=int, default=1, help="processor threads of every side")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "speed.jsonl")
    for option, kind in (
        ("--cell", str),
        ("--side", str),
        ("--device", str),
        ("--steps", int),
    ):  # what children get
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side and args.side not in getattr(CELLS.get(args.cell), "sides", ()):
        fail(f"speed.py: --cell {args.cell} --side {args.side}: no such side")
    for name, most in ("rounds", 1000), ("threads", len(cores)), ("steps", 10**9):
        value = getattr(args, name)
        value is None or 1 <= value <= most or fail(
            f"speed.py: --{name} {value}: must be from 1 to {most}"
        )
    if hasattr(os, "sched_setaffinity"):  # all that is started from here has these, JAX too
        os.sched_setaffinity(0, list(cores)[: args.threads])
    if args.side:
        return print(
            json.dumps(
                run(CELLS[args.cell], args.side, args.steps, args.device or "cpu", args.threads)
            )
        )
    try:
        about = {device: machine(device, args.threads) for device in devices()}
    except importlib.metadata.PackageNotFoundError as error:
        fail(f"speed.py: {error.name}: not installed; pip install -r benchmark/requirements.txt")
    print(*about.values(), sep="\n", flush=True)
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        print(
            f"something else runs here (load {load:.1f}), and what is measured now is not to be trusted",
            flush=True,
        )
    for name, device in itertools.product(args.cells, about):
        cell, rounds = CELLS[name], []
        for number in range(args.rounds):
            rounds.append({})
            for side in cell.sides:
                rounds[-1][side] = measure(name, side, args.steps, device, args.threads)
                found = f"{rate(rounds[-1][side]):,.0f} a second" if rounds[-1][side] else "not run"
                print(f"{name}, {device}, round {number + 1}, {side}: {found}", flush=True)
        save(
            args.results,
            {
                "cell": name,
                "device": device,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                **about[device],
                "script": git_hash((ROOT / f"{cell.script}.py").read_bytes()),
                "rounds": rounds,
            },
        )


def devices():
    import torch

    return ["cpu", *["cuda"] * torch.cuda.is_available()]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
