"""Claims of the derivations in docs/ that are no line of code, by enumeration and quadrature."""

import itertools
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.stats import norm

import a2c

MEAN, STD = 0.4, 0.7
ACTIONS = np.linspace(MEAN - 9 * STD, MEAN + 9 * STD, 200_001)
WEIGHTS = norm.pdf(ACTIONS, MEAN, STD) * (ACTIONS[1] - ACTIONS[0])
SCORE = (ACTIONS - MEAN) / STD**2  # the derivative of the log-density by the mean


def expectation(values):
    """Over an action of the normal distribution."""
    return (WEIGHTS * values).sum()


def test_the_best_baseline_weighs_returns_by_the_squared_score():
    """docs/reinforce.md: b* = E[g² G] / E[g²]; every baseline leaves the mean as it is."""
    returns = ACTIONS**2 + 3 + np.sin(ACTIONS)
    best = expectation(SCORE**2 * returns) / expectation(SCORE**2)
    mean = expectation(SCORE * returns)

    def variance(baseline):
        return expectation((SCORE * (returns - baseline)) ** 2) - mean**2

    for baseline in (0.0, best - 0.1, best + 0.1, expectation(returns)):
        assert expectation(SCORE * (returns - baseline)) == pytest.approx(mean, abs=1e-9)
        assert variance(baseline) > variance(best)
    assert variance(expectation(returns)) < variance(0.0) / 3


def test_the_gradient_with_clipped_actions_needs_the_density_of_the_drawn_ones():
    """docs/continuous_actions.md, against central differences of the expectation itself."""

    def objective(mean):
        shift = mean - MEAN  # the same draws, moved
        return expectation(reward((ACTIONS + shift).clip(-1, 1)))

    def reward(action):
        return (action - 0.3) ** 3 + 2 * action

    gradient = (objective(MEAN + 1e-4) - objective(MEAN - 1e-4)) / 2e-4
    clipped = ACTIONS.clip(-1, 1)
    assert expectation(SCORE * reward(clipped)) == pytest.approx(gradient, rel=1e-4)
    score_of_clipped = (clipped - MEAN) / STD**2
    wrong = expectation(score_of_clipped * reward(clipped))
    assert abs(wrong - gradient) > 0.1 * abs(gradient)
    # the clipped action has a density too, with a point mass at each bound
    inside = np.abs(ACTIONS) < 1
    mass_above = norm.sf(1, MEAN, STD)
    mass_below = norm.cdf(-1, MEAN, STD)
    slope_above = norm.pdf(1, MEAN, STD)  # derivatives of the two masses by the mean
    slope_below = -norm.pdf(-1, MEAN, STD)
    right = expectation(np.where(inside, SCORE * reward(clipped), 0))
    right += slope_above * reward(1.0) + slope_below * reward(-1.0)
    assert right == pytest.approx(gradient, rel=1e-3)
    assert mass_above + mass_below + expectation(inside) == pytest.approx(1, abs=1e-4)


def test_the_smaller_of_two_critics_does_not_overestimate_the_selected_action():
    """docs/td3.md [8]: all errors of ±1, each as likely as the others, on three actions."""
    values = np.array([0.0, 0.3, 0.5])
    errors = list(itertools.product((-1.0, 1.0), repeat=3))
    single = []
    smaller = []
    second = []
    truth = []
    for error1, error2 in itertools.product(errors, errors):
        q1 = values + error1
        q2 = values + error2
        selected = q1.argmax()
        single.append(q1[selected])
        smaller.append(min(q1[selected], q2[selected]))
        second.append(q2[selected])
        truth.append(values[selected])
    assert np.mean(single) > values.max()
    assert np.mean(second) == pytest.approx(np.mean(truth))
    assert np.mean(smaller) <= np.mean(second) <= values.max()


def test_the_smaller_of_two_equal_normal_errors_is_too_low_by_sigma_over_root_pi():
    """docs/td3.md [8]: its density is 2 φ(x) (1 − Φ(x))."""
    x = np.linspace(-10, 10, 200_001)
    mean = (x * 2 * norm.pdf(x) * norm.sf(x)).sum() * (x[1] - x[0])
    assert mean == pytest.approx(-1 / np.sqrt(np.pi), abs=1e-8)


def numbers_of(page, heading):
    """The last column of the table with this heading."""
    table = re.search(rf"\| {heading} .*?\n\|[-:| ]+\n((?:\|.*\n)+)", page)[1]
    return [float(row.split("|")[-2].replace("−", "-")) for row in table.splitlines()]


def test_the_numbers_of_the_page_on_back_propagation_are_autograds():
    page = (ROOT / "docs/back_propagation.md").read_text()
    critic = a2c.Critic(2, (2,))
    hidden, tanh, last = critic.net
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor([[0.5, -1.0], [1.0, 0.5]]))
        hidden.bias.copy_(torch.tensor([0.25, 0.0]))
        last.weight.copy_(torch.tensor([[2.0, -1.0]]))
        last.bias.fill_(0.5)
    s = torch.tensor([1.0, 0.5])
    z = hidden(s)
    h = tanh(z)
    v = last(h).squeeze()
    z.retain_grad()
    h.retain_grad()
    v.retain_grad()
    loss = (v - 1.0) ** 2
    loss.backward()
    forward = [z, h, v, loss]
    backward = [v.grad, last.bias.grad, last.weight.grad, h.grad]
    backward += [z.grad, hidden.bias.grad, hidden.weight.grad]
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter -= 0.01 * parameter.grad
        after = [critic(s), (critic(s) - 1.0) ** 2]
    for heading, expected in ("forward", forward), ("backward", backward), ("after", after):
        flat = torch.cat([x.detach().flatten() for x in expected]).tolist()
        assert numbers_of(page, heading) == pytest.approx(flat, abs=5.1e-5)


def test_a_potential_leaves_the_best_policy_as_it_is():
    """docs/symbols.md: values change by −Φ(s), the best action does not; value iteration."""
    random = np.random.default_rng(0)
    states = 5
    actions = 3
    gamma = 0.9
    chance = random.dirichlet(np.ones(states), (states, actions))  # of each next state
    chance[0] = np.eye(states)[0]  # state 0 is final
    reward = random.normal(size=(states, actions, states))
    reward[0] = 0
    potential = 5 * random.normal(size=states)
    potential[0] = 0

    def best_values(reward):
        q = np.zeros((states, actions))
        for _ in range(500):
            q = (chance * (reward + gamma * q.max(1))).sum(2)
        return q

    plain = best_values(reward)
    shaped = best_values(reward + gamma * potential - potential[:, None, None])
    assert shaped == pytest.approx(plain - potential[:, None], abs=1e-9)
    assert shaped.argmax(1).tolist() == plain.argmax(1).tolist()


def test_the_factor_that_is_left_out_makes_the_update_no_gradient():
    """docs/reinforce.md: its derivatives would have to be symmetric (Nota and Thomas 2020).

    Two states: the first action, +1 or −1 with mean x, leads to the second if it is +1; there the
    second action has mean y. Rewards r₀ a₀ and r₁ a₁.
    """
    gamma, step = 0.5, 1e-4

    def update(x, y, factor):
        first = (1 + x) / 2  # the probability of +1, whose derivative by x is 1/2
        # the derivative of the expectation of r₀ a₀ + γ r₁ a₁ with r₀ = 1, r₁ = 2
        by_x = 1 + gamma * 2 * y / 2
        by_y = first * 2 * (gamma if factor else 1)
        return np.array([by_x, by_y])

    def asymmetry(factor):
        by_x = (update(step, 0, factor) - update(-step, 0, factor)) / (2 * step)
        by_y = (update(0, step, factor) - update(0, -step, factor)) / (2 * step)
        return abs(by_x[1] - by_y[0])

    assert asymmetry(factor=True) == pytest.approx(0, abs=1e-9)
    assert asymmetry(factor=False) == pytest.approx(0.5)
