"""Each labelled equation of REINFORCE, A2C and PPO against an oracle that shares no code with it: brute-force sums,
SciPy, quadrature with finite differences, hand calculations, tasks whose values are known."""
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import ON_POLICY, load
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Raw, carrying, labels, make_agent, numeric_gradient, options, spy_gradients, train

few = settings(max_examples=25, deadline=None, derandomize=True)
WITH_CRITIC = [name for name in ON_POLICY if "GAE-1" in labels(name)]
anywhere = pytest.mark.parametrize("name", ON_POLICY)


@st.composite
def episodes(draw):
    """Random rewards, values and flags, [T, N] each: terminations, truncations, both at once, at every place."""
    steps, envs = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    flags = st.lists(st.sampled_from([0.0, 0.0, 1.0]), min_size=steps * envs, max_size=steps * envs)
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


def gae(module, reward, value, next_value, terminated, truncated, *rest):
    done = np.maximum(terminated, truncated)
    return [x.numpy() for x in module.gae(*map(torch.tensor, (reward, value, next_value, terminated, done)), *rest)]


def batch(module, steps, envs, seed=0, obs_size=3, action_size=2, terminated=0.0, truncated=0.0):
    """A random rollout in float64."""
    random = torch.Generator().manual_seed(seed)
    normal = [torch.randn(steps, envs, *shape, generator=random, dtype=torch.float64)
              for shape in ((obs_size,), (action_size,), (), (obs_size,))]
    ends = [(torch.rand(steps, envs, generator=random) < p).double() for p in (terminated, truncated)]
    return module.Transition(*normal, *ends)


def frozen_agent(module, monkeypatch, **values):
    """An agent that sees raw rewards, and whose normalizers stay what they are."""
    agent = make_agent(module, **values)
    agent.scale_reward = Raw()
    monkeypatch.setattr(module.Normalizer, "learn", lambda self, x: None)
    return agent


def assert_follows_the_expected_return(name, monkeypatch, baseline=0.0):
    """What `learn` follows is, in expectation, the gradient of the expected return J. Two steps from s = 0.7, the
    action becomes the second state, r = −(a − 2s)² + a, γ = λ = 1; both expectations by Gauss-Hermite quadrature, the
    gradient of J by central differences."""
    module = load(name)
    agent = frozen_agent(module, monkeypatch, obs_size=1, action_size=1, num_envs=1, gamma=1.0, gae_lambda=1.0,
                         update_epochs=1, num_minibatches=1, vf_coef=0.0, ent_coef=0.0)
    if name == "reinforce":
        agent.baseline.mean.fill_(baseline)
    agent.actor.log_std.data.fill_(-1.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(14)
    nodes, weights = torch.tensor(nodes), torch.tensor(weights / weights.sum())

    def play():
        std = agent.actor.log_std.exp()
        s0 = torch.full((14, 14, 1), 0.7, dtype=torch.float64)
        a0 = agent.actor(s0) + std * nodes[:, None, None]
        a1 = agent.actor(a0) + std * nodes[None, :, None]
        r0, r1 = (-(a - 2 * s) ** 2 + a for s, a in ((s0, a0), (a0, a1)))
        return s0, a0, a1, r0.squeeze(-1), r1.squeeze(-1)

    def expected_return():
        *_, r0, r1 = play()
        return (weights[:, None] * weights * (r0 + r1)).sum()

    exact = {f"actor.{n}": numeric_gradient(expected_return, p) for n, p in agent.actor.named_parameters()}
    with torch.no_grad():
        s0, a0, a1, r0, r1 = play()
    seen = spy_gradients(module, monkeypatch, agent)
    followed = {n: torch.zeros_like(g) for n, g in exact.items()}
    for i, j in np.ndindex(14, 14):
        pairs = (s0, a0), (a0, a1), (r0, r1), (a0, a1)  # obs, action, reward, next_obs
        columns = [torch.stack([first[i, j], second[i, j]])[:, None] for first, second in pairs]
        agent.learn(module.Transition(*columns, torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1)))
        for n in exact:  # the loss is a mean over steps, but in REINFORCE, where it is their sum
            followed[n] -= weights[i] * weights[j] * seen[-1][n] * (1 if name == "reinforce" else 2)
    for n in exact:
        torch.testing.assert_close(followed[n], exact[n], rtol=1e-6, atol=1e-7, msg=n)


# ── the policy gradient ──

@carrying("PG-1")
def test_PG_1_is_the_log_density_of_scipy(name):
    agent = make_agent(load(name))
    obs, action = batch(load(name), 4, 5)[:2]
    with torch.no_grad():
        mean, std = agent.actor(obs), agent.actor.log_std.exp()
        log_prob = agent.actor.log_prob(agent.obs_norm(obs), action)
    assert log_prob.shape == (4, 5)
    np.testing.assert_allclose(log_prob, scipy.stats.norm.logpdf(action, mean, std).sum(-1), rtol=1e-12)


@carrying("PG-2")
@few
@given(episodes())
def test_PG_2_is_the_discounted_rest_of_the_episode(name, data):
    reward, *_, terminated, truncated = data
    done = np.maximum(terminated, truncated)
    found = load(name).discounted_sum(torch.tensor(reward), torch.tensor(done), 0.9)
    np.testing.assert_allclose(found, rest_of_episode(reward, done, 0.9), rtol=1e-12, atol=1e-12)


@carrying("PG-3")
def test_PG_3_baseline_is_the_mean_return_of_earlier_batches(name, monkeypatch):
    """On bandits the gradient with respect to the last bias is −mean of (a − μ) / σ² (r − b)."""
    module = load(name)
    agent = make_agent(module, num_envs=4)
    agent.scale_reward = Raw()
    seen, earlier = spy_gradients(module, monkeypatch, agent), []
    bias = [n for n, _ in agent.named_parameters() if n.startswith("actor.") and n.endswith("bias")][-1]
    for seed in range(3):
        rollout = batch(module, 1, 4, seed, terminated=1.0)
        with torch.no_grad():
            score = ((rollout.action - agent.actor(rollout.obs)) / agent.actor.log_std.exp() ** 2)[0].numpy()
        reward = rollout.reward[0].numpy()
        expected = -(score * (reward - (np.mean(earlier) if earlier else 0))[:, None]).mean(0)
        agent.learn(rollout)
        np.testing.assert_allclose(seen[-1][bias], expected, rtol=1e-6)
        earlier += reward.tolist()


@carrying("PG-3")
def test_PG_3_baseline_leaves_the_expected_gradient_as_it_is(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch, baseline=5.0)


@carrying("PG-4")
def test_PG_4_follows_the_gradient_of_the_expected_return(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch)


@carrying("PG-4")
def test_PG_4_weighs_scores_with_the_discounted_rest_of_the_episode(name, monkeypatch):
    """Ends of both kinds, γ = 1/2. The gradient with respect to the last bias is −Σ of (a − μ) / σ² G, over N."""
    module = load(name)
    agent = frozen_agent(module, monkeypatch, num_envs=3, gamma=0.5)
    seen, rollout = spy_gradients(module, monkeypatch, agent), batch(module, 4, 3)
    rollout.terminated[3, 0] = rollout.truncated[3, 1] = rollout.truncated[1, 2] = 1
    whole = np.array([4, 4, 2])
    with torch.no_grad():
        score = ((rollout.action - agent.actor(rollout.obs)) / agent.actor.log_std.exp() ** 2).numpy()
    expected = -sum(score[t, i] * sum(0.5 ** (k - t) * rollout.reward[k, i].item() for k in range(t, whole[i]))
                    for i in range(3) for t in range(whole[i])) / 3
    agent.learn(rollout)
    bias = [n for n in seen[0] if n.startswith("actor.") and n.endswith("bias")][-1]
    np.testing.assert_allclose(seen[0][bias], expected, rtol=1e-6)


@carrying("PG-4")
def test_PG_4_uses_the_first_and_whole_episode_of_each_environment_only(name, monkeypatch):
    """Episodes end at 1, 4, 2 of 5 steps; whatever comes after that changes neither gradient nor baseline."""
    module = load(name)
    results = []
    for factor in (1, 1000):
        agent = make_agent(module, num_envs=3)
        agent.scale_reward = Raw()
        seen, rollout = spy_gradients(module, monkeypatch, agent), batch(module, 5, 3)
        rollout.terminated[1, 0] = rollout.truncated[4, 1] = rollout.truncated[2, 2] = 1
        rollout.reward[2:, 0] *= factor
        rollout.action[3:, 2] *= factor
        agent.learn(rollout)
        results.append([*seen[0].values(), agent.baseline.mean, agent.baseline.count])
    assert all(map(torch.equal, *results)) and agent.baseline.count == 2 + 5 + 3


# ── generalised advantage estimation ──

@carrying("GAE-1")
def test_GAE_1_delta_by_hand(name):
    """λ = 0 leaves δ: terminated, truncated, both, neither. r = 1, V(s) = 3, V(s′) = 10, γ = 1/2."""
    flags = np.array([[1.0, 0, 1, 0]]), np.array([[0.0, 1, 1, 0]])
    ones = np.ones((1, 4))
    delta, _ = gae(load(name), ones, 3 * ones, 10 * ones, *flags, 0.5, 0.0)
    assert delta.tolist() == [[-2, 3, -2, 3]]


@carrying("GAE-2")
@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@few
@given(data=episodes())
def test_GAE_2_is_the_double_sum(name, lam, data):
    expected = advantages(*data, 0.99, lam)
    np.testing.assert_allclose(gae(load(name), *data, 0.99, lam)[0], expected, rtol=1e-10, atol=1e-12)


@carrying("GAE-2")
@pytest.mark.parametrize("flag", [3, 4])
@few
@given(data=episodes(), end=st.integers(0, 8))
def test_GAE_2_does_not_leak_over_an_episode_end(name, flag, data, end):
    end %= len(data[0])
    data[flag][end] = 1
    before = gae(load(name), *data, 0.99, 0.95)[0]
    for x in data[:3]:
        x[end + 1:] *= 1000
    np.testing.assert_array_equal(gae(load(name), *data, 0.99, 0.95)[0][:end + 1], before[:end + 1])


@carrying("GAE-3")
@few
@given(data=episodes())
def test_GAE_3_is_for_lambda_one_the_discounted_return_and_for_zero_the_one_step_target(name, data):
    reward, value, next_value, terminated, truncated = data
    over = np.maximum(terminated, truncated)
    over[-1] = 1
    bootstrap = np.where(terminated > 0, 0, 0.9 * next_value)
    expected = rest_of_episode(reward + np.where(over > 0, bootstrap, 0), over, 0.9)
    data = reward, value, np.where(over > 0, next_value, np.roll(value, -1, 0)), terminated, truncated
    np.testing.assert_allclose(gae(load(name), *data, 0.9, 1.0)[1], expected, rtol=1e-10, atol=1e-12)
    one_step = reward + np.where(terminated > 0, 0, 0.9 * data[2])
    np.testing.assert_allclose(gae(load(name), *data, 0.9, 0.0)[1], one_step, rtol=1e-10, atol=1e-12)


# ── actor and critic ──

@carrying("AC-1")
def test_AC_1_follows_the_gradient_of_the_expected_return(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch)


def learn_once(name, monkeypatch, **values):
    """The first gradient of an update on a rollout with both kinds of ends; also the agent and the rollout."""
    module = load(name)
    agent = frozen_agent(module, monkeypatch, num_envs=3, update_epochs=1, num_minibatches=1, gamma=0.9, gae_lambda=0.8,
                         **values)
    rollout = batch(module, 6, 3, terminated=0.2, truncated=0.2)
    seen = spy_gradients(module, monkeypatch, agent)
    metrics = agent.learn(rollout)
    return seen[0], agent, rollout, metrics


@carrying("AC-2")
def test_AC_2_is_the_gradient_of_the_mean_squared_error_with_fixed_aims(name, monkeypatch):
    gradient, agent, rollout, metrics = learn_once(name, monkeypatch, vf_coef=1.0, ent_coef=0.0)
    with torch.no_grad():
        value, next_value = (agent.critic(agent.obs_norm(x)).numpy() for x in (rollout.obs, rollout.next_obs))
    assert value.shape == (6, 3)
    aim = value + advantages(rollout.reward.numpy(), value, next_value, rollout.terminated.numpy(),
                             rollout.truncated.numpy(), 0.9, 0.8)

    def error():
        return ((agent.critic(agent.obs_norm(rollout.obs)).detach().numpy() - aim) ** 2).mean()

    assert metrics["losses/value_loss"].item() == pytest.approx(error(), rel=1e-10)
    for n, parameter in agent.critic.named_parameters():
        expected = numeric_gradient(error, parameter)
        torch.testing.assert_close(gradient[f"critic.{n}"], expected, rtol=1e-5, atol=1e-7)


@carrying("AC-3")
def test_AC_3_is_the_entropy_of_scipy(name, monkeypatch):
    *_, agent, _, metrics = learn_once(name, monkeypatch)
    expected = scipy.stats.norm.entropy(scale=agent.actor.log_std.detach().exp().numpy()).sum()
    assert metrics["losses/entropy"].item() == pytest.approx(expected, rel=1e-12)


@carrying("AC-4")
def test_AC_4_weighs_the_parts(name, monkeypatch):
    """The critic's gradient grows with c₁; that of log σ falls by c₂, since dH / d log σ = 1, others stay."""
    plain, *_ = learn_once(name, monkeypatch, vf_coef=1.0, ent_coef=0.0)
    weighed, *_ = learn_once(name, monkeypatch, vf_coef=0.25, ent_coef=3.0)
    for n in plain:
        expected = plain[n] * 0.25 if n.startswith("critic") else plain[n] - 3 * n.endswith("log_std")
        torch.testing.assert_close(weighed[n], expected, msg=n)


# ── PPO ──

@carrying("PPO-1")
def test_PPO_1_ratio_is_one_on_the_first_minibatch_of_every_rollout(name, monkeypatch, tmp_path):
    """And the old log-probabilities are those of the policy that acted. On a real run, while the normalizer moves."""
    module = load(name)
    acted, asked, permutations = [], [], []
    act, log_prob, randperm = module.Agent.act, module.Actor.log_prob, torch.randperm

    def spy_act(self, obs):
        action = act(self, obs)
        acted.append(log_prob(self.actor, self.obs_norm(obs), action).detach())
        return action

    def spy_log_prob(self, *args):
        asked.append(log_prob(self, *args))
        return asked[-1]

    def spy_randperm(*args, **kw):
        permutations.append(randperm(*args, **kw))
        return permutations[-1]

    monkeypatch.setattr(module.Agent, "act", spy_act)
    monkeypatch.setattr(module.Actor, "log_prob", spy_log_prob)
    monkeypatch.setattr(torch, "randperm", spy_randperm)
    train(module, monkeypatch, tmp_path, "Pendulum-v1", num_envs=2, num_steps=16, total_timesteps=160, update_epochs=2,
          num_minibatches=4, learning_rate=1e-2, anneal_lr=False, hidden_sizes=(8,))
    assert len(acted) == 80 and len(asked) == 5 * 9 and len(permutations) == 10
    for k in range(5):
        old, first, last = asked[9 * k], asked[9 * k + 1], asked[9 * k + 8]
        torch.testing.assert_close(torch.stack(acted[16 * k:16 * k + 16]), old, rtol=1e-5, atol=1e-5)
        indices = permutations[2 * k][:8], permutations[2 * k + 1][-8:]
        ratios = [(new - old.flatten()[index]).exp() for new, index in zip((first, last), indices, strict=True)]
        torch.testing.assert_close(ratios[0], torch.ones(8), rtol=0, atol=1e-5)
        assert (ratios[1] - 1).abs().max() > 1e-3  # later ones are not: the policy has moved


def clipped_gradient(name, monkeypatch, z, shift, reward):
    """One row, whose action is z deviations off the mean; between the two updates the mean moves by `shift` deviations.
    Returns the second gradient, with respect to mean and log σ, the ratio and the advantage."""
    module = load(name)
    agent = frozen_agent(module, monkeypatch, obs_size=3, action_size=1, num_envs=1, update_epochs=2, num_minibatches=1,
                         vf_coef=0.0, ent_coef=0.0)
    std = agent.actor.log_std.detach().exp()
    bias = agent.actor[-1][-1].bias

    def move(update):
        bias.data += shift * std if update == 1 else 0

    seen = spy_gradients(module, monkeypatch, agent, move)
    rollout = batch(module, 1, 1, action_size=1, terminated=1.0)
    with torch.no_grad():
        rollout.action[:] = agent.actor(rollout.obs) + z * std
        advantage = reward - agent.critic(agent.obs_norm(rollout.obs)).item()
    agent.learn(rollout._replace(reward=torch.full((1, 1), reward).double()))
    names = {id(p): n for n, p in agent.named_parameters()}
    found = [seen[1][names[id(p)]].item() for p in (bias, agent.actor.log_std)]
    ratio = np.exp((z**2 - (z - shift) ** 2) / 2)
    score = (z - shift) / std.item(), (z - shift) ** 2 - 1
    return found, [-advantage * ratio * s for s in score], ratio, advantage, seen[1]


# z 1.5 and shift 0.3: ratio 1.5; −0.3: 0.61; 0.1: 1.156; −0.1: 0.856
CASES = [(shift, reward) for shift in (0.3, -0.3, 0.1, -0.1) for reward in (10.0, -10.0)]


@carrying("PPO-2")
@pytest.mark.parametrize("shift, reward", CASES)
def test_PPO_2_clips_where_the_ratio_left_its_range_for_the_better_and_only_there(name, shift, reward, monkeypatch):
    found, unclipped, ratio, advantage, gradient = clipped_gradient(name, monkeypatch, 1.5, shift, reward)
    binds = ratio > 1.2 if advantage > 0 else ratio < 0.8
    assert binds == ((shift, reward) in {(0.3, 10.0), (-0.3, -10.0)})
    np.testing.assert_allclose(found, np.zeros(2) if binds else unclipped, rtol=1e-8, atol=0)
    assert binds == all((g == 0).all() for g in gradient.values())


@carrying("PPO-3")
def test_PPO_3_follows_at_the_old_policy_the_gradient_of_the_expected_return(name, monkeypatch):
    assert_follows_the_expected_return(name, monkeypatch)


@carrying("PPO-1")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(steps=st.integers(1, 6), envs=st.integers(1, 4), divisor=st.integers(1, 24), norm_adv=st.booleans())
def test_every_row_is_used_once_an_epoch_and_none_turns_into_nan(name, steps, envs, divisor, norm_adv):
    module, rows = load(name), []
    size = max(2, steps) * envs
    divisor = max(d for d in range(1, size + 1) if size % d == 0 and d <= divisor)  # down to minibatches of one row
    agent = make_agent(module, num_envs=envs, update_epochs=3, num_minibatches=divisor, norm_adv=norm_adv)
    rollout = batch(module, max(2, steps), envs)
    log_prob = agent.actor.log_prob
    agent.actor.log_prob = lambda x, action: (rows.append(x[..., 0].flatten()), log_prob(x, action))[1]
    agent.learn(rollout)
    assert len(rows) == 1 + 3 * divisor
    epochs = torch.cat(rows[1:]).view(3, size)
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, rows[0].sort().values)
    assert size < 6 or not torch.equal(epochs[0], epochs[1])  # in another order
    assert all(p.isfinite().all() for p in agent.parameters())


@carrying("PPO-1")
def test_target_kl_ends_the_passes(name):
    module, count = load(name), []
    for target_kl in (None, 1e-9, 1e9):
        agent = make_agent(module, num_envs=2, update_epochs=5, num_minibatches=2, target_kl=target_kl)
        log_prob, calls = agent.actor.log_prob, []
        agent.actor.log_prob = lambda *args, log_prob=log_prob, calls=calls: (calls.append(0), log_prob(*args))[1]
        agent.learn(batch(module, 8, 2))
        count.append(len(calls))
    assert count == [11, 3, 11]


@carrying("PPO-1")
def test_approx_kl_by_hand_and_where_ratios_underflow(name):
    """The last action is one that the policy, its σ fallen, has left: ρ = 0 in floating point, log ρ = −1000."""
    module = load(name)
    agent = make_agent(module)
    x, action = (torch.ones(4, size).double() for size in (agent.obs_norm.mean.numel(), len(agent.actor.log_std)))
    log_ratio = torch.tensor([0.0, 0.5, -0.5, -1000.0]).double()
    old_log_prob = agent.actor.log_prob(x, action).detach() - log_ratio
    metrics = agent.gradient(x, action, *torch.ones(2, 4).double(), old_log_prob)
    assert metrics["losses/approx_kl"].item() == pytest.approx((0 + 0.1487213 + 0.1065307 + 999) / 4, abs=1e-6)
    assert agent.optimizer.vector.grad.isfinite().all()


@carrying("PPO-1")
def test_normalised_advantages_have_mean_0_and_variance_1(name, monkeypatch):
    """Seen in the gradient with respect to the last bias: −mean of (a − μ) / σ² (A − mean) / deviation."""
    gradient, agent, rollout, _ = learn_once(name, monkeypatch, norm_adv=True)
    with torch.no_grad():
        value, next_value = (agent.critic(agent.obs_norm(x)).numpy() for x in (rollout.obs, rollout.next_obs))
        score = ((rollout.action - agent.actor(rollout.obs)) / agent.actor.log_std.exp() ** 2).numpy()
    advantage = advantages(rollout.reward.numpy(), value, next_value, rollout.terminated.numpy(),
                           rollout.truncated.numpy(), 0.9, 0.8)
    advantage = (advantage - advantage.mean()) / advantage.std(ddof=1)
    expected = -(score * advantage[..., None]).mean((0, 1))
    bias = [n for n in gradient if n.startswith("actor.") and n.endswith("bias")][-1]
    np.testing.assert_allclose(gradient[bias], expected, rtol=1e-6)


# ── what they share ──

@anywhere
def test_actions_are_drawn_from_the_policy_a_row_for_each_environment(name):
    """Kolmogorov-Smirnov in each dimension; false alarm: 2e-6 a script, and the seed is fixed."""
    agent = make_agent(load(name))
    agent.load_state_dict(agent.state_dict() | {"actor.log_std": torch.tensor([-1.0, 0.5])})  # far from σ = σ²
    obs = torch.ones(5000, 3).double()
    action = agent.act(obs)
    assert len(action[:, 0].unique()) > 4900 and not action.requires_grad
    for i, (mean, log_std) in enumerate(zip(agent.actor(obs[0]).tolist(), agent.actor.log_std.tolist(), strict=True)):
        assert scipy.stats.kstest(action[:, i].numpy(), scipy.stats.norm(mean, np.exp(log_std)).cdf).pvalue > 1e-6
    assert abs(scipy.stats.pearsonr(action[:, 0], action[:, 1])[0]) < 0.07  # 5 deviations of independent dimensions


@anywhere
def test_a_deviation_that_is_NaN_makes_actions_that_are(name):
    """torch.normal would raise; Environments.step says in one line that an action is NaN."""
    agent = make_agent(load(name))
    torch.nn.init.constant_(agent.actor.log_std, float("nan"))
    assert agent.act(torch.ones(2, 3).double()).isnan().all()


@anywhere
def test_the_normalizer_learns_the_mean_and_variance_of_all_that_it_saw_once(name):
    module = load(name)
    agent, seen = make_agent(module, num_envs=4, update_epochs=3, num_minibatches=2), []
    for seed, steps in enumerate((2, 30, 68)):
        rollout = batch(module, steps, 4, seed, terminated=1.0)
        rollout = rollout._replace(obs=5 + 2 * rollout.obs)
        agent.learn(rollout)
        seen.append(rollout.obs.reshape(-1, 3).numpy())
    seen = np.concatenate(seen)
    assert agent.obs_norm.count == len(seen) == 400
    np.testing.assert_allclose(agent.obs_norm.mean, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(agent.obs_norm.var, seen.var(0), rtol=1e-6)
    x = torch.tensor([[5.0, 7, 1000]]).double()
    expected = np.minimum((x.numpy() - seen.mean(0)) / seen.std(0), 10)
    np.testing.assert_allclose(agent.obs_norm(x), expected, rtol=1e-6)


@anywhere
def test_the_normalizer_goes_with_the_policy(name):
    """Whoever loads the actor's state, or the agent's, acts as it does."""
    module = load(name)
    agent, other, third = (make_agent(module, seed=seed, num_envs=4) for seed in (0, 1, 2))
    agent.learn(batch(module, 8, 4, terminated=1.0)._replace(obs=7 + 3 * torch.randn(8, 4, 3).double()))
    other.actor.load_state_dict(agent.actor.state_dict())
    third.load_state_dict(agent.state_dict())
    obs = 7 + 3 * torch.randn(5, 3).double()
    assert torch.equal(agent.actor(obs), other.actor(obs)) and torch.equal(agent.actor(obs), third.actor(obs))


@anywhere
def test_reward_scale_is_the_deviation_of_the_discounted_return(name):
    scaler = load(name).RewardScaler(1, 0.5)
    reward, done = torch.tensor([1.0, 2, 3, 4])[:, None], torch.tensor([0.0, 1, 0, 0])[:, None]
    returns = np.array([1, 2.5, 3, 5.5])  # 2 + 1 / 2; a new episode; 4 + 3 / 2
    np.testing.assert_allclose(scaler(reward, done)[:, 0], [1, 2, 3, 4] / returns.std(), rtol=1e-6)
    assert scaler.discounted.item() == 5.5  # to be gone on with
    returns = np.append(returns, [1 + 5.5 / 2, 1])
    ends = torch.tensor([1.0, 0])[:, None]
    np.testing.assert_allclose(scaler(torch.ones(2, 1), ends)[:, 0], np.ones(2) / returns.std(), rtol=1e-6)


@anywhere
def test_reward_scale_forgets_at_either_end(name, monkeypatch):
    """`learn` hands the scaler terminated or truncated, and what it learns from are the scaled rewards."""
    module = load(name)
    agent = make_agent(module, num_envs=3, gamma=0.5)
    rollout = batch(module, 4, 3)
    rollout.terminated[1, 0] = rollout.truncated[2, 1] = rollout.terminated[3, 2] = rollout.truncated[3, 2] = 1
    reward = rollout.reward.numpy()
    over = np.maximum(rollout.terminated.numpy(), rollout.truncated.numpy())
    agent.learn(rollout)
    discounted = np.zeros_like(reward)
    for t, i in np.ndindex(4, 3):
        start = max([k + 1 for k in range(t) if over[k, i]], default=0)
        discounted[t, i] = sum(0.5 ** (t - k) * reward[k, i] for k in range(start, t + 1))
    np.testing.assert_allclose(agent.scale_reward.var, discounted.var(), rtol=1e-10)


@anywhere
@pytest.mark.parametrize("bound", [0.5, 1e9])
def test_backward_clips_the_norm_of_the_whole_gradient(name, bound):
    net = torch.nn.Linear(1, 1)  # a weight and a bias
    optimizer = load(name).Adam(net, 0.1)
    for _ in range(2):  # nothing is left over from the first
        load(name).backward(3 * net.weight.sum() + 4 * net.bias.sum(), optimizer, bound)
        expected = torch.tensor([3.0, 4.0]) * min(1, bound / 5)
        torch.testing.assert_close(optimizer.vector.grad, expected, rtol=1e-5, atol=1e-6)


def test_Adam_moves_the_parameters_as_torch_does_one_by_one():
    """Ten steps; what is loaded into the module afterwards is what the optimizer goes on from."""
    module, data = load("td3"), torch.randn(10, 5, 3)
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)) for _ in "ab")
    mine, reference = module.Adam(ours, 0.01, eps=1e-5), torch.optim.Adam(theirs.parameters(), 0.01, eps=1e-5)
    ours.load_state_dict(theirs.state_dict())
    for x in data:
        module.backward(ours(x).square().mean(), mine)
        mine.step()
        reference.zero_grad()
        theirs(x).square().mean().backward()
        reference.step()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@anywhere
@pytest.mark.parametrize("anneal_lr", [True, False])
def test_learning_rate_falls_linearly_to_zero(name, anneal_lr, monkeypatch, tmp_path):
    """As the optimizer sees it over a real run of ten rollouts, 16 steps each."""
    module, rates, backward = load(name), [], load(name).backward
    monkeypatch.setattr(module, "backward", lambda loss, optimizer, *rest: (
        rates.append(optimizer.param_groups[0]["lr"]), backward(loss, optimizer, *rest)))
    train(module, monkeypatch, tmp_path, "toys:LastReward-v0", num_envs=2, num_steps=8, total_timesteps=160,
          update_epochs=2, num_minibatches=2, learning_rate=0.01, anneal_lr=anneal_lr)
    updates = 4 if name == "ppo_continuous" else 1
    assert rates == pytest.approx(np.repeat([0.01 * (1 - k / 10 * anneal_lr) for k in range(10)], updates))


@anywhere
def test_a_run_too_short_for_one_batch_is_refused(name):
    """A batch: num_steps of each of 4 environments; for REINFORCE at least an episode of Pendulum, 200 steps."""
    module, least = load(name), 200 if name == "reinforce" else 4 * 32
    for total, enough in ((least - 1, False), (least, True)):
        args = options(module, env_id="Pendulum-v1", num_envs=4, num_steps=32, total_timesteps=total)
        assert all(holds for holds, _ in module.checks(args)) == enough


@anywhere
def test_float32_agrees_with_float64(name):
    module, after = load(name), []
    start = make_agent(module, num_envs=4).state_dict()
    for dtype in (torch.float32, torch.float64):
        agent = make_agent(module, num_envs=4, update_epochs=2, num_minibatches=2, dtype=dtype)
        agent.load_state_dict(start)
        torch.manual_seed(0)
        agent.learn(module.Transition(*(x.to(dtype) for x in batch(module, 8, 4, truncated=0.2, terminated=0.2))))
        after.append([p.double() for p in agent.state_dict().values()])
    for single, double in zip(*after, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_CRITIC)
@pytest.mark.parametrize("task", ["LastReward", "Forever"])
def test_the_critic_learns_values_known_in_closed_form(name, task, monkeypatch, tmp_path):
    """Real training; rewards were divided by their running deviation, which is multiplied back."""
    agent = train(load(name), monkeypatch, tmp_path, f"toys:{task}-v0", num_envs=4, num_steps=32, gamma=0.9,
                  total_timesteps=20_000, learning_rate=5e-3 if name == "a2c" else 2e-3, num_minibatches=4,
                  update_epochs=4, vf_coef=1.0, hidden_sizes=(32,))
    with torch.no_grad():
        value = (agent.critic(agent.obs_norm(torch.eye(8))) * (agent.scale_reward.var + 1e-8).sqrt()).numpy()
    expected = 0.9 ** np.arange(7, -1, -1) if task == "LastReward" else np.full(8, 10.0)
    np.testing.assert_allclose(value, expected, rtol=0.1)
