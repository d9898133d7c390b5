"""Steps per second of ppo_continuous.py and td3.py beside Stable-Baselines3, at the same work, in alternation.

    python benchmark/speed.py [--rounds 5]

Same environments, networks, batch sizes, updates a step, one thread. What is timed is twice the steps less the steps:
start and end drop out. Prints medians and the median of the ratios, round by round.
"""
import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

ROOT = Path(__file__).resolve().parents[1]
STEPS = {"ppo_continuous": 8192, "td3": 1000}


def ours(script, steps):
    spec = importlib.util.spec_from_file_location(script, ROOT / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        args = module.Args(device="cpu", total_timesteps=steps, eval_frequency=0, eval_episodes=1)
        args.run_dir = Path(folder, "run")
        if script == "td3":
            args.learning_starts = 300
        start = time.perf_counter()
        module.train(args)
        return time.perf_counter() - start


def theirs(script, steps):
    if script == "ppo_continuous":
        envs = VecNormalize(make_vec_env("HalfCheetah-v5", n_envs=8))
        net = {"pi": [64, 64], "vf": [64, 64]}
        model = sb3.PPO("MlpPolicy", envs, n_steps=256, batch_size=64, n_epochs=10, device="cpu",
                        policy_kwargs={"net_arch": net})
    else:
        envs = make_vec_env("HalfCheetah-v5", n_envs=1)
        size = envs.action_space.shape[0]
        noise = NormalActionNoise(torch.zeros(size).numpy(), 0.1 * torch.ones(size).numpy())
        model = sb3.TD3("MlpPolicy", envs, learning_rate=3e-4, batch_size=256, learning_starts=300, train_freq=1,
                        gradient_steps=1, action_noise=noise, device="cpu", policy_kwargs={"net_arch": [256, 256]})
    start = time.perf_counter()
    model.learn(steps)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| script | steps/s | Stable-Baselines3 | ratio |\n|---|--:|--:|--:|")
    for script, steps in STEPS.items():
        rates = {ours: [], theirs: []}
        for _ in range(rounds):
            for side in rates:
                torch.set_float32_matmul_precision("medium" if side is ours else "highest")
                rates[side].append(steps / (side(script, 2 * steps) - side(script, steps)))
        ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))
        ours_, theirs_ = (statistics.median(rates[side]) for side in rates)
        print(f"| {script}.py | {ours_:.0f} | {theirs_:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
