"""The same weights and data give the same losses, gradients and parameters as Stable-Baselines3.

Made equal by choice of options: no normalisation of observations and rewards, Adam for A2C, one
learning rate. float32; tolerance 1e-5 absolute and 1e-4 relative, on parameters that an update
moves by more than 1e-3."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from conftest import load
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import learn, options

pytestmark = pytest.mark.slow
STEPS = 8
ENVS = 3
OBS = 4
ACTION = 2


class Spaces(gym.Env):  # never stepped
    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTION,), np.float32)


def close(ours, theirs):
    torch.testing.assert_close(
        torch.as_tensor(ours).float(), torch.as_tensor(theirs).float(), rtol=1e-4, atol=1e-5
    )


def parameters(*modules):
    return [
        p
        for module in modules
        for layer in module.modules()
        if isinstance(layer, torch.nn.Linear)
        for p in layer.parameters()
    ]


def copy_to(theirs, ours):
    assert [p.shape for p in theirs] == [p.shape for p in ours] and len(ours) > 0
    with torch.no_grad():
        for p, q in zip(theirs, ours, strict=True):
            p.copy_(q)


def make(name, num_envs, **values):
    torch.manual_seed(1)
    module = load(name)
    args = options(module, num_envs=num_envs, hidden_sizes=(16, 16), **values)
    return module, module.Agent(OBS, ACTION, args)


def rollout(module):
    """Episodes that end by termination, truncation and both, one at the rollout's end."""
    obs = torch.randn(STEPS + 1, ENVS, OBS)
    final = torch.randn(STEPS, ENVS, OBS)
    terminated = torch.zeros(STEPS, ENVS)
    truncated = torch.zeros(STEPS, ENVS)
    for t, i in ((2, 0), (5, 2), (7, 1)):
        terminated[t, i] = 1
    for t, i in ((4, 1), (5, 2), (7, 0)):
        truncated[t, i] = 1
    done = torch.maximum(terminated, truncated)[..., None]
    next_obs = torch.where(done > 0, final, obs[1:])
    return module.Transition(
        obs[:-1],
        torch.randn(STEPS, ENVS, ACTION),
        torch.randn(STEPS, ENVS),
        next_obs,
        terminated,
        truncated,
    )


def fill(model, data):
    """What Stable-Baselines3 collects: at a truncation the reward holds γ V of what came last."""
    done = torch.maximum(data.terminated, data.truncated)
    with torch.no_grad():
        last = [model.policy.predict_values(x) for x in (*data.next_obs,)]
        starts = torch.ones(ENVS)
        for t in range(STEPS):
            value, log_prob, _ = model.policy.evaluate_actions(data.obs[t], data.action[t])
            timeout = data.truncated[t] * (1 - data.terminated[t])
            reward = data.reward[t] + model.gamma * timeout * last[t].flatten()
            model.rollout_buffer.add(
                data.obs[t].numpy(),
                data.action[t].numpy(),
                reward.numpy(),
                starts.numpy(),
                value,
                log_prob,
            )
            starts = done[t]
        model.rollout_buffer.compute_returns_and_advantage(last[-1], done[-1].numpy())


def on_policy(name, theirs, monkeypatch, minibatches=1, epochs=1, norm_adv=False, **extra):
    module, agent = make(
        name,
        ENVS,
        num_steps=STEPS,
        gamma=0.9,
        gae_lambda=0.8,
        vf_coef=0.7,
        ent_coef=0.03,
        learning_rate=0.01,
        max_grad_norm=0.5,
        num_minibatches=minibatches,
        update_epochs=epochs,
        norm_adv=norm_adv,
        clip_coef=0.1,
    )
    model = theirs(
        "MlpPolicy",
        DummyVecEnv([Spaces] * ENVS),
        n_steps=STEPS,
        gamma=0.9,
        gae_lambda=0.8,
        vf_coef=0.7,
        ent_coef=0.03,
        learning_rate=0.01,
        max_grad_norm=0.5,
        normalize_advantage=norm_adv,
        device="cpu",
        policy_kwargs={"net_arch": [16, 16]},
        **extra,
    )
    model.set_logger(configure(None, []))
    policy = model.policy
    our = [*parameters(agent.actor, agent.critic), agent.actor.log_std]
    their = [
        *parameters(
            policy.mlp_extractor.policy_net,
            policy.action_net,
            policy.mlp_extractor.value_net,
            policy.value_net,
        ),
        policy.log_std,
    ]
    copy_to(their, our)
    data = rollout(module)
    fill(model, data)
    before = [p.clone() for p in our]
    ordering = torch.stack([torch.randperm(STEPS * ENVS) for _ in range(epochs)])
    ours = iter(ordering)  # rows by step
    others = iter(ordering % ENVS * STEPS + ordering // ENVS)  # rows by environment
    monkeypatch.setattr(torch, "randperm", lambda n, device: next(ours))
    monkeypatch.setattr(np.random, "permutation", lambda n: next(others).numpy())
    metrics = learn(agent, data)
    model.train()
    for p, q, old in zip(our, their, before, strict=True):
        close(p.grad, q.grad)
        close(p, q)
        assert (p - old).abs().max() > 1e-3
    return metrics, model.logger.name_to_value


def test_a2c(monkeypatch):
    metrics, said = on_policy("a2c", stable_baselines3.A2C, monkeypatch, use_rms_prop=False)
    close(metrics["losses/policy_loss"], said["train/policy_loss"])
    close(metrics["losses/value_loss"], said["train/value_loss"])
    close(metrics["losses/entropy"], -said["train/entropy_loss"])


@pytest.mark.parametrize("norm_adv", [False, True])
def test_ppo_one_minibatch(norm_adv, monkeypatch):
    """They normalise advantages in each minibatch, we in the rollout: the same where it is one."""
    metrics, said = on_policy(
        "ppo_continuous",
        stable_baselines3.PPO,
        monkeypatch,
        norm_adv=norm_adv,
        n_epochs=1,
        batch_size=STEPS * ENVS,
        clip_range=0.1,
    )
    close(metrics["losses/policy_loss"], said["train/policy_gradient_loss"])
    close(metrics["losses/value_loss"], said["train/value_loss"])
    close(metrics["losses/entropy"], -said["train/entropy_loss"])


def test_ppo_many_minibatches(monkeypatch):
    """Five passes of four minibatches, in the same order, far enough that the clip binds."""
    _, said = on_policy(
        "ppo_continuous",
        stable_baselines3.PPO,
        monkeypatch,
        minibatches=4,
        epochs=5,
        n_epochs=5,
        batch_size=STEPS * ENVS // 4,
        clip_range=0.1,
    )
    assert said["train/clip_fraction"] > 0.1


@pytest.mark.parametrize(
    "name, theirs", [("td3", stable_baselines3.TD3), ("ddpg", stable_baselines3.DDPG)]
)
def test_off_policy(name, theirs, monkeypatch):
    """Two updates, the second of which moves TD3's actor and targets; losses are means of both."""
    size = 32
    module, agent = make(
        name, 1, gamma=0.9, tau=0.5, learning_rate=0.01, policy_noise=0.3, noise_clip=0.4
    )
    extra = {"target_policy_noise": 0.3, "target_noise_clip": 0.4} if name == "td3" else {}
    model = theirs(
        "MlpPolicy",
        Spaces(),
        gamma=0.9,
        tau=0.5,
        learning_rate=0.01,
        buffer_size=size,
        device="cpu",
        policy_kwargs={"net_arch": [16, 16]},
        **extra,
    )
    model.set_logger(configure(None, []))
    critics = ["critic1", "critic2"] if name == "td3" else ["critic"]
    pairs = [
        (parameters(agent.actor), parameters(model.actor)),
        (parameters(*[getattr(agent, each) for each in critics]), parameters(model.critic)),
        (parameters(agent.actor_target), parameters(model.actor_target)),
        (
            parameters(*[getattr(agent, f"{each}_target") for each in critics]),
            parameters(model.critic_target),
        ),
    ]
    for ours, others in pairs:
        copy_to(others, ours)
    ends = [torch.tensor(pattern * (size // 4)) for pattern in ((0.0, 1, 0, 1), (0.0, 0, 1, 1))]
    data = module.Transition(
        torch.randn(size, OBS),
        torch.rand(size, ACTION) * 2 - 1,
        torch.randn(size),
        torch.randn(size, OBS),
        *ends,
    )
    for obs, action, reward, next_obs, terminated, truncated in zip(
        *(x.numpy() for x in data), strict=True
    ):
        timeout = {"TimeLimit.truncated": bool(truncated and not terminated)}
        model.replay_buffer.add(
            obs[None],
            next_obs[None],
            action[None],
            reward[None],
            np.maximum(terminated, truncated)[None],
            [timeout],
        )
    monkeypatch.setattr(
        np.random,
        "randint",
        lambda low, high=None, size=1: np.arange(np.prod(size)) % (high or low),
    )
    before = [p.clone() for ours, _ in pairs for p in ours]
    torch.manual_seed(2)
    losses = []
    for update in (1, 2):
        metrics = learn(agent, data, update)
        losses.append(metrics["losses/qf1_loss"].item())
        if name == "td3":  # theirs is the sum of both critics' losses
            losses[-1] += metrics["losses/qf2_loss"].item()
    torch.manual_seed(2)
    model.train(gradient_steps=2, batch_size=size)
    close(np.mean(losses), model.logger.name_to_value["train/critic_loss"])
    for ours, others in pairs:
        for p, q in zip(ours, others, strict=True):
            close(p, q)
    for p, q in zip(*pairs[0], strict=True):  # in theirs the actor's loss leaves the critics' too
        close(p.grad, q.grad)
    after = [p for ours, _ in pairs for p in ours]
    assert all((p - q).abs().max() > 1e-3 for p, q in zip(before, after, strict=True))
