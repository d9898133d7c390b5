"""Runs scripts × options × tasks × seeds, each run a process of its own, and collects the results.

    python benchmark/run.py --scripts a2c td3 --tasks Hopper-v5 Walker2d-v5 --seeds 1 2 3 --workers 2
    python benchmark/run.py --scripts td3 --options default policy-noise=0.1,num-envs=4 --tasks Hopper-v5
    python benchmark/run.py … --ray auto      on a Ray cluster; its nodes must share --root, at the same path

The same command again skips what has finished and resumes what has not; a run that dies is resumed, --retries times.
A changed script has another version and runs apart. --collect adds what has finished to benchmark/results.
"""

import concurrent.futures
import dataclasses
import sys
import time
from pathlib import Path

import tyro
from common import HERE, collect, fail, jobs_of, read, refuse_to_mix, submitter


@dataclasses.dataclass
class Args:
    scripts: tuple[str, ...] = (
        "reinforce",
        "a2c",
        "ppo_continuous",
        "ddpg",
        "td3",
    )  # names, or paths of scripts
    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")  # Gymnasium tasks
    seeds: tuple[int, ...] = (1, 2, 3)
    options: tuple[str, ...] = (
        "default",
    )  # variants, each name=value,flag,… of the scripts, or "default"
    root: Path = Path("runs/benchmark")  # where the runs live
    workers: int = 1  # runs at once, each with one thread
    retries: int = 3  # times that a run which died is resumed
    ray: str | None = None  # address of a Ray cluster, or "auto", to run there instead
    cpus: float = 1  # that Ray gives a run
    gpus: float = 0  # that Ray gives a run, which needs device=cuda among --options to use it
    collect: bool = False  # add finished runs of this matrix to --results
    results: Path = HERE / "results"  # the collection
    every: float = 30  # seconds between reports of progress


def say(text):
    print(time.strftime("[%H:%M:%S] ") + text, flush=True)


def report(jobs, running, began, first):  # the whole, then each run under way
    left, states = len(jobs) - sum(job.done for job in jobs), [job.progress() for job in jobs]
    parts = [
        1 if job.done else percent / 100 for job, (percent, _) in zip(jobs, states, strict=True)
    ]
    share, elapsed = sum(parts) / len(jobs), time.time() - began
    time_left = (
        f", {elapsed * (1 - share) / (share - first) / 3600:.1f} h left" if share > first else ""
    )
    say(f"{len(jobs) - left} of {len(jobs)} runs done, {100 * share:.0f} % of the whole{time_left}")
    for job, (percent, said) in zip(jobs, states, strict=True):
        if job in running and not job.done and percent:
            print(f"    {job.name}: {said}", flush=True)
    return share


def main(args):
    scripts = [
        path if path.endswith(".py") else HERE.parent / f"{path}.py" for path in args.scripts
    ]
    for path in scripts:
        Path(path).is_file() or fail(f"--scripts {path}: no such file")
    jobs = jobs_of(args.root.resolve(), scripts, args.options, args.tasks, args.seeds, args.retries)
    for home in (
        {args.results / job.home.name for job in jobs} if args.collect else ()
    ):  # now, not after the training
        home.exists() and refuse_to_mix(home, jobs[0].packages, read(home))
    todo = [job for job in jobs if not job.done]
    say(f"{len(jobs)} runs, {len(jobs) - len(todo)} of them done before; folder {args.root}")
    submit, began, failed = submitter(args.workers, args.ray, args.cpus, args.gpus), time.time(), 0
    futures = {}
    try:
        for job in todo:
            futures[submit(job)] = job
        first = report(jobs, [], began, 1) if todo else 1
        while futures:
            finished, _ = concurrent.futures.wait(
                futures, args.every, concurrent.futures.FIRST_COMPLETED
            )
            for future in finished:
                job, outcome = futures.pop(future), future.result()
                failed += outcome != "done"
                say(f"{job.name}: {outcome}")
            report(jobs, futures.values(), began, first)
    except KeyboardInterrupt:
        say("stopping; the same command goes on from here")
        for job in futures.values():
            job.stop()
        concurrent.futures.wait(futures, 120)
        return 130
    if args.collect:
        wanted = {(job.script, job.version, job.options, job.task, job.seed) for job in jobs}
        found = [run for run in read(*{job.home for job in jobs}) if (*run.key, run.seed) in wanted]
        collect(found, args.results)
        say(f"{len(found)} of {len(jobs)} runs collected in {args.results}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
