"""Is B worse than A? Two sets of runs: two versions of a script, two sets of options, or two scripts.

    python benchmark/compare.py benchmark/results/td3-d2e01eff runs/benchmark/td3-94b325f1
    python benchmark/compare.py benchmark/results/td3-94b325f1/default benchmark/results/td3-94b325f1/num-envs=4

Compares final evaluations on the tasks that both have. Exit status 1: B is worse. Where A and B are equal in truth that
is said in at most 5 of 100 comparisons: half of it goes to the aggregate over tasks, half to the single tasks together
(Holm), each by a one-sided permutation test, whose rate holds for any number of seeds and any distribution.
"""
import dataclasses
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import tyro
from common import fail, read

DRAWS = 10_000


def splits(n, m, rng):
    """[R, n + m], true for those n of n + m runs that count as A's: every choice once, or DRAWS of them by chance."""
    if math.comb(n + m, n) <= DRAWS:
        chosen = np.array(list(itertools.combinations(range(n + m), n)))
    else:
        chosen = rng.random((DRAWS, n + m)).argsort(1)[:, :n]
    mask = np.zeros((len(chosen), n + m), bool)
    np.put_along_axis(mask, chosen, True, 1)
    return mask


def differences(a, b, rng):
    """Mean of B less mean of A: as it is, and for every split that would be as likely if both were equal."""
    runs, mask = np.concatenate([a, b]), splits(len(a), len(b), rng)
    return b.mean() - a.mean(), (~mask @ runs) / len(b) - (mask @ runs) / len(a)


def p_value(observed, null, exact):  # P(a difference this bad or worse | equal); the observed one is among the chances
    tolerance = 1e-9 * (np.abs(null).max() + 1e-30)
    worse = np.count_nonzero(null <= observed + tolerance)
    return worse / len(null) if exact else (1 + worse) / (1 + len(null))


def compare(pairs, alpha=0.05, seed=0):
    """{task: (A's final returns, B's)} → rows (task, difference, its 95 % interval, p), the worse tasks, worse at all.

    The last row is the aggregate: the mean over tasks of the difference in units of the task's standard deviation."""
    rng, rows, aggregate, null, drawn = np.random.default_rng(seed), [], 0, 0, 0
    for task, (a, b) in pairs.items():
        difference, chances = differences(a, b, rng)
        again = [x[rng.integers(len(x), size=(DRAWS, len(x)))].mean(1) for x in (b, a)]
        again = again[0] - again[1]
        exact = math.comb(len(a) + len(b), len(a)) <= DRAWS
        rows.append((task, difference, np.quantile(again, [0.025, 0.975]), p_value(difference, chances, exact)))
        unit = len(pairs) * (np.concatenate([a, b]).std() or 1)  # the same whichever runs count as A's
        aggregate, drawn = aggregate + difference / unit, drawn + again / unit
        null = null + rng.choice(chances, DRAWS) / unit
    worse = set()
    for place, (task, _, _, p) in enumerate(sorted(rows, key=lambda row: row[3])):
        if p > alpha / 2 / (len(rows) - place):
            break
        worse.add(task)
    rows.append(("aggregate", aggregate, np.quantile(drawn, [0.025, 0.975]), p_value(aggregate, null, False)))
    return rows, worse, bool(worse) or rows[-1][3] <= alpha / 2


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
    pairs = {task: (a[task], b[task]) for task in a if task in b}
    if not pairs:
        fail(f"no task in common: {', '.join(a)} against {', '.join(b)}")
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
