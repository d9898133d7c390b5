"""Claims of the derivations in docs/ that are no line of code, by enumeration and quadrature."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm

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
