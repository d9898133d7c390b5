"""Runs scripts × options × tasks × seeds, each in a process of its own, and collects the results.

    python benchmark/run.py --scripts a2c td3 --tasks Hopper-v5 --seeds 1 2 3 --workers 2
    python benchmark/run.py --scripts td3 --options default policy-noise=0.1,num-envs=4
    python benchmark/run.py … --ray auto      on a Ray cluster whose nodes share --root

The same command again skips what has finished and resumes what has not. A changed script has
another version and runs apart. With --collect each finished run is added to --results.
"""

import concurrent.futures
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from results import collect, read, refuse_to_mix
from runs import HERE, find_script, make_jobs, make_submitter, missing


@dataclass
class Args:
    # names, or paths of scripts
    scripts: tuple[str, ...] = ("reinforce", "a2c", "ppo_continuous", "ddpg", "td3")
    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")  # Gymnasium's names
    seeds: tuple[int, ...] = (1, 2, 3)
    # variants, each name=value,flag,… of the scripts, or "default"
    options: tuple[str, ...] = ("default",)
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


class Progress:
    """Reports on a campaign, with the time left at the speed that it had so far."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.start_time = time.time()
        self.fraction_at_start = self.fraction()

    def fraction(self):
        return sum(job.progress()[0] for job in self.jobs) / len(self.jobs)

    def report(self, running):
        finished = sum(job.is_done for job in self.jobs)
        fraction = self.fraction()
        text = f"{finished} of {len(self.jobs)} runs done, {100 * fraction:.0f} % of the whole"
        gained = fraction - self.fraction_at_start
        if gained > 0 and finished < len(self.jobs):
            seconds_left = (time.time() - self.start_time) * (1 - fraction) / gained
            text += f", {seconds_left / 3600:.1f} h left"
        say(text)
        for job in running:
            fraction, line = job.progress()
            if 0 < fraction < 1:
                print(f"    {job.name}: {line}", flush=True)


def collect_finished(jobs, results):
    found = []
    for job in jobs:
        if job.is_done:
            found += read(job.folder)
    collect(found, results)
    return len(found)


def main(args):
    scripts = [find_script(name, "--scripts") for name in args.scripts]
    jobs = make_jobs(
        args.root.resolve(), scripts, args.options, args.tasks, args.seeds, args.retries
    )
    if args.collect:  # refused now, not after the training
        for home in {args.results / job.home.name for job in jobs}:
            if home.exists():
                refuse_to_mix(home, jobs[0].packages, read(home))
    to_do = [job for job in jobs if not job.is_done]
    say(f"{len(jobs)} runs, {len(jobs) - len(to_do)} of them done before; folder {args.root}")
    submit = make_submitter(args.workers, args.ray, args.cpus, args.gpus)
    progress = Progress(jobs)
    futures = {submit(job): job for job in to_do}
    failed = []
    try:
        while futures:
            progress.report(futures.values())
            finished, _ = concurrent.futures.wait(
                futures, args.every, concurrent.futures.FIRST_COMPLETED
            )
            for future in finished:
                job = futures.pop(future)
                outcome = future.result()
                say(f"{job.name}: {outcome}")
                if outcome != "done":
                    failed.append(job)
                if args.collect:
                    collect_finished([job], args.results)
    except KeyboardInterrupt:
        say("stopping; the same command goes on from here")
        for job in futures.values():
            job.request_stop()
        concurrent.futures.wait(futures, 120)
        return 130
    progress.report([])
    if args.collect:
        count = collect_finished(jobs, args.results)
        say(f"{count} of {len(jobs)} runs collected in {args.results}")
    for job in failed:
        say(f"failed, the same command tries again: {job.name}; see {job.beside('.log')}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__ + missing("ray"))))
