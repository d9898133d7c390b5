"""Searches a script's options with Optuna.

    python benchmark/tune.py --script ppo_continuous \\
        --space learning-rate=1e-4..1e-2 num-steps=128,256,512 \\
        --tasks Hopper-v5 HalfCheetah-v5 --seeds 101 102

A trial runs on all tasks and seeds; its value is the mean score of the last evaluations, where 0 is
a policy of random actions and 1 the best published number. At every evaluation that all its runs
have reached, a trial below the median of those before is stopped. The study lives in
--root/study.db: the same command goes on with it, and --trials counts the trials from before. The
default options are the first trial. --summary keeps the trials as a table, with a picture of how
much each option matters. The best of many trials flatters itself: believe other seeds, for which a
command is printed at the end, and other tasks.
"""

import concurrent.futures
import csv
import itertools
import re
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from results import reference, score
from runs import (
    fail,
    find_script,
    format_options,
    make_jobs,
    make_submitter,
    missing,
    parse_options,
    require,
)


@dataclass
class Args:
    script: str = "ppo_continuous"  # name, or path of a script
    # name=low..high (of real numbers, on a logarithmic scale) or name=one,two,three
    space: tuple[str, ...] = ()
    fixed: str = "default"  # options of every run: name=value,name=value
    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5")
    seeds: tuple[int, ...] = (101, 102)
    trials: int = 30  # in all
    warm_up: int = 5  # trials, and evaluations of each, that are not stopped early
    root: Path = Path("runs/tune")  # where the runs and the study live
    summary: Path | None = None  # folder for the table of trials and the picture
    workers: int = 1  # runs at once
    parallel: int = 1  # trials at once; more than 1 makes sense on Ray
    ray: str | None = None  # address of a Ray cluster, or "auto"; its nodes must share --root
    cpus: float = 1  # that Ray gives a run
    gpus: float = 0  # that Ray gives a run


def scores_so_far(job):
    """Of a run's evaluations; the last line of the file may be half written."""
    path = job.folder / "evaluations.csv"
    if not path.exists():
        return []
    text = path.read_text()
    whole_lines = text[: text.rfind("\n") + 1].splitlines()
    return [score(job.task, float(row["return_mean"])) for row in csv.DictReader(whole_lines)]


def suggest(trial, space):
    """{option: value} of a trial, as text."""
    chosen = {}
    for name, values in space.items():
        if ".." in values:
            low, high = map(float, values.split(".."))
            chosen[name] = f"{trial.suggest_float(name, low, high, log=True):.3g}"
        else:
            chosen[name] = trial.suggest_categorical(name, values.split(","))
    return chosen


def chosen_options(trial):
    """{option: value} of a trial that has run."""
    return trial.user_attrs["options"]


def describe(trial):
    value = "" if trial.value is None else f" {trial.value:.3f}"
    options = format_options(chosen_options(trial))
    return f"trial {trial.number}: {trial.state.name.lower()}{value} {options}"


class Tuner:
    def __init__(self, args):
        self.args = args
        self.space = dict(entry.split("=", 1) for entry in args.space)
        script = find_script(args.script, "--script")
        # the script as it is now, whatever is edited meanwhile
        (self.job,) = make_jobs(args.root.resolve(), [script], ["default"], [""], [0])
        self.submit = make_submitter(args.workers, args.ray, args.cpus, args.gpus)
        self.start_time = time.time()
        self.is_interrupted = False

    def interrupt(self, number, frame):
        # Python raises it in the main thread alone; with --parallel, trials run in others
        self.is_interrupted = True
        raise KeyboardInterrupt

    def jobs(self, chosen, tasks, seeds):
        options = format_options(parse_options(self.args.fixed) | chosen)
        matrix = itertools.product(tasks, seeds)
        return [self.job._replace(options=options, task=task, seed=seed) for task, seed in matrix]

    def objective(self, trial):
        """The mean score of a trial's last evaluations."""
        import optuna

        chosen = {} if trial.user_attrs.get("is_default") else suggest(trial, self.space)
        trial.set_user_attr("options", chosen)
        jobs = self.jobs(chosen, self.args.tasks, self.args.seeds)
        futures = [self.submit(job) for job in jobs]
        trial.set_user_attr("is_interrupted", True)  # until the runs have come to an end
        try:
            is_pruned = self.watch(trial, jobs, futures)
        finally:
            stop(jobs, futures)
        outcomes = {future.result() for future in futures}
        if is_pruned:
            trial.set_user_attr("is_interrupted", False)
            raise optuna.TrialPruned
        trial.set_user_attr("is_interrupted", "stopped" in outcomes)
        if outcomes != {"done"}:
            raise RuntimeError(f"trial {trial.number}: {', '.join(outcomes)}")
        return float(np.mean([scores_so_far(job)[-1] for job in jobs]))

    def watch(self, trial, jobs, futures):
        """Waits for the runs of a trial; returns True as soon as it should be pruned."""
        reported = 0
        running = futures
        while running:
            _, running = concurrent.futures.wait(futures, 0.5)
            if self.is_interrupted:
                raise KeyboardInterrupt
            curves = [scores_so_far(job) for job in jobs]
            while reported < min(map(len, curves)):
                trial.report(float(np.mean([curve[reported] for curve in curves])), reported)
                reported += 1
                if trial.should_prune():
                    return True
        return False

    def say(self, study, trial):
        hours = (time.time() - self.start_time) / 3600
        print(f"{hours:.2f} h: {describe(trial)}", flush=True)


def stop(jobs, futures):
    """Stops the jobs that are not done, and waits until they have saved."""
    for job, future in zip(jobs, futures, strict=True):
        if not future.done():
            job.request_stop()
    concurrent.futures.wait(futures, 120)


def positive_range(text):
    try:
        low, high = map(float, text.split(".."))
    except ValueError:
        return False
    return 0 < low < high


def check(args):
    if not args.space:
        fail("--space: name the options to search, such as learning-rate=1e-4..1e-2")
    unknown = [task for task in args.tasks if not reference(task)]
    if unknown and len(args.tasks) > 1:
        fail(
            f"--tasks: {', '.join(unknown)} has no published number, so there is no scale to "
            "average it with other tasks; give it alone"
        )
    for entry in args.space:
        if not re.fullmatch(r"[\w-]+=.+", entry):
            fail(f"--space {entry}: must be name=low..high or name=one,two")
        if ".." in entry and not positive_range(entry.partition("=")[2]):
            fail(f"--space {entry}: low and high must be numbers with 0 < low < high")


def validation_commands(args, tuner, chosen):
    """Run what was found beside the default, on other seeds, and compare them."""
    job = tuner.job._replace(root=Path("runs/benchmark"))
    fixed = parse_options(args.fixed)
    default = job._replace(options=format_options(fixed))
    found = job._replace(options=format_options(fixed | chosen))
    run = ["benchmark/run.py", "--scripts", args.script, "--tasks", *args.tasks]
    run += ["--options", default.options, found.options]
    run += ["--seeds", *map(str, range(201, 206))]
    compare = ["benchmark/compare.py", found.options_folder, default.options_folder]
    return [shlex.join(["python", *map(str, words)]) for words in (run, compare)]


def open_study(args, tuner):
    """The study of this search, new or as it was left."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = map(str, args.seeds)
    study = optuna.create_study(
        storage=f"sqlite:///{args.root}/study.db",
        study_name=" ".join([tuner.job.home.name, *args.tasks, *seeds, *args.space, args.fixed]),
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=min(10, args.trials // 2)),
        pruner=optuna.pruners.MedianPruner(args.warm_up, args.warm_up),
    )
    trials = study.get_trials()
    if not trials:
        study.enqueue_trial({}, user_attrs={"is_default": True})
    repeated = {trial.user_attrs.get("repeats") for trial in trials}
    for trial in trials:  # those that a search left behind are tried again; their runs are resumed
        is_running = trial.state == optuna.trial.TrialState.RUNNING
        if is_running:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        is_left = is_running or trial.user_attrs.get("is_interrupted")
        if is_left and trial.number not in repeated:
            is_default = trial.user_attrs.get("is_default", False)
            attributes = {"is_default": is_default, "repeats": trial.number}
            study.enqueue_trial(trial.params, user_attrs=attributes)
    return study


def write_summary(study, script, space, folder):
    """The trials as a table, and a picture of how much each option matters (PED-ANOVA)."""
    import matplotlib
    import optuna

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{script}.csv", "w", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["trial", "state", "score", "minutes", *space])
        for trial in study.get_trials():
            if trial.state.is_finished() and "options" in trial.user_attrs:
                options = chosen_options(trial)
                value = "" if trial.value is None else f"{trial.value:.4f}"
                minutes = f"{trial.duration.total_seconds() / 60:.1f}"
                cells = [options.get(name, "") for name in space]
                table.writerow([trial.number, trial.state.name.lower(), value, minutes, *cells])
    searched = [trial for trial in study.get_trials() if trial.params and trial.value is not None]
    if len(searched) < 10:  # too few to tell one option's share from another's
        return
    importances = optuna.importance.get_param_importances(
        optuna_study_of(searched), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 0.5 + 0.4 * len(importances)), layout="constrained")
    axis.barh(list(importances)[::-1], list(importances.values())[::-1])
    axis.set(xlabel="share of the score's variance", title=script)
    figure.savefig(folder / f"{script}-importance.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def optuna_study_of(trials):
    """A study with these trials alone: the default's has no parameters."""
    import optuna

    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def main(args):
    require("optuna")
    import optuna

    check(args)
    args.root.mkdir(parents=True, exist_ok=True)
    tuner = Tuner(args)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # it is ignored in the background
        signal.signal(signal.SIGINT, tuner.interrupt)
    study = open_study(args, tuner)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    left = args.trials - len(study.get_trials(states=ended))
    if left > 0:
        # Optuna may give a waiting trial to two threads, so those that wait run first, one by one
        waiting = len(study.get_trials(states=(optuna.trial.TrialState.WAITING,)))
        for n_trials, n_jobs in ((min(left, waiting), 1), (max(0, left - waiting), args.parallel)):
            study.optimize(
                tuner.objective,
                n_trials,
                n_jobs=n_jobs,
                callbacks=[tuner.say],
                catch=(RuntimeError,),
            )
    complete = study.get_trials(states=ended[:1])
    ranked = sorted(complete, key=lambda trial: -trial.value)
    print("the best:")
    for trial in ranked[:5]:
        print(f"    {describe(trial)}")
    if args.summary:
        write_summary(study, tuner.job.script, tuner.space, args.summary)
    best = next((trial for trial in ranked if chosen_options(trial)), None)
    if best:
        print("to see whether it beats the default on other seeds (it does if B is worse):")
        for command in validation_commands(args, tuner, chosen_options(best)):
            print(f"    {command}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__ + missing("optuna", "ray")))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
        sys.exit(130)
