"""Finished runs: read from run folders or from benchmark/results, and collected there."""

import contextlib
import csv
import fcntl
import functools
import io
import itertools
import json
import os
from typing import NamedTuple

import numpy as np
from runs import HERE, fail, public, script_path, version_of, write

PUBLISHED = HERE / "published"
RUN_FIELDS = ("options", "task", "seed")  # what tells runs of one version apart
NOT_COLLECTED = ("run_dir", "resume")  # where on somebody's machine a run lay
DEFAULT = ("default", "compile")  # --compile changes a run's time, not its numbers' distribution


class Result(NamedTuple):
    """A finished run."""

    provenance: dict  # as `write_provenance` in runs.py
    config: dict  # the run's config.json
    rows: list  # of its evaluations.csv, as text

    def __getattr__(self, name):
        if name in self.provenance:
            return self.provenance[name]
        raise AttributeError(name)

    @property
    def key(self):
        """Runs with the same key differ in the seed only."""
        return (self.script, self.version, self.options, self.task)

    def column(self, name):
        return np.array([float(row[name]) for row in self.rows])

    @property
    def final_return(self):
        return float(self.rows[-1]["return_mean"])

    @property
    def steps(self):
        return int(self.rows[-1]["global_step"])


def read_table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path):
    """Finished runs under a folder of run.py or of `collect`, in order.

    A path that does not exist may end with options: only runs with these count.
    """
    folder = path if path.exists() else path.parent
    found = [*read_run_folders(folder), *read_collected(folder)]
    if folder != path:
        found = [result for result in found if result.options == path.name]
    return sorted(found, key=lambda result: (*result.key, result.seed))


def read_run_folders(folder):
    for path in folder.rglob("provenance.json"):
        config = json.loads((path.parent / "config.json").read_text())
        for name in NOT_COLLECTED:
            config.pop(name, None)
        rows = read_table(path.parent / "evaluations.csv")
        yield Result(json.loads(path.read_text()), config, rows)


def read_collected(folder):
    for path in folder.rglob("runs.jsonl"):
        rows = {}
        for row in read_table(path.parent / "evaluations.csv"):
            run = tuple(row.pop(field) for field in RUN_FIELDS)
            rows.setdefault(run, []).append(row)
        for line in path.read_text().splitlines():
            provenance = json.loads(line)
            config = provenance.pop("config")
            run = tuple(str(provenance[field]) for field in RUN_FIELDS)
            yield Result(provenance, config, rows[run])


def refuse_to_mix(home, packages, results):
    """Ends the program where a result to be kept in `home` was made with other packages."""
    for result in results:
        if public(result.packages) != public(packages):
            fail(
                f"{home}: would mix runs made with {result.packages} and {packages}; give another "
                "--results"
            )


def collect(results, target):
    """Adds runs to {target}/{script}-{version}/: evaluations.csv, and runs.jsonl with the rest."""
    results = sorted(results, key=lambda result: (*result.key, result.seed))
    for name, new in itertools.groupby(results, key=lambda run: f"{run.script}-{run.version}"):
        home = target / name
        home.mkdir(parents=True, exist_ok=True)
        with locked_folder(home):
            runs = {(run.key, run.seed): run for run in [*read(home), *new]}
            write_collected([runs[key] for key in sorted(runs)], home)


@contextlib.contextmanager
def locked_folder(folder):
    """Others that collect into the same folder wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_collected(runs, home):
    refuse_to_mix(home, runs[0].packages, runs)
    names = {name: None for run in runs for name in run.rows[0]}  # in order; tasks differ in them
    table = io.StringIO()
    writer = csv.DictWriter(table, [*RUN_FIELDS, *names], restval="", lineterminator="\n")
    writer.writeheader()
    for run in runs:
        fields = {"options": run.options, "task": run.task, "seed": run.seed}
        writer.writerows(fields | row for row in run.rows)
    lines = [json.dumps(run.provenance | {"config": run.config}) + "\n" for run in runs]
    write(home / "evaluations.csv", table.getvalue())
    write(home / "runs.jsonl", "".join(lines))


def group(results):
    """{key: runs that differ in the seed only}, in order."""
    groups = itertools.groupby(results, key=lambda result: result.key)
    return {key: list(runs) for key, runs in groups}


def is_current(key):
    """Whether the script still has the version of these runs, as far as it is known here."""
    script, version, _, _ = key
    return present_version(script) in (version, None)


@functools.cache
def present_version(script):
    path = script_path(script)
    return version_of(path.read_text()) if path else None


def newest(cells):
    """{(script, options, task): runs of the script's present version, or of the one run last}.

    The defaults with and without --compile count as the same options: "default".
    """
    best = {}
    for (script, version, options, task), runs in cells.items():
        place = (script, "default" if options in DEFAULT else options, task)
        rank = (is_current(runs[0].key), max(run.finished for run in runs), version)
        if place not in best or rank > best[place][0]:
            best[place] = (rank, runs)
    return {place: runs for place, (_, runs) in sorted(best.items())}


# ── published numbers ────────────────────────────────────────────────────────────────────────────


def name_without_version(task):
    return task.rpartition("-v")[0]


def published_target(algorithm, task):
    """The row of published_targets.csv, or None."""
    for row in read_table(PUBLISHED / "published_targets.csv"):
        if (row["algorithm"], row["env"]) == (algorithm, name_without_version(task)):
            return row


@functools.cache
def reference(task):
    """The returns with scores 0 and 1: of random actions, and the best published mean.

    None where one of them is unknown.
    """
    name = name_without_version(task)
    random = read_table(PUBLISHED / "random_returns.csv")
    targets = read_table(PUBLISHED / "published_targets.csv")
    zero = [float(row["mean"]) for row in random if row["env"] == name]
    one = [float(row["mean"]) for row in targets if row["env"] == name]
    if not zero or not one:
        return None
    return zero[0], max(one)


def score(task, value):
    """The return itself where there is no reference."""
    zero, one = reference(task) or (0, 1)
    return (value - zero) / (one - zero)
