"""The five algorithms as plainly as one would write them: Gymnasium's SyncVectorEnv and eager PyTorch.

What speed.py times the scripts against. Frozen: never optimised, so that ratios of different days compare. Each takes
the options of speed.py's cell and the number of steps, and calls `mark` with the steps done so far.
"""

import copy

import gymnasium as gym
import numpy as np
import torch
from torch import nn

GAMMA, LAMBDA = 0.99, 0.95


def mlp(activation, *sizes):
    layers = [
        layer
        for pair in zip(sizes, sizes[1:], strict=False)
        for layer in (nn.Linear(*pair), activation())
    ]
    return nn.Sequential(*layers[:-1])


# ── on-policy ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Policy(nn.Module):
    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__()
        self.actor = mlp(nn.Tanh, obs_size, *hidden_sizes, action_size)
        self.critic = mlp(nn.Tanh, obs_size, *hidden_sizes, 1)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def distribution(self, obs):
        return torch.distributions.Normal(self.actor(obs), self.log_std.exp())

    def log_prob(self, obs, action):
        return self.distribution(obs).log_prob(action).sum(-1)

    def value(self, obs):
        return self.critic(obs).squeeze(-1)


class Rollouts:
    """Steps of normalised environments; after an episode's end comes a step that only resets, which `valid` is not."""

    def __init__(self, num_envs, hidden_sizes, device):
        envs = gym.make_vec("HalfCheetah-v5", num_envs, vectorization_mode="sync")
        self.envs = gym.wrappers.vector.NormalizeReward(
            gym.wrappers.vector.NormalizeObservation(envs), GAMMA
        )
        self.device, sizes = (
            device,
            (envs.single_observation_space.shape[0], envs.single_action_space.shape[0]),
        )
        self.policy = Policy(*sizes, hidden_sizes).to(device)
        self.begin()

    def tensor(self, array):
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)

    def begin(self):
        self.obs, self.done = (
            self.tensor(self.envs.reset()[0]),
            torch.zeros(self.envs.num_envs, device=self.device),
        )

    def collect(self, num_steps):
        rows = []
        for _ in range(num_steps):
            with torch.no_grad():
                distribution, value = (
                    self.policy.distribution(self.obs),
                    self.policy.value(self.obs),
                )
                action = distribution.sample()
                log_prob = distribution.log_prob(action).sum(-1)
            next_obs, reward, terminated, truncated, _ = self.envs.step(
                np.clip(action.cpu().numpy(), -1, 1)
            )
            valid, self.done = 1 - self.done, self.tensor(terminated | truncated)
            rows.append(
                (
                    self.obs,
                    action,
                    log_prob,
                    value,
                    self.tensor(reward),
                    self.tensor(next_obs),
                    self.tensor(terminated),
                    self.done,
                    valid,
                )
            )
            self.obs = rows[-1][5]
        return [torch.stack(column) for column in zip(*rows, strict=True)]


def advantages(policy, reward, value, next_obs, terminated, done):
    with torch.no_grad():
        next_value = policy.value(next_obs)
    advantage, following = torch.zeros_like(reward), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        delta = reward[t] + GAMMA * (1 - terminated[t]) * next_value[t] - value[t]
        advantage[t] = following = delta + GAMMA * LAMBDA * (1 - done[t]) * following
    return advantage, advantage + value


def descend(loss, optimizer, policy):
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
    optimizer.step()


def ppo_continuous(options, steps, mark, device):
    num_envs, num_steps, hidden_sizes = (
        options[name] for name in ("num-envs", "num-steps", "hidden-sizes")
    )
    rollouts = Rollouts(num_envs, hidden_sizes, device)
    policy = rollouts.policy
    optimizer = torch.optim.Adam(policy.parameters(), 3e-4)
    for done_steps in range(num_envs * num_steps, steps + 1, num_envs * num_steps):
        obs, action, log_prob, value, *rest, valid = rollouts.collect(num_steps)
        advantage, return_ = advantages(policy, rest[0], value, *rest[1:])
        batch = [x[valid > 0] for x in (obs, action, log_prob, advantage, return_)]
        for _ in range(options["update-epochs"]):
            for index in torch.randperm(len(batch[0]), device=device).chunk(
                options["num-minibatches"]
            ):
                obs, action, log_prob, advantage, return_ = (x[index] for x in batch)
                ratio = (policy.log_prob(obs, action) - log_prob).exp()
                actor_loss = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
                critic_loss = nn.functional.mse_loss(policy.value(obs), return_)
                descend(actor_loss + 0.5 * critic_loss, optimizer, policy)
        mark(done_steps)


def a2c(options, steps, mark, device):
    num_envs, num_steps, hidden_sizes = (
        options[name] for name in ("num-envs", "num-steps", "hidden-sizes")
    )
    rollouts = Rollouts(num_envs, hidden_sizes, device)
    policy = rollouts.policy
    optimizer = torch.optim.Adam(policy.parameters(), 7e-4)
    for done_steps in range(num_envs * num_steps, steps + 1, num_envs * num_steps):
        obs, action, _, value, *rest, valid = rollouts.collect(num_steps)
        advantage, return_ = advantages(policy, rest[0], value, *rest[1:])
        obs, action, advantage, return_ = (x[valid > 0] for x in (obs, action, advantage, return_))
        actor_loss = -(policy.log_prob(obs, action) * advantage).mean()
        critic_loss = nn.functional.mse_loss(policy.value(obs), return_)
        descend(actor_loss + 0.5 * critic_loss, optimizer, policy)
        mark(done_steps)


def reinforce(options, steps, mark, device):
    num_envs, hidden_sizes = options["num-envs"], options["hidden-sizes"]
    rollouts = Rollouts(num_envs, hidden_sizes, device)
    policy = rollouts.policy
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    for done_steps in range(num_envs * 1000, steps + 1, num_envs * 1000):
        rollouts.begin()
        obs, action, _, _, reward, *_ = rollouts.collect(1000)
        return_, following = torch.zeros_like(reward), torch.zeros_like(reward[0])
        for t in reversed(range(len(reward))):
            return_[t] = following = reward[t] + GAMMA * following
        loss = -(policy.log_prob(obs, action) * (return_ - return_.mean())).sum(0).mean()
        descend(loss, optimizer, policy)
        mark(done_steps)


# ── off-policy ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Critic(nn.Module):
    def __init__(self, obs_size, action_size, hidden_sizes):
        super().__init__()
        self.net = mlp(nn.ReLU, obs_size + action_size, *hidden_sizes, 1)

    def forward(self, obs, action):
        return self.net(torch.cat([obs, action], -1)).squeeze(-1)


def polyak(model, target):
    with torch.no_grad():
        for new, slow in zip(model.parameters(), target.parameters(), strict=True):
            slow.mul_(0.995).add_(0.005 * new)


def off_policy(options, steps, mark, device, critics, delay, noise):
    """TD3, with one environment; DDPG is TD3 with one critic, no delay and no noise on target actions."""
    envs = gym.make_vec("HalfCheetah-v5", 1, vectorization_mode="sync")
    obs_size, action_size = (
        envs.single_observation_space.shape[0],
        envs.single_action_space.shape[0],
    )
    actor = nn.Sequential(
        mlp(nn.ReLU, obs_size, *options["hidden-sizes"], action_size), nn.Tanh()
    ).to(device)
    q = nn.ModuleList(
        Critic(obs_size, action_size, options["hidden-sizes"]) for _ in range(critics)
    ).to(device)
    actor_target, q_target = copy.deepcopy(actor), copy.deepcopy(q)
    actor_optimizer = torch.optim.Adam(actor.parameters(), 3e-4)
    q_optimizer = torch.optim.Adam(q.parameters(), 3e-4)
    memory = [
        np.zeros((1_000_000, *shape), np.float32)
        for shape in ((obs_size,), (action_size,), (), (obs_size,), ())
    ]
    obs, ended, size = envs.reset()[0], False, 0
    for step in range(1, steps + 1):
        if step <= options["learning-starts"]:
            action = envs.action_space.sample()
        else:
            with torch.no_grad():
                action = (
                    actor(torch.as_tensor(obs, dtype=torch.float32, device=device)).cpu().numpy()
                )
            action = np.clip(action + 0.1 * np.random.standard_normal(action.shape), -1, 1).astype(
                np.float32
            )
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        if not ended:  # after an episode's end comes a step that only resets
            for column, value in zip(
                memory, (obs, action, reward, next_obs, terminated), strict=True
            ):
                column[size] = value[0]
            size += 1
        obs, ended = next_obs, terminated[0] or truncated[0]
        if step > options["learning-starts"]:
            index = np.random.randint(size, size=options["batch-size"])
            s, a, r, s_next, end = (
                torch.as_tensor(column[index], device=device) for column in memory
            )
            with torch.no_grad():
                a_next = actor_target(s_next)
                if noise:
                    a_next = (a_next + (0.2 * torch.randn_like(a_next)).clamp(-0.5, 0.5)).clamp(
                        -1, 1
                    )
                y = (
                    r
                    + GAMMA
                    * (1 - end)
                    * torch.stack([each(s_next, a_next) for each in q_target]).min(0).values
                )
            q_loss = sum(nn.functional.mse_loss(each(s, a), y) for each in q)
            q_optimizer.zero_grad()
            q_loss.backward()
            q_optimizer.step()
            if step % delay == 0:
                actor_loss = -q[0](s, actor(s)).mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()
                polyak(actor, actor_target)
                polyak(q, q_target)
        mark(step)


def td3(options, steps, mark, device):
    off_policy(options, steps, mark, device, critics=2, delay=2, noise=True)


def ddpg(options, steps, mark, device):
    off_policy(options, steps, mark, device, critics=1, delay=1, noise=False)
