"""Is B worse than A? Two sets of runs: two versions of a script, two sets of options, or two scripts.

    python benchmark/compare.py benchmark/results/td3-d2e01eff runs/benchmark/td3-94b325f1
    python benchmark/compare.py benchmark/results/td3-94b325f1/default benchmark/results/td3-94b325f1/num-envs=4

Compares final evaluations on the tasks for which both have two seeds or more. Exit status 1: B is worse. Where A and B
are equal in truth that is said in at most 5 of 100 comparisons: half of it goes to the aggregate over tasks, half to
the single tasks together (Holm), each by a one-sided permutation test, whose rate holds for any number of seeds and any
distribution.
"""
import dataclasses
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import scipy.stats
import tyro
from common import fail, read

DRAWS = 10_000


def difference(b, a, axis):
    return b.mean(axis) - a.mean(axis)


def compare(pairs, alpha=0.05, seed=0):
    """{task: (A's final returns, B's)} → rows (task, difference, its 95 % interval, p), the worse tasks, worse at all.

    The last row is the aggregate: the mean over tasks of the difference in units of the task's standard deviation."""
    rng, rows, aggregate, null, drawn = np.random.default_rng(seed), [], 0, 0, 0
    for task, (a, b) in pairs.items():
        test = scipy.stats.permutation_test((b, a), difference, alternative="less", n_resamples=DRAWS, rng=rng)
        again = scipy.stats.bootstrap((b, a), difference, n_resamples=DRAWS, method="percentile", rng=rng)
        rows.append((task, test.statistic, again.confidence_interval, test.pvalue))
        unit = len(pairs) * (np.concatenate([a, b]).std() or 1)  # the same whichever runs count as A's
        aggregate, drawn = aggregate + test.statistic / unit, drawn + again.bootstrap_distribution / unit
        null = null + rng.choice(test.null_distribution, DRAWS) / unit
    worse = set()
    for place, (task, _, _, p) in enumerate(sorted(rows, key=lambda row: row[3])):
        if p > alpha / 2 / (len(rows) - place):
            break
        worse.add(task)
    p = (1 + np.count_nonzero(null <= aggregate + 1e-9)) / (1 + DRAWS)  # the observed one is among the chances
    rows.append(("aggregate", aggregate, np.quantile(drawn, [0.025, 0.975]), p))
    return rows, worse, bool(worse) or p <= alpha / 2


def final_returns(folder):
    """{task: final returns}, of the one script, version and set of options in `folder`."""
    results = read(folder)
    kinds = {result.key[:3] for result in results}
    if len(kinds) != 1:
        fail(f"{folder}: " + (f"holds several, name one: {sorted(kinds)}" if kinds else "holds no finished runs"))
    return {task: np.array([run.column("return_mean")[-1] for run in runs])
            for task, runs in itertools.groupby(results, key=lambda result: result.task) for runs in [list(runs)]}


@dataclasses.dataclass
class Args:
    a: tyro.conf.Positional[Path]  # folder of finished runs, or collected ones; its last part may name options
    b: tyro.conf.Positional[Path]  # the same, of the runs that may be worse
    alpha: float = 0.05  # false-alarm rate


def main(args):
    a, b = final_returns(args.a), final_returns(args.b)
    pairs = {task: (a[task], b[task]) for task in a if min(len(a[task]), len(b.get(task, ()))) > 1}
    if not pairs:
        fail(f"no task with two seeds or more on both sides: {', '.join(a)} against {', '.join(b)}")
    rows, worse, verdict = compare(pairs, args.alpha)
    print("| task | seeds A, B | A | B | B − A | 95 % | p |\n|---|---|--:|--:|--:|--:|--:|")
    for task, difference, (low, high), p in rows:
        if task in pairs:
            x, y = pairs[task]
            cells = f"{len(x)}, {len(y)} | {x.mean():.1f} | {y.mean():.1f} | {difference:.1f} | [{low:.1f}, {high:.1f}]"
        else:
            cells = f"| | | {difference:.2f} standard deviations | [{low:.2f}, {high:.2f}]"
        print(f"| {task} | {cells} | {p:.4f} |" + " worse" * (task in worse))
    chances = math.prod(math.comb(len(x) + len(y), len(x)) for x, y in pairs.values())
    if 1 / chances > args.alpha / 2:
        print(f"too few runs: even the worst outcome has p = {1 / chances:.3f}, above {args.alpha / 2}")
    print(f"B is {'worse' if verdict else 'not shown to be worse'} (false-alarm rate at most {args.alpha})")
    return int(verdict)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
