"""Each labelled equation of REINFORCE, A2C and PPO against an oracle that shares no code with it:
brute-force sums, SciPy, quadrature with finite differences, hand calculations, known values."""

import contextlib

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import ON_POLICY, load
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import (
    carrying,
    keep_gradients,
    labels,
    learn,
    make_agent,
    numeric_gradient,
    options,
    train,
)

few = settings(max_examples=25, deadline=None, derandomize=True)
WITH_CRITIC = [name for name in ON_POLICY if "GAE-1" in labels(name)]
anywhere = pytest.mark.parametrize("name", ON_POLICY)


@st.composite
def episodes(draw):
    """Random rewards, values and flags, [T, N] each: terminations, truncations, both."""
    steps = draw(st.integers(1, 9))
    envs = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    size = steps * envs
    flags = st.lists(st.sampled_from([0.0, 0.0, 1.0]), min_size=size, max_size=size)
    ends = [np.array(draw(flags)).reshape(steps, envs) for _ in range(2)]
    return *random.normal(size=(3, steps, envs)), *ends


def rest_of_episode(x, over, discount):
    """Σ_k discount^k x_{t+k} up to where the episode is over, from every t, in O(T²)."""
    total = np.zeros_like(x)
    for t, i in np.ndindex(x.shape):
        for k in range(t, len(x)):
            total[t, i] += discount ** (k - t) * x[k, i]
            if over[k, i]:
                break
    return total


def advantages(reward, value, next_value, terminated, truncated, gamma, lam):
    delta = reward - value + np.where(terminated > 0, 0, gamma * next_value)
    return rest_of_episode(delta, np.maximum(terminated, truncated), gamma * lam)


def gae(name, reward, value, next_value, terminated, truncated, gamma, lam):
    done = np.maximum(terminated, truncated)
    columns = [torch.tensor(x) for x in (reward, value, next_value, terminated, done)]
    return [x.numpy() for x in load(name).gae(*columns, gamma, lam)]


def batch(module, steps, envs, seed=0, obs_size=3, action_size=2, terminated=0.0, truncated=0.0):
    """A random rollout in float64."""
    random = torch.Generator().manual_seed(seed)
    columns = []
    for shape in ((obs_size,), (action_size,), (), (obs_size,)):
        columns.append(torch.randn(steps, envs, *shape, generator=random, dtype=torch.float64))
    for chance in (terminated, truncated):
        columns.append((torch.rand(steps, envs, generator=random) < chance).double())
    return module.Transition(*columns)


def frozen_agent(module, monkeypatch, **values):
    """An agent whose running statistics stay what they are."""
    monkeypatch.setattr(module.RunningStatistics, "update", lambda self, x: None)
    return make_agent(module, **values)


def normalized(agent, obs):
    return agent.obs_statistics.normalize(obs)


def score_of_the_mean(agent, rollout):
    """d log π / dμ = (a − μ) / σ², [T, N, A]"""
    with torch.no_grad():
        mean = agent.actor(normalized(agent, rollout.obs))
        return ((rollout.action - mean) / agent.actor.log_std.exp() ** 2).numpy()


def last_bias(gradients):
    names = [n for n in gradients if n.startswith("actor.") and n.endswith("bias")]
    return gradients[names[-1]]


def assert_follows_the_expected_return(name, monkeypatch, baseline=0.0):
    """What an update follows is, in expectation, the gradient of the expected return J.

    Two steps from s = 0.7, the action becomes the second state, r = −(a − 2s)² + a, γ = λ = 1; both
    expectations by Gauss-Hermite quadrature, the gradient of J by central differences.
    """
    module = load(name)
    agent = frozen_agent(
        module,
        monkeypatch,
        obs_size=1,
        action_size=1,
        num_envs=1,
        gamma=1.0,
        gae_lambda=1.0,
        update_epochs=1,
        num_minibatches=1,
        vf_coef=0.0,
        ent_coef=0.0,
    )
    agent.actor.log_std.data.fill_(-1.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(14)
    nodes = torch.tensor(nodes)
    weights = torch.tensor(weights / weights.sum())

    def play():
        std = agent.actor.log_std.exp()
        s0 = torch.full((14, 14, 1), 0.7, dtype=torch.float64)
        a0 = agent.actor(s0) + std * nodes[:, None, None]
        a1 = agent.actor(a0) + std * nodes[None, :, None]
        r0 = -((a0 - 2 * s0) ** 2) + a0
        r1 = -((a1 - 2 * a0) ** 2) + a1
        return s0, a0, a1, r0.squeeze(-1), r1.squeeze(-1)

    def expected_return():
        *_, r0, r1 = play()
        return (weights[:, None] * weights * (r0 + r1)).sum()

    # the networks see what the statistics, mean 0 and variance 1, make of the state: to 1e-8 itself
    monkeypatch.setattr(module.RunningStatistics, "normalize", lambda self, x: x)
    exact = {}
    for n, parameter in agent.actor.named_parameters():
        exact[f"actor.{n}"] = numeric_gradient(expected_return, parameter)
    with torch.no_grad():
        s0, a0, a1, r0, r1 = play()
    kept = keep_gradients(agent)
    followed = {n: torch.zeros_like(g) for n, g in exact.items()}
    # the loss is a mean over steps, but in REINFORCE, where it is their sum
    steps = 1 if name == "reinforce" else 2
    for i, j in np.ndindex(14, 14):
        columns = []
        for first, second in ((s0, a0), (a0, a1), (r0, r1), (a0, a1)):
            columns.append(torch.stack([first[i, j], second[i, j]])[:, None])
        ends = torch.tensor([[0.0], [1.0]])
        if name == "reinforce":
            agent.baseline[:2] = torch.tensor([baseline, -baseline])
        learn(agent, module.Transition(*columns, ends, torch.zeros(2, 1)))
        for n in exact:
            followed[n] -= weights[i] * weights[j] * kept[-1][n] * steps
    for n in exact:
        torch.testing.assert_close(followed[n], exact[n], rtol=1e-6, atol=1e-7, msg=n)


# ── the policy gradient ──


@carrying("PG-1")
def test_PG_1_is_the_log_density_of_scipy(name):
    agent = make_agent(load(name))
    obs, action = batch(load(name), 4, 5)[:2]
    with torch.no_grad():
        mean = agent.actor(obs)
        std = agent.actor.log_std.exp()
        log_prob = agent.actor.log_prob(obs, action)
    assert log_prob.shape == (4, 5)
    expected = scipy.stats.norm.logpdf(action, mean, std).sum(-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-12)


@carrying("PG-2")
@few
@given(episodes())
def test_PG_2_is_the_discounted_rest_of_the_episode(name, data):
    reward, *_, terminated, truncated = data
    done = np.maximum(terminated, truncated)
    found = load(name).returns_to_go(torch.tensor(reward), torch.tensor(done), 0.9)
    np.testing.assert_allclose(found, rest_of_episode(reward, done, 0.9), rtol=1e-12, atol=1e-12)


@carrying("PG-3")
def test_PG_3_baseline_is_the_mean_return_of_earlier_batches(name):
    """On bandits the gradient with respect to the last bias is −mean of (a − μ) / σ² (r − b)."""
    module = load(name)
    agent = make_agent(module, num_envs=4)
    kept = keep_gradients(agent)
    earlier = []
    for seed in range(3):
        rollout = batch(module, 1, 4, seed, terminated=1.0)
        score = score_of_the_mean(agent, rollout)[0]
        reward = rollout.reward[0].numpy()
        baseline = np.mean(earlier) if earlier else 0
        expected = -(score * (reward - baseline)[:, None]).mean(0)
        learn(agent, rollout)
        np.testing.assert_allclose(last_bias(kept[-1]), expected, rtol=1e-6)
        earlier += reward.tolist()


@carrying("PG-3")
def test_PG_3_baseline_of_a_step_is_the_mean_return_of_that_step_in_earlier_episodes(name):
    """Three rollouts of episodes that end apart; of four rows the last is for all later steps."""
    module = load(name)
    agent = make_agent(module, num_envs=3, gamma=0.5, baseline_steps=4)
    earlier = [[] for _ in range(4)]
    for seed, ends in enumerate([(6, 2, 3), (1, 1, 3), (2, 6, 6)]):
        num_steps = max(ends)
        rollout = batch(module, num_steps, 3, seed)
        for i, length in enumerate(ends):
            rollout.terminated[length - 1, i] = 1
        made, metrics = agent.make_batch(rollout, lambda reward, done: reward)
        advantage = made.advantage.reshape(num_steps, 3).numpy()
        expected = np.zeros((num_steps, 3))
        means = []
        new = [[] for _ in range(4)]
        for t in range(num_steps):
            row = min(t, 3)
            means.append(np.mean(earlier[row]) if earlier[row] else 0)
            for i, length in enumerate(ends):
                if t < length:
                    rest = [0.5**k * rollout.reward[t + k, i].item() for k in range(length - t)]
                    expected[t, i] = sum(rest) - means[t]
                    new[row].append(sum(rest))
        np.testing.assert_allclose(advantage, expected, rtol=1e-6, atol=1e-6)
        assert metrics["losses/baseline"] == pytest.approx(np.mean(means), abs=1e-6)
        for row in range(4):
            earlier[row] += new[row]


@carrying("PG-3")
def test_PG_3_baseline_leaves_the_expected_gradient_as_it_is(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch, baseline=5.0)


@carrying("PG-4")
def test_PG_4_follows_the_gradient_of_the_expected_return(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch)


@carrying("PG-4")
def test_PG_4_weighs_scores_with_the_discounted_rest_of_the_episode(name, monkeypatch):
    """Ends of both kinds, γ = 1/2: the last bias has the gradient −Σ of (a − μ) / σ² G, over N."""
    module = load(name)
    agent = frozen_agent(module, monkeypatch, num_envs=3, gamma=0.5)
    kept = keep_gradients(agent)
    rollout = batch(module, 4, 3)
    rollout.terminated[3, 0] = 1
    rollout.truncated[3, 1] = 1
    rollout.truncated[1, 2] = 1
    score = score_of_the_mean(agent, rollout)
    expected = np.zeros(2)
    for i, length in enumerate((4, 4, 2)):
        for t in range(length):
            rest = [0.5 ** (k - t) * rollout.reward[k, i].item() for k in range(t, length)]
            expected -= score[t, i] * sum(rest) / 3
    learn(agent, rollout)
    np.testing.assert_allclose(last_bias(kept[0]), expected, rtol=1e-6)


@carrying("PG-4")
def test_PG_4_uses_the_first_and_whole_episode_of_each_environment_only(name):
    """Episodes end at 1, 4, 2 of 5 steps; what follows changes neither gradient nor baseline."""
    module = load(name)
    results = []
    for factor in (1, 1000):
        agent = make_agent(module, num_envs=3)
        kept = keep_gradients(agent)
        rollout = batch(module, 5, 3)
        rollout.terminated[1, 0] = 1
        rollout.truncated[4, 1] = 1
        rollout.truncated[2, 2] = 1
        rollout.reward[2:, 0] *= factor
        rollout.action[3:, 2] *= factor
        learn(agent, rollout)
        results.append([*kept[0].values(), agent.baseline, agent.baseline_count])
    for left, right in zip(*results, strict=True):
        assert torch.equal(left, right)
    assert agent.baseline_count[:6].tolist() == [3, 3, 2, 1, 1, 0]


@carrying("PG-4")
def test_statistics_of_reinforce_learn_from_the_steps_after_the_first_episode_too(name):
    """What the loss leaves out still changes the normaliser and the reward scale."""
    module = load(name)
    found = []
    for factor in (1, 1000):
        agent = make_agent(module, num_envs=3)
        scaler = module.RewardScaler(3, 0.5).double()
        rollout = batch(module, 5, 3)
        rollout.terminated[1, 0] = 1
        rollout.truncated[4] = 1
        rollout.reward[2:, 0] *= factor
        rollout.obs[2:, 0] *= factor
        learn(agent, rollout, scaler=scaler)
        assert agent.obs_statistics.count == scaler.statistics.count == 5 * 3
        found.append((agent.obs_statistics.var, scaler.statistics.var))
    assert (found[1][0] > 100 * found[0][0]).all()
    assert found[1][1] > 100 * found[0][1]


@carrying("PG-5")
def test_PG_5_is_a_step_of_adam_against_the_gradient(name):
    """Adam's first step is the rate times the gradient over its size."""
    module = load(name)
    values = {"num_envs": 3, "update_epochs": 1, "num_minibatches": 1, "learning_rate": 0.01}
    rollout = batch(module, 6, 3, terminated=1.0)
    still = make_agent(module, **values)
    gradients = keep_gradients(still)
    learn(still, rollout)
    agent = make_agent(module, **values)
    before = {n: p.clone() for n, p in agent.named_parameters()}
    learn(agent, rollout)
    for n, parameter in agent.named_parameters():
        step = -0.01 * gradients[0][n] / (gradients[0][n].abs() + 1e-5)
        torch.testing.assert_close(parameter, before[n] + step, rtol=0, atol=1e-9, msg=n)


# ── generalised advantage estimation ──


@carrying("GAE-1")
def test_GAE_1_delta_by_hand(name):
    """λ = 0 leaves δ: terminated, truncated, both, neither; r = 1, V = 3, V(s′) = 10, γ = 1/2."""
    terminated = np.array([[1.0, 0, 1, 0]])
    truncated = np.array([[0.0, 1, 1, 0]])
    ones = np.ones((1, 4))
    delta, _ = gae(name, ones, 3 * ones, 10 * ones, terminated, truncated, 0.5, 0.0)
    assert delta.tolist() == [[-2, 3, -2, 3]]


@carrying("GAE-2")
@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@few
@given(data=episodes())
def test_GAE_2_is_the_double_sum(name, lam, data):
    expected = advantages(*data, 0.99, lam)
    np.testing.assert_allclose(gae(name, *data, 0.99, lam)[0], expected, rtol=1e-10, atol=1e-12)


@carrying("GAE-2")
@pytest.mark.parametrize("flag", [3, 4])
@few
@given(data=episodes(), end=st.integers(0, 8))
def test_GAE_2_does_not_leak_over_an_episode_end(name, flag, data, end):
    """Whatever is multiplied by 1000 behind it, advantages before it stay the same to the bit."""
    end %= len(data[0])
    data[flag][end] = 1
    before = gae(name, *data, 0.99, 0.95)[0]
    for column in data[:3]:
        column[end + 1 :] *= 1000
    after = gae(name, *data, 0.99, 0.95)[0]
    np.testing.assert_array_equal(after[: end + 1], before[: end + 1])


@carrying("GAE-3")
@few
@given(data=episodes())
def test_GAE_3_is_the_discounted_return_for_lambda_one_and_the_one_step_target_for_zero(name, data):
    reward, value, next_value, terminated, truncated = data
    over = np.maximum(terminated, truncated)
    over[-1] = 1
    bootstrap = np.where(terminated > 0, 0, 0.9 * next_value)
    expected = rest_of_episode(reward + np.where(over > 0, bootstrap, 0), over, 0.9)
    successor = np.where(over > 0, next_value, np.roll(value, -1, 0))
    data = (reward, value, successor, terminated, truncated)
    np.testing.assert_allclose(gae(name, *data, 0.9, 1.0)[1], expected, rtol=1e-10, atol=1e-12)
    one_step = reward + np.where(terminated > 0, 0, 0.9 * successor)
    np.testing.assert_allclose(gae(name, *data, 0.9, 0.0)[1], one_step, rtol=1e-10, atol=1e-12)


# ── actor and critic ──


@carrying("AC-1")
def test_AC_1_follows_the_gradient_of_the_expected_return(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch)


def learn_once(name, monkeypatch, **values):
    """The gradient of an update on a rollout with both kinds of ends; agent, rollout, metrics."""
    module = load(name)
    once = {"num_envs": 3, "update_epochs": 1, "num_minibatches": 1}
    agent = frozen_agent(module, monkeypatch, gamma=0.9, gae_lambda=0.8, **once, **values)
    rollout = batch(module, 6, 3, terminated=0.2, truncated=0.2)
    kept = keep_gradients(agent)
    metrics = learn(agent, rollout)
    return kept[0], agent, rollout, metrics


def values_and_advantages(agent, rollout):
    with torch.no_grad():
        value = agent.critic(normalized(agent, rollout.obs)).numpy()
        next_value = agent.critic(normalized(agent, rollout.next_obs)).numpy()
    ends = (rollout.terminated.numpy(), rollout.truncated.numpy())
    return value, advantages(rollout.reward.numpy(), value, next_value, *ends, 0.9, 0.8)


def test_AC_1_the_loss_is_the_mean_of_log_probabilities_weighted_with_advantages(monkeypatch):
    _, agent, rollout, metrics = learn_once("a2c", monkeypatch)
    _, advantage = values_and_advantages(agent, rollout)
    mean = agent.actor(normalized(agent, rollout.obs)).detach().numpy()
    std = agent.actor.log_std.detach().exp().numpy()
    log_prob = scipy.stats.norm.logpdf(rollout.action.numpy(), mean, std).sum(axis=-1)
    expected = -(log_prob * advantage).mean()
    assert metrics["losses/policy_loss"].item() == pytest.approx(expected, rel=1e-10)


@carrying("AC-2")
def test_AC_2_is_the_gradient_of_the_mean_squared_error_with_fixed_targets(name, monkeypatch):
    gradient, agent, rollout, metrics = learn_once(name, monkeypatch, vf_coef=1.0, ent_coef=0.0)
    value, advantage = values_and_advantages(agent, rollout)
    assert value.shape == (6, 3)
    target = value + advantage

    def error():
        found = agent.critic(normalized(agent, rollout.obs)).detach().numpy()
        return ((found - target) ** 2).mean()

    assert metrics["losses/value_loss"].item() == pytest.approx(error(), rel=1e-10)
    unexplained = (target - value).var() / target.var()
    explained = metrics["losses/explained_variance"].item()
    assert explained == pytest.approx(1 - unexplained, rel=1e-10)
    for n, parameter in agent.critic.named_parameters():
        expected = numeric_gradient(error, parameter)
        torch.testing.assert_close(gradient[f"critic.{n}"], expected, rtol=1e-5, atol=1e-7)


@carrying("AC-3")
def test_AC_3_is_the_entropy_of_scipy(name, monkeypatch):
    *_, agent, _, metrics = learn_once(name, monkeypatch)
    std = agent.actor.log_std.detach().exp().numpy()
    expected = scipy.stats.norm.entropy(scale=std).sum()
    assert metrics["losses/entropy"].item() == pytest.approx(expected, rel=1e-12)


@carrying("AC-4")
def test_AC_4_weighs_the_parts(name, monkeypatch):
    """The critic's gradient grows with c₁; that of log σ falls by c₂, since dH / d log σ = 1."""
    plain, *_ = learn_once(name, monkeypatch, vf_coef=1.0, ent_coef=0.0)
    weighed, *_ = learn_once(name, monkeypatch, vf_coef=0.25, ent_coef=3.0)
    for n, gradient in plain.items():
        expected = gradient
        if n.startswith("critic"):
            expected = gradient * 0.25
        elif n.endswith("log_std"):
            expected = gradient - 3
        torch.testing.assert_close(weighed[n], expected, msg=n)


# ── PPO ──


@carrying("PPO-1")
def test_PPO_1_ratio_is_one_on_the_first_minibatch_of_every_rollout(name, monkeypatch, tmp_path):
    """And the old log-probabilities are those of the policy that acted. On a real run, while the
    statistics of observations move."""
    module = load(name)
    acted = []
    act = module.Agent.act

    def spy_act(self, obs, explore=True):
        action = act(self, obs, explore)
        if explore:
            x = self.obs_statistics.normalize(obs)
            acted.append(self.actor.log_prob(x, action).detach())
        return action

    ratios = []
    olds = []
    gradients = module.Agent.backward

    def spy_gradients(self, minibatch):
        new = self.actor.log_prob(minibatch.obs, minibatch.action).detach()
        ratios.append((new - minibatch.log_prob).exp())
        olds.append(minibatch.log_prob)
        return gradients(self, minibatch)

    monkeypatch.setattr(module.Agent, "act", spy_act)
    monkeypatch.setattr(module.Agent, "backward", spy_gradients)
    train(
        module,
        monkeypatch,
        tmp_path,
        "Pendulum-v1",
        num_envs=2,
        num_steps=16,
        total_timesteps=160,
        update_epochs=2,
        num_minibatches=4,
        learning_rate=1e-2,
        anneal_lr=False,
        hidden_sizes=(8,),
    )
    assert len(acted) == 80 and len(ratios) == 5 * 8
    for k in range(5):
        torch.testing.assert_close(ratios[8 * k], torch.ones(8), rtol=0, atol=1e-5)
        assert (ratios[8 * k + 7] - 1).abs().max() > 1e-3  # the policy has moved
        old = torch.cat(olds[8 * k : 8 * k + 4]).sort().values
        of_acting = torch.cat(acted[16 * k : 16 * k + 16]).sort().values
        torch.testing.assert_close(old, of_acting, rtol=1e-5, atol=1e-5)


def clipped_gradient(name, monkeypatch, z, shift, reward):
    """One row, whose action is z deviations off the mean; between two updates the mean moves by
    `shift` deviations. The second gradient, what it is unclipped, the ratio and the advantage."""
    module = load(name)
    agent = frozen_agent(
        module,
        monkeypatch,
        action_size=1,
        num_envs=1,
        update_epochs=2,
        num_minibatches=1,
        vf_coef=0.0,
        ent_coef=0.0,
    )
    std = agent.actor.log_std.detach().exp()
    bias = agent.actor.net[-1].bias

    def move(update):
        if update == 1:
            bias.data += shift * std

    kept = keep_gradients(agent, move)
    rollout = batch(module, 1, 1, action_size=1, terminated=1.0)
    x = normalized(agent, rollout.obs)
    with torch.no_grad():
        rollout.action[:] = agent.actor(x) + z * std
        advantage = reward - agent.critic(x).item()
    learn(agent, rollout._replace(reward=torch.full((1, 1), reward).double()))
    found = [last_bias(kept[1]).item(), kept[1]["actor.log_std"].item()]
    ratio = np.exp((z**2 - (z - shift) ** 2) / 2)
    score = ((z - shift) / std.item(), (z - shift) ** 2 - 1)
    return found, [-advantage * ratio * s for s in score], ratio, advantage, kept[1]


# z 1.5 and shift 0.3: ratio 1.5; −0.3: 0.61; 0.1: 1.156; −0.1: 0.856
CASES = [(shift, reward) for shift in (0.3, -0.3, 0.1, -0.1) for reward in (10.0, -10.0)]


@carrying("PPO-2")
@pytest.mark.parametrize("shift, reward", CASES)
def test_PPO_2_clips_where_the_ratio_left_its_range_for_the_better_and_only_there(
    name, shift, reward, monkeypatch
):
    found, unclipped, ratio, advantage, gradient = clipped_gradient(
        name, monkeypatch, 1.5, shift, reward
    )
    binds = ratio > 1.2 if advantage > 0 else ratio < 0.8
    assert binds == ((shift, reward) in {(0.3, 10.0), (-0.3, -10.0)})
    expected = np.zeros(2) if binds else unclipped
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=0)
    assert binds == all((g == 0).all() for g in gradient.values())


@carrying("PPO-3")
def test_PPO_3_follows_at_the_old_policy_the_gradient_of_the_expected_return(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch)


@carrying("PPO-1")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    steps=st.integers(2, 6),
    envs=st.integers(1, 4),
    divisor=st.integers(1, 24),
    norm_adv=st.booleans(),
)
def test_every_row_is_used_once_per_pass_and_none_turns_into_nan(
    name, steps, envs, divisor, norm_adv
):
    module = load(name)
    size = steps * envs
    divisors = [d for d in range(1, size + 1) if size % d == 0 and d <= divisor]
    minibatches = divisors[-1]  # down to minibatches of one row
    agent = make_agent(
        module, num_envs=envs, update_epochs=3, num_minibatches=minibatches, norm_adv=norm_adv
    )
    rows = []
    gradients = agent.backward

    def remember(minibatch):
        rows.append(minibatch.obs[:, 0])
        return gradients(minibatch)

    agent.backward = remember
    rollout = batch(module, steps, envs)
    expected = normalized(agent, rollout.obs)[..., 0].flatten().sort().values
    learn(agent, rollout)
    assert len(rows) == 3 * minibatches
    passes = torch.cat(rows).view(3, size)
    for each in passes:
        assert torch.equal(each.sort().values, expected)
    assert size < 6 or not torch.equal(passes[0], passes[1])  # in another order
    assert all(p.isfinite().all() for p in agent.parameters())


@carrying("PPO-1")
def test_target_kl_ends_the_passes(name):
    module = load(name)
    counts = []
    for target_kl in (None, 1e-9, 1e9):
        agent = make_agent(
            module, num_envs=2, update_epochs=5, num_minibatches=8, target_kl=target_kl
        )
        calls = []
        agent.optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append(0))
        learn(agent, batch(module, 8, 2))
        counts.append(len(calls))
    assert counts == [40, 8, 40]


@carrying("PPO-4")
def test_PPO_4_approx_kl_and_clipfrac_by_hand_and_where_ratios_underflow(name):
    """The last action is one that the policy has left: ρ = 0 in floating point, log ρ = −1000."""
    module = load(name)
    agent = make_agent(module)
    x = torch.ones(4, 3).double()
    action = torch.ones(4, 2).double()
    log_ratio = torch.tensor([0.0, 0.5, -0.5, -1000.0]).double()
    old = agent.actor.log_prob(x, action).detach() - log_ratio
    ones = torch.ones(4).double()
    metrics = agent.backward(module.Batch(x, action, old, ones, ones))
    expected = (0 + 0.1487213 + 0.1065307 + 999) / 4
    assert metrics["losses/approx_kl"].item() == pytest.approx(expected, abs=1e-6)
    assert metrics["losses/clipfrac"].item() == 0.75
    assert all(p.grad.isfinite().all() for p in agent.parameters())


@carrying("PPO-1")
def test_normalised_advantages_have_mean_0_and_variance_1(name, monkeypatch):
    """Seen in the gradient of the last bias: −mean of (a − μ) / σ² (A − mean) / deviation."""
    gradient, agent, rollout, _ = learn_once(name, monkeypatch, norm_adv=True)
    _, advantage = values_and_advantages(agent, rollout)
    advantage = (advantage - advantage.mean()) / advantage.std(ddof=1)
    expected = -(score_of_the_mean(agent, rollout) * advantage[..., None]).mean((0, 1))
    np.testing.assert_allclose(last_bias(gradient), expected, rtol=1e-6)


# ── what they share ──


@anywhere
def test_actions_are_drawn_from_the_policy_each_environment_with_noise_of_its_own(name):
    """Kolmogorov-Smirnov in each dimension; false alarm: 2e-6 per script, and the seed is fixed."""
    agent = make_agent(load(name))
    agent.actor.log_std.data = torch.tensor([-1.0, 0.5]).double()  # far from σ = σ²
    obs = torch.ones(5000, 3).double()
    action = agent.act(obs)
    assert len(action[:, 0].unique()) > 4900 and not action.requires_grad
    means = agent.act(obs[:1], explore=False)[0].tolist()
    for i, std in enumerate(np.exp([-1.0, 0.5])):
        policy = scipy.stats.norm(means[i], std)
        assert scipy.stats.kstest(action[:, i].numpy(), policy.cdf).pvalue > 1e-6
    correlation = scipy.stats.pearsonr(action[:, 0], action[:, 1])[0]
    assert abs(correlation) < 0.07  # 5 deviations of independent dimensions


@carrying("NORM-1")
def test_NORM_1_divides_by_the_deviation_and_clips(name):
    """m = (1, 0), v = (4, 1): 7 is 3 deviations above, -50 is cut."""
    statistics = load(name).RunningStatistics(2)
    statistics.mean.copy_(torch.tensor([1.0, 0.0]))
    statistics.var.copy_(torch.tensor([4.0, 1.0]))
    normalized_obs = statistics.normalize(torch.tensor([7.0, -50.0]))
    assert normalized_obs.tolist() == pytest.approx([3.0, -10.0])


def statistics_of_chunks(name, chunks):
    statistics = load(name).RunningStatistics(3).double()
    for chunk in chunks:
        statistics.update(torch.as_tensor(chunk))
    return statistics


CHUNKS = np.split(np.random.default_rng(0).normal(5, 2, (60, 3)).cumsum(0), [1, 4, 30])


@carrying("NORM-2")
def test_NORM_2_the_mean_of_chunks_is_the_mean_of_all_rows(name):
    statistics = statistics_of_chunks(name, CHUNKS)
    np.testing.assert_allclose(statistics.mean, np.concatenate(CHUNKS).mean(0), rtol=1e-6)


@carrying("NORM-3")
def test_NORM_3_the_variance_of_chunks_is_the_variance_of_all_rows(name):
    statistics = statistics_of_chunks(name, CHUNKS)
    np.testing.assert_allclose(statistics.var, np.concatenate(CHUNKS).var(0), rtol=1e-6)


@anywhere
def test_one_set_of_statistics_learns_from_all_observations_once(name):
    """Against NumPy, over three rollouts and several passes."""
    module = load(name)
    agent = make_agent(module, num_envs=4, update_epochs=3, num_minibatches=2)
    seen = []
    for seed, steps in enumerate((2, 30, 68)):
        rollout = batch(module, steps, 4, seed, terminated=1.0)
        rollout = rollout._replace(obs=5 + 2 * rollout.obs)
        learn(agent, rollout)
        seen.append(rollout.obs.reshape(-1, 3).numpy())
    seen = np.concatenate(seen)
    statistics = agent.obs_statistics
    assert statistics.count == len(seen) == 400
    np.testing.assert_allclose(statistics.mean, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.var, seen.var(0), rtol=1e-6)
    x = torch.tensor([[5.0, 7, 1000]]).double()
    expected = np.minimum((x.numpy() - seen.mean(0)) / seen.std(0), 10)
    np.testing.assert_allclose(statistics.normalize(x), expected, rtol=1e-6)


@anywhere
def test_the_statistics_go_with_the_policy(name):
    """Whoever loads the agent's state acts as it does."""
    module = load(name)
    agent = make_agent(module, seed=0, num_envs=4)
    other = make_agent(module, seed=1, num_envs=7)
    obs = 7 + 3 * torch.randn(8, 4, 3).double()
    learn(agent, batch(module, 8, 4, terminated=1.0)._replace(obs=obs))
    other.load_state_dict(agent.state_dict())
    assert torch.equal(agent.act(obs[0], explore=False), other.act(obs[0], explore=False))


@carrying("NORM-5")
def test_NORM_5_reward_scale_is_the_deviation_of_the_discounted_return(name):
    scaler = load(name).RewardScaler(1, 0.5)
    reward = torch.tensor([1.0, 2, 3, 4])[:, None]
    done = torch.tensor([0.0, 1, 0, 0])[:, None]
    returns = np.array([1, 2.5, 3, 5.5])  # 2 + 1 / 2; a new episode; 4 + 3 / 2
    scaled = scaler(reward, done)[:, 0]
    np.testing.assert_allclose(scaled, [1, 2, 3, 4] / returns.std(), rtol=1e-6)
    assert scaler.discounted_return.item() == 5.5  # to be gone on with
    returns = np.append(returns, [1 + 5.5 / 2, 1])
    ends = torch.tensor([1.0, 0])[:, None]
    scaled = scaler(torch.ones(2, 1), ends)[:, 0]
    np.testing.assert_allclose(scaled, np.ones(2) / returns.std(), rtol=1e-6)


@carrying("NORM-4")
def test_NORM_4_reward_scale_forgets_at_either_end_of_an_episode(name):
    module = load(name)
    agent = make_agent(module, num_envs=3, num_minibatches=1, gamma=0.5)
    scaler = module.RewardScaler(3, 0.5).double()
    rollout = batch(module, 4, 3)
    for flags, t, i in (
        (rollout.terminated, 1, 0),
        (rollout.truncated, 2, 1),
        (rollout.terminated, 3, 2),
        (rollout.truncated, 3, 2),
    ):
        flags[t, i] = 1
    reward = rollout.reward.numpy()
    over = np.maximum(rollout.terminated.numpy(), rollout.truncated.numpy())
    learn(agent, rollout, scaler=scaler)
    discounted = np.zeros_like(reward)
    for t, i in np.ndindex(4, 3):
        start = max([k + 1 for k in range(t) if over[k, i]], default=0)
        discounted[t, i] = sum(0.5 ** (t - k) * reward[k, i] for k in range(start, t + 1))
    np.testing.assert_allclose(scaler.statistics.var, discounted.var(), rtol=1e-10)


@anywhere
def test_an_update_learns_from_scaled_rewards(name):
    """A scaler that triples gives the batch of rewards three times as large."""
    module = load(name)
    rollout = batch(module, 4, 2)
    tripled = rollout._replace(reward=3 * rollout.reward)
    made = []
    for data, factor in ((rollout, 3), (tripled, 1), (rollout, 1)):
        agent = make_agent(module, num_envs=2)
        made.append(agent.make_batch(data, lambda reward, done, factor=factor: factor * reward)[0])
    torch.testing.assert_close(made[0].advantage, made[1].advantage)
    assert not torch.allclose(made[0].advantage, made[2].advantage)


@anywhere
def test_the_reward_scaler_has_the_discount_of_the_run(name, monkeypatch, tmp_path):
    values = {"gamma": 0.5, "total_timesteps": 64, "num_envs": 2, "num_steps": 16}
    parts = train(load(name), monkeypatch, tmp_path, "toys:LastReward-v0", **values)
    assert parts["reward_scaler"].gamma == 0.5


@anywhere
def test_the_gradients_norm_is_clipped_as_a_whole(name):
    """The same direction, its length the bound; a bound that does not bind changes nothing."""
    module = load(name)
    found = {}
    for bound in (1e9, 1e-3):
        agent = make_agent(
            module, num_envs=3, update_epochs=1, num_minibatches=1, max_grad_norm=bound
        )
        kept = keep_gradients(agent)
        learn(agent, batch(module, 6, 3, terminated=0.3))
        found[bound] = torch.cat([g.flatten() for g in kept[0].values()])
    assert found[1e-3].norm().item() == pytest.approx(1e-3, rel=1e-2)
    whole = found[1e9]
    torch.testing.assert_close(found[1e-3] / 1e-3, whole / (whole.norm() + 1e-6), rtol=1e-5, atol=0)


@anywhere
@pytest.mark.parametrize("anneal_lr", [True, False])
def test_the_learning_rate_falls_linearly_to_zero(name, anneal_lr, monkeypatch, tmp_path):
    """As the optimizer sees it over a real run of ten rollouts, 16 steps each."""
    module = load(name)
    rates = []
    init = module.Agent.__init__

    def hooked(agent, *args):
        init(agent, *args)
        agent.optimizer.register_step_pre_hook(
            lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
        )

    monkeypatch.setattr(module.Agent, "__init__", hooked)
    train(
        module,
        monkeypatch,
        tmp_path,
        "toys:LastReward-v0",
        num_envs=2,
        num_steps=8,
        total_timesteps=160,
        update_epochs=2,
        num_minibatches=2,
        learning_rate=0.01,
        anneal_lr=anneal_lr,
    )
    updates = 4 if name == "ppo_continuous" else 1
    expected = [0.01 * (1 - k / 10 * anneal_lr) for k in range(10)]
    assert rates == pytest.approx(np.repeat(expected, updates))


@pytest.mark.parametrize("name", WITH_CRITIC)
def test_a_run_too_short_for_one_rollout_is_refused(name):
    module = load(name)
    for total, enough in ((4 * 32 - 1, False), (4 * 32, True)):
        args = options(module, num_envs=4, num_steps=32, total_timesteps=total)
        with contextlib.nullcontext() if enough else pytest.raises(module.UsageError):
            module.check_algorithm_args(args)


def test_reinforce_says_when_it_learned_nothing(call):
    said = call("reinforce", "--env-id", "Pendulum-v1", "--total-timesteps", 199 * 4).out
    assert "nothing was learned" in said
    said = call("reinforce", "--env-id", "Pendulum-v1", "--total-timesteps", 200 * 4).out
    assert "nothing was learned" not in said


def test_a_batch_of_reinforce_waits_for_an_episode_of_every_environment():
    module = load("reinforce")
    rollout = module.RolloutBuffer(2, torch.device("cpu"))
    step = module.Transition(*[torch.zeros(2)] * 6)
    rollout.add(step._replace(terminated=torch.tensor([1.0, 0.0])))
    assert not rollout.is_full()
    rollout.add(step)
    assert not rollout.is_full()
    rollout.add(step._replace(truncated=torch.tensor([0.0, 1.0])))
    assert rollout.is_full()
    assert rollout.take().reward.shape == (3, 2)
    assert not rollout.is_full()


def test_episodes_that_a_batch_of_reinforce_leaves_do_not_run_into_the_next():
    module = load("reinforce")
    agent = make_agent(module, num_envs=2)
    scaler = module.RewardScaler(2, 0.9).double()
    rollout = batch(module, 3, 2)
    rollout.terminated[1, 0] = 1  # the second episode of this environment is under way at the end
    rollout.truncated[2, 1] = 1
    agent.make_batch(rollout, scaler)
    assert scaler.discounted_return.tolist() == [0, 0]


@anywhere
def test_actions_are_those_of_normalised_observations(name):
    agent = make_agent(load(name))
    agent.obs_statistics.mean.fill_(7.0)
    agent.obs_statistics.var.fill_(9.0)
    obs = 7 + 3 * torch.randn(5, 3).double()
    with torch.no_grad():
        expected = agent.actor((obs - 7) / 3)
    torch.testing.assert_close(agent.act(obs, explore=False), expected, rtol=1e-6, atol=1e-6)


@anywhere
def test_float32_agrees_with_float64(name):
    module = load(name)
    after = []
    start = make_agent(module, num_envs=4).state_dict()
    for dtype in (torch.float32, torch.float64):
        agent = make_agent(module, num_envs=4, update_epochs=2, num_minibatches=2, dtype=dtype)
        agent.load_state_dict(start)
        torch.manual_seed(0)
        data = batch(module, 8, 4, truncated=0.2, terminated=0.2)
        for ends in (data.terminated, data.truncated):
            ends[:, 0] = 0  # as in REINFORCE, where the longest first episode is a rollout's length
        learn(agent, module.Transition(*[column.to(dtype) for column in data]))
        after.append([p.double() for p in agent.state_dict().values()])
    for single, double in zip(*after, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_CRITIC)
@pytest.mark.parametrize("task", ["LastReward", "Forever"])
def test_the_critic_learns_values_known_in_closed_form(name, task, monkeypatch, tmp_path):
    """Real training; rewards were divided by their running deviation, which is multiplied back."""
    parts = train(
        load(name),
        monkeypatch,
        tmp_path,
        f"toys:{task}-v0",
        num_envs=4,
        num_steps=32,
        gamma=0.9,
        total_timesteps=20_000,
        learning_rate=5e-3 if name == "a2c" else 2e-3,
        num_minibatches=4,
        update_epochs=4,
        vf_coef=1.0,
        hidden_sizes=(32,),
    )
    agent = parts["agent"]
    scale = (parts["reward_scaler"].statistics.var + 1e-8).sqrt()
    with torch.no_grad():
        value = (agent.critic(normalized(agent, torch.eye(8))) * scale).numpy()
    expected = np.full(8, 10.0)
    if task == "LastReward":
        expected = 0.9 ** np.arange(7, -1, -1)
    np.testing.assert_allclose(value, expected, rtol=0.1)


@pytest.mark.parametrize("name", ON_POLICY)
def test_initial_weights_are_orthogonal_and_the_first_actions_small(name):
    """All singular values of a layer are its gain: √2, and 0.01 and 1 in the last ones."""
    module = load(name)
    torch.manual_seed(0)
    agent = module.Agent(5, 3, options(module, hidden_sizes=(8, 8), initial_log_std=-2))
    assert agent.actor.log_std.tolist() == [-2, -2, -2]
    gains = [(agent.actor.net, 0.01)]
    if name != "reinforce":
        gains.append((agent.critic.net, 1.0))
    for net, last_gain in gains:
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        for layer, gain in zip(layers, [2**0.5, 2**0.5, last_gain], strict=True):
            values = torch.linalg.svdvals(layer.weight)
            torch.testing.assert_close(values, torch.full_like(values, gain))
            assert not layer.bias.any()
