"""Learning curves: a figure of each task, of each script, and all in one."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from estimates import ENOUGH, bootstrap_iqm, iqm
from matplotlib.lines import Line2D
from results import PUBLISHED, is_current, name_without_version, newest, read_table
from tables import NAMES, label

COLORS = dict(zip(NAMES, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
AUTHOR = "TD3's author, v1"


def author_curves(task):
    """The published curves [evaluations, 2] of TD3's author on the v1 version of a task."""
    curves = {}
    for row in read_table(PUBLISHED / "td3_author_curves.csv"):
        if row["task"] == f"{name_without_version(task)}-v1":
            point = (int(row["global_step"]), float(row["return_mean"]))
            curves.setdefault(row["seed"], []).append(point)
    return [np.array(curve) for curve in curves.values()]


def draw_task(axis, cells, task):
    found = {}
    for (script, options, each), runs in newest(cells).items():
        if each == task:
            found[script, options] = runs
    if any(script == "td3" for script, _ in found):
        for i, curve in enumerate(author_curves(task)):
            name = None if i else AUTHOR
            axis.plot(curve[:, 0] / 1e6, curve[:, 1], color="0.8", linewidth=0.6, label=name)
    for (script, options), runs in found.items():
        draw_runs(axis, script, options, runs)
    axis.set(title=task, xlabel="million environment steps", ylabel="return of an evaluation")


def draw_runs(axis, script, options, runs):
    """Many runs: their IQM and its interval; few: their mean and each of them."""
    steps = runs[0].column("global_step")
    returns = []
    for run in runs:
        returns.append(np.interp(steps, run.column("global_step"), run.column("return_mean")))
    returns = np.array(returns)
    color = COLORS.get(script, "black")
    name = f"{label(script, options)}, seeds: {len(runs)}"
    line = "-" if options == "default" else "--"
    if not is_current(runs[0].key):
        name += ", older version"
        line = "--"
    is_many = len(runs) >= ENOUGH
    middle = iqm(returns.T) if is_many else returns.mean(axis=0)
    axis.plot(steps / 1e6, middle, color=color, linestyle=line, linewidth=1.8, label=name)
    if is_many:
        low, high = bootstrap_iqm(returns.T)
        axis.fill_between(steps / 1e6, low, high, color=color, alpha=0.2, linewidth=0)
    elif len(runs) > 1:
        axis.plot(steps / 1e6, returns.T, color=color, linestyle=line, alpha=0.3, linewidth=0.8)


def draw_all(cells, tasks, path):
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    size = (4 * columns, 3.2 * lines)
    figure, axes = plt.subplots(lines, columns, layout="constrained", squeeze=False, figsize=size)
    for task, axis in zip(tasks, axes.flat, strict=False):
        draw_task(axis, cells, task)
    for axis in axes.flat[len(tasks) :]:
        axis.remove()
    scripts = [script for script in NAMES if any(script == key[0] for key in cells)]
    handles = {NAMES[script]: Line2D([], [], color=COLORS[script]) for script in scripts}
    if "td3" in scripts:
        handles[AUTHOR] = Line2D([], [], color="0.8")
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    save(figure, path)


def save(figure, path):
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def file_name(task):
    return task.replace(":", "_").replace("/", "_") + ".png"


def draw(cells, folder):
    folder.mkdir(exist_ok=True)
    tasks = sorted({task for _, _, _, task in cells})
    draw_all(cells, tasks, folder / "all.png")
    for script in {script for script, _, _, _ in cells}:
        its_cells = {key: runs for key, runs in cells.items() if key[0] == script}
        its_tasks = sorted({task for _, _, _, task in its_cells})
        draw_all(its_cells, its_tasks, folder / f"{script}.png")
    for task in tasks:
        figure, axis = plt.subplots(figsize=(6, 4.6), layout="constrained")
        draw_task(axis, cells, task)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        save(figure, folder / file_name(task))
