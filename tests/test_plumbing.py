"""What all scripts share: a checkpoint is whole at every moment, reading one runs nobody's code, evaluations are what
they say."""
import hashlib
import io
import os
import shutil
import subprocess

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import OFF_POLICY, assert_same_run, checkpoint, command, environment, load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
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


def go(module, folder, seed=1, **values):
    torch.manual_seed(seed)
    module.train(options(module, env_id="audit_env:Audit-v0", device="cpu", run_dir=folder, eval_episodes=1,
                         checkpoint_frequency=48, **SMALL | {"total_timesteps": 240, "eval_frequency": 100} | values))


def go_and_die(module, folder, monkeypatch, **values):
    """Some steps after a checkpoint, in the middle of episodes. `folder` holds what has reached the disk by then."""
    goes_on = module.Run.goes_on

    def die(run, *rest):
        if run.envs.global_step >= 160:
            shutil.copytree(run.args.run_dir, folder)
            raise KeyboardInterrupt
        return goes_on(run, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Run, "goes_on", die)
        go(module, folder.with_name("died"), **values)


def test_a_resumed_run_equals_one_that_never_stopped(script, monkeypatch, tmp_path, capsys):
    """The generator is elsewhere when it goes on. Once more with nothing left to do, it says how to watch."""
    module = load(script)
    go(module, tmp_path / "whole")
    go_and_die(module, tmp_path / "killed", monkeypatch)
    for _ in range(2):
        go(module, tmp_path / "killed", seed=2, resume=tmp_path / "killed")
        assert_same_run(tmp_path / "whole", tmp_path / "killed")
        assert "watch: " in capsys.readouterr().out


def test_a_resumed_run_has_every_point_of_tensorboard_once(script, monkeypatch, tmp_path):
    """With evaluations at the very steps of the checkpoints."""
    module, points = load(script), []
    go(module, tmp_path / "whole", eval_frequency=48)
    go_and_die(module, tmp_path / "killed", monkeypatch, eval_frequency=48)
    go(module, tmp_path / "killed", resume=tmp_path / "killed", eval_frequency=48)
    for name in "whole", "killed":
        events = EventAccumulator(str(tmp_path / name)).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag != "charts/SPS"]
        points.append({tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags})
    assert len(points[0]["eval/return_mean"]) >= 4 and points[0] == points[1]


def test_what_is_evaluated_is_called_by_its_own_step(monkeypatch, tmp_path):
    """Which is the last evaluation's, not the checkpoint's."""
    module, steps = load("td3"), []
    go_and_die(module, tmp_path / "run", monkeypatch)
    state = checkpoint(tmp_path / "run")
    assert state["evaluation"]["step"] < state["step"]
    monkeypatch.setattr(module, "evaluate", lambda actor, args, step: steps.append(step) or (0, 0, 0))
    module.show(options(module, env_id="audit_env:Audit-v0", device="cpu", run_dir=tmp_path / "run", eval_frequency=100,
                        **SMALL | {"total_timesteps": 240}))
    assert steps == [state["evaluation"]["step"]]


def test_environments_that_do_not_divide_the_steps(script, monkeypatch, tmp_path):
    """The run ends before its last step, not after it, so that it can be resumed and evaluated; and off-policy, even
    the last step that all environments take is learned from."""
    module, small = load(script), SMALL | {"num_envs": 3, "total_timesteps": 100, "learning_starts": 96}
    for resume in None, tmp_path / "run":
        agent = train(module, monkeypatch, tmp_path, "toys:LastReward-v0", **small, resume=resume)
    assert 100 - 3 * 8 < checkpoint(tmp_path / "run")["step"] <= 100
    if script in OFF_POLICY:
        args = options(module, env_id="toys:LastReward-v0", device="cpu", **small)
        assert all(holds for holds, _ in module.checks(args)) and agent.critic_optimizer.state


@pytest.mark.parametrize("script", OFF_POLICY)
def test_a_memory_is_read_back_without_writing_a_row_twice_at_once(script, monkeypatch, tmp_path):
    """That would leave to chance which of the two stays, where several threads write."""
    module, sizes = load(script), []
    memory, again = (module.ReplayBuffer(5, 1, 1, "cpu", tmp_path) for _ in range(2))
    for start in range(0, 12, 3):
        memory.add(*(torch.arange(start, start + 3.0)[:, None] for _ in range(6)))
        state = memory.state_dict()
    add = module.ReplayBuffer.add
    monkeypatch.setattr(module.ReplayBuffer, "add", lambda self, rows: (sizes.append(len(rows)), add(self, rows)))
    again.load_state_dict(state)
    assert torch.equal(again.rows, memory.rows) and again.total == 12 and max(sizes) <= 5


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
