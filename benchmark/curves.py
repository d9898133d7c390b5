"""Draws the learning curves of runs and the table of their final evaluations, from benchmark/results.

    python benchmark/curves.py --collect runs/*     copies what is needed from run folders into benchmark/results
    python benchmark/curves.py                      writes benchmark/curves.png, and the table in README.md
"""
import json
import shutil
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def collect(folders):
    """Copies configuration and evaluations of finished runs, as {task}__{script}__{seed}, over what was there."""
    for folder in map(Path, folders):
        config = json.loads((folder / "config.json").read_text())
        target = RESULTS / f"{config['env_id']}__{config['script']}__{config['seed']}"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "evaluations.csv", target)
        (target / "config.json").write_text(json.dumps(config | {"run_dir": target.name}, indent=2))


def read():
    """All evaluations, one row each, with script, task and seed of their run."""
    frames = []
    for path in sorted(RESULTS.glob("*/evaluations.csv")):
        task, script, seed = path.parent.name.split("__")
        frames.append(pd.read_csv(path).assign(task=task, script=script, seed=int(seed)))
    return pd.concat(frames)


def table(data):
    """Markdown: mean and standard deviation over seeds of each run's last evaluation. No selection over time."""
    last = data.groupby(["script", "task", "seed"], as_index=False).last()
    lines = ["| script | task | steps | seeds | return, mean ± std over seeds | each |", "|---|---|--:|--:|--:|---|"]
    for (script, task), rows in last.groupby(["script", "task"]):
        each = ", ".join(f"{value:.0f}" for value in rows.return_mean)
        spread = f" ± {rows.return_mean.std():.0f}" if len(rows) > 1 else ""
        lines.append(f"| `{script}.py` | {task} | {rows.global_step.max():,} | {len(rows)} "
                     f"| {rows.return_mean.mean():.0f}{spread} | {each} |")
    return "\n".join(lines)


def draw(data, path):
    """One panel a task: the mean over seeds, and every seed's curve behind it."""
    tasks = sorted(data.task.unique())
    figure, axes = plt.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3), layout="constrained", squeeze=False)
    colors = dict(zip(sorted(data.script.unique()), plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for axis, task in zip(axes[0], tasks, strict=True):
        for script, rows in data[data.task == task].groupby("script"):
            for _, seed in rows.groupby("seed"):
                axis.plot(seed.global_step / 1e6, seed.return_mean, color=colors[script], alpha=0.25, linewidth=1)
            mean = rows.groupby("global_step").return_mean.mean()
            axis.plot(mean.index / 1e6, mean, color=colors[script], label=script, linewidth=2)
        axis.set(title=task, xlabel="million environment steps")
        axis.legend(frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("return of an evaluation")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    if sys.argv[1:2] == ["--collect"]:
        collect(sys.argv[2:])
        return
    data = read()
    draw(data, HERE / "curves.png")
    readme = HERE.parent / "README.md"
    before, rest = readme.read_text().split("<!-- results -->\n")
    readme.write_text(f"{before}<!-- results -->\n{table(data)}\n<!-- end -->{rest.split('<!-- end -->')[1]}")


if __name__ == "__main__":
    main()
