"""What all scripts share: a checkpoint is whole at every moment, reading one runs nobody's code, evaluations are what
they say."""
import hashlib
import io
import os
import subprocess

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import assert_same_run, checkpoint, command, environment, load
from toys import options, train

SMALL = {"num_envs": 2, "num_steps": 8, "total_timesteps": 80, "num_minibatches": 2, "learning_starts": 16,
         "batch_size": 4, "buffer_size": 50, "hidden_sizes": (4,)}


def test_dying_while_saving_leaves_the_old_checkpoint(script, monkeypatch, tmp_path):
    """It dies in the third checkpoint, of which half has reached the disk."""
    module, fsync, seen = load(script), os.fsync, []

    def die_half_way(number):
        if "checkpoint" in os.readlink(f"/proc/self/fd/{number}"):
            seen.append(number)
            if len(seen) == 3:
                os.ftruncate(number, os.fstat(number).st_size // 2)
                raise KeyboardInterrupt
        fsync(number)

    monkeypatch.setattr(os, "fsync", die_half_way)
    with pytest.raises(KeyboardInterrupt):
        train(module, monkeypatch, tmp_path, "toys:LastReward-v0", **SMALL, checkpoint_frequency=16)
    assert checkpoint(tmp_path / "run")["step"] >= 16


def test_a_resumed_run_equals_one_that_never_stopped(script, monkeypatch, tmp_path):
    """It dies some steps after a checkpoint, in the middle of episodes; the generator is elsewhere when it goes on."""
    module = load(script)

    def go(folder, seed, **values):
        torch.manual_seed(seed)
        module.train(options(module, env_id="audit_env:Audit-v0", device="cpu", run_dir=tmp_path / folder,
                             eval_frequency=100, eval_episodes=1, checkpoint_frequency=48,
                             **SMALL | {"total_timesteps": 240} | values))

    go("whole", 1)
    goes_on = module.Run.goes_on

    def die(run, *rest):
        if run.envs.global_step >= 160:
            raise KeyboardInterrupt
        return goes_on(run, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Run, "goes_on", die)
        go("killed", 1)
    go("killed", 2, resume=tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


class Trap:
    """Whoever unpickles it opens a file."""
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name, how", [("a2c", "--resume"), ("td3", "--evaluate")])
def test_a_strangers_checkpoint_does_not_run_his_code(name, how, monkeypatch, tmp_path):
    train(load(name), monkeypatch, tmp_path, "Pendulum-v1", **SMALL | {"total_timesteps": 400})
    content = io.BytesIO()
    torch.save(checkpoint(tmp_path / "run") | {"more": Trap(tmp_path / "trap")}, content)
    content = content.getvalue()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(content + hashlib.sha256(content).digest())
    done = subprocess.run(command(name, how, "run"), cwd=tmp_path, env=environment(), capture_output=True)
    assert b"no checkpoint" in done.stderr and not (tmp_path / "trap").exists()


@pytest.mark.parametrize("env_id", ["InvertedPendulum-v5", "audit_env:Audit-v0"])
def test_evaluation_is_the_mean_action_on_episodes_of_its_own_always_the_same(script, env_id, monkeypatch):
    """Against episodes played one by one: on one task actions matter, on the other some are twice as long as others.
    Nothing is drawn, nothing is learned."""
    module, made, env = load(script), [], gym.make(env_id)
    args = options(module, env_id=env_id, device="cpu", eval_episodes=6, num_envs=6, hidden_sizes=(8,))
    low, high = env.action_space.low, env.action_space.high
    torch.manual_seed(3)
    agent = module.Agent(4, len(low), args)
    with torch.no_grad():
        for parameter in agent.actor.parameters():
            parameter *= 0.3  # gentle, so that lengths differ
    begin = module.Environments.begin
    monkeypatch.setattr(module.Environments, "begin",
                        lambda envs, new: (begin(envs, new), made.append(envs.seeds.copy()))[0])
    generator, state = torch.get_rng_state(), {n: x.clone() for n, x in agent.state_dict().items()}
    found = module.evaluate(agent.actor, args, 0)
    seeds, returns, lengths = made[0].tolist(), [], []
    assert module.evaluate(agent.actor, args, 7) == found
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(x, state[n]) for n, x in agent.state_dict().items())
    for seed in seeds:
        obs, rewards, over = env.reset(seed=seed)[0], [], False
        while not over:
            with torch.no_grad():
                action = agent.actor(torch.tensor(obs[None], dtype=torch.float32)).clamp(-1, 1).numpy()[0]
            obs, reward, terminated, truncated, _ = env.step((low + (action + 1) / 2 * (high - low)).astype(np.float32))
            rewards.append(reward)
            over = terminated or truncated
        returns.append(sum(rewards))
        lengths.append(len(rewards))
    assert max(lengths) >= 2 * min(lengths) if "Audit" in env_id else max(lengths) > min(lengths)
    np.testing.assert_allclose(found, [np.mean(returns), np.std(returns), np.mean(lengths)])
    assert not set(module.Environments(args, 6, 0).seeds.tolist()) & set(seeds)  # training's
