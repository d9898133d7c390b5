"""Is B worse than A? Two sets of runs: two versions of a script, two sets of options, or two scripts.

    python benchmark/compare.py benchmark/results/td3-<version> runs/benchmark/td3-<other version>
    python benchmark/compare.py runs/benchmark/td3-<version>/default runs/benchmark/td3-<version>/num-envs=4

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


def difference(b, a, axis):  # rounded: the same runs, added in another order, must be a tie
    return (b.mean(axis) - a.mean(axis)).round(9)


def compare(pairs, alpha=0.05, seed=0):
    """{task: (A's final returns, B's)} → rows (task, difference, its 95 % interval, p), the worse tasks, worse at all.

    The last row is the aggregate: the mean over tasks of the difference in units of the task's standard deviation."""
    rng, rows, aggregate, null, drawn = np.random.default_rng(seed), [], 0, 0, 0
    for task, (a, b) in pairs.items():
        runs = np.concatenate([b, a])
        unit = runs.std() or 1  # the same whichever runs count as A's
        scaled = [(x - runs.mean()) / unit for x in (b, a)]
        test = scipy.stats.permutation_test(
            scaled, difference, alternative="less", n_resamples=DRAWS, rng=rng
        )
        again = scipy.stats.bootstrap(
            scaled, difference, n_resamples=DRAWS, method="percentile", rng=rng
        )
        rows.append(
            (task, b.mean() - a.mean(), unit * np.array(again.confidence_interval), test.pvalue)
        )
        aggregate, drawn = (
            aggregate + test.statistic / len(pairs),
            drawn + again.bootstrap_distribution / len(pairs),
        )
        null = null + rng.choice(test.null_distribution, DRAWS) / len(pairs)
    worse = set()
    for place, (task, _, _, p) in enumerate(sorted(rows, key=lambda row: row[3])):
        if p > alpha / 2 / (len(rows) - place):
            break
        worse.add(task)
    p = (1 + np.count_nonzero(null <= aggregate + 1e-9)) / (
        1 + DRAWS
    )  # the observed one is among the chances
    rows.append(("aggregate", aggregate, np.quantile(drawn, [0.025, 0.975]), p))
    return rows, worse, bool(worse) or p <= alpha / 2


def final_returns(folder):
    """{task: final returns}, of the one script, version and set of options in `folder`."""
    results = read(folder)
    kinds = {result.key[:3] for result in results}
    if len(kinds) != 1:
        fail(
            f"{folder}: "
            + (f"holds several, name one: {sorted(kinds)}" if kinds else "holds no finished runs")
        )
    return {
        task: np.array([run.column("return_mean")[-1] for run in runs])
        for task, runs in itertools.groupby(results, key=lambda result: result.task)
        for runs in [list(runs)]
    }


@dataclasses.dataclass
class Args:
    a: tyro.conf.Positional[
        Path
    ]  # folder of finished runs, or collected ones; its last part may name options
    b: tyro.conf.Positional[Path]  # the same, of the runs that may be worse
    alpha: float = 0.05  # false-alarm rate


def main(args):
    a, b = final_returns(args.a), final_returns(args.b)
    pairs = {task: (a[task], b[task]) for task in a if min(len(a[task]), len(b.get(task, ()))) > 1}
    if not pairs:
        fail(f"no task with two seeds or more on both sides: {', '.join(a)} against {', '.join(b)}")
    if left := sorted({*a, *b} - {*pairs}):
        print(f"left out, fewer than two seeds on a side: {', '.join(left)}")
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
        print(
            f"too few runs: even the worst outcome has p = {1 / chances:.3f}, above {args.alpha / 2}"
        )
    print(
        f"B is {'worse' if verdict else 'not shown to be worse'} (false-alarm rate at most {args.alpha})"
    )
    return int(verdict)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
