"""Makes a run of the benchmark's table once more, and says whether it comes out where it should.

    python benchmark/reproduce.py a2c InvertedPendulum-v5

Takes the newest row of this script and task in --results, or that of --version, the script as it
was then (from git, if it has changed since), and the row's options and first seed. With the same
packages on the same kind of processor a run is the same to the last digit. Elsewhere it should lie
in the interval that holds 95 of 100 further runs, if returns are normally distributed. A run takes
as long as the table of times in benchmark/README.md says.
"""

import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats
import tyro
from results import DEFAULT, group, newest, read
from runs import HERE, execute, fail, find_script, make_jobs, public, version_of


@dataclass
class Args:
    script: tyro.conf.Positional[str]  # such as td3
    task: tyro.conf.Positional[str]  # such as Hopper-v5
    version: str | None = None  # of the row, as the table has it; None: the newest
    options: str = "default"  # of the row; default includes rows with --compile
    seed: int | None = None  # None: the first of the row
    results: Path = HERE / "results"  # the collection
    root: Path = Path("runs/reproduce")  # where the run lives


def script_of(run, folder):
    """The path of a script that has the version of this run."""
    path = find_script(run.script)
    if version_of(path.read_text()) == run.version:
        return path
    copy = script_of_commit(run, folder)
    if copy.exists() and has_version(copy, run.version):
        return copy
    fail(f"{run.script}: version {run.version} is neither here nor in commit {run.commit}")


def has_version(path, version):
    # until November 2026 a version was the hash that git has for the file
    blob = git("hash-object", path).stdout
    return version in (version_of(path.read_text()), blob[:8])


def script_of_commit(run, folder):
    """Writes a run's script, as the commit that made the run has it, into `folder`, with
    native_mujoco.py; returns its path, where nothing is if that commit is unknown here.
    """
    path = find_script(run.script)
    commit = str(run.commit).removesuffix("-dirty")
    for file in (path, path.with_name("native_mujoco.py")):
        done = git("show", f"{commit}:{file.relative_to(HERE.parent)}")
        if done.returncode == 0:
            (folder / file.name).write_text(done.stdout)
    return folder / path.name


def git(*words):
    return subprocess.run(["git", "-C", HERE, *words], capture_output=True, text=True)


def interval_of_another_run(returns):
    """In which one more run lies in 95 of 100 cases, if returns are normally distributed.

    At least 1 % of the mean to each side, for tasks that every run solves; None for a single run.
    """
    n = len(returns)
    if n == 1:
        return None
    mean = np.mean(returns)
    width = scipy.stats.t.ppf(0.975, n - 1) * np.std(returns, ddof=1) * math.sqrt(1 + 1 / n)
    width = max(width, 0.01 * abs(mean))
    return mean - width, mean + width


def tell_differences(run, packages):
    theirs = public(run.packages)
    for name, here in public(packages).items():
        if theirs[name] != here:
            print(
                f"note: the row was made with {name} {theirs[name]}, here is {here}; to have the "
                f"same: pip install {name}=={theirs[name]}"
            )
    preloaded = run.provenance.get("preloaded")
    if preloaded and preloaded not in os.environ.get("LD_PRELOAD", ""):
        print(f"note: the row was made with {preloaded} preloaded")


def main(args):
    cells = group(read(args.results))
    if args.version is not None:
        cells = {key: runs for key, runs in cells.items() if key[1] == args.version}
    options = "default" if args.options in DEFAULT else args.options
    runs = newest(cells).get((args.script, options, args.task))
    if runs is None:
        known = [" ".join(key) for key in cells if key[0] == args.script]
        known = known or sorted({script for script, *_ in cells})
        fail(f"{args.script} {args.task}: not in {args.results}; there are: {', '.join(known)}")
    seed = runs[0].seed if args.seed is None else args.seed
    row = next((run for run in runs if run.seed == seed), runs[0])
    with tempfile.TemporaryDirectory() as folder:
        script = script_of(row, Path(folder))
        (job,) = make_jobs(args.root.resolve(), [script], [row.options], [args.task], [seed])
        tell_differences(row, job.packages)
        print(f"running {job.name}; its output is in {job.beside('.log')}", flush=True)
        outcome = execute(job)
    if outcome != "done":
        fail(outcome)
    (again,) = read(job.folder)
    return 0 if compare(again, runs) else 1


def compare(again, runs):
    """Prints how a run compares with those of the table; False if it lies outside."""
    returns = [run.final_return for run in runs]
    print(f"the table's runs: {', '.join(f'{x:.1f}' for x in returns)}")
    print(f"this run, seed {again.seed}: {again.final_return:.1f}")
    for run in runs:
        if run.seed == again.seed:
            columns = ("global_step", "return_mean")
            is_same = all(np.array_equal(run.column(x), again.column(x)) for x in columns)
            print("the same to the last digit" if is_same else "not the same to the last digit")
    interval = interval_of_another_run(returns)
    if interval is None:
        print("the row has one run, too few for an interval")
        return True
    low, high = interval
    is_inside = low <= again.final_return <= high
    print(f"{'inside' if is_inside else 'OUTSIDE'} the interval [{low:.1f}, {high:.1f}]")
    return is_inside


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
