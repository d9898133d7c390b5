"""Makes a run of the benchmark's table once more, and says whether it comes out where it should.

    python benchmark/reproduce.py td3 HalfCheetah-v5

Takes the newest row of this script and task in --results, the script as it was then (from git, if
it has changed since), and the row's options and first seed. With the same packages on the same
kind of processor a run is the same to the last digit. Elsewhere it should lie in the interval that
holds 95 of 100 further runs, if returns are normally distributed.
"""

import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats
import tyro
from results import group, newest, read
from run import find_script
from runs import HERE, PACKAGES, execute, fail, make_jobs, version_of


@dataclass
class Args:
    script: tyro.conf.Positional[str]  # such as td3
    task: tyro.conf.Positional[str]  # such as Hopper-v5
    options: str = "default"  # of the row, as the table has them
    seed: int | None = None  # None: the first of the row
    results: Path = HERE / "results"  # the collection
    root: Path = Path("runs/reproduce")  # where the run lives


def script_of(run, folder):
    """The path of a script that has the version of this run."""
    path = find_script(run.script)
    if version_of(path.read_text()) == run.version:
        return path
    name = path.relative_to(HERE.parent)
    commit = str(run.commit).removesuffix("-dirty")
    command = ["git", "-C", HERE, "show", f"{commit}:{name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or version_of(done.stdout) != run.version:
        fail(f"{run.script}: version {run.version} is neither here nor in commit {run.commit}")
    copy = folder / path.name
    copy.write_text(done.stdout)
    native = path.with_name("native_mujoco.py")
    if native.exists():
        (folder / native.name).write_text(native.read_text())
    return copy


def interval_of_another_run(returns):
    """In which one more run lies in 95 of 100 cases, if returns are normally distributed."""
    n = len(returns)
    if n < 2:
        return -math.inf, math.inf
    width = scipy.stats.t.ppf(0.975, n - 1) * np.std(returns, ddof=1) * math.sqrt(1 + 1 / n)
    return np.mean(returns) - width, np.mean(returns) + width


def tell_packages(run, packages):
    for name in PACKAGES:
        if run.packages[name] != packages[name]:
            version = run.packages[name].partition("+")[0]
            print(
                f"note: the row was made with {name} {run.packages[name]}, here is "
                f"{packages[name]}; to have the same: pip install {name}=={version}"
            )


def main(args):
    cells = newest(group(read(args.results)))
    runs = cells.get((args.script, args.options, args.task))
    if runs is None:
        known = sorted(task for script, _, task in cells if script == args.script)
        fail(f"{args.script} {args.task}: not in {args.results}; there are: {', '.join(known)}")
    seed = runs[0].seed if args.seed is None else args.seed
    with tempfile.TemporaryDirectory() as folder:
        script = script_of(runs[0], Path(folder))
        (job,) = make_jobs(args.root.resolve(), [script], [runs[0].options], [args.task], [seed])
        tell_packages(runs[0], job.packages)
        print(f"running {job.name}; its output is in {job.beside('.log')}", flush=True)
        outcome = execute(job)
    if outcome != "done":
        fail(outcome)
    (again,) = read(job.folder)
    return 0 if compare(again, runs) else 1


def compare(again, runs):
    """Prints how a run compares with those of the table; whether it lies where it should."""
    returns = [run.final_return for run in runs]
    low, high = interval_of_another_run(returns)
    print(f"the table's runs: {', '.join(f'{x:.1f}' for x in returns)}")
    print(f"this run, seed {again.seed}: {again.final_return:.1f}")
    for run in runs:
        if run.seed == again.seed:
            columns = ("global_step", "return_mean")
            is_same = all((run.column(x) == again.column(x)).all() for x in columns)
            print("the same to the last digit" if is_same else "not the same to the last digit")
    is_inside = low <= again.final_return <= high
    print(f"{'inside' if is_inside else 'OUTSIDE'} the interval [{low:.1f}, {high:.1f}]")
    return is_inside


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
