"""Every stored transition is right in every column: same environment, same episode, next step, the
action that was executed, the true successor, the right flags. Each row says so: audit_task.py."""

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import OFF_POLICY, SCRIPTS, load

# the environments of the other scripts in discrete/ are the same text
NUMBERED = pytest.mark.parametrize("script", ["dqn"])


def executed(action):
    """What the environment must have been given: the bounds of the task are [-1, 1] and [0, 10]."""
    first = np.clip(action[:, 0], -1, 1)
    second = np.clip(5 * (action[:, 1] + 1), 0, 10)
    return np.stack([first, second], axis=1)


def stored_transitions(script, monkeypatch, tmp_path, num_envs, vectorization):
    """Trains a little; all transitions in the order in which they were made, [rows, N, ...]."""
    module = load(script)
    args = module.Args(
        env_id="audit_task:Audit-v0",
        num_envs=num_envs,
        vectorization=vectorization,
        device="cpu",
        total_timesteps=2000,
        run_dir=tmp_path / "run",
        eval_frequency=0,
        eval_episodes=2,
        hidden_sizes=(8,),
    )
    if script in OFF_POLICY:
        args.learning_starts = 1900
        args.batch_size = 8
        args.buffer_size = 2000
        buffers = []
        init = module.ReplayBuffer.__init__

        def remember(self, *arguments, **options):
            buffers.append(self)
            init(self, *arguments, **options)

        monkeypatch.setattr(module.ReplayBuffer, "__init__", remember)
        module.train(args)
        assert buffers[0].total == 2000
        return [
            column.reshape(2000 // num_envs, num_envs, *column.shape[1:])
            for column in buffers[0].columns
        ]
    if script != "reinforce":
        args.num_steps = 50
    if script == "ppo_continuous":
        args.update_epochs = 1
        args.num_minibatches = 2
    rollouts = []
    take = module.RolloutBuffer.take

    def remember_rollout(self):
        rollouts.append(take(self))
        if script == "reinforce":  # each batch begins with new episodes in all environments
            assert (rollouts[-1].obs[0, :, 1] == 0).all()
        return module.Transition(*[column.clone() for column in rollouts[-1]])

    monkeypatch.setattr(module.RolloutBuffer, "take", remember_rollout)
    module.train(args)
    return [torch.cat(columns) for columns in zip(*rollouts, strict=True)]


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_every_stored_transition_is_right_in_every_column(
    script, num_envs, vectorization, monkeypatch, tmp_path
):
    columns = stored_transitions(script, monkeypatch, tmp_path, num_envs, vectorization)
    obs, action, reward, next_obs, terminated, truncated = [x.double().numpy() for x in columns]
    assert len(obs) * num_envs >= 1500
    for i in range(num_envs):
        identity = next_obs[:, i, 0]
        t = next_obs[:, i, 1]
        over = t >= 3 + identity % 5
        np.testing.assert_array_equal(obs[:, i, 0], identity)
        np.testing.assert_array_equal(obs[:, i, 1] + 1, t)
        np.testing.assert_allclose(next_obs[:, i, 2:], executed(action[:, i]), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(reward[:, i], 1000 * identity + t, rtol=1e-7)
        np.testing.assert_array_equal(terminated[:, i], over & (identity % 3 != 1))
        np.testing.assert_array_equal(truncated[:, i], over & (identity % 3 != 0))
        # the next row starts where this one ended, or with a new episode
        continued = (obs[1:, i, 1:] == next_obs[:-1, i, 1:]).all(axis=1)
        begun = (obs[1:, i, 1:] == 0).all(axis=1)
        same_episode = obs[1:, i, 0] == identity[:-1]
        if script == "reinforce":  # each batch begins new episodes and leaves the unfinished
            assert (begun | (continued & same_episode & ~over[:-1])).all()
        else:
            assert (np.where(over[:-1], begun, continued & same_episode)).all()
    assert len(np.unique(obs[:, :, 0])) > 100  # episodes, none like another


@NUMBERED
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_every_transition_of_numbered_actions_is_right_in_every_column(
    script, num_envs, vectorization
):
    dqn = load(script)
    args = dqn.Args(env_id="audit_task:AuditOfNumberedActions-v0", vectorization=vectorization)
    with dqn.Environments(args, num_envs, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(300):
            shown = envs.obs.double().numpy()
            step = dqn.Transition(*[x.double().numpy() for x in envs.step(envs.random_action())])
            identity, t, action = step.next_obs.T
            over = t >= 3 + identity % 5
            np.testing.assert_array_equal(step.obs, shown)
            np.testing.assert_array_equal(step.obs[:, 0], identity)
            np.testing.assert_array_equal(step.obs[:, 1] + 1, t)
            np.testing.assert_array_equal(step.action + 2, action)
            np.testing.assert_allclose(step.reward, 1000 * identity + t, rtol=1e-7)
            np.testing.assert_array_equal(step.terminated, over & (identity % 3 != 1))
            np.testing.assert_array_equal(step.truncated, over & (identity % 3 != 0))
            following = envs.obs.double().numpy()
            np.testing.assert_array_equal(following[~over], step.next_obs[~over])
            assert not following[over, 1:].any()


@NUMBERED
def test_numbered_actions_are_all_taken_at_random(script):
    """Of 5 actions in 4 environments, 5000 draws: χ², false alarms once in 10,000."""
    dqn = load(script)
    torch.manual_seed(0)
    args = dqn.Args(env_id="audit_task:AuditOfNumberedActions-v0")
    with dqn.Environments(args, 4, torch.device("cpu")) as envs:
        drawn = torch.stack([envs.random_action() for _ in range(1250)])
    assert scipy.stats.chisquare(torch.bincount(drawn.flatten()).numpy()).pvalue > 1e-4


@NUMBERED
def test_another_seed_and_an_evaluation_play_other_episodes(script):
    dqn = load(script)
    first = []
    for seed, purpose in ((1, "training"), (2, "training"), (1, "evaluation")):
        args = dqn.Args(env_id="audit_task:AuditOfNumberedActions-v0", seed=seed)
        with dqn.Environments(args, 4, torch.device("cpu"), purpose) as envs:
            envs.begin_all()
            first += envs.obs[:, 0].tolist()
    assert len(set(first)) >= 11  # of 12 numbers below 10,000; two pairs alike: once in 50,000


@pytest.mark.parametrize(
    "script, task",
    [*((name, "Audit-v0") for name in SCRIPTS), ("dqn", "AuditOfNumberedActions-v0")],
)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_episodes_tell_their_own_return_and_length(script, task, num_envs):
    module = load(script)
    args = module.Args(env_id=f"audit_task:{task}")
    with module.Environments(args, num_envs, torch.device("cpu")) as envs:
        envs.begin_all()
        for _ in range(40):
            identities = envs.obs[:, 0].tolist()
            envs.step(envs.random_action())
            for episode in envs.take_finished():
                identity = identities[episode.env]
                length = 3 + identity % 5
                assert episode.length == length
                assert episode.total_reward == 1000 * identity * length + length * (length + 1) / 2
                assert episode.global_step == envs.global_step
            # for a resume: the actions since the start of the oldest unfinished episode
            assert len(envs.actions) == envs.episode_length.max()
