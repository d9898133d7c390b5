"""Each labelled equation and step of DDPG and TD3 against an oracle that shares no code with it: hand calculations,
central differences, closed forms, tasks whose values are known. And what all five do with actions."""
import collections

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import OFF_POLICY, load
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Bounds, carrying, labels, make_agent, numeric_gradient, options, spy_gradients, train

both = pytest.mark.parametrize("name", OFF_POLICY)
TD3_ONLY = {"6", "8"}  # steps that DDPG does not have


def batch(module, size=5, seed=0, obs_size=3, action_size=2):
    """Random transitions in float64; the ends are all four combinations of the two flags, and one more."""
    random = torch.Generator().manual_seed(seed)
    columns = [torch.randn(size, *shape, generator=random, dtype=torch.float64)
               for shape in ((obs_size,), (action_size,), (), (obs_size,))]
    flags = [torch.tensor((pattern * size)[:size]).double() for pattern in ((0.0, 1, 0, 1), (0.0, 0, 1, 1))]
    return module.Transition(*columns, *flags)


def critics(critic):
    return [critic.q1, critic.q2] if hasattr(critic, "q1") else [critic]


def learn(agent, data, update=0):
    return agent.learn(data, update) if hasattr(agent.args, "policy_frequency") else agent.learn(data)


class Fixed(torch.nn.Module):
    """A network that answers with given numbers, whatever it is asked; it keeps the question."""
    def __init__(self, *answers):
        super().__init__()
        self.answers = answers

    def forward(self, *question):
        self.question = question
        return self.answers if len(self.answers) > 1 else self.answers[0]


def answers(module, *per_twin):
    """What a critic of this script says: DDPG's has no twin, and hears the first."""
    return Fixed(*map(torch.tensor, per_twin[:2 if hasattr(module, "TwinCritic") else 1]))


def target(module, actor, critic, noise=None, monkeypatch=None, **columns):
    size = len(columns["reward"])
    if noise is not None:
        monkeypatch.setattr(torch, "randn_like", lambda x: torch.tensor(noise))
    data = module.Transition(*(torch.tensor(columns.get(name, [[0.0]] * size if "obs" in name else [0.0] * size))
                               for name in module.Transition._fields))
    return module.target_q(actor, critic, data, options(module, gamma=0.5, policy_noise=0.2, noise_clip=0.5))


# ── memory and networks ──

@carrying("1")
@settings(max_examples=20, deadline=None, derandomize=True)
@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_TD3_step_1_memory_holds_the_last_transitions(name, capacity, sizes, tmp_path_factory):
    """Against a bounded deque, rows told apart by a number that is in each of their columns."""
    module, rows, count = load(name), collections.deque(maxlen=capacity), 0
    memory = module.ReplayBuffer(capacity, 2, 3, "cpu", tmp_path_factory.getbasetemp())
    for size in (min(size, capacity) for size in sizes):
        number = torch.arange(count, count + size).float()
        memory.add(number[:, None] + torch.zeros(size, 2), number[:, None] + torch.zeros(size, 3) + 0.5, number + 0.25,
                   number[:, None] - torch.zeros(size, 2), number % 2, number % 3)
        rows.extend(number.tolist())
        count += size
        obs, action, reward, next_obs, terminated, truncated = memory.sample(200)
        number = obs[:, 0]
        assert set(number.tolist()) <= set(rows) and (capacity > 4 or set(number.tolist()) == set(rows))
        assert (obs == number[:, None]).all() and (next_obs == number[:, None]).all()
        assert (action == number[:, None] + 0.5).all() and (reward == number + 0.25).all()
        assert (terminated == number % 2).all() and (truncated == number % 3).all()
        shapes = [tuple(x.shape) for x in (obs, action, reward, next_obs, terminated, truncated)]
        assert shapes == [(200, 2), (200, 3), (200,), (200, 2), (200,), (200,)]


@carrying("2")
def test_TD3_step_2_actor_stays_in_range_and_its_target_starts_as_a_copy(name):
    torch.manual_seed(0)
    agent = load(name).Agent(3, 2, options(load(name), hidden_sizes=(8,)))
    action = agent.actor(10_000 * torch.randn(500, 3))
    assert action.shape == (500, 2) and action.min() < -0.9 and action.max() > 0.9 and action.abs().max() <= 1
    pairs = list(zip(agent.actor.parameters(), agent.actor_target.parameters(), strict=True))
    assert all(torch.equal(p, q) and p is not q and p.data_ptr() != q.data_ptr() for p, q in pairs)


@carrying("3")
def test_TD3_step_3_critics_give_a_number_a_row_and_their_targets_start_as_copies(name):
    agent = load(name).Agent(3, 2, options(load(name), hidden_sizes=(8,)))
    values = [critic(torch.randn(7, 3), torch.randn(7, 2)) for critic in critics(agent.critic)]
    assert all(value.shape == (7,) for value in values) and len(values) == (2 if name == "td3" else 1)
    assert name != "td3" or not torch.equal(agent.critic.q1[0].weight, agent.critic.q2[0].weight)
    pairs = list(zip(agent.critic.parameters(), agent.critic_target.parameters(), strict=True))
    assert all(torch.equal(p, q) and p is not q and p.data_ptr() != q.data_ptr() for p, q in pairs)


@carrying("4")
def test_TD3_step_4_batches_are_drawn_uniformly_from_what_there_is(name, tmp_path):
    """χ² over 10 rows of a memory of 100; false alarm: 1e-6, and the seed is fixed."""
    torch.manual_seed(0)
    memory = load(name).ReplayBuffer(100, 1, 1, "cpu", tmp_path)
    memory.add(torch.arange(10.0)[:, None], *torch.zeros(5, 10, 1))
    drawn = memory.sample(20_000).obs[:, 0].long()
    assert scipy.stats.chisquare(np.bincount(drawn, minlength=100)[:10]).pvalue > 1e-6 and drawn.max() == 9
    assert not torch.equal(memory.sample(50).obs, memory.sample(50).obs)


# ── the target ──

@carrying("5")
def test_TD3_step_5_asks_the_target_actor_about_the_successor(name, monkeypatch):
    """With noise of zero it is the target's action, at s′, that the target critic hears of."""
    module = load(name)
    agent, data = make_agent(module, policy_noise=0.0), batch(module)
    critic = Fixed(*[torch.zeros(5)] * len(critics(agent.critic)))
    module.target_q(agent.actor_target, critic, data, agent.args)
    torch.testing.assert_close(critic.question[1], agent.actor_target(data.next_obs), rtol=0, atol=0)


@carrying("6")
def test_TD3_step_6_clips_the_noise_and_then_the_action(name, monkeypatch):
    """σ = 0.2, noise bound 0.5, by hand; asymmetric rows, so that each clip binds alone."""
    module = load(name)
    actor = Fixed(torch.tensor([[0.0, 0.3], [0.0, 0.0], [0.9, -0.95], [-0.9, 0.9]]))
    critic = answers(module, [0.0] * 4, [0.0] * 4)
    noise = [[1.0, -1], [-100, 2.5], [2, 100], [-2, -3]]
    target(module, actor, critic, noise, monkeypatch, reward=[0.0] * 4, terminated=[0.0] * 4)
    torch.testing.assert_close(critic.question[1], torch.tensor([[0.2, 0.1], [-0.5, 0.5], [1, -0.45], [-1, 0.4]]))


@carrying("6")
def test_TD3_step_6_noise_is_normal_and_differs_in_every_row(name):
    """Kolmogorov-Smirnov; false alarm: 1e-6, and the seed is fixed."""
    torch.manual_seed(0)
    module, critic = load(name), answers(load(name), [0.0] * 5000, [0.0] * 5000)
    module.target_q(Fixed(torch.zeros(5000, 2)), critic, module.Transition(*[torch.zeros(5000)] * 6),
                    options(module, policy_noise=0.1, noise_clip=10.0))
    noise = critic.question[1]
    assert len(noise.unique()) > 9900
    assert scipy.stats.kstest(noise.flatten().numpy(), scipy.stats.norm(0, 0.1).cdf).pvalue > 1e-6


@carrying("7")
def test_TD3_step_7_asks_the_target_critics_about_the_successor(name):
    module = load(name)
    agent, data = make_agent(module, gamma=0.9, policy_noise=0.0), batch(module)
    with torch.no_grad():
        values = [q(data.next_obs, agent.actor_target(data.next_obs)) for q in critics(agent.critic_target)]
    _, _, reward, _, terminated, _ = (x.numpy() for x in data)
    expected = reward + np.where(terminated > 0, 0, 0.9 * torch.stack(values).numpy().min(0))
    y = module.target_q(agent.actor_target, agent.critic_target, data, agent.args)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert y.shape == (5,) and not y.requires_grad


@carrying("8")
def test_TD3_step_8_takes_the_smaller_whichever_twin_it_is(name, monkeypatch):
    critic = answers(load(name), [10.0, -4, 6], [2.0, 8, 6])
    y = target(load(name), Fixed(torch.zeros(3, 1)), critic, reward=[0.0] * 3, terminated=[0.0] * 3)
    assert y.tolist() == [1, -2, 3]


def target_by_hand(name):
    """r = 1, Q′ = 10, γ = 1/2: neither end, terminated, truncated, both."""
    module, value = load(name), [10.0] * 4
    y = target(module, Fixed(torch.zeros(4, 1)), answers(module, value, value), reward=[1.0] * 4,
               terminated=[0.0, 1, 0, 1], truncated=[0.0, 0, 1, 1])
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
    """The mean of Q(s, a) of the critic that learns, not of its target, nor of the actor's action."""
    agent, data = make_agent(load(name)), batch(load(name))
    with torch.no_grad():
        expected = critics(agent.critic)[0](data.obs, data.action).mean()
    assert learn(agent, data)["losses/q"].item() == pytest.approx(expected.item(), rel=1e-12)


def critic_gradient(name, monkeypatch):
    """Against central differences of Σ over critics of the mean of (Q(s, a) − y)², y being fixed."""
    module = load(name)
    agent, data = make_agent(module, gamma=0.9, policy_noise=0.0), batch(module)
    y = module.target_q(agent.actor_target, agent.critic_target, data, agent.args).numpy()
    seen = spy_gradients(module, monkeypatch, agent)

    def error():
        values = [q(data.obs, data.action).detach().numpy() for q in critics(agent.critic)]
        return sum(np.mean((value - y) ** 2) for value in values)

    assert learn(agent, data)["losses/critic_loss"].item() == pytest.approx(error(), rel=1e-10)
    expected = {f"critic.{n}": numeric_gradient(error, p) for n, p in agent.critic.named_parameters()}
    assert seen[0].keys() == expected.keys()
    for n in expected:
        torch.testing.assert_close(seen[0][n], expected[n], rtol=1e-5, atol=1e-7, msg=n)


@carrying("11")
def test_TD3_step_11_critics_follow_their_squared_errors(name, monkeypatch):
    critic_gradient(name, monkeypatch)


@carrying("DPG-2")
def test_DPG_2_critics_follow_their_squared_errors(name, monkeypatch):
    critic_gradient(name, monkeypatch)


@carrying("12")
def test_TD3_step_12_moves_the_critics_and_nothing_else(name, monkeypatch):
    """Adam's first step is the learning rate times the sign of the gradient."""
    module = load(name)
    agent, data = make_agent(module, learning_rate=0.01), batch(module)
    before, copies, backward = {n: p.clone() for n, p in agent.named_parameters()}, [], module.backward
    gradients = {}

    def spy(loss, optimizer):
        if not gradients:
            named = {n: p for n, p in agent.named_parameters() if n.startswith("critic.")}
            grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True)
            gradients.update(zip(named, grads, strict=True))
        backward(loss, optimizer)

    monkeypatch.setattr(module, "backward", spy)
    for optimizer in agent.critic_optimizer, agent.actor_optimizer:
        optimizer.register_step_post_hook(lambda *_: copies.append({n: p.clone() for n, p in agent.named_parameters()}))
    learn(agent, data)
    for n, p in copies[0].items():
        step = -0.01 * gradients[n] / (gradients[n].abs() + 1e-8) if n in gradients else 0
        torch.testing.assert_close(p, before[n] + step, rtol=0, atol=1e-9, msg=n)


def actor_gradient(name, monkeypatch):
    """−mean over the batch of ∇_θ μ(s) ∇_a Q(s, a), both factors by central differences."""
    module = load(name)
    agent, data = make_agent(module), batch(module)
    seen = spy_gradients(module, monkeypatch, agent)
    learn(agent, data)
    q, step = critics(agent.critic)[0], 1e-5
    with torch.no_grad():
        action = agent.actor(data.obs)
        slopes = [(q(data.obs, action + step * e) - q(data.obs, action - step * e)) / (2 * step)
                  for e in torch.eye(2).double()]
    assert all(n.startswith("actor.") for n in seen[1])
    for n, p in agent.actor.named_parameters():
        expected = torch.zeros_like(p)
        for b in range(5):
            for i in range(2):
                jacobian = numeric_gradient(lambda b=b, i=i: agent.actor(data.obs[b:b + 1])[0, i], p)
                expected -= slopes[i][b] * jacobian / 5
        torch.testing.assert_close(seen[1][f"actor.{n}"], expected, rtol=1e-5, atol=1e-8, msg=n)


@carrying("13")
def test_TD3_step_13_actor_climbs_the_first_critic(name, monkeypatch):
    actor_gradient(name, monkeypatch)


@carrying("DPG-3")
def test_DPG_3_is_the_chain_rule(name, monkeypatch):
    actor_gradient(name, monkeypatch)


@carrying("13")
@pytest.mark.parametrize("num_envs", [1, 2, 3])
def test_TD3_step_13_is_delayed_by_updates_not_by_environment_steps(name, num_envs, monkeypatch, tmp_path):
    """Real training: an update an environment step; of TD3's actor every other time, of DDPG's every time."""
    module, updated = load(name), []
    init = module.Agent.__init__

    def hooked(agent, *args):
        init(agent, *args)
        agent.actor_optimizer.register_step_post_hook(lambda *_: updated.append("a"))
        agent.critic_optimizer.register_step_post_hook(lambda *_: updated.append("c"))

    monkeypatch.setattr(module.Agent, "__init__", hooked)
    train(module, monkeypatch, tmp_path, "toys:LastReward-v0", num_envs=num_envs, total_timesteps=60, batch_size=4,
          learning_starts=12, buffer_size=60, hidden_sizes=(4,))
    period = "cca" if name == "td3" else "ca"
    said = "".join(updated)
    assert said.count("c") == 48 and said in period * 60, said


@carrying("14")
def test_TD3_step_14_moves_the_actors_target_by_polyak_averaging(name):
    """Half way (τ = 1/2) from the old target to the new actor, not to the one before the step."""
    agent, data = make_agent(load(name), tau=0.5, learning_rate=0.1), batch(load(name))
    before = [p.clone() for p in agent.actor_target.parameters()]
    learn(agent, data)
    for old, new, slow in zip(before, agent.actor.parameters(), agent.actor_target.parameters(), strict=True):
        torch.testing.assert_close(slow, (old + new) / 2)


@carrying("15")
def test_TD3_step_15_moves_the_critics_targets_by_polyak_averaging(name):
    """A quarter of the new (τ = 1/4)."""
    agent, data = make_agent(load(name), tau=0.25, learning_rate=0.1), batch(load(name))
    before = [p.clone() for p in agent.critic_target.parameters()]
    learn(agent, data)
    for old, new, slow in zip(before, agent.critic.parameters(), agent.critic_target.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * new)


@carrying("DPG-4")
def test_DPG_4_targets_after_many_steps_in_closed_form(name):
    model, slow = torch.nn.Linear(2, 2).double(), torch.nn.Linear(2, 2).double()
    start = slow.weight.detach().clone()
    for _ in range(50):
        load(name).polyak(model, slow, 0.05)
    torch.testing.assert_close(slow.weight, (1 - 0.95**50) * model.weight + 0.95**50 * start)


@both
def test_what_each_update_leaves_alone(name, monkeypatch):
    """The critics' leaves actor and targets, the actor's critics and targets; targets move by averaging only, and in
    TD3 only when the actor does. No gradient is left anywhere."""
    module = load(name)
    agent, data = make_agent(module, policy_frequency=3), batch(module)
    parts = {"actor": agent.actor, "critic": agent.critic, "actor_target": agent.actor_target,
             "critic_target": agent.critic_target}
    moved = []

    def spy(function):
        def wrapped(*args):
            before = {n: [p.clone() for p in part.parameters()] for n, part in parts.items()}
            function(*args)
            moved.append([n for n in parts if not all(map(torch.equal, before[n], parts[n].parameters()))])
            assert all(p.grad is None for part in parts.values() for p in part.parameters())
        return wrapped

    for called in "backward", "polyak":
        monkeypatch.setattr(module, called, spy(getattr(module, called)))
    for optimizer in agent.critic_optimizer, agent.actor_optimizer:
        monkeypatch.setattr(optimizer, "step", spy(optimizer.step))
    for update in range(4):
        learn(agent, data, update)
    critics_only = [[], ["critic"]]  # backward, step
    whole = critics_only + [[], ["actor"], ["actor_target"], ["critic_target"]]
    assert moved == (whole + critics_only * 2 + whole if name == "td3" else whole * 4)


@both
def test_the_steps_in_order(name, monkeypatch, tmp_path):
    """A trace of real training over two updates: who was called, with the number of its step."""
    module, trace = load(name), []

    def record(step, owner, attribute):
        function = getattr(owner, attribute)
        monkeypatch.setattr(owner, attribute, lambda *args, **kw: (trace.append(step), function(*args, **kw))[1])

    init = module.Agent.__init__

    def hooked(agent, *args):
        init(agent, *args)
        steps = {agent.actor_target: "5", agent.critic_target: "7", agent.actor: "μ"}
        steps |= {critic: "10" if name == "ddpg" else f"Q{i}" for i, critic in enumerate(critics(agent.critic), 1)}
        for network, step in steps.items():
            network.register_forward_hook(lambda *_, step=step: trace.append(step))

    monkeypatch.setattr(module.Agent, "__init__", hooked)
    record("1", module.ReplayBuffer, "add")
    record("4", module.ReplayBuffer, "sample")
    record("8", torch, "min")
    record("11", torch.nn.functional, "mse_loss")
    record("backward", module, "backward")
    record("step", module.Adam, "step")
    record("polyak", module, "polyak")
    record("noise", torch, "randn_like")
    train(module, monkeypatch, tmp_path, "toys:LastReward-v0", total_timesteps=12, learning_starts=10, batch_size=4,
          buffer_size=60, hidden_sizes=(4,))
    act = ["μ", "noise", "1", "4"]
    delayed = ["μ", "Q1", "backward", "step", "polyak", "polyak"]
    td3 = ["5", "noise", "7", "8", "Q1", "Q2", "11", "11", "backward", "step"]
    ddpg = ["5", "7", "10", "11", "backward", "step", "μ", "10", "backward", "step", "polyak", "polyak"]
    expected = 10 * ["1"] + (act + td3 + delayed + act + td3 if name == "td3" else 2 * (act + ddpg))
    assert trace[:len(expected)] == expected  # the last evaluation comes after


def test_ddpg_has_all_steps_but_those_that_are_td3s_tricks():
    assert labels("td3") - labels("ddpg") == TD3_ONLY and labels("ddpg") <= labels("td3")


# ── acting ──

@both
def test_exploration_noise_is_normal_in_range_and_differs_in_every_row(name):
    """Kolmogorov-Smirnov; false alarm: 1e-6, and the seed is fixed."""
    agent = make_agent(load(name), exploration_noise=0.1)
    agent.actor[-2].bias.data *= 0.1  # far from the bounds
    obs = torch.zeros(5000, 3).double()
    mean = agent.actor(obs[:1]).detach()
    action = agent.act(obs)
    assert len(action.unique()) > 9990 and not action.requires_grad
    assert scipy.stats.kstest((action - mean).flatten().numpy(), scipy.stats.norm(0, 0.1).cdf).pvalue > 1e-6
    agent.args.exploration_noise = 100.0
    assert agent.act(obs).abs().max() == 1
    agent.args.exploration_noise = 0.0
    assert torch.equal(agent.act(obs[:1]), mean)


@both
def test_the_first_actions_are_uniform(name, monkeypatch, tmp_path):
    """By Kolmogorov-Smirnov; false alarm: 1e-6, and the seed is fixed. After `learning_starts` they are the actor's."""
    module, stored, add = load(name), [], load(name).ReplayBuffer.add
    monkeypatch.setattr(module.ReplayBuffer, "add", lambda self, *row: (stored.append(row[1]), add(self, *row))[1])
    monkeypatch.setattr(module, "backward", lambda *args: None)
    agent = train(module, monkeypatch, tmp_path, "toys:LastReward-v0", num_envs=2, total_timesteps=1600, batch_size=2,
                  hidden_sizes=(4,), learning_starts=1000, exploration_noise=0.0, policy_frequency=1_000_000)
    actions = torch.stack(stored)
    assert scipy.stats.kstest(actions[:500].flatten().numpy(), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-6
    assert len(actions[:500].unique()) > 990
    assert set(actions[500:].flatten().tolist()) <= set(agent.actor(torch.eye(8)).flatten().tolist())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(-100, 99, width=32), st.floats(0.125, 100, width=32)), min_size=1, max_size=3),
       st.integers(0, 2**31))
def test_actions_are_rescaled_in_each_dimension_and_clipped(intervals, seed):
    """[-1, 1] goes to the bounds, beyond is clipped; what is stored is what the policy chose, at every number of
    environments its own."""
    import gymnasium as gym
    low, width = np.array(intervals, np.float32).T
    Bounds.action_space, Bounds.executed = gym.spaces.Box(low, low + width), []
    module = load("td3" if seed % 2 else "ppo_continuous")
    envs = module.Environments(options(module, env_id="toys:Bounds-v0", device="cpu"), 3, 0)
    action = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (3, len(low))).astype(np.float32))
    action[0], action[1] = -1, 1
    transition = envs.step(action)
    fraction = (np.clip(action.numpy().astype(float), -1, 1) + 1) / 2
    expected = low.astype(float) + fraction * (Bounds.action_space.high.astype(float) - low)
    np.testing.assert_allclose(np.stack(Bounds.executed), expected, rtol=1e-5, atol=1e-5)
    assert all(map(Bounds.action_space.contains, Bounds.executed)) and torch.equal(transition.action, action)


# ── the whole ──

@both
def test_float32_agrees_with_float64(name):
    module, after = load(name), []
    start = make_agent(module, policy_noise=0.0).state_dict()
    for dtype in (torch.float32, torch.float64):
        agent = make_agent(module, policy_noise=0.0, dtype=dtype)
        agent.load_state_dict(start)
        metrics = learn(agent, module.Transition(*(x.to(dtype) for x in batch(module))))
        after.append([x.double() for x in [*metrics.values(), *agent.state_dict().values()]])
    for single, double in zip(*after, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-5)


@both
@pytest.mark.parametrize("task", ["LastReward", "Forever"])
def test_the_critic_learns_values_known_in_closed_form(name, task, monkeypatch, tmp_path):
    agent = train(load(name), monkeypatch, tmp_path, f"toys:{task}-v0", gamma=0.8, total_timesteps=2200, batch_size=64,
                  learning_starts=200, learning_rate=3e-3, tau=0.05, hidden_sizes=(32, 32))
    with torch.no_grad():
        values = [q(torch.eye(8), agent.actor(torch.eye(8))).numpy() for q in critics(agent.critic)]
    expected = 0.8 ** np.arange(7, -1, -1) if task == "LastReward" else np.full(8, 5.0)
    for value in values:
        np.testing.assert_allclose(value, expected, rtol=0.1, atol=0.03)
