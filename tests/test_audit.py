"""Every stored transition is right in every column: same environment and episode, next step, executed action, true
successor, right flags (each row says so itself, see audit_env.py)."""
import numpy as np
import pytest
import torch
from conftest import OFF_POLICY, load


def executed(action):
    """What the environment must have been given: the bounds of AuditEnv are [-1, 1] and [0, 10]."""
    return np.stack([np.clip(action[:, 0], -1, 1), np.clip(5 * (action[:, 1] + 1), 0, 10)], axis=1)


def stored(script, monkeypatch, tmp_path, num_envs, vectorization):
    """Trains a little; returns all transitions in the order in which they were made, [rows, N, ...] each."""
    module, seen = load(script), []
    args = module.Args(env_id="audit_env:Audit-v0", num_envs=num_envs, vectorization=vectorization, device="cpu",
                       total_timesteps=2000, run_dir=tmp_path / "run", eval_frequency=0, eval_episodes=1)
    if script in OFF_POLICY:
        args.learning_starts, args.batch_size, args.buffer_size, args.hidden_sizes = 1900, 8, 2000, (8,)
        add = module.ReplayBuffer.add
        monkeypatch.setattr(module.ReplayBuffer, "__init__", remember(module.ReplayBuffer.__init__, seen))
        module.train(args)
        buffer = seen[0]
        rows = [x.reshape(2000 // num_envs, num_envs, -1) for x in buffer.rows.split(buffer.widths, dim=1)]
        assert add is module.ReplayBuffer.add and buffer.total == 2000
        return [x.squeeze(-1) if x.shape[-1] == 1 else x for x in rows]
    args.num_steps, args.update_epochs, args.num_minibatches = 50, 1, 2
    learn = module.Agent.learn

    def spy(agent, rollout, *rest):
        seen.append([x.clone() for x in rollout])
        return learn(agent, rollout, *rest)

    monkeypatch.setattr(module.Agent, "learn", spy)
    module.train(args)
    return [torch.cat(columns) for columns in zip(*seen, strict=True)]


def remember(init, seen):
    def wrapped(self, *args):
        seen.append(self)
        init(self, *args)
    return wrapped


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_audit(script, num_envs, vectorization, monkeypatch, tmp_path):
    obs, action, reward, next_obs, terminated, truncated = (
        x.double().numpy() for x in stored(script, monkeypatch, tmp_path, num_envs, vectorization))
    assert len(obs) * num_envs >= 1500
    for i in range(num_envs):
        identity, t = next_obs[:, i, 0], next_obs[:, i, 1]
        over = t >= 3 + identity % 5
        assert (obs[:, i, 0] == identity).all() and (obs[:, i, 1] + 1 == t).all()
        np.testing.assert_allclose(next_obs[:, i, 2:], executed(action[:, i]), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(reward[:, i], 1000 * identity + t, rtol=1e-7)
        np.testing.assert_array_equal(terminated[:, i], over & (identity % 3 != 1))
        np.testing.assert_array_equal(truncated[:, i], over & (identity % 3 != 0))
        joined = np.where(over[:-1, None], [0, 0, 0], next_obs[:-1, i, 1:])  # what the next row must start from
        same = (obs[1:, i, 1:] == joined).all(axis=1)
        if script == "reinforce":  # begins each batch with new episodes, and leaves what was under way
            same |= obs[1:, i, 1] == 0
        assert same.all() and (over[:-1] | (obs[1:, i, 0] == identity[:-1]) | (obs[1:, i, 1] == 0)).all()
    assert len(np.unique(obs[:, :, 0])) > 100  # episodes, none like another
