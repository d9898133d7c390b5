"""Searches a script's options with Optuna, on some tasks and seeds; others are kept to check what was found.

    python benchmark/tune.py --script ppo_continuous --space learning-rate=1e-4..1e-2 num-steps=128,256,512 \\
        --tasks Hopper-v5 HalfCheetah-v5 --seeds 1 2 --validation-tasks Walker2d-v5 --validation-seeds 11 12 13

A trial runs on all tasks and seeds; its value is the mean score of the last evaluations (benchmark/README.md says what
a score is). At every evaluation that all its runs have reached, a trial below the median of those before is stopped.
The study lives in --root/study.db: the same command goes on with it, and --trials counts those from before. The default
options are the first trial, so the search is never without what it should beat.
"""

import concurrent.futures
import csv
import dataclasses
import itertools
import re
import sys
from pathlib import Path

import numpy as np
import optuna
import tyro
from common import HERE, fail, jobs_of, options_of, reference, submitter, text_of


@dataclasses.dataclass
class Args:
    script: str = "ppo_continuous"  # name, or path of a script
    space: tuple[
        str, ...
    ] = ()  # name=low..high (of real numbers, on a logarithmic scale) or name=one,two,three
    fixed: str = "default"  # options of every run: name=value,name=value
    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5")
    seeds: tuple[int, ...] = (1, 2)
    trials: int = 30  # in all
    warm_up: int = 5  # trials, and evaluations of each, that are not stopped early
    validation_tasks: tuple[str, ...] = ("Walker2d-v5",)
    validation_seeds: tuple[int, ...] = (11, 12, 13)  # none: no validation
    best: int = 1  # options that are validated beside the default
    root: Path = Path("runs/tune")  # where the runs and the study live
    workers: int = 1  # runs at once
    parallel: int = 1  # trials at once; more than 1 makes sense on Ray
    ray: str | None = (
        None  # address of a Ray cluster, or "auto"; --root must lie on storage that all nodes share
    )
    cpus: float = 1  # that Ray gives a run
    gpus: float = 0  # that Ray gives a run


def score(task, value):
    zero, one = reference(task) or (0, 1)
    return (value - zero) / (one - zero)


def evaluations(job):  # so far, as scores; the file may be in the middle of a line
    try:
        text = (job.folder / "evaluations.csv").read_text()
    except OSError:
        return []
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [score(job.task, float(row["return_mean"])) for row in rows]


def suggest(trial, space):
    chosen = {}
    for name, values in space.items():
        if ".." in values:
            low, high = map(float, values.split(".."))
            chosen[name] = repr(trial.suggest_float(name, low, high, log=True))
        else:
            chosen[name] = trial.suggest_categorical(name, values.split(","))
    return chosen


class Tuner:
    def __init__(self, args):
        self.args, self.space = args, dict(entry.split("=", 1) for entry in args.space)
        self.path = (
            args.script if args.script.endswith(".py") else HERE.parent / f"{args.script}.py"
        )
        (self.job,) = jobs_of(
            args.root.resolve(), [self.path], ["default"], [""], [0]
        )  # the script as it is now
        self.submit = submitter(args.workers, args.ray, args.cpus, args.gpus)

    def jobs(self, chosen, tasks, seeds):
        options = text_of(options_of(self.args.fixed) | chosen)
        return [
            self.job._replace(options=options, task=task, seed=seed)
            for task, seed in itertools.product(tasks, seeds)
        ]

    def objective(self, trial):
        chosen = {} if trial.user_attrs.get("default") else suggest(trial, self.space)
        jobs = self.jobs(chosen, self.args.tasks, self.args.seeds)
        futures = [self.submit(job) for job in jobs]
        reported, pruned = 0, False
        try:
            while not pruned:
                _, running = concurrent.futures.wait(futures, 0.2)
                curves = [evaluations(job) for job in jobs]
                while reported < min(map(len, curves)) and not pruned:
                    trial.report(float(np.mean([curve[reported] for curve in curves])), reported)
                    reported += 1
                    pruned = trial.should_prune()
                if not running:
                    break
        finally:  # also where the trial is stopped early
            for job, future in zip(jobs, futures, strict=True):
                future.done() or job.stop()
            concurrent.futures.wait(futures, 120)
            outcomes = {future.result() for future in futures if future.done()}
            if not pruned and "stopped" in outcomes:
                trial.set_user_attr("interrupted", True)
        if pruned:
            raise optuna.TrialPruned
        if outcomes != {"done"}:
            raise RuntimeError(outcomes)
        return float(np.mean([curve[-1] for curve in map(evaluations, jobs)]))

    def validate(self, candidates):
        """[(name, options)] → Markdown: each one's score, task by task, on the tasks and seeds kept for this."""
        tasks = list(dict.fromkeys([*self.args.tasks, *self.args.validation_tasks]))
        matrix = [self.jobs(chosen, tasks, self.args.validation_seeds) for _, chosen in candidates]
        futures = {self.submit(job): job for jobs in matrix for job in jobs}
        try:
            wrong = [future.result() for future in futures if future.result() != "done"]
        finally:  # also where it is interrupted
            for future, job in futures.items():
                future.done() or job.stop()
        if wrong:
            fail(wrong[0])
        yield f"| options | {' | '.join(tasks)} | mean |\n|---|{'--:|' * (len(tasks) + 1)}"
        for (name, _), jobs in zip(candidates, matrix, strict=True):
            last = [
                np.mean([evaluations(job)[-1] for job in jobs if job.task == task])
                for task in tasks
            ]
            yield f"| {name} | {' | '.join(f'{x:.3f}' for x in last)} | {np.mean(last):.3f} |"


def main(args):
    unknown = [task for task in {*args.tasks, *args.validation_tasks} if not reference(task)]
    if unknown and len({*args.tasks, *args.validation_tasks}) > 1:
        fail(
            f"{', '.join(unknown)}: no scale is known, so returns cannot be averaged with those of other tasks"
        )
    if set(args.seeds) & set(args.validation_seeds):
        fail("--validation-seeds must be other seeds than --seeds")
    for entry in args.space:
        re.fullmatch(r"[\w-]+=.+", entry) or fail(
            f"--space {entry}: must be name=low..high or name=one,two"
        )
    args.root.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tuner = Tuner(args)
    name = " ".join(
        [tuner.job.home.name, *args.tasks, *map(str, args.seeds), *args.space, args.fixed]
    )
    study = optuna.create_study(
        storage=f"sqlite:///{args.root}/study.db",
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=min(10, args.trials // 2)),
        pruner=optuna.pruners.MedianPruner(args.warm_up, args.warm_up),
    )
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again") for trial in trials}
    for trial in trials:  # those that a search left behind are tried again, and their runs resumed
        running = trial.state == optuna.trial.TrialState.RUNNING
        if (running or trial.user_attrs.get("interrupted")) and trial.number not in again:
            running and study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            default = trial.user_attrs.get("default", False)
            study.enqueue_trial(
                trial.params, user_attrs={"default": default, "again": trial.number}
            )
    if not trials:
        study.enqueue_trial({}, user_attrs={"default": True})
    ended = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED

    def say(study, trial):
        what = "default" if trial.user_attrs.get("default") else text_of(trial.params)
        print(
            f"trial {trial.number}: {trial.state.name.lower()} {trial.value or ''} {what}",
            flush=True,
        )

    left = args.trials - len(study.get_trials(deepcopy=False, states=ended))
    if left > 0:
        study.optimize(
            tuner.objective, left, n_jobs=args.parallel, callbacks=[say], catch=(RuntimeError,)
        )
    whole = study.get_trials(deepcopy=False, states=ended[:1])
    ranked = sorted(whole, key=lambda trial: -trial.value)
    for trial in ranked[:5]:
        say(study, trial)
    best = [trial for trial in ranked if not trial.user_attrs.get("default")][: args.best]
    if args.validation_seeds and best:
        candidates = [("default", {}), *((text_of(trial.params), trial.params) for trial in best)]
        print(*tuner.validate(candidates), sep="\n", flush=True)
        print(
            f"{len(whole)} trials went to the end; the best of many flatters itself, so believe the validation"
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except KeyboardInterrupt:
        sys.exit(print("stopped; the same command goes on from here") or 130)
