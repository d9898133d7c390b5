"""The scripts for discrete actions: their math against independent oracles, and whole runs."""

import json
import re
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import ROOT, assert_same_run, checkpoint, evaluations, load, run
from torch import nn

DQNS = ["dqn", "double_dqn"]
ALL = ["q_learning", *DQNS]
RUNS = [*ALL, "dqn_atari"]  # its math is in test_dqn_atari.py
SMALL_DQN = [
    *("--total-timesteps", "900", "--learning-starts", "100", "--batch-size", "16"),
    *("--buffer-size", "500", "--hidden-sizes", "16", "--train-frequency", "1"),
    *("--target-network-frequency", "50", "--num-envs", "1"),
    *("--eval-frequency", "300", "--eval-episodes", "2", "--checkpoint-frequency", "150"),
]
SMALL_TABLE = [
    *("--total-timesteps", "900", "--eval-frequency", "300", "--eval-episodes", "2"),
    *("--checkpoint-frequency", "150"),
]
SMALL = {
    "q_learning": [*SMALL_TABLE, "--env-id", "FrozenLake-v1"],
    "dqn": [*SMALL_DQN, "--env-id", "CartPole-v1"],
    "double_dqn": [*SMALL_DQN, "--env-id", "CartPole-v1"],
    "dqn_atari": [
        *("--total-timesteps", "240", "--learning-starts", "60", "--batch-size", "8"),
        *("--buffer-size", "120", "--frame-size", "36", "--frame-stack", "3"),
        *("--target-network-frequency", "20", "--eval-frequency", "80", "--eval-episodes", "2"),
        *("--checkpoint-frequency", "40", "--env-id", "pixel_tasks:Numbered-v0"),
    ],
}
each_script = pytest.mark.parametrize("script", RUNS)
each_dqn = pytest.mark.parametrize("script", DQNS)


def make_agent(script, obs_size=4, num_actions=3, seed=0, **options):
    module = load(script)
    torch.manual_seed(seed)
    return module.Agent(obs_size, num_actions, module.Args(**options)).double()


def make_batch(module, size=7, obs_size=4, num_actions=3, seed=1):
    torch.manual_seed(seed)
    return module.Transition(
        obs=torch.randn(size, obs_size, dtype=torch.float64),
        action=torch.randint(num_actions, (size,)).double(),
        reward=torch.randn(size, dtype=torch.float64),
        next_obs=torch.randn(size, obs_size, dtype=torch.float64),
        terminated=(torch.rand(size) < 0.4).double(),
        truncated=torch.ones(size, dtype=torch.float64),
    )


def numbers_of(batch, i):
    """All of transition i, as the memory keeps it."""
    columns = [column[i].flatten() for column in batch]
    return tuple(torch.cat(columns).float().tolist())


# ── the table ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "env_id, options, value",
    [
        ("FrozenLake-v1", {}, 0.54203),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.41464),
        ("FrozenLake-v1", {"is_slippery": False}, 0.99**5),
        ("Taxi-v4", {}, 6.32746),
        ("CliffWalking-v1", {}, -(1 - 0.99**13) / 0.01),
    ],
)
def test_value_iteration_finds_the_known_values_of_the_starts(env_id, options, value):
    """Closed forms where all is certain: five free steps and a reward, thirteen steps of -1."""
    module = load("q_learning")
    env = gym.make(env_id, **options)
    q = module.value_iteration(*module.transition_model(env), 0.99)
    start = env.unwrapped.initial_state_distrib
    assert start @ q.max(axis=1) == pytest.approx(value, abs=1e-5)


def test_the_value_of_a_policy_is_the_mean_of_its_returns():
    """On a slippery lake, by 4,000 episodes: a false alarm in 1 of 10,000 seeds, and they are
    fixed."""
    module = load("q_learning")
    env = gym.make("FrozenLake-v1")
    probability, reward = module.transition_model(env)
    policy = module.value_iteration(probability, reward, 0.9).argmax(axis=1)
    start = env.unwrapped.initial_state_distrib
    value = module.policy_evaluation(probability, reward, 0.9, policy, start)[0]
    returns = []
    for episode in range(4000):
        state, _ = env.reset(seed=episode)
        discounted = 1.0
        while True:
            state, one_reward, terminated, truncated, _ = env.step(policy[state])
            if terminated or truncated:
                returns.append(discounted * one_reward)
                break
            discounted *= 0.9
    error = scipy.stats.norm.isf(0.5e-4) * np.std(returns) / len(returns) ** 0.5
    assert np.mean(returns) == pytest.approx(value, abs=error)


def table_after_a_step(learning_rate, terminated=0.0, truncated=0.0):
    """Action 0 in state 1, reward 10, then state 2. γ is 0.5."""
    module = load("q_learning")
    agent = make_agent("q_learning", obs_size=3, num_actions=2, gamma=0.5)
    agent.q_table.values.copy_(torch.tensor([[1.0, 2.0], [3.0, -4.0], [0.0, 8.0]]))
    one_hot = torch.eye(3)
    numbers = [torch.tensor(x) for x in (10.0, terminated, truncated)]
    step = module.Transition(one_hot[1], torch.tensor(0), numbers[0], one_hot[2], *numbers[1:])
    agent.update(step, learning_rate)
    return agent.q_table.values.tolist()


def test_a_policy_that_never_ends_has_no_value_without_discount(call, tmp_path):
    options = ["--env-id", "CliffWalking-v1", "--gamma", 1, "--total-timesteps", 200]
    said = call("q_learning", *options, "--eval-max-steps", 200, "--eval-episodes", 1)
    assert "never ends some episodes" in said.out
    assert "finished at step 200" in said.out


def test_without_discount_a_value_needs_a_way_to_the_end_from_where_episodes_come():
    """Slippery moves have chances of a third, with which the equations look solvable."""
    module = load("q_learning")
    with gym.make("CliffWalking-v1", is_slippery=True) as env:
        probability, reward = module.transition_model(env)
        start = env.unwrapped.initial_state_distrib
        policy = np.full(48, 3)  # always left: the goal is on the right
        assert module.policy_evaluation(probability, reward, 1, policy, start) is None
        value = module.policy_evaluation(probability, reward, 0.99, policy, start)
        assert np.isfinite(value).sum() == 4  # the left column
    with gym.make("FrozenLake-v1") as env:
        probability, reward = module.transition_model(env)
        start = env.unwrapped.initial_state_distrib
        down = np.ones(16, dtype=int)
        value = module.policy_evaluation(probability, reward, 1, down, start)
        acts = np.isfinite(value)
        assert acts.tolist() == [letter in b"SF" for letter in env.unwrapped.desc.flatten()]
        q = reward + probability @ np.nan_to_num(value)
        assert value[acts] == pytest.approx(q[acts, 1]) and 0 < value[0] < 1
    with gym.make("Taxi-v4") as env:  # the best policy never comes to 100 of its states
        probability, reward = module.transition_model(env)
        start = env.unwrapped.initial_state_distrib
        best = module.value_iteration(probability, reward, 1)
        policy = best.argmax(axis=1)
        policy[~module.reached_states(probability, policy, start)] = 4  # picks nobody up, for ever
        value = module.policy_evaluation(probability, reward, 1, policy, start)
        assert np.nansum(start * value) == pytest.approx(start @ best.max(axis=1))


def test_value_iteration_ends_where_a_value_is_infinite():
    """One state, in which a step earns 1 for ever."""
    module = load("q_learning")
    probability = np.ones((1, 1, 1))
    assert module.value_iteration(probability, np.ones((1, 1)), 1) is None
    assert module.value_iteration(probability, np.ones((1, 1)), 0.5) == pytest.approx(2)


def test_a_large_table_is_not_compared_with_the_optimum(call, tmp_path):
    rows = ["S" + 31 * "F", *(30 * [32 * "F"]), 31 * "F" + "G"]
    options = ["--env-kwargs", json.dumps({"desc": rows}), "--total-timesteps", 200]
    said = call("q_learning", *options, "--eval-max-steps", 100, "--eval-episodes", 1)
    assert "up to 1,000 states" in said.out


def test_Q_2_the_target_is_the_reward_and_the_best_that_follows():
    assert table_after_a_step(1.0) == [[1, 2], [10 + 0.5 * 8, -4], [0, 8]]
    assert table_after_a_step(1.0, truncated=1.0) == [[1, 2], [10 + 0.5 * 8, -4], [0, 8]]
    assert table_after_a_step(1.0, terminated=1.0) == [[1, 2], [10, -4], [0, 8]]


def test_Q_3_the_cell_moves_a_part_of_the_way():
    assert table_after_a_step(0.25) == [[1, 2], [3 + 0.25 * (14 - 3), -4], [0, 8]]
    assert table_after_a_step(0.0) == [[1, 2], [3, -4], [0, 8]]


@pytest.mark.parametrize("script", ALL)
def test_Q_1_actions_are_epsilon_greedy(script):
    """Chi-squared, 30,000 actions: a false alarm in 1 of 10,000 seeds; this one is fixed."""
    agent = make_agent(script)
    agent.epsilon = 0.3
    if script == "q_learning":
        agent.q_table.values.copy_(torch.tensor([0.1, 0.5, 0.2]).expand(4, 3))
    obs = torch.eye(4, dtype=torch.float64)[:1].expand(30_000, 4)
    greedy = agent.act(obs[:1], explore=False).item()
    counts = torch.bincount(agent.act(obs), minlength=3).numpy()
    expected = np.full(3, 0.1 * 30_000)
    expected[greedy] += 0.7 * 30_000
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-4
    assert set(agent.act(obs, explore=False).tolist()) == {greedy}


@each_script
def test_epsilon_falls_linearly_and_then_stays(script):
    module = load(script)
    options = {"start_epsilon": 0.9, "end_epsilon": 0.1, "exploration_fraction": 0.5}
    args = module.Args(total_timesteps=1000, **options)
    found = [module.epsilon_at(step, args) for step in (0, 250, 500, 900)]
    np.testing.assert_allclose(found, [0.9, 0.5, 0.1, 0.1])


@each_script
@pytest.mark.parametrize("num_envs", [1, 4])
def test_training_explores_with_the_epsilon_of_its_step(script, num_envs, call, monkeypatch):
    """From 0.9 to 0.1 over the first half of 240 steps: 0.8 / 120 less each step."""
    seen = []
    act = load(script).Agent.act

    def remember(self, obs, explore=True):
        if explore:
            seen.append(self.epsilon)
        return act(self, obs, explore)

    monkeypatch.setattr(load(script).Agent, "act", remember)
    options = ["--start-epsilon", 0.9, "--end-epsilon", 0.1, "--exploration-fraction", 0.5]
    call(script, *SMALL[script], *options, "--total-timesteps", 240, "--num-envs", num_envs)
    by_hand = [max(0.1, 0.9 - step * 0.8 / 120) for step in range(0, 240, num_envs)]
    np.testing.assert_allclose(seen, by_hand)


@pytest.mark.parametrize("script", [*DQNS, "dqn_atari"])
def test_the_learning_rate_of_each_update_is_that_of_its_step(script, call, monkeypatch):
    """With four environments, from step 100 to 236 of 240, in fours."""
    rates = []
    update = load(script).Agent.update

    def remember(self, batch):
        rates.append(self.optimizer.param_groups[0]["lr"])
        return update(self, batch)

    monkeypatch.setattr(load(script).Agent, "update", remember)
    options = ["--total-timesteps", 240, "--learning-starts", 100, "--train-frequency", 4]
    options += ["--num-envs", 4, "--learning-rate", 0.003, "--anneal-lr"]
    call(script, *SMALL[script], *options)
    np.testing.assert_allclose(rates, [0.003 * (1 - k / 240) for k in range(100, 240, 4)])


@pytest.mark.parametrize("script", [*DQNS, "dqn_atari"])
def test_the_learning_rate_can_stay(script, call):
    options = ["--learning-rate", 0.003, "--no-anneal-lr", "--run-dir", "run"]
    call(script, *SMALL[script], *options)
    (group,) = checkpoint(Path("run"))["optimizer"]["param_groups"]
    assert group["lr"] == 0.003


# ── the network ──────────────────────────────────────────────────────────────────────────────────


def values_by_hand(network, obs):
    """A network with one hidden layer, in NumPy."""
    first, last = (layer for layer in network.net if isinstance(layer, nn.Linear))
    w1, b1, w2, b2 = (p.detach().numpy() for layer in (first, last) for p in layer.parameters())
    return np.maximum(obs.numpy() @ w1.T + b1, 0) @ w2.T + b2


@each_dqn
def test_DQN_2_the_target_is_that_of_the_paper(script):
    module = load(script)
    agent = make_agent(script, hidden_sizes=(8,), gamma=0.7)
    for parameter in agent.target_network.parameters():
        parameter.data.mul_(-1.3)
    batch = make_batch(module)
    online = values_by_hand(agent.q_network, batch.next_obs)
    fixed = values_by_hand(agent.target_network, batch.next_obs)
    expected = []
    for i in range(7):
        best = online[i].argmax() if script == "double_dqn" else fixed[i].argmax()
        follows = 0 if batch.terminated[i] == 1 else 0.7 * fixed[i][best]
        expected.append(batch.reward[i].item() + follows)
    np.testing.assert_allclose(agent.target(batch).numpy(), expected, rtol=1e-12)


def targets_of(script, values, target_values):
    """y [S] of steps without a reward into states s = 0 to S − 1, where the networks give these
    values [S, A] to the actions.
    """
    module = load(script)
    num_states, num_actions = np.shape(values)
    agent = make_agent(script, num_states, num_actions, hidden_sizes=(), gamma=1.0)
    for network, table in ((agent.q_network, values), (agent.target_network, target_values)):
        network.net[0].weight.data.copy_(torch.tensor(table).T)
        network.net[0].bias.data.zero_()
    batch = make_batch(module, num_states, num_states, num_actions)
    one_hot = torch.eye(num_states, dtype=torch.float64)
    zero = torch.zeros(num_states, dtype=torch.float64)
    return agent.target(batch._replace(next_obs=one_hot, reward=zero, terminated=zero)).numpy()


def target_of(script, values, target_values):
    """y of one such step, from values [A]."""
    return targets_of(script, [values], [target_values]).item()


def test_DDQN_1_the_network_that_learns_chooses():
    assert target_of("double_dqn", [9.0, 1.0], [2.0, 5.0]) == 2
    assert target_of("double_dqn", [1.0, 9.0], [2.0, 5.0]) == 5
    assert target_of("dqn", [9.0, 1.0], [2.0, 5.0]) == 5


def test_DDQN_2_the_target_network_values():
    assert target_of("double_dqn", [9.0, 1.0], [-3.0, 5.0]) == -3
    assert target_of("double_dqn", [9.0, 1.0], [7.0, 5.0]) == 7


def test_double_dqn_with_equal_networks_is_dqn():
    targets = []
    for script in DQNS:
        targets.append(make_agent(script).target(make_batch(load(script))))
    torch.testing.assert_close(*targets, rtol=0, atol=0)


@each_dqn
def test_DQN_1_the_memory_keeps_the_newest_transitions(script):
    module = load(script)
    memory = module.ReplayBuffer(3, 4, like=torch.zeros(()))
    kept = []
    for i, size in enumerate((1, 1, 2, 1, 3, 2)):
        batch = make_batch(module, size=size, seed=i)
        memory.add(batch)
        kept += [numbers_of(batch, row) for row in range(size)]
        drawn = memory.sample(200)
        assert {numbers_of(drawn, i) for i in range(200)} == set(kept[-3:])


@each_dqn
def test_DQN_1_each_transition_is_drawn_as_often_as_any_other(script):
    """Chi-squared over 20,000 draws: a false alarm in 1 of 10,000 seeds; this one is fixed."""
    torch.manual_seed(0)
    module = load(script)
    memory = module.ReplayBuffer(50, 4, like=torch.zeros(()))
    for i in range(10):
        memory.add(make_batch(module, size=1, seed=i))
    drawn = memory.sample(20_000)
    counts = [0] * 10
    for i in range(10):
        is_this = (drawn.obs == memory.columns.obs[i]).all(dim=1)
        counts[i] = int(is_this.sum())
    assert sum(counts) == 20_000
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


@each_dqn
def test_DQN_3_the_loss_is_the_mean_squared_error_of_the_actions_taken(script):
    module = load(script)
    agent = make_agent(script, hidden_sizes=(8,))
    batch = make_batch(module)
    values = values_by_hand(agent.q_network, batch.obs)
    taken = values[np.arange(7), batch.action.long().numpy()]
    metrics = agent.backward(batch)
    expected = np.mean((taken - agent.target(batch).numpy()) ** 2)
    assert metrics["losses/td_loss"].item() == pytest.approx(expected, rel=1e-12)
    assert metrics["losses/q_values"].item() == pytest.approx(taken.mean(), rel=1e-12)
    assert metrics["losses/max_q_values"].item() == pytest.approx(values.max(axis=1).mean())
    assert all(parameter.grad is None for parameter in agent.target_network.parameters())


@each_dqn
def test_an_update_begins_with_no_gradient(script):
    agent = make_agent(script, hidden_sizes=(8,), learning_rate=0)
    batch = make_batch(load(script))
    gradients = []
    for _ in range(2):
        agent.update(batch)
        gradients.append([parameter.grad.clone() for parameter in agent.all_parameters])
    assert all(map(torch.equal, *gradients))


@each_dqn
@pytest.mark.parametrize("num_envs", [1, 4])
def test_DQN_4_the_target_network_moves_only_when_it_is_copied(script, num_envs, call, monkeypatch):
    """Each target in C = 50 steps is made with the network of the last copy."""
    module = load(script)
    seen = []
    copies = []
    update = module.Agent.update
    copy_network = module.Agent.update_target_network

    def remember_update(self, batch):
        seen.append((len(copies), self.target_network.net[0].weight.sum().item()))
        return update(self, batch)

    def remember_copy(self):
        copy_network(self)
        copies.append(self.q_network.net[0].weight.sum().item())

    monkeypatch.setattr(module.Agent, "update", remember_update)
    monkeypatch.setattr(module.Agent, "update_target_network", remember_copy)
    call(script, *SMALL[script], "--num-envs", num_envs, "--run-dir", "run")
    assert len(seen) == 800 and len(copies) == 16
    for count, weight in seen:
        if count:
            assert weight == copies[count - 1]
    assert len(set(copies)) == 16


@each_dqn
@pytest.mark.parametrize("num_envs", [1, 4])
def test_updates_count_the_steps_of_all_environments(script, num_envs, call, monkeypatch):
    """One in three steps, from step 100 to 899: those that 3 divides, 102 to 897."""
    module = load(script)
    sizes = []

    def count(self, batch):
        sizes.append(len(batch.reward))
        return {}

    monkeypatch.setattr(module.Agent, "update", count)
    call(script, *SMALL[script], "--num-envs", num_envs, "--train-frequency", 3)
    assert sizes == [16] * 266


def test_each_environment_teaches_the_table_at_a_rate_that_falls_to_zero(call, monkeypatch):
    module = load("q_learning")
    rates = []

    def remember(self, transition, learning_rate):
        rates.append(learning_rate)
        return {}

    monkeypatch.setattr(module.Agent, "update", remember)
    call("q_learning", *SMALL["q_learning"], "--num-envs", 3, "--learning-rate", 0.5)
    expected = np.repeat(np.arange(900, 0, -3) / 900 * 0.5, 3)
    np.testing.assert_allclose(rates, expected)


def test_dqn_with_a_linear_layer_on_states_is_the_table():
    """Batch 1, plain gradient descent, a copy after each step. The gradient of (Q - y)² is
    2 (Q - y), so half the table's learning rate."""
    table = make_agent("q_learning", obs_size=5, num_actions=2, gamma=0.9)
    network = make_agent("dqn", obs_size=5, num_actions=2, hidden_sizes=(), gamma=0.9)
    layer = network.q_network.net[0]
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    network.update_target_network()
    network.optimizer = torch.optim.SGD([layer.weight], lr=0.05)
    rng = np.random.default_rng(0)
    one_hot = torch.eye(5, dtype=torch.float64)
    for _ in range(300):
        state, next_state = rng.integers(5, size=2)
        action = rng.integers(2)
        reward = rng.normal()
        end = float(rng.random() < 0.2)
        columns = (one_hot[state], torch.tensor(action), torch.tensor(reward), one_hot[next_state])
        step = load("q_learning").Transition(*columns, torch.tensor(end), torch.tensor(0.0))
        table.update(step, learning_rate=0.1)
        network.update(load("dqn").Transition(*[column.unsqueeze(0) for column in step]))
        network.update_target_network()
    assert table.q_table.values.abs().max() > 0.3
    torch.testing.assert_close(layer.weight.T, table.q_table.values, rtol=1e-9, atol=1e-9)


def test_an_update_of_dqn_is_that_of_stable_baselines3(monkeypatch):
    """With its loss set to the squared error, which is ours and the notes'."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.logger import configure

    options = {"learning_rate": 1e-3, "batch_size": 16, "gamma": 0.95, "max_grad_norm": 1e9}
    net = {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-8}}
    model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs=net, seed=0, device="cpu", **options)
    model.set_logger(configure(None, []))
    rng = np.random.default_rng(0)
    for i in range(16):
        obs, next_obs = rng.normal(size=(2, 1, 4)).astype(np.float32)
        end = np.array([i % 3 == 0])
        action = np.array([i % 2])
        model.replay_buffer.add(obs, next_obs, action, rng.normal(size=1), end, [{}])
    monkeypatch.setattr(torch.nn.functional, "smooth_l1_loss", torch.nn.functional.mse_loss)
    module = load("dqn")
    args = module.Args(learning_rate=1e-3, gamma=0.95, hidden_sizes=(8,))
    agent = module.Agent(4, 2, args)
    pairs = [(agent.q_network, model.q_net), (agent.target_network, model.q_net_target)]
    for ours, theirs in pairs:
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.data.copy_(q.data)
    rows = {16: np.arange(16), 1: np.zeros(16, int)}  # the transitions, of one environment
    monkeypatch.setattr(np.random, "randint", lambda low, high, size: rows[high])
    data = model.replay_buffer
    column = {
        "obs": data.observations,
        "action": data.actions,
        "reward": data.rewards,
        "next_obs": data.next_observations,
        "terminated": data.dones,
        "truncated": data.timeouts,
    }
    tensors = {}
    for name, array in column.items():
        width = 4 if "obs" in name else 1
        tensors[name] = torch.as_tensor(array[:16].reshape(16, width).astype(np.float32))
        if width == 1:
            tensors[name] = tensors[name].squeeze(1)
    agent.update(module.Transition(**tensors))
    model.train(gradient_steps=1, batch_size=16)
    for p, q in zip(agent.q_network.parameters(), model.q_net.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


# ── whole runs ───────────────────────────────────────────────────────────────────────────────────


@each_script
def test_the_same_seed_gives_the_same_run_to_the_bit(script, call, tmp_path):
    for folder in ("one", "two"):
        call(script, *SMALL[script], "--run-dir", folder)
    assert_same_run(tmp_path / "one", tmp_path / "two")


@each_script
@pytest.mark.parametrize("saves", [2, 3])  # at the third an evaluation is due too
def test_a_run_that_dies_goes_on_to_the_bit(script, saves, call, monkeypatch, tmp_path):
    module = load(script)
    call(script, *SMALL[script], "--num-envs", 2, "--run-dir", "whole")
    count = 0
    save = module.Run.save

    def save_and_die(self):
        nonlocal count
        save(self)
        count += 1
        if count == saves:
            raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "save", save_and_die)
        with pytest.raises(MemoryError):
            call(script, *SMALL[script], "--num-envs", 2, "--run-dir", "died")
    call(script, "--resume", "died")
    assert_same_run(tmp_path / "whole", tmp_path / "died")


@each_script
def test_evaluate_repeats_the_last_evaluation_of_training(script, call, tmp_path):
    call(script, *SMALL[script], "--run-dir", "run")
    last = float(evaluations(tmp_path / "run")[-1]["return_mean"])
    assert f"return {last:.2f} ±" in call(script, "--evaluate", "run").out


@each_script
def test_sync_and_async_give_the_same_run_to_the_bit(script, call, tmp_path):
    for how in ("sync", "async"):
        call(script, *SMALL[script], "--num-envs", 2, "--vectorization", how, "--run-dir", how)
    but = ("seconds", "/generators/numpy", "/generators/python")  # those of the main process
    assert_same_run(tmp_path / "sync", tmp_path / "async", but)


@each_script
def test_load_policy_gives_actions_of_the_task(script, call, tmp_path):
    call(script, *SMALL[script], "--run-dir", "run")
    module = load(script)
    env = module.make_env(module.load_args(tmp_path / "run"))
    policy = module.load_policy(tmp_path / "run")
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        action = policy(obs)
        assert env.action_space.contains(action)
        obs, *_ = env.step(action)


# one by default, for the text is nearly the same; all where slow tests run
@pytest.mark.parametrize(
    "script", [*[pytest.param(name, marks=pytest.mark.slow) for name in ALL], "dqn_atari"]
)
def test_one_file_alone_trains_extends_evaluates(script, tmp_path):
    shutil.copy(ROOT / "discrete" / f"{script}.py", tmp_path)
    here = tmp_path / f"{script}.py"
    run(here, *SMALL[script], "--run-dir", "run", cwd=tmp_path)
    steps = 2 * checkpoint(tmp_path / "run")["step"]
    run(here, "--resume", "run", "--total-timesteps", steps, cwd=tmp_path)
    assert f"policy of step {steps}" in run(here, "--evaluate", "run", cwd=tmp_path).stdout
    assert {path.name for path in tmp_path.iterdir()} == {here.name, "run"}


@each_script
@pytest.mark.parametrize(
    "options, named",
    [
        (["--start-epsilon", "2"], ["--start-epsilon 2", "from 0 to 1"]),
        (["--num-envs", "0"], ["--num-envs 0", "at least 1"]),
        (["--num-envs", "8", "--total-timesteps", "4"], ["--total-timesteps 4"]),
        (["--env-kwargs", '{"no_such": 1}'], ["--env-kwargs", "no_such"]),
    ],
)
def test_a_bad_line_is_refused_by_name(script, options, named, call, tmp_path):
    said = call(script, *SMALL[script], *options, status=2).err
    for part in named:
        assert part in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ALL)
def test_continuous_actions_are_refused_by_name(script, call, tmp_path):
    said = call(script, *SMALL[script], "--env-id", "Pendulum-v1", status=2).err
    assert "--env-id Pendulum-v1" in said and "discrete actions" in said
    assert not list(tmp_path.iterdir())


def test_actions_of_several_parts_are_refused_with_a_remedy(call, tmp_path):
    said = call("dqn", *SMALL["dqn"], "--env-id", "people_tasks:Parts-v0", status=2).err
    assert "not MultiDiscrete([2 3])" in said and "its actions are numbered" in said


def test_a_space_of_actions_that_starts_elsewhere(call, tmp_path):
    """people_tasks:Shifted has the actions 5, 6 and 7."""
    for script in DQNS:
        options = [*SMALL[script], "--env-id", "people_tasks:Shifted-v0", "--run-dir", script]
        call(script, *options)
        assert checkpoint(tmp_path / script)["step"] == 900
        action = load(script).load_policy(tmp_path / script)(np.zeros(2, np.float32))
        assert action in (5, 6, 7)


def test_q_learning_needs_states_that_can_be_numbered(call, tmp_path):
    said = call("q_learning", *SMALL["q_learning"], "--env-id", "CartPole-v1", status=2).err
    assert "--env-id CartPole-v1" in said and "dqn.py" in said


def test_q_learning_has_nothing_to_compile(call):
    assert "--compile: a table" in call("q_learning", "--compile", status=2).err


def test_q_learning_finds_the_best_way_over_the_ice(call, tmp_path):
    """Not slippery: the shortest way, at its value by hand."""
    lake = ["--env-kwargs", '{"is_slippery": false}', "--total-timesteps", 8000]
    said = call("q_learning", *lake, "--eval-frequency", 0, "--run-dir", "run").out
    assert (
        "exact discounted value, from the task's P: this policy 0.95099, the best 0.95099" in said
    )
    arrows = re.findall("^    ([←↓→↑·]) ([←↓→↑·]) ([←↓→↑·]) ([←↓→↑·])$", said, re.M)
    assert sum(arrow == "·" for row in arrows for arrow in row) == 10  # beside the way of six
    moves = {"↓": (1, 0), "→": (0, 1), "↑": (-1, 0), "←": (0, -1)}
    row = 0
    column = 0
    for _ in range(6):
        down, right = moves[arrows[row][column]]
        row += down
        column += right
    assert (row, column) == (3, 3)
    assert (tmp_path / "run" / "policy.png").stat().st_size > 10_000


def test_the_maximum_of_independent_noise_is_too_large_and_double_q_is_not_fooled():
    """Ten actions worth 0, errors N(0, 1) in both networks: the mean target is the mean of the
    largest of ten errors, by quadrature, or 0. Four standard errors: a false alarm in 1 of 7,900
    seeds; this one is fixed.
    """
    x = np.linspace(-9, 9, 20_001)
    density = 10 * scipy.stats.norm.pdf(x) * scipy.stats.norm.cdf(x) ** 9
    largest = (x * density).sum() * (x[1] - x[0])
    rng = np.random.default_rng(0)
    for script, expected in (("dqn", largest), ("double_dqn", 0.0)):
        noise = rng.normal(size=(2, 1500, 10))
        targets = targets_of(script, noise[0], noise[1])
        error = 4 * np.std(targets) / len(targets) ** 0.5
        assert np.mean(targets) == pytest.approx(expected, abs=error)
