"""Writes the report on benchmark/results: benchmark/README.md, benchmark/figures and the results in ../README.md.

python benchmark/report.py
python benchmark/report.py --check     writes nothing; fails where the committed tables are not what results make
"""

import collections
import csv
import dataclasses
import functools
import itertools
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import rliable.library
import rliable.metrics
import scipy.stats
import tyro
from common import HERE, PUBLISHED, groups, read, reference
from speed import CELLS, ENV, LIMITS, NUM_ENVS, PARTS, rate, read_speed

NAMES = {
    "reinforce": "REINFORCE",
    "a2c": "A2C",
    "ppo_continuous": "PPO",
    "ddpg": "DDPG",
    "td3": "TD3",
}
MARKS = "<!-- {} -->\n", "<!-- end -->"
ENOUGH_RETURN = 3000  # of HalfCheetah-v5, the time to which is told
PEERS = {
    "sb3": "Stable-Baselines3",
    "sbx": "SBX (JAX)",
    "minimal": "minimal loop",
    "environment": "environments alone",
}
SIGNS = {"ahead": ">", "behind": "<", "not significant": "≈"}  # "/" where there is no verdict
ENOUGH = 5  # seeds from which on an interval is drawn from one task's runs
iqm = functools.partial(
    scipy.stats.trim_mean, proportiontocut=0.25, axis=-1
)  # mean of the middle half
TEXT = """# Benchmark

Made by `python benchmark/report.py` from `benchmark/results`; do not edit.

**Protocol.** `--device cpu --num-threads 1`; other options are the default unless a row says so. What counts is the
last evaluation of each run: ten episodes, mean action, seeds apart from training's. No selection over time, none over
seeds: a row has every seed that was run; rows of older versions that were replaced are in git's history. A *version* is
a hash of what decides the numbers of a script: its code without comments, messages and the command line; the commit in
`runs.jsonl` has the whole text. No row pools versions or options; what is
said of a script as a whole takes, task by task, the newest version that has it. ± is the standard deviation over seeds
(n − 1). IQM is the mean of the middle half of the seeds. Intervals are 95 % percentile bootstraps, by SciPy for one
task from {enough} seeds on, over tasks by rliable, resampled within each task, from 3 seeds each on. With n seeds a
task they are too narrow by a factor of about √(1 − 1/n).

**Published.** One target for each algorithm and task: mean ± standard deviation (seeds), the version of the task and,
where it is not ours, the protocol; all that was found is in `benchmark/published`. *Ahead* and *behind*: Welch's
t-test, two-sided, at 5 %, so of 20 cells that are equal in truth about one is called different. † no deviation was
published, and the number is taken as exact. No verdict with one seed, or where the steps differ by more than 1 %. Where
task version or protocol differs, a verdict says that numbers differ, not why: sampled actions and returns of training
are usually lower than evaluations like ours, and tasks changed between versions.

## Final evaluations

{count}

{table}

## Aggregates

Scores: 0 is a policy of random actions, 1 the best of the five algorithms' published targets. Default options only, on
tasks that have both numbers; all tasks weigh the same, whatever their seeds. The gap is how far scores stay below 1 on
average. Rows on different tasks do not compare.

{aggregates}

{improvement}

## Time

Of training and evaluations together (without the last one), newest versions, for a run with one thread; other runs
may have shared the machine.

{times}

Seconds until an evaluation on {env} first reached a return of {aim:,}, the evaluations before it included, with
default options: the median over seeds. Evaluations come every 50,000 steps. *Not reached*: by too few seeds; –: no run.

{reaching}

{speed}## Tools

```bash
pip install -r benchmark/requirements.txt
python benchmark/run.py --scripts td3 ppo_continuous --tasks Hopper-v5 Ant-v5 --seeds 1 2 3 --workers 2 \\
    --collect --results runs/collected
python benchmark/speed.py && python benchmark/report.py
python benchmark/compare.py benchmark/results/td3-<version> runs/collected/td3-<version>
python benchmark/tune.py --script a2c --space learning-rate=1e-4..1e-2 num-steps=16,32,64 --tasks Hopper-v5
```

`run.py` skips what has finished, resumes what has not, and never mixes versions of a script or of its packages: to
reproduce a row, take the script of its version and PyTorch's CPU build, collect into a folder of your own, and compare.
With
`--ray ADDRESS` the same runs are tasks of a Ray cluster; where `--root` lies on storage that its nodes share, the runs
of a lost node go on elsewhere, from their checkpoints. `compare.py` says whether B is worse than A, with a false-alarm
rate of 5 %; `tune.py` searches options, and validates what it found on other tasks and seeds; `speed.py` times the
scripts against others, and wants a machine with nothing else to do. `--help` says the rest.

## Learning curves

{enough} seeds or more: IQM and its 95 % interval; fewer: mean, and each seed's curve behind it. Grey: the ten published
curves of TD3's author, on the v1 tasks. Dashed: other options than the default.

{figures}
"""
SPEED = """## Speed

{about}

{table}

Steps of the environment per second on {env}, at the same work on all sides: networks, batches, updates a step,
normalisation, processors. PyTorch has as many threads on all sides as the scripts give it: one, and with networks 256
wide two on a CPU. Sides take turns, each in a process of its own; start, compilation and evaluations do not count.
Medians over the rounds; the ratio is the median of the ratios round by round, in brackets the least and the greatest.
Absolute numbers differ much from round to round, ratios within a round less. *At least* is what we ask of ourselves.

"""
LIMIT = """*Minimal loop* is `benchmark/minimal.py`: Gymnasium's SyncVectorEnv and eager PyTorch, never optimised.

### Limits

*Environment* is `native_mujoco.py` alone with random actions, *update* `Agent.learn` alone, both at once the limit of a
script that does one after the other. FLOPs are those of the update's matrix products for one environment step, the peak
that of the fastest float32 matrix product here; their quotient is the limit that arithmetic sets.

{table}

"""
PART = """### Where the time goes

Microseconds per environment step, within training: `Agent.act`, `Environments.step` (the physics, and all that a step
keeps account of), `Agent.learn`, and the rest: loops, memory, logs. Medians over the rounds.

{table}

"""
SCALING = """### More environments

Steps per second with default options but for `--num-envs`: `native_mujoco.py` (native), and Gymnasium's SyncVectorEnv
(sync). td3.py makes as many updates as steps, whatever the number of environments; ppo_continuous.py keeps 32
minibatches, which grow with it.

{table}

"""


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(x):
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}"


def interval(ends, digits=None):
    low, high = (number(x) if digits is None else f"{x:.{digits}f}" for x in ends)
    return f"[{low}, {high}]"


def markdown(header, align, rows):
    lines = [header.split(" | "), [{"l": "---", "r": "--:"}[letter] for letter in align], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def finals(runs):
    return np.array([run.column("return_mean")[-1] for run in runs])


def steps(runs):
    return max(int(run.rows[-1]["global_step"]) for run in runs)


def spread(values):
    return f"{number(values.mean())}" + (
        f" ± {number(values.std(ddof=1))}" if len(values) > 1 else ""
    )


def bootstrap(values):
    """[…, runs] → 95 % percentile interval of their IQM, two times […]; the same draws for all."""
    return scipy.stats.bootstrap(
        [values], iqm, vectorized=True, axis=-1, n_resamples=5000, method="percentile", rng=0
    ).confidence_interval


def label(script, options):
    return script if options == "default" else f"{script} ({options})"


def rows_of(name):
    return list(csv.DictReader(open(PUBLISHED / name)))


def target(script, task):
    """The published target of a cell, with its protocol where it is not ours."""
    env = task.rpartition("-v")[0]
    for row in rows_of("published_targets.csv"):
        if (row["algorithm"], row["env"]) == (NAMES.get(script), env):
            digits = len(row["mean"].partition(".")[2])
            full = [
                each["protocol"]
                for each in rows_of("published_returns.csv")
                if (each["algo"], each["env_id"])
                == (row["algorithm"], f"{env}-{row['published_version']}")
                and abs(float(each["mean"]) - float(row["mean"])) <= 0.51 * 10**-digits
                and not each["protocol"].startswith(
                    ("MAX", "mean over 10 seeds of each seed's OWN")
                )
            ]
            short = {
                "training-episode": "returns of training",
                "sampled": "sampled actions",
                "last 10": "mean of the last 10 evaluations",
            }
            return row | {
                "protocol": next(
                    (say for find, say in short.items() if full and find in full[0]), ""
                )
            }


def verdict(ours, mean, std, seeds):
    """Welch's t-test of our final returns against a published mean, deviation and number of seeds."""
    if len(ours) < 2:
        return "one seed"
    test = scipy.stats.ttest_ind_from_stats(
        ours.mean(), ours.std(ddof=1), len(ours), mean, std, seeds, equal_var=False
    )
    return (
        ("ahead" if test.statistic > 0 else "behind") if test.pvalue < 0.05 else "not significant"
    )


def against(script, task, runs):
    """The published number, and how ours compares."""
    row = target(script, task)
    if not row:
        return "none found", ""
    exact = "†" * (not row["std"])
    text = f"{number(float(row['mean']))}{exact}" + (
        f" ± {number(float(row['std']))}" if row["std"] else ""
    )
    says = [
        part
        for part in (row["published_version"], row["protocol"], row["source"].split(", last")[0])
        if part
    ]
    said = verdict(finals(runs), float(row["mean"]), float(row["std"] or 0), int(row["seeds"]))
    same = abs(steps(runs) / int(row["steps"]) - 1) <= 0.01
    return f"{text} ({row['seeds']}); {', '.join(says)}", said if same else "other number of steps"


def in_order(cells):  # a script's tasks together, then options and versions
    return sorted(cells.items(), key=lambda cell: (cell[0][0], cell[0][3], cell[0][2], cell[0][1]))


def final_table(cells):
    rows = []
    for (script, version, options, task), runs in in_order(cells):
        values = finals(runs)
        ends = interval(bootstrap(values)) if len(values) >= ENOUGH else "–"
        rows.append(
            [
                label(script, options),
                task,
                f"{steps(runs):,}",
                len(runs),
                spread(values),
                number(iqm(values)),
                ends,
                *against(script, task, runs),
                f"`{version}`"
                + ", uncommitted" * any(str(run.commit).endswith("dirty") for run in runs),
            ]
        )
    return markdown(
        "script | task | steps | seeds | return, mean ± std | IQM | 95 % | published, mean ± std (seeds); "
        "task version, protocol, source | ours is | version",
        "llrrrrrlll",
        rows,
    )


def newest(cells):
    """Of each script, options and task the version that was run last."""
    best = {}
    for key, runs in cells.items():
        place, when = (key[0], key[2], key[3]), max(run.finished for run in runs)
        best[place] = max(
            best.get(place, ("", "", [])), (when, key[1], runs), key=lambda entry: entry[:2]
        )
    return {place: runs for place, (_, _, runs) in sorted(best.items())}


def matrix(cells):
    """Tasks by scripts, how many cells are ahead, and how long a run takes: default options, newest versions."""
    found, said, alike = collections.defaultdict(dict), collections.Counter(), collections.Counter()
    for (script, options, task), runs in newest(cells).items():
        if options == "default":
            row, (_, word) = target(script, task), against(script, task, runs)
            said[word] += bool(row)
            alike[word] += (
                bool(row) and not row["protocol"] and task.endswith(f"-{row['published_version']}")
            )
            found[task][script] = f"{spread(finals(runs))} ({len(runs)})" + (
                f" {SIGNS.get(word, '/')} {number(float(row['mean']))}" if row else ""
            )

    def verdicts(of):
        return f"{of['ahead']} are ahead, {of['behind']} behind, {of['not significant']} not significantly different"

    count = (
        f"Of {said.total()} cells with a published number {verdicts(said)}.\n"
        f"Of the {alike.total()} whose number is of mean actions and of the same version of the task "
        f"{verdicts(alike)}."
    )
    minutes = [
        runs and f"{np.mean([run.column('wall_seconds')[-1] for run in runs]) / 60:.0f} min"
        for runs in (newest(cells).get((script, "default", ENV)) for script in NAMES)
    ]
    rows = [[task, *(found[task].get(script, "–") for script in NAMES)] for task in sorted(found)]
    rows += [[f"*a run of {ENV}*", *(each or "–" for each in minutes)]]
    return count, markdown(" | ".join(["task", *NAMES.values()]), "l" + "r" * len(NAMES), rows)


def scores(cells):
    """{script: {task: scores of its runs}}, default options, newest version."""
    found = collections.defaultdict(dict)
    for (script, options, task), runs in newest(cells).items():
        if options == "default" and reference(task):
            zero, one = reference(task)
            found[script][task] = (finals(runs) - zero) / (one - zero)
    return found


def estimate(metric, *sides):
    """A metric of scores [runs, 1] of each task, of one script or of two, with its interval where runs are enough."""
    scores = [
        runs[:, None] for side in sides for runs in side
    ]  # resampled one by one: tasks may differ in seeds
    if min(map(len, scores)) < (3 if len(sides[0]) > 1 else ENOUGH):
        return f"{metric(*scores):.2f}"
    np.random.seed(0)  # where rliable draws from
    points, ends = rliable.library.get_interval_estimates(
        {0: scores}, lambda *x: np.array([metric(*x)]), reps=1000
    )
    return f"{points[0][0]:.2f} {interval(ends[0][:, 0], 2)}"


def pooled(scores):
    """Scores of all tasks, each run as often as gives every task the same number of them."""
    size = math.lcm(*map(len, scores))
    return np.concatenate([np.repeat(runs, size // len(runs), axis=0) for runs in scores])


def names_of(tasks):
    return ", ".join(task.rpartition("-v")[0] for task in tasks)


def aggregate_table(found):
    rows = []
    for script, tasks in found.items():
        rows.append([script, names_of(tasks), sum(map(len, tasks.values()))])
        for metric in rliable.metrics.aggregate_iqm, rliable.metrics.aggregate_optimality_gap:
            rows[-1].append(estimate(lambda *scores, of=metric: of(pooled(scores)), tasks.values()))
    return markdown("script | tasks | runs | IQM | optimality gap", "llrrr", rows)


def probability_of_improvement(*scores):
    """Mean over tasks of P(X > Y) + P(X = Y) / 2; scores [runs, 1] of X on each task, then of Y."""
    pairs = zip(scores[: len(scores) // 2], scores[len(scores) // 2 :], strict=True)
    return np.mean([rliable.metrics.probability_of_improvement(x, y) for x, y in pairs])


def improvement_table(found):
    rows = []
    for b, a in itertools.combinations(sorted(found), 2):
        if common := [task for task in found[a] if task in found[b]]:
            sides = [[found[script][task] for task in common] for script in (a, b)]
            rows.append(
                [f"P({a} > {b})", names_of(common), estimate(probability_of_improvement, *sides)]
            )
    return markdown("probability of improvement | common tasks | mean over tasks", "llr", rows)


def time_table(cells):
    rows = []
    for (script, options, task), runs in newest(cells).items():
        seconds = np.array([run.column("wall_seconds")[-1] for run in runs])
        rates = [run.column("global_step")[-1] / run.column("wall_seconds")[-1] for run in runs]
        processors = ", ".join(
            sorted({f"{run.config['processor']}, {run.config['device']}" for run in runs})
        )
        rows.append(
            [
                label(script, options),
                task,
                f"{seconds.mean() / 60:.1f}",
                f"{np.mean(rates):,.0f}",
                processors,
            ]
        )
    return markdown("script | task | minutes a run | steps/s | processor, device", "llrrl", rows)


def reaching_table(cells):
    rows, runs = [], newest(cells)
    for script in NAMES:
        found = runs.get((script, "default", ENV), [])
        seconds = [
            next(
                (
                    float(row["wall_seconds"])
                    for row in run.rows
                    if float(row["return_mean"]) >= ENOUGH_RETURN
                ),
                math.inf,
            )
            for run in found
        ]
        middle = statistics.median(seconds) if seconds else None
        rows.append(
            [
                script,
                len(found),
                "–"
                if middle is None
                else "not reached"
                if middle == math.inf
                else f"{middle:,.0f}",
            ]
        )
    return markdown("script | seeds | seconds", "lrr", rows)


# ── speed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def middle(record, of):  # the median over the rounds
    return statistics.median(map(of, record["rounds"]))


def ratios(record, a, b):
    return [rate(sides[a]) / rate(sides[b]) for sides in record["rounds"]]


def ran(record, *sides):
    return record and all(each.get(side) for each in record["rounds"] for side in sides)


def measured(record):
    return f"`{record['script']}`, {len(record['rounds'])}, {record['date']}"


def speed_table(speed, short=False):
    rows = []
    for (name, cell), (mine, option) in itertools.product(
        CELLS.items(), (("ours", ""), ("compiled", " --compile"))
    ):
        records = [speed.get((name, device)) for device in ("cpu", "cuda")]
        for side, floor in cell.sides.items() if mine in cell.sides else ():
            if side not in PEERS or (short or side in LIMITS) and not floor or not any(records):
                continue
            row = [f"{cell.script}.py{option}, {cell.title}", PEERS[side]]
            asked = f"{floor:.1f}" if floor else "–"
            for record in records:
                if not ran(record, mine, side):
                    row.append("not run")
                    continue
                found = ratios(record, mine, side)
                ours, theirs = (
                    middle(record, lambda sides, one=one: rate(sides[one])) for one in (mine, side)
                )
                row.append(
                    f"{ours:,.0f} / {theirs:,.0f} = {statistics.median(found):.2f} "
                    f"[{min(found):.2f}, {max(found):.2f}]"
                )
                asked += " (missed)" * bool(
                    record["device"] == "cpu" and floor and statistics.median(found) < floor
                )
            rows.append(
                [*row[:3], asked, row[3], *[measured(next(filter(None, records)))] * (not short)]
            )
    header = (
        "script | against | ours / theirs = ratio | at least | CUDA"
        + " | version, rounds, date" * (not short)
    )
    return rows and markdown(header, "llrrrl"[: 6 - short], rows)


def limits_table(speed):
    rows = []
    for (name, device), record in speed.items():
        if ran(record, "ours", *LIMITS):

            def limit(sides):
                return 1 / (1 / rate(sides["environment"]) + 1 / rate(sides["update"]))

            def arithmetic(sides):
                return rate(sides["peak"]) / sides["update"]["flops"]

            alone = [
                middle(record, lambda sides, side=side: rate(sides[side]))
                for side in ("environment", "update")
            ]
            row = [
                f"{CELLS[name].script}.py, {CELLS[name].title}",
                device,
                *alone,
                middle(record, limit),
                middle(record, lambda sides: rate(sides["ours"])),
            ]
            row = [*row[:2], *(f"{x:,.0f}" for x in row[2:])]
            row.append(
                f"{100 * middle(record, lambda sides: rate(sides['ours']) / limit(sides)):.0f} %"
            )
            if all(sides["update"]["flops"] for sides in record["rounds"]):
                row += [
                    f"{middle(record, lambda sides: sides['update']['flops']) / 1e6:.2f} M",
                    f"{middle(record, lambda sides: rate(sides['peak'])) / 1e9:,.0f} G",
                    f"{middle(record, arithmetic):,.0f}",
                    f"{100 * middle(record, lambda sides: rate(sides['ours']) / arithmetic(sides)):.1f} %",
                ]
            rows.append(row + ["–"] * (11 - len(row)) + [measured(record)])
    header = "script | device | environment, steps/s | update, steps/s | limit, steps/s | reached, steps/s | share | "
    header += (
        "FLOPs a step | peak, FLOP/s | limit of arithmetic, steps/s | share | version, rounds, date"
    )
    return rows and markdown(header, "llrrrrrrrrrl", rows)


def parts_table(speed):
    rows = []
    for (name, device), record in speed.items():
        if name.endswith("-parts"):
            all_ = middle(record, lambda sides: 1e6 / rate(sides["parts"]))
            each = [
                middle(
                    record,
                    lambda sides, part=part: 1e6 * sides["parts"][part] / sides["parts"]["steps"],
                )
                for part in PARTS
            ]
            rows.append(
                [
                    f"{CELLS[name].script}.py, {CELLS[name].title}",
                    device,
                    *map(number, (*each, all_ - sum(each), all_)),
                    measured(record),
                ]
            )
    return rows and markdown(
        f"script | device | {' | '.join(PARTS)} | rest | in all | version, rounds, date",
        "llrrrrrl",
        rows,
    )


def scaling_table(speed):
    rows = []
    for (name, device), record in speed.items():
        for n in NUM_ENVS if name.endswith("-scaling") else ():
            sides = f"native {n}", f"sync {n}"
            rates = [middle(record, lambda each, side=side: rate(each[side])) for side in sides]
            rows.append(
                [
                    f"{CELLS[name].script}.py",
                    device,
                    n,
                    *(f"{x:,.0f}" for x in rates),
                    f"{statistics.median(ratios(record, *sides)):.2f}",
                    measured(record),
                ]
            )
    return rows and markdown(
        "script | device | environments | native | sync | ratio | version, rounds, date",
        "llrrrrl",
        rows,
    )


def about(speed):
    """Where, with what and when it was measured."""
    lines = collections.defaultdict(set)
    for record in speed.values():
        where = filter(None, (record.get("accelerator"), record["processor"]))
        with_ = ", ".join(map(" ".join, record["versions"].items()))
        lines["; ".join((*where, f"threads: {record['threads']}", with_))].add(record["date"])
    lines = [f"{line}; {', '.join(sorted(dates))}" for line, dates in lines.items()]
    return "Measured by `python benchmark/speed.py`: " + "\n".join(f"{line}." for line in lines)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def panel(axis, cells, task, colors, author):
    if author:
        for i, curve in enumerate(author):
            name = None if i else "TD3's author, v1"
            axis.plot(curve[:, 0] / 1e6, curve[:, 1], color="0.8", linewidth=0.6, label=name)
    for (script, options, where), runs in newest(cells).items():
        if where == task:
            x = runs[0].column("global_step")
            y = np.array(
                [np.interp(x, run.column("global_step"), run.column("return_mean")) for run in runs]
            )
            style = {"color": colors[script], "linestyle": "-" if options == "default" else "--"}
            middle = iqm(y.T) if len(y) >= ENOUGH else y.mean(0)
            axis.plot(
                x / 1e6,
                middle,
                label=f"{label(script, options)}, seeds: {len(y)}",
                linewidth=1.8,
                **style,
            )
            if len(y) >= ENOUGH:
                axis.fill_between(
                    x / 1e6, *bootstrap(y.T), color=colors[script], alpha=0.2, linewidth=0
                )
            elif len(y) > 1:
                axis.plot(x / 1e6, y.T, alpha=0.3, linewidth=0.8, **style)
    axis.set(title=task, xlabel="million environment steps", ylabel="return of an evaluation")


def draw(cells, folder):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    tasks, curves = (
        sorted({key[3] for key in cells}),
        collections.defaultdict(lambda: collections.defaultdict(list)),
    )
    for row in rows_of("td3_author_curves.csv"):
        curves[row["task"]][row["seed"]].append(
            (int(row["global_step"]), float(row["return_mean"]))
        )
    colors = dict(zip(NAMES, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    colors = collections.defaultdict(lambda: "black", colors)

    def author(task):
        has = ("td3", task) in {(key[0], key[3]) for key in cells}
        return (
            [np.array(curve) for curve in curves[f"{task.rpartition('-v')[0]}-v1"].values()]
            if has
            else []
        )

    def save(figure, name):
        figure.savefig(folder / f"{name}.png", dpi=100, metadata={"Software": None})
        plt.close(figure)

    columns = min(3, len(tasks))
    figure, axes = plt.subplots(
        -(-len(tasks) // columns),
        columns,
        layout="constrained",
        squeeze=False,
        figsize=(4 * columns, 3.2 * -(-len(tasks) // columns)),
    )
    for axis in axes.flat[len(tasks) :]:
        axis.remove()
    for task, axis in zip(tasks, axes.flat, strict=False):
        panel(axis, cells, task, colors, author(task))
    from matplotlib.lines import Line2D

    handles = {
        script: Line2D([], [], color=colors[script]) for script in sorted({key[0] for key in cells})
    }
    if any(key[0] == "td3" for key in cells):
        handles["TD3's author, v1"] = Line2D([], [], color="0.8")
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    save(figure, "all")
    for task in tasks:
        figure, axis = plt.subplots(figsize=(6, 4.6), layout="constrained")
        panel(axis, cells, task, colors, author(task))
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        save(figure, file_name(task))


def file_name(task):
    return task.replace(":", "_").replace("/", "_")


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Args:
    results: Path = HERE / "results"  # what run.py --collect made
    report: Path = HERE / "README.md"  # to write; figures go into figures/ beside it
    readme: Path = HERE.parent / "README.md"  # its part from <!-- results --> to <!-- end --> too
    check: bool = False  # write nothing, compare


def main(args):
    cells = groups(read(args.results))
    if not cells:
        sys.exit(print(f"--results {args.results}: holds no results", file=sys.stderr) or 2)
    (count, overview), found = matrix(cells), scores(cells)
    names = ["all", *map(file_name, sorted({key[3] for key in cells}))]
    speed = read_speed(args.results / "speed.jsonl")
    parts = (
        part.format(about=about(speed), env=ENV, table=table) if (table := make(speed)) else ""
        for part, make in (
            (SPEED, speed_table),
            (LIMIT, limits_table),
            (PART, parts_table),
            (SCALING, scaling_table),
        )
    )
    text = TEXT.format(
        enough=ENOUGH,
        count=count,
        table=final_table(cells),
        aggregates=aggregate_table(found),
        improvement=improvement_table(found),
        times=time_table(cells),
        env=ENV,
        aim=ENOUGH_RETURN,
        reaching=reaching_table(cells),
        speed="".join(parts),
        figures="\n".join(f"![{name}](figures/{name}.png)" for name in names),
    )
    readme = args.readme.read_text()
    for name, part in (("results", f"{overview}\n\n{count}\n"),):
        before, mark, rest = readme.partition(MARKS[0].format(name))
        _, end, after = rest.partition(MARKS[1])
        if not mark or not end:
            sys.exit(
                print(
                    f"{args.readme}: has no {MARKS[0].format(name).strip()} … {MARKS[1]}",
                    file=sys.stderr,
                )
                or 2
            )
        readme = f"{before}{mark}{part}{end}{after}"
    texts = {args.report: text, args.readme: readme}
    if args.check:
        stale = [
            str(path)
            for path, made in texts.items()
            if not path.exists() or path.read_text() != made
        ]
        stale += [
            name for name in names if not (args.report.parent / "figures" / f"{name}.png").exists()
        ]
        return (
            print(f"not what the results make: {', '.join(stale)}; run report.py") or 1
            if stale
            else 0
        )
    for path, made in texts.items():
        path.write_text(made)
    draw(cells, args.report.parent / "figures")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
