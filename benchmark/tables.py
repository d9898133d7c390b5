"""The report's tables, in Markdown."""

import itertools
from typing import NamedTuple

import numpy as np
from compare import final_returns, holm
from estimates import (
    ENOUGH,
    aggregate_gap,
    aggregate_iqm,
    bootstrap_iqm,
    estimate,
    iqm,
    probability_of_improvement,
    welch,
)
from results import (
    is_current,
    name_without_version,
    newest,
    published_target,
    reference,
    score,
)

CONTINUOUS = {
    "reinforce": "REINFORCE",
    "a2c": "A2C",
    "ppo_continuous": "PPO",
    "ddpg": "DDPG",
    "td3": "TD3",
}
DISCRETE = {"q_learning": "Q-learning", "dqn": "DQN", "double_dqn": "Double DQN"}
NAMES = CONTINUOUS | DISCRETE
MANY = 3  # runs of each script on each task from which on two scripts are compared


def number(x):
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    if abs(x) >= 100:
        return f"{x:.0f}"
    return f"{x:.1f}"


def interval(ends):
    low, high = ends
    return f"[{number(low)}, {number(high)}]"


def markdown(header, align, rows):
    """`header` is separated by " | "; `align` has an l or an r for each column."""
    marks = ["---" if letter == "l" else "--:" for letter in align]
    lines = [header.split(" | "), marks, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def mean_and_std(values):
    if len(values) == 1:
        return number(values[0])
    return f"{number(values.mean())} ± {number(values.std(ddof=1))}"


def label(script, options):
    if options == "default":
        return script
    if options == "compile":
        return f"{script} --compile"
    return f"{script} ({options})"


def task_names(tasks, older):
    """With an asterisk for those in `older`."""
    names = []
    for task in tasks:
        names.append(name_without_version(task) + ("\\*" if task in older else ""))
    return ", ".join(names)


# ── comparison with published numbers ────────────────────────────────────────────────────────────


class Comparison(NamedTuple):
    """Of a cell with its published target."""

    target: dict  # the row of published_targets.csv
    verdict: str | None  # ahead, behind, not significantly different, or why there is no verdict
    p: float | None = None  # of the test, not corrected for the number of tests


def compare_with_published(cells):
    """{key: Comparison} of cells that have a published number; of default options, newest version.

    The verdicts, Welch's t-tests at 5 %, are corrected together for how many there are (Holm).
    """
    comparisons = {}
    tests = {}
    for (script, task), (key, runs) in default_cells(cells).items():
        target = published_target(NAMES.get(script), task)
        if target is None:
            continue
        comparisons[key] = Comparison(target, why_no_verdict(key, runs, target))
        if comparisons[key].verdict is None:
            mean = float(target["mean"])
            std = float(target["std"] or 0)
            tests[key] = welch(final_returns(runs), mean, std, int(target["seeds"]))
    adjusted = holm([p for _, p in tests.values()])
    for (key, (t, p)), adjusted_p in zip(tests.items(), adjusted, strict=True):
        verdict = "not significantly different"
        if adjusted_p < 0.05:
            verdict = "ahead" if t > 0 else "behind"
        comparisons[key] = comparisons[key]._replace(verdict=verdict, p=p)
    return comparisons


def why_no_verdict(key, runs, target):
    if not is_current(key):
        return "older version"
    if len(runs) == 1:
        return "one seed"
    if abs(runs[0].steps / int(target["steps"]) - 1) > 0.02:
        return "other number of steps"
    return None


def verdict_text(comparison):
    if comparison.p is None:
        return comparison.verdict
    p = "< 0.001" if comparison.p < 0.001 else f"= {comparison.p:.3f}"
    return f"{comparison.verdict}, p {p}"


def target_text(target):
    """Mean ± std (seeds); what differs from our protocol; source."""
    text = number(float(target["mean"]))
    if target["std"]:
        text += f" ± {number(float(target['std']))}"
    else:
        text += "†"
    notes = [target["published_version"], target["protocol"], target["source"]]
    return f"{text} ({target['seeds']}); {', '.join(filter(None, notes))}"


def latest_and_older(cells):
    """The newest cell of each script, options and task, and the other cells."""
    latest = {runs[0].key: runs for runs in newest(cells).values()}
    older = {key: runs for key, runs in cells.items() if key not in latest}
    return latest, older


def by_script_and_task(cells):
    return sorted(cells.items(), key=lambda item: (item[0][0], item[0][3], item[0][2]))


def final_table(cells):
    comparisons = compare_with_published(cells)
    rows = []
    for key, runs in by_script_and_task(cells):
        script, version, options, task = key
        values = final_returns(runs)
        ends = interval(bootstrap_iqm(values)) if len(values) >= ENOUGH else "–"
        target = published_target(NAMES.get(script), task)
        published = target_text(target) if target else "none found"
        verdict = verdict_text(comparisons[key]) if key in comparisons else ""
        uncommitted = any(str(run.commit).endswith("dirty") for run in runs)
        rows.append(
            [
                label(script, options),
                task,
                f"{max(run.steps for run in runs):,}",
                len(runs),
                mean_and_std(values),
                number(iqm(values)),
                ends,
                published,
                verdict,
                f"`{version}`, uncommitted" if uncommitted else f"`{version}`",
            ]
        )
    return markdown(
        "script | task | steps | seeds | return, mean ± std | IQM | 95 % of IQM | published, "
        "mean ± std (seeds); task version, protocol, source | verdict on ours | version",
        "llrrrrrlll",
        rows,
    )


def older_table(cells):
    rows = []
    for (script, version, options, task), runs in by_script_and_task(cells):
        text = mean_and_std(final_returns(runs))
        rows.append([label(script, options), task, len(runs), text, f"`{version}`"])
    return markdown("script | task | seeds | return, mean ± std | version", "llrrl", rows)


def validation_table(validation, cells):
    """Other options, on seeds that neither a search nor the other tables have."""
    defaults = default_cells(cells)
    rows = []
    for key, runs in sorted(validation.items(), key=lambda item: (item[0][0], item[0][3])):
        script, version, options, task = key
        default_key, default_runs = defaults.get((script, task), (None, []))
        default = "–"
        if default_runs:
            default = mean_and_std(final_returns(default_runs)) + asterisk(default_key)
        text = mean_and_std(final_returns(runs))
        rows.append([script, task, options, len(runs), text, default, f"`{version}`"])
    header = "script | task | options | seeds | return, mean ± std | default | version"
    return markdown(header, "lllrrrl", rows)


def default_cells(cells):
    """{(script, task): (key, runs)}, the newest version of each with default options."""
    found = {}
    for (script, options, task), runs in newest(cells).items():
        if options == "default":
            found[script, task] = (runs[0].key, runs)
    return found


def asterisk(key):
    """Marks runs of a version that the script no longer has."""
    return "" if is_current(key) else "\\*"


def overview_table(cells, names):
    """Tasks × scripts, for a reader with little time: ours, and below it the published number."""
    found = default_cells(cells)
    scripts = [script for script in names if any(script == each for each, _ in found)]
    tasks = sorted({task for script, task in found if script in scripts})
    rows = []
    for task in tasks:
        row = [task]
        for script in scripts:
            if (script, task) not in found:
                row.append("not run")
                continue
            key, runs = found[script, task]
            cell = f"{mean_and_std(final_returns(runs))} ({len(runs)}){asterisk(key)}"
            target = published_target(names[script], task)
            if target:
                cell += f"<br>published {number(float(target['mean']))}"
            row.append(cell)
        rows.append(row)
    header = " | ".join(["task", *(names[script] for script in scripts)])
    return markdown(header, "l" + "r" * len(scripts), rows)


def count_verdicts(cells):
    """Two sentences: how many cells are ahead and behind, and how many of those that compare."""
    comparisons = compare_with_published(cells)
    verdicts = []
    comparable = []
    for key, _ in default_cells(cells).values():
        if key in comparisons:
            comparison = comparisons[key]
            verdicts.append(comparison.verdict)
            target = comparison.target
            if not target["protocol"] and key[3].endswith(f"-{target['published_version']}"):
                comparable.append(comparison.verdict)
    return (
        f"Of {len(verdicts)} pairs of a script and a task with a published number, "
        f"our returns are: {verdict_counts(verdicts)}. Of the {len(comparable)} whose published "
        f"number is of mean actions and of the same version of the task: "
        f"{verdict_counts(comparable)}."
    )


def verdict_counts(verdicts):
    words = ("ahead", "behind", "not significantly different")
    counts = [f"{verdicts.count(word)} {word}" for word in words]
    for reason in sorted({*verdicts} - {*words}):
        counts.append(f"{verdicts.count(reason)} without a verdict ({reason})")
    return ", ".join(counts)


# ── aggregates over tasks ────────────────────────────────────────────────────────────────────────


def scores(cells):
    """{script: {task: scores of its runs}} of the continuous tasks, default options, newest."""
    found = {}
    for (script, task), (_, runs) in default_cells(cells).items():
        if script in CONTINUOUS and reference(task):
            values = np.array([score(task, value) for value in final_returns(runs)])
            found.setdefault(script, {})[task] = values
    return found


def estimate_text(metric, *sides):
    value, ends = estimate(metric, *sides)
    if ends is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"


def older_tasks(cells, *scripts):
    """On which the newest runs of one of these scripts are of an older version of it."""
    found = default_cells(cells).items()
    return {task for (script, task), (key, _) in found if script in scripts and not is_current(key)}


def aggregate_table(found, cells):
    rows = []
    for script, tasks in found.items():
        names = task_names(tasks, older_tasks(cells, script))
        estimates = [estimate_text(of, tasks.values()) for of in (aggregate_iqm, aggregate_gap)]
        rows.append([script, names, sum(map(len, tasks.values())), *estimates])
    return markdown("script | tasks | runs | IQM | optimality gap", "llrrr", rows)


def common_tasks(a, b):
    """Of two scripts with {task: scores}, the tasks on which both have enough runs."""
    return [task for task in a if task in b and min(len(a[task]), len(b[task])) >= MANY]


def improvement_table(found, cells):
    rows = []
    for b, a in itertools.combinations(sorted(found), 2):
        common = common_tasks(found[a], found[b])
        if common:
            sides = [[found[script][task] for task in common] for script in (a, b)]
            text = estimate_text(probability_of_improvement, *sides)
            names = task_names(common, older_tasks(cells, a, b))
            rows.append([f"P({a} > {b})", names, text])
    return markdown("probability of improvement | common tasks | mean over tasks", "llr", rows)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def time_table(cells):
    rows = []
    for (script, options, task), runs in newest(cells).items():
        seconds = np.array([run.column("wall_seconds")[-1] for run in runs])
        machines = {machine(run) for run in runs}
        compiled = "yes" if all("compile" in run.options.split(",") for run in runs) else "no"
        rows.append(
            [
                label(script, options),
                task,
                compiled,
                f"{np.median(seconds) / 60:.1f}",
                f"{runs[0].steps / np.median(seconds):,.0f}",
                "; ".join(sorted(machines)),
            ]
        )
    header = "script | task | compiled | minutes per run | steps/s | processor, device, preloaded"
    return markdown(header, "lllrrl", rows)


def machine(run):
    parts = [run.config["processor"], run.config["device"]]
    if run.provenance.get("preloaded"):
        parts.append(run.provenance["preloaded"])
    return ", ".join(parts)
