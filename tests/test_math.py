"""The equations against oracles that share no code with them: double sums, hand calculations, torch.distributions."""
import math

import numpy as np
import pytest
import torch
from conftest import ON_POLICY, load

ON_POLICY_WITH_CRITIC = [name for name in ON_POLICY if name != "reinforce"]


def episodes(seed, steps=12, envs=5):
    """Random rewards, values and flags, float64, [T, N]: terminations, truncations, and both at once."""
    random = np.random.default_rng(seed)
    reward, value, next_value = random.normal(size=(3, steps, envs))
    terminated, truncated = (random.random((2, steps, envs)) < 0.2).astype(float)
    return reward, value, next_value, terminated, truncated


def gae_by_double_sum(reward, value, next_value, terminated, truncated, gamma, lam):
    advantage = np.zeros_like(reward)
    for i in range(reward.shape[1]):
        for t in range(len(reward)):
            weight = 1.0
            for k in range(t, len(reward)):
                bootstrap = 0.0 if terminated[k, i] else gamma * next_value[k, i]
                advantage[t, i] += weight * (reward[k, i] + bootstrap - value[k, i])
                if terminated[k, i] or truncated[k, i]:
                    break
                weight *= gamma * lam
    return advantage


@pytest.mark.parametrize("name", ON_POLICY_WITH_CRITIC)
@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_is_its_double_sum(name, lam):
    module = load(name)
    for seed in range(20):
        reward, value, next_value, terminated, truncated = data = episodes(seed)
        done = np.maximum(terminated, truncated)
        tensors = map(torch.from_numpy, (reward, value, next_value, terminated, done))
        advantage, return_ = module.gae(*tensors, 0.99, lam)
        expected = gae_by_double_sum(*data, 0.99, lam)
        np.testing.assert_allclose(advantage, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(return_, expected + value, rtol=1e-12, atol=1e-12)


def test_returns_do_not_leak_over_an_episode_end():
    module = load("reinforce")
    reward, done = torch.ones(6, 1), torch.tensor([0, 0, 1, 0, 0, 1.0])[:, None]
    before = module.discounted_sum(reward, done, 0.5)
    assert before[:, 0].tolist() == [1.75, 1.5, 1, 1.75, 1.5, 1]
    reward[3:] *= 1000
    assert torch.equal(module.discounted_sum(reward, done, 0.5)[:3], before[:3])


@pytest.mark.parametrize("name", ON_POLICY)
def test_log_prob_is_the_normal_distribution(name):
    module = load(name)
    actor = module.Actor(module.Normalizer(3), 3, 2, (8,)).double()
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([0.3, -1.2]))
    obs, action = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    normal = torch.distributions.Normal(actor(obs), actor.log_std.exp())
    torch.testing.assert_close(actor.log_prob(obs, action), normal.log_prob(action).sum(-1))


@pytest.mark.parametrize("name", ON_POLICY)
def test_normalizer_learns_the_mean_and_variance_of_all_that_it_saw(name):
    normalizer, data = load(name).Normalizer(3), 5 + 2 * torch.randn(100, 4, 3)
    for part in data.split([1, 30, 69]):
        normalizer.learn(part)
    flat = data.reshape(-1, 3)
    torch.testing.assert_close(normalizer.mean, flat.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normalizer.var, flat.var(0, correction=0), rtol=1e-4, atol=1e-5)


def test_reward_scale_is_the_deviation_of_the_discounted_return():
    scaler = load("a2c").RewardScaler(1, 0.5)
    reward, done = torch.tensor([1.0, 2, 3, 4])[:, None], torch.tensor([0.0, 1, 0, 0])[:, None]
    returns = np.array([1, 2.5, 3, 5.5])  # 2 + 1 / 2; a new episode; 4 + 3 / 2
    np.testing.assert_allclose(scaler(reward, done)[:, 0], [1, 2, 3, 4] / returns.std(), rtol=1e-6)
    assert scaler.discounted.item() == 5.5  # to be gone on with


def test_ppo_ratio_is_one_before_the_first_update():
    module = load("ppo_continuous")
    args = module.Args(num_envs=2, num_steps=8, update_epochs=1, num_minibatches=1)
    agent = module.Agent(3, 2, args)
    agent.obs_norm.learn(10 * torch.randn(50, 3))
    rollout = module.Transition(*(torch.randn(8, 2, *shape) for shape in ((3,), (2,), (), (3,))), torch.zeros(8, 2),
                                torch.zeros(8, 2))
    assert abs(agent.learn(rollout)["losses/approx_kl"].item()) < 1e-6


class Fixed(torch.nn.Module):
    """A network that answers with given numbers, whatever it is asked; it keeps the question."""
    def __init__(self, *answers):
        super().__init__()
        self.answers = answers

    def forward(self, *question):
        self.question = question
        return self.answers if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_bellman_target_by_hand(name, monkeypatch):
    module = load(name)
    args = module.Args(gamma=0.5)
    reward, terminated = torch.tensor([1.0, 1, 1, 1]), torch.tensor([0.0, 1, 0, 1])
    truncated = torch.tensor([0.0, 0, 1, 1])
    batch = module.Transition(None, None, reward, torch.zeros(4, 3), terminated, truncated)
    actor = Fixed(torch.tensor([[0.0], [0.0], [0.9], [-0.9]]))
    if name == "ddpg":
        critic = Fixed(torch.tensor([10.0, 10, 20, 20]))
        assert module.target_q(actor, critic, batch, args).tolist() == [6, 1, 11, 1]
        return
    monkeypatch.setattr(module.torch, "randn_like", lambda x: torch.tensor([[1.0], [-100], [2], [-2]]))
    critic = Fixed(torch.tensor([10.0, 10, 30, 30]), torch.tensor([20.0, 20, 20, 20]))
    assert module.target_q(actor, critic, batch, args).tolist() == [6, 1, 11, 1]  # the smaller of the twins
    noise_and_bounds = torch.tensor([[0.2], [-0.5], [1], [-1]])  # σ 0.2, clipped to 0.5, the action to 1
    torch.testing.assert_close(critic.question[1], noise_and_bounds)


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_polyak_average_in_closed_form(name):
    module = load(name)
    model, target = torch.nn.Linear(2, 2).double(), torch.nn.Linear(2, 2).double()
    start = target.weight.detach().clone()
    for _ in range(50):
        module.polyak(model, target, 0.05)
    expected = (1 - 0.95**50) * model.weight + 0.95**50 * start
    torch.testing.assert_close(target.weight, expected)


@pytest.mark.parametrize("name, actor_updates", [("ddpg", 6), ("td3", 3)])
def test_delay_counts_updates_and_the_actor_leaves_critics_alone(name, actor_updates, monkeypatch):
    module = load(name)
    agent, updated = module.Agent(3, 2, module.Args(hidden_sizes=(8,))), []
    descend = module.descend

    def spy(loss, optimizer):
        frozen = agent.critic if optimizer is agent.actor_optimizer else agent.actor
        before = [p.clone() for p in frozen.parameters()]
        descend(loss, optimizer)
        assert all(map(torch.equal, before, frozen.parameters()))
        updated.append("actor" if optimizer is agent.actor_optimizer else "critic")

    monkeypatch.setattr(module, "descend", spy)
    batch = module.Transition(torch.randn(4, 3), torch.randn(4, 2), torch.randn(4), torch.randn(4, 3), torch.zeros(4),
                              torch.zeros(4))
    for update in range(6):
        agent.learn(batch, update) if name == "td3" else agent.learn(batch)
    assert updated.count("critic") == 6 and updated.count("actor") == actor_updates


def test_entropy_of_a_gaussian():
    module = load("a2c")
    agent = module.Agent(3, 2, module.Args(num_envs=1))
    rollout = module.Transition(*(torch.randn(4, 1, *shape) for shape in ((3,), (2,), (), (3,))), torch.zeros(4, 1),
                                torch.zeros(4, 1))
    expected = sum(0.5 * math.log(2 * math.pi * math.e * math.exp(2 * -0.5)) for _ in range(2))
    assert agent.learn(rollout)["losses/entropy"].item() == pytest.approx(expected, rel=1e-6)
