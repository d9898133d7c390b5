"""Statistics of final returns and scores: means, intervals, tests."""

import functools
import math

import numpy as np
import scipy.stats
from rliable import library as rly
from rliable import metrics

ENOUGH = 5  # seeds from which on an interval is drawn from one task's runs

# interquartile mean, the mean of the middle half
iqm = functools.partial(scipy.stats.trim_mean, proportiontocut=0.25, axis=-1)


def bootstrap_iqm(values):
    """[…, runs] → the ends […] of the 95 % percentile interval of their IQM."""
    result = scipy.stats.bootstrap(
        [values], iqm, vectorized=True, axis=-1, n_resamples=5000, method="percentile", rng=0
    )
    return result.confidence_interval


def welch(ours, mean, std, seeds):
    """Welch's t-test of our final returns against a published mean: (t, two-sided p).

    A published deviation that is not known counts as 0.
    """
    result = scipy.stats.ttest_ind_from_stats(
        ours.mean(), ours.std(ddof=1), len(ours), mean, std, seeds, equal_var=False
    )
    if math.isnan(result.pvalue):  # no deviation on either side
        return 0.0, 1.0
    return result.statistic, result.pvalue


def pooled(scores):
    """Scores of all tasks, each run as often as gives every task the same number of them."""
    size = math.lcm(*map(len, scores))
    return np.concatenate([np.repeat(runs, size // len(runs), axis=0) for runs in scores])


def aggregate_iqm(*scores):
    return metrics.aggregate_iqm(pooled(scores))


def aggregate_gap(*scores):
    """How far scores stay below 1 on average."""
    return metrics.aggregate_optimality_gap(pooled(scores))


def probability_of_improvement(*scores):
    """Mean over tasks of P(X > Y) + P(X = Y) / 2; scores [runs, 1] of X on each task, then of Y."""
    half = len(scores) // 2
    pairs = zip(scores[:half], scores[half:], strict=True)
    return np.mean([metrics.probability_of_improvement(x, y) for x, y in pairs])


def estimate(metric, *sides):
    """(value, its 95 % interval or None) of a metric of scores, of one script or of two.

    A side has an array [runs] for each task. Runs are resampled within each task.
    """
    scores = []
    for side in sides:
        scores += [runs[:, None] for runs in side]
    tasks = len(sides[0])
    if min(map(len, scores)) < (3 if tasks > 1 else ENOUGH):
        return metric(*scores), None
    np.random.seed(0)  # rliable draws from NumPy's global generator
    points, intervals = rly.get_interval_estimates(
        {"x": scores}, lambda *x: np.array([metric(*x)]), reps=1000
    )
    return points["x"][0], intervals["x"][:, 0]
