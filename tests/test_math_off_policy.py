"""Each labelled equation and step of DDPG and TD3 against an oracle that shares no code with it:
hand calculations, central differences, closed forms, tasks whose values are known."""

import collections

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import OFF_POLICY, load
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import (
    Bounds,
    carrying,
    keep_gradients,
    learn,
    make_agent,
    numeric_gradient,
    optimizers,
    options,
    train,
)

both = pytest.mark.parametrize("name", OFF_POLICY)
few = settings(max_examples=20, deadline=None, derandomize=True)


def batch(module, size=5, seed=0, obs_size=3, action_size=2):
    """Random transitions in float64; ends are all four combinations of the two flags, and more."""
    random = torch.Generator().manual_seed(seed)
    columns = []
    for shape in ((obs_size,), (action_size,), (), (obs_size,)):
        columns.append(torch.randn(size, *shape, generator=random, dtype=torch.float64))
    for pattern in ((0.0, 1.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)):
        columns.append(torch.tensor((pattern * size)[:size]).double())
    return module.Transition(*columns)


def critics(agent):
    return [agent.critic1, agent.critic2] if hasattr(agent, "critic1") else [agent.critic]


def target_critics(agent):
    if hasattr(agent, "critic1_target"):
        return [agent.critic1_target, agent.critic2_target]
    return [agent.critic_target]


def set_target_critics(agent, networks):
    if hasattr(agent, "critic1_target"):
        agent.critic1_target, agent.critic2_target = networks
    else:
        agent.critic_target = networks[0]


class Fixed(torch.nn.Module):
    """A network that answers with a given tensor, whatever it is asked; it keeps the question."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *question):
        self.question = question
        return self.answer


def agent_with(name, actor, *answers, **values):
    """An agent whose target actor and target critics give these answers; DDPG takes the first."""
    module = load(name)
    agent = module.Agent(1, 1, options(module, gamma=0.5, hidden_sizes=(4,), **values))
    agent.actor_target = Fixed(actor)
    set_target_critics(agent, [Fixed(torch.tensor(answer)) for answer in answers])
    return agent


def transitions(module, reward, terminated=None, truncated=None):
    size = len(reward)
    zeros = torch.zeros(size)
    return module.Transition(
        obs=torch.zeros(size, 1),
        action=torch.zeros(size, 1),
        reward=torch.tensor(reward),
        next_obs=torch.zeros(size, 1),
        terminated=zeros if terminated is None else torch.tensor(terminated),
        truncated=zeros if truncated is None else torch.tensor(truncated),
    )


# ── memory and networks ──


@carrying("1")
@few
@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_TD3_step_1_memory_holds_the_last_transitions(name, capacity, sizes):
    """Against a bounded deque; rows are told apart by a number that is in each of their columns."""
    module = load(name)
    rows = collections.deque(maxlen=capacity)
    count = 0
    memory = module.ReplayBuffer(capacity, 2, 3, like=torch.zeros(1))
    for wanted in sizes:
        size = min(wanted, capacity)
        number = torch.arange(count, count + size).float()
        wide = number[:, None]
        memory.add(
            module.Transition(
                obs=wide + torch.zeros(size, 2),
                action=wide + torch.zeros(size, 3) + 0.5,
                reward=number + 0.25,
                next_obs=wide + torch.zeros(size, 2) - 0.5,
                terminated=number % 2,
                truncated=number % 3,
            )
        )
        rows.extend(number.tolist())
        count += size
        drawn = memory.sample(200)
        number = drawn.obs[:, 0]
        assert set(number.tolist()) <= set(rows)
        assert capacity > 4 or set(number.tolist()) == set(rows)
        assert (drawn.obs == number[:, None]).all()
        assert (drawn.next_obs == number[:, None] - 0.5).all()
        assert (drawn.action == number[:, None] + 0.5).all()
        assert (drawn.reward == number + 0.25).all()
        assert (drawn.terminated == number % 2).all()
        assert (drawn.truncated == number % 3).all()
        shapes = [tuple(column.shape) for column in drawn]
        assert shapes == [(200, 2), (200, 3), (200,), (200, 2), (200,), (200,)]


def are_copies(network, target):
    pairs = list(zip(network.parameters(), target.parameters(), strict=True))
    return all(torch.equal(p, q) and p.data_ptr() != q.data_ptr() for p, q in pairs)


@carrying("2")
def test_TD3_step_2_actor_stays_in_range_and_its_target_starts_as_a_copy(name):
    torch.manual_seed(0)
    agent = load(name).Agent(3, 2, options(load(name), hidden_sizes=(8,)))
    action = agent.actor(10_000 * torch.randn(500, 3))
    assert action.shape == (500, 2)
    assert action.min() < -0.9 and action.max() > 0.9 and action.abs().max() <= 1
    assert are_copies(agent.actor, agent.actor_target)


@carrying("3")
def test_TD3_step_3_critics_give_a_number_per_row_and_their_targets_start_as_copies(name):
    agent = load(name).Agent(3, 2, options(load(name), hidden_sizes=(8,)))
    values = [critic(torch.randn(7, 3), torch.randn(7, 2)) for critic in critics(agent)]
    assert [value.shape for value in values] == [(7,)] * (2 if name == "td3" else 1)
    for critic, target in zip(critics(agent), target_critics(agent), strict=True):
        assert are_copies(critic, target)
    if name == "td3":
        assert not torch.equal(agent.critic1.net[0].weight, agent.critic2.net[0].weight)


@carrying("4")
def test_TD3_step_4_batches_are_drawn_uniformly_from_what_there_is(name):
    """χ² over 10 rows of a memory of 100; false alarm: 1e-6, and the seed is fixed."""
    torch.manual_seed(0)
    module = load(name)
    memory = module.ReplayBuffer(100, 1, 1, like=torch.zeros(1))
    rows = transitions(module, [0.0] * 10)
    memory.add(rows._replace(obs=torch.arange(10.0)[:, None]))
    drawn = memory.sample(20_000).obs[:, 0].long()
    counts = np.bincount(drawn, minlength=100)
    assert scipy.stats.chisquare(counts[:10]).pvalue > 1e-6 and drawn.max() == 9
    assert not torch.equal(memory.sample(50).obs, memory.sample(50).obs)


# ── the target ──


@carrying("5")
def test_TD3_step_5_asks_the_target_actor_about_the_successor(name):
    """With noise of zero it is the target's action, at s′, that the target critic hears of."""
    module = load(name)
    agent = make_agent(module, policy_noise=0.0)
    data = batch(module)
    expected = agent.actor_target(data.next_obs)
    fixed = [Fixed(torch.zeros(5)) for _ in critics(agent)]
    set_target_critics(agent, fixed)
    agent.target(data)
    torch.testing.assert_close(fixed[0].question[0], data.next_obs, rtol=0, atol=0)
    torch.testing.assert_close(fixed[0].question[1], expected, rtol=0, atol=0)


@carrying("6")
def test_TD3_step_6_clips_the_noise_and_then_the_action(name, monkeypatch):
    """σ = 0.2, noise bound 0.5, by hand; asymmetric rows, so that each clip binds alone."""
    actor = torch.tensor([[0.0, 0.3], [0.0, 0.0], [0.9, -0.95], [-0.9, 0.9]])
    agent = agent_with(name, actor, [0.0] * 4, [0.0] * 4, policy_noise=0.2, noise_clip=0.5)
    noise = torch.tensor([[1.0, -1], [-100, 2.5], [2, 100], [-2, -3]])
    monkeypatch.setattr(torch, "randn_like", lambda x: noise)
    agent.target(transitions(load(name), [0.0] * 4))
    expected = torch.tensor([[0.2, 0.1], [-0.5, 0.5], [1, -0.45], [-1, 0.4]])
    torch.testing.assert_close(agent.critic1_target.question[1], expected)


@carrying("6")
def test_TD3_step_6_noise_is_normal_and_differs_in_every_row(name):
    """Kolmogorov-Smirnov; false alarm: 1e-6, and the seed is fixed."""
    torch.manual_seed(0)
    zeros = [0.0] * 5000
    agent = agent_with(name, torch.zeros(5000, 2), zeros, zeros, policy_noise=0.1, noise_clip=10.0)
    agent.target(transitions(load(name), zeros))
    noise = agent.critic1_target.question[1]
    assert len(noise.unique()) > 9900
    test = scipy.stats.kstest(noise.flatten().numpy(), scipy.stats.norm(0, 0.1).cdf)
    assert test.pvalue > 1e-6


@carrying("7")
def test_TD3_step_7_asks_the_target_critics_about_the_successor(name):
    module = load(name)
    agent = make_agent(module, gamma=0.9, policy_noise=0.0)
    data = batch(module)
    with torch.no_grad():
        next_action = agent.actor_target(data.next_obs)
        values = [critic(data.next_obs, next_action) for critic in target_critics(agent)]
    smallest = torch.stack(values).numpy().min(0)
    reward = data.reward.numpy()
    expected = reward + np.where(data.terminated.numpy() > 0, 0, 0.9 * smallest)
    y = agent.target(data)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert y.shape == (5,) and not y.requires_grad


@carrying("8")
def test_TD3_step_8_takes_the_smaller_whichever_critic_it_is(name):
    agent = agent_with(name, torch.zeros(3, 1), [10.0, -4, 6], [2.0, 8, 6], policy_noise=0.0)
    y = agent.target(transitions(load(name), [0.0] * 3))
    assert y.tolist() == [1, -2, 3]


def target_by_hand(name):
    """r = 1, Q′ = 10, γ = 1/2: neither end, terminated, truncated, both."""
    agent = agent_with(name, torch.zeros(4, 1), [10.0] * 4, [10.0] * 4)
    terminated = [0.0, 1.0, 0.0, 1.0]
    truncated = [0.0, 0.0, 1.0, 1.0]
    y = agent.target(transitions(load(name), [1.0] * 4, terminated, truncated))
    assert y.tolist() == [6, 1, 6, 1]


@carrying("9")
def test_TD3_step_9_by_hand(name):
    target_by_hand(name)


@carrying("DPG-1")
def test_DPG_1_by_hand(name):
    target_by_hand(name)


# ── the updates ──


@carrying("10")
def test_TD3_step_10_values_of_what_was_done(name):
    """The mean of Q(s, a) of the critic that learns, not of its target, not of μ(s)."""
    agent = make_agent(load(name))
    data = batch(load(name))
    with torch.no_grad():
        expected = [critic(data.obs, data.action).mean().item() for critic in critics(agent)]
    metrics = learn(agent, data)
    for number, value in enumerate(expected, start=1):
        assert metrics[f"losses/qf{number}_values"].item() == pytest.approx(value, rel=1e-12)


def critic_gradient(name):
    """Against central differences of the sum of the means of (Q(s, a) − y)², y being fixed."""
    module = load(name)
    agent = make_agent(module, gamma=0.9, policy_noise=0.0)
    data = batch(module)
    y = agent.target(data).numpy()
    kept = keep_gradients(agent)

    def error():
        values = [critic(data.obs, data.action).detach().numpy() for critic in critics(agent)]
        return sum(np.mean((value - y) ** 2) for value in values)

    metrics = learn(agent, data)
    loss = metrics["losses/qf1_loss"].item()
    if name == "td3":
        loss += metrics["losses/qf2_loss"].item()
        assert metrics["losses/qf_loss"].item() == pytest.approx(error() / 2, rel=1e-10)
    assert loss == pytest.approx(error(), rel=1e-10)
    parameters = dict(agent.named_parameters())
    assert all(name.startswith("critic") and "target" not in name for name in kept[0])
    assert len(kept[0]) == 4 * len(critics(agent))
    for parameter, gradient in kept[0].items():
        expected = numeric_gradient(error, parameters[parameter])
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7, msg=parameter)


@carrying("11")
def test_TD3_step_11_critics_follow_their_squared_errors(name):
    critic_gradient(name)


@carrying("DPG-2")
def test_DPG_2_critics_follow_their_squared_errors(name):
    critic_gradient(name)


@carrying("12")
def test_TD3_step_12_moves_the_critics_and_nothing_else(name):
    """Adam's first step is the learning rate times the sign of the gradient."""
    module = load(name)
    data = batch(module)
    still = make_agent(module, policy_noise=0.0)
    gradients = keep_gradients(still)
    learn(still, data)
    agent = make_agent(module, policy_noise=0.0, learning_rate=0.01)
    before = {n: p.clone() for n, p in agent.named_parameters()}
    if name == "td3":
        agent.update_critics(data)
    else:
        agent.update_critic(data)
    for n, parameter in agent.named_parameters():
        step = 0.0
        if n in gradients[0]:
            step = -0.01 * gradients[0][n] / (gradients[0][n].abs() + 1e-8)
        torch.testing.assert_close(parameter, before[n] + step, rtol=0, atol=1e-9, msg=n)


def actor_gradient(name):
    """−mean over the batch of ∇_θ μ(s) ∇_a Q(s, a), both factors by central differences."""
    module = load(name)
    agent = make_agent(module)
    data = batch(module)
    kept = keep_gradients(agent)
    metrics = learn(agent, data)
    q = critics(agent)[0]
    loss = -q(data.obs, agent.actor(data.obs)).mean()
    torch.testing.assert_close(metrics["losses/actor_loss"], loss)
    step = 1e-5
    slopes = []
    with torch.no_grad():
        action = agent.actor(data.obs)
        for unit in torch.eye(2).double():
            high = q(data.obs, action + step * unit)
            low = q(data.obs, action - step * unit)
            slopes.append((high - low) / (2 * step))
    assert all(n.startswith("actor.") for n in kept[1])
    for n, parameter in agent.actor.named_parameters():
        expected = torch.zeros_like(parameter)
        for b in range(5):
            for i in range(2):

                def output(b=b, i=i):
                    return agent.actor(data.obs[b : b + 1])[0, i]

                expected -= slopes[i][b] * numeric_gradient(output, parameter) / 5
        torch.testing.assert_close(kept[1][f"actor.{n}"], expected, rtol=1e-5, atol=1e-8, msg=n)


@carrying("13")
def test_TD3_step_13_actor_climbs_the_first_critic(name):
    actor_gradient(name)


@carrying("DPG-3")
def test_DPG_3_is_the_chain_rule(name):
    actor_gradient(name)


@carrying("DPG-5")
def test_DPG_5_moves_the_actor_up_the_critic_and_nothing_else(name):
    """Adam's first step is the learning rate times the sign of the gradient."""
    module = load(name)
    data = batch(module)
    still = make_agent(module)
    gradients = keep_gradients(still)
    learn(still, data)
    agent = make_agent(module, learning_rate=0.01)
    before = {n: p.clone() for n, p in agent.named_parameters()}
    agent.update_actor(data)
    for n, parameter in agent.named_parameters():
        step = 0.0
        if n in gradients[1]:
            step = -0.01 * gradients[1][n] / (gradients[1][n].abs() + 1e-8)
        torch.testing.assert_close(parameter, before[n] + step, rtol=0, atol=1e-9, msg=n)


@carrying("13")
@pytest.mark.parametrize("num_envs, delay", [(1, 2), (2, 2), (3, 2), (2, 3)])
def test_TD3_step_13_is_delayed_by_updates_not_by_environment_steps(
    name, num_envs, delay, monkeypatch, tmp_path
):
    """Real training: one update per environment step, each with a batch of its own; TD3's actor
    every other time, or as often as --policy-frequency says."""
    module = load(name)
    updated = []
    sizes = []
    sample = module.ReplayBuffer.sample

    def sampled(memory, batch_size):
        sizes.append(batch_size)
        return sample(memory, batch_size)

    monkeypatch.setattr(module.ReplayBuffer, "sample", sampled)
    init = module.Agent.__init__

    def hooked(agent, *args):
        init(agent, *args)
        agent.actor_optimizer.register_step_post_hook(lambda *_: updated.append("a"))
        agent.critic_optimizer.register_step_post_hook(lambda *_: updated.append("c"))

    update_targets = module.Agent.update_targets

    def recorded(agent):
        updated.append("t")
        update_targets(agent)

    monkeypatch.setattr(module.Agent, "__init__", hooked)
    monkeypatch.setattr(module.Agent, "update_targets", recorded)
    train(
        module,
        monkeypatch,
        tmp_path,
        "toys:LastReward-v0",
        num_envs=num_envs,
        policy_frequency=delay,
        total_timesteps=60,
        batch_size=4,
        learning_starts=12,
        buffer_size=60,
        hidden_sizes=(4,),
    )
    said = "".join(updated)
    assert said.count("c") == 48 and sizes == 48 * [4]
    assert said in ("c" * delay + "at" if name == "td3" else "cat") * 60


def test_the_losses_of_the_two_critics_are_told_apart():
    module = load("td3")
    agent = make_agent(module, policy_noise=0)
    data = batch(module)
    target = agent.target(data)
    metrics = agent.critic_backward(data)
    for i, critic in ((1, agent.critic1), (2, agent.critic2)):
        error = (critic(data.obs, data.action) - target).detach()
        assert metrics[f"losses/qf{i}_loss"].item() == pytest.approx((error**2).mean().item())


@pytest.mark.parametrize("name", OFF_POLICY)
def test_the_numbers_of_a_random_action_are_independent(name):
    """Correlations of 12 columns of 5000: |r| < 5 / √5000 in all 66 pairs, but once in 25,000."""
    module = load(name)
    torch.manual_seed(0)
    args = options(module, env_id="people_tasks:Plain-v0", num_envs=3)
    with module.Environments(args, 3, torch.device("cpu")) as envs:
        envs.action_size = 4
        drawn = torch.stack([envs.random_action().flatten() for _ in range(5000)])
    off_diagonal = torch.corrcoef(drawn.T) - torch.eye(12)
    assert off_diagonal.abs().max() < 5 / 5000**0.5


@carrying("14")
def test_TD3_step_14_moves_the_actors_target_by_polyak_averaging(name):
    """Half way (τ = 1/2) from the old target to the new actor, not to the one before the step."""
    agent = make_agent(load(name), tau=0.5, learning_rate=0.1)
    before = [p.clone() for p in agent.actor_target.parameters()]
    learn(agent, batch(load(name)))
    now = zip(before, agent.actor.parameters(), agent.actor_target.parameters(), strict=True)
    for old, new, slow in now:
        torch.testing.assert_close(slow, (old + new) / 2)


@carrying("15")
def test_TD3_step_15_moves_the_critics_targets_by_polyak_averaging(name):
    """A quarter of the new (τ = 1/4)."""
    agent = make_agent(load(name), tau=0.25, learning_rate=0.1)
    before = [[p.clone() for p in target.parameters()] for target in target_critics(agent)]
    learn(agent, batch(load(name)))
    for olds, critic, target in zip(before, critics(agent), target_critics(agent), strict=True):
        for old, new, slow in zip(olds, critic.parameters(), target.parameters(), strict=True):
            torch.testing.assert_close(slow, 0.75 * old + 0.25 * new)


@carrying("DPG-4")
def test_DPG_4_targets_after_many_steps_in_closed_form(name):
    model = torch.nn.Linear(2, 2).double()
    slow = torch.nn.Linear(2, 2).double()
    start = slow.weight.detach().clone()
    for _ in range(50):
        load(name).polyak(model, slow, 0.05)
    torch.testing.assert_close(slow.weight, (1 - 0.95**50) * model.weight + 0.95**50 * start)


@both
def test_what_each_update_leaves_alone(name):
    """The critics' update moves critics only, the actor's the actor only, and leaves the critics'
    gradients as they were; targets move by averaging only."""
    module = load(name)
    agent = make_agent(module)
    data = batch(module)

    def moved(work):
        before = {n: p.clone() for n, p in agent.named_parameters()}
        work()
        changed = {n for n, p in agent.named_parameters() if not torch.equal(p, before[n])}
        return {n.partition(".")[0] for n in changed}

    names = ["critic1", "critic2"] if name == "td3" else ["critic"]
    update = agent.update_critics if name == "td3" else agent.update_critic
    assert moved(lambda: update(data)) == set(names)
    gradients = [p.grad.clone() for p in agent.critic_parameters]
    assert moved(lambda: agent.update_actor(data)) == {"actor"}
    for parameter, gradient in zip(agent.critic_parameters, gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert moved(agent.update_targets) == {"actor_target", *(f"{n}_target" for n in names)}
    for target in (agent.actor_target, *target_critics(agent)):
        assert all(p.grad is None for p in target.parameters())


@both
def test_gradients_of_earlier_updates_do_not_add_up(name):
    agent = make_agent(load(name), learning_rate=0.0, policy_noise=0.0, tau=0.0)
    data = batch(load(name))
    found = []
    for _ in range(2):
        learn(agent, data)
        parameters = [*agent.actor_parameters, *agent.critic_parameters]
        found.append([parameter.grad.clone() for parameter in parameters])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second)


# ── acting ──


@both
def test_exploration_noise_is_normal_in_range_and_differs_in_every_row(name):
    """Kolmogorov-Smirnov; false alarm: 1e-6, and the seed is fixed."""
    agent = make_agent(load(name), exploration_noise=0.1)
    agent.actor.net[-1].bias.data *= 0.1  # far from the bounds
    obs = torch.zeros(5000, 3).double()
    mean = agent.actor(obs[:1]).detach()
    action = agent.act(obs)
    assert len(action.unique()) > 9990 and not action.requires_grad
    noise = (action - mean).flatten().numpy()
    assert scipy.stats.kstest(noise, scipy.stats.norm(0, 0.1).cdf).pvalue > 1e-6
    assert torch.equal(agent.act(obs[:1], explore=False), mean)
    agent.args.exploration_noise = 100.0
    assert agent.act(obs).abs().max() == 1


@both
def test_the_first_actions_are_uniform_and_then_the_actors(name, monkeypatch, tmp_path):
    """By Kolmogorov-Smirnov; false alarm: 1e-6, and the seed is fixed."""
    module = load(name)
    stored = []
    add = module.ReplayBuffer.add

    def remember(memory, transition):
        stored.append(transition.action)
        add(memory, transition)

    monkeypatch.setattr(module.ReplayBuffer, "add", remember)
    parts = train(
        module,
        monkeypatch,
        tmp_path,
        "toys:LastReward-v0",
        num_envs=2,
        total_timesteps=1600,
        batch_size=2,
        hidden_sizes=(4,),
        learning_starts=1000,
        exploration_noise=0.0,
        learning_rate=0.0,
    )
    actions = torch.stack(stored)
    uniform = scipy.stats.uniform(-1, 2)
    assert scipy.stats.kstest(actions[:500].flatten().numpy(), uniform.cdf).pvalue > 1e-6
    assert len(actions[:500].unique()) > 990
    of_actor = parts["agent"].actor(torch.eye(8)).flatten()
    distance = (actions[500:].reshape(-1, 1) - of_actor).abs().min(dim=1).values
    assert distance.max() < 1e-6


@few
@given(
    st.lists(
        st.tuples(st.floats(-100, 99, width=32), st.floats(0.125, 100, width=32)),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 2**31),
)
def test_ACT_1_actions_are_rescaled_in_each_dimension_and_clipped(intervals, seed):
    """[-1, 1] goes to the bounds, beyond is clipped; what is stored is what the policy chose."""
    low, width = np.array(intervals, np.float32).T
    Bounds.action_space = gym.spaces.Box(low, low + width)
    Bounds.executed = []
    module = load("td3" if seed % 2 else "ppo_continuous")
    args = options(module, env_id="toys:Bounds-v0", vectorization="sync")
    action = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (3, len(low)))).float()
    action[0] = -1
    action[1] = 1
    with module.Environments(args, 3, torch.device("cpu")) as envs:
        envs.begin_all()
        transition = envs.step(action)
    fraction = (np.clip(action.numpy().astype(float), -1, 1) + 1) / 2
    high = Bounds.action_space.high.astype(float)
    expected = low.astype(float) + fraction * (high - low)
    np.testing.assert_allclose(np.stack(Bounds.executed), expected, rtol=1e-5, atol=1e-5)
    assert all(map(Bounds.action_space.contains, Bounds.executed))
    assert torch.equal(transition.action, action)


# ── the whole ──


@both
def test_float32_agrees_with_float64(name):
    module = load(name)
    after = []
    start = make_agent(module, policy_noise=0.0).state_dict()
    for dtype in (torch.float32, torch.float64):
        agent = make_agent(module, policy_noise=0.0, dtype=dtype)
        agent.load_state_dict(start)
        data = module.Transition(*[column.to(dtype) for column in batch(module)])
        metrics = learn(agent, data)
        after.append([x.double() for x in [*metrics.values(), *agent.state_dict().values()]])
    for single, double in zip(*after, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-5)


@both
def test_an_agent_in_double_precision_trains(name, monkeypatch, tmp_path):
    """The memory has the type of the agent's numbers."""
    module = load(name)
    init = module.Agent.__init__

    def in_double(agent, *args):
        init(agent, *args)
        agent.double()

    monkeypatch.setattr(module.Agent, "__init__", in_double)
    parts = train(
        module,
        monkeypatch,
        tmp_path,
        "toys:LastReward-v0",
        total_timesteps=60,
        learning_starts=20,
        batch_size=4,
        hidden_sizes=(4,),
    )
    assert parts["memory"].rows.dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in parts["agent"].parameters())
    assert optimizers(parts["agent"])[0].state


@both
@pytest.mark.parametrize("task", ["LastReward", "Forever"])
def test_the_critic_learns_values_known_in_closed_form(name, task, monkeypatch, tmp_path):
    agent = train(
        load(name),
        monkeypatch,
        tmp_path,
        f"toys:{task}-v0",
        gamma=0.8,
        total_timesteps=2200,
        batch_size=64,
        learning_starts=200,
        learning_rate=3e-3,
        tau=0.05,
        hidden_sizes=(32, 32),
    )["agent"]
    with torch.no_grad():
        action = agent.actor(torch.eye(8))
        values = [critic(torch.eye(8), action).numpy() for critic in critics(agent)]
    expected = np.full(8, 5.0)
    if task == "LastReward":
        expected = 0.8 ** np.arange(7, -1, -1)
    for value in values:
        np.testing.assert_allclose(value, expected, rtol=0.1, atol=0.03)
