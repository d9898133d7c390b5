"""Is B worse than A? Two sets of runs: two versions of a script, two sets of options, two scripts.

    python benchmark/compare.py benchmark/results/td3-<version> runs/benchmark/td3-<version>
    python benchmark/compare.py runs/benchmark/td3-<version>/default runs/.../num-envs=4

Compares final evaluations on the tasks for which both have two seeds or more. Exit status 1: B is
worse. Where A's and B's returns have the same distribution that is said in at most 5 of 100
comparisons: half of it goes to the aggregate over tasks, half to the single tasks together (Holm),
each by a one-sided permutation test, whose rate holds for any number of seeds and any distribution.
Give both sides the same number of seeds. How few can show that a single task is worse depends on
how many tasks there are: four a side for one task, five for up to six tasks, six for up to 23.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
import tyro
from results import DEFAULT, read
from runs import fail

DRAWS = 10_000


class Row(NamedTuple):
    task: str
    difference: float  # mean of B − mean of A
    interval: np.ndarray  # 95 % bootstrap interval of the difference
    p: float  # chance of so bad a B, were A and B equal


def mean_difference(b, a, axis):
    # rounded: the same runs, added in another order, must be a tie
    return (b.mean(axis) - a.mean(axis)).round(9)


def holm(p_values):
    """p-values adjusted for how many there are (Holm 1979), in the given order."""
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, i in enumerate(np.argsort(p_values)):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(1.0, largest)
    return adjusted


def compare(pairs, alpha=0.05, seed=0):
    """{task: (A's final returns, B's)} → rows, the tasks where B is worse, whether it is worse.

    The last row is the aggregate: the mean over tasks of the difference in units of the task's
    standard deviation.
    """
    rng = np.random.default_rng(seed)
    rows = []
    aggregate = 0.0
    null = np.zeros(DRAWS)  # the aggregate, were A and B equal
    resampled = np.zeros(DRAWS)  # the aggregate of resampled runs
    for task, (a, b) in pairs.items():
        runs = np.concatenate([b, a])
        unit = runs.std() or 1.0  # the same whichever runs count as A's
        scaled = [(x - runs.mean()) / unit for x in (b, a)]
        test = scipy.stats.permutation_test(
            scaled, mean_difference, alternative="less", n_resamples=DRAWS, rng=rng
        )
        bootstrap = scipy.stats.bootstrap(
            scaled, mean_difference, n_resamples=DRAWS, method="percentile", rng=rng
        )
        interval = unit * np.array(bootstrap.confidence_interval)
        rows.append(Row(task, b.mean() - a.mean(), interval, test.pvalue))
        aggregate += test.statistic / len(pairs)
        null += rng.choice(test.null_distribution, DRAWS) / len(pairs)
        resampled += bootstrap.bootstrap_distribution / len(pairs)

    adjusted = holm([row.p for row in rows])
    worse = {row.task for row, p in zip(rows, adjusted, strict=True) if p <= alpha / 2}
    p = (1 + np.count_nonzero(null <= aggregate + 1e-9)) / (1 + DRAWS)  # it is one of the draws
    rows.append(Row("aggregate", aggregate, np.quantile(resampled, [0.025, 0.975]), p))
    return rows, worse, bool(worse) or p <= alpha / 2


def runs_by_task(folder):
    """{task: runs}, of the one script, version and set of options in `folder`."""
    results = read(folder)
    kinds = set()
    for result in results:
        options = "default" if result.options in DEFAULT else result.options
        kinds.add((result.script, result.version, options))
    if not kinds:
        fail(f"{folder}: holds no finished runs")
    if len(kinds) > 1:
        names = [f"{script}-{version}/{options}" for script, version, options in sorted(kinds)]
        fail(f"{folder}: holds several kinds of runs; name one of {', '.join(names)}")
    found = {}
    for result in results:
        found.setdefault(result.task, []).append(result)
    return found


def final_returns(runs):
    return np.array([run.final_return for run in runs])


@dataclass
class Args:
    a: tyro.conf.Positional[Path]  # folder of finished runs; its last part may name options
    b: tyro.conf.Positional[Path]  # the same, of the runs that may be worse
    alpha: float = 0.05  # false-alarm rate


def print_table(rows, pairs, worse):
    print("| task | seeds A, B | A | B | B − A | 95 % | p |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for row in rows:
        low, high = row.interval
        if row.task in pairs:
            a, b = pairs[row.task]
            cells = [f"{len(a)}, {len(b)}", f"{a.mean():.1f}", f"{b.mean():.1f}"]
            cells += [f"{row.difference:.1f}", f"[{low:.1f}, {high:.1f}]"]
        else:
            cells = ["", "", "", f"{row.difference:.2f} standard deviations"]
            cells += [f"[{low:.2f}, {high:.2f}]"]
        mark = " worse" if row.task in worse else ""
        print(f"| {' | '.join([row.task, *cells, f'{row.p:.4f}'])} |{mark}")


def main(args):
    a = runs_by_task(args.a)
    b = runs_by_task(args.b)
    pairs = {}
    for task in dict.fromkeys([*a, *b]):
        if min(len(a.get(task, ())), len(b.get(task, ()))) >= 2:
            pairs[task] = (final_returns(a[task]), final_returns(b[task]))
            steps = [run.steps for run in a[task] + b[task]]
            if max(steps) > 1.02 * min(steps):
                print(f"note: runs on {task} have from {min(steps)} to {max(steps)} steps")
    left_out = sorted({*a, *b} - {*pairs})
    if not pairs:
        fail(f"no task with two seeds or more on both sides: {', '.join(left_out)}")
    if left_out:
        print(f"left out, fewer than two seeds on a side: {', '.join(left_out)}")
    rows, worse, is_worse = compare(pairs, args.alpha)
    print_table(rows, pairs, worse)
    outcomes = math.prod(math.comb(len(x) + len(y), len(x)) for x, y in pairs.values())
    if 1 / outcomes > args.alpha / 2:
        print(
            f"too few runs: even the worst outcome has p = {1 / outcomes:.3f}, above "
            f"{args.alpha / 2}"
        )
    print(
        f"B is worse where the aggregate's p, or a task's after Holm's correction, is at most "
        f"{args.alpha / 2}; p and intervals above are not corrected"
    )
    verdict = "worse" if is_worse else "not shown to be worse"
    print(f"B is {verdict} (false-alarm rate at most {args.alpha})")
    return 1 if is_worse else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
