"""python tests/soak.py --minutes 60 td3 ppo_continuous: trains for long and watches what must not grow.

Each script in a process of its own, with small networks and frequent evaluations and checkpoints; every ten seconds
its memory, its open files and the size of its checkpoint go to soak/{script}.csv. Then SIGTERM. What the last three
quarters grew, by least squares, is printed and recorded (see robustness.py); docs/images/soak.png shows the samples."""
import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
from robustness import ROOT, record

matplotlib.use("agg")
import matplotlib.pyplot as plt

SMALL = ("--env-id Hopper-v5 --total-timesteps 1000000000 --eval-frequency 500 --eval-episodes 2 "
         "--checkpoint-frequency 5000 --hidden-sizes 32 32").split()
OFF_POLICY = "--batch-size 32 --learning-starts 1000 --buffer-size 20000".split()  # a memory that is full soon


def start(script, folder):
    options = SMALL + (OFF_POLICY if script in ("ddpg", "td3") else [])
    with open(folder / f"{script}.log", "w") as log:
        return subprocess.Popen([sys.executable, ROOT / f"{script}.py", *options, "--run-dir", folder / script],
                                stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})


def sample(process, began, checkpoint):
    """Hours, megabytes of memory, open files, kilobytes of the checkpoint."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    size = checkpoint.stat().st_size if checkpoint.exists() else 0  # absent between two renames
    return [(time.monotonic() - began) / 3600, pages * os.sysconf("SC_PAGESIZE") / 1e6,
            len(os.listdir(f"/proc/{process.pid}/fd")), size / 1e3]


def growth(hours, values):
    """An hour, by least squares over the last three quarters of the time, and its standard error."""
    late = hours > hours[-1] / 4
    (slope, _), covariance = np.polyfit(hours[late], values[late], 1, cov=True)
    return slope, covariance[0, 0] ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="+")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / f"soak-{time.strftime('%Y%m%d-%H%M%S')}")
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    began, every = time.monotonic(), min(10, args.minutes)
    processes = {script: start(script, args.folder) for script in args.scripts}
    samples = {script: [] for script in args.scripts}
    while time.monotonic() - began < 60 * args.minutes:
        time.sleep(every)
        for script, process in processes.items():
            if process.poll() is not None:
                sys.exit(f"{script} ended with status {process.poll()}; see {args.folder / script}.log")
            samples[script].append(sample(process, began, args.folder / script / "checkpoint.pt"))
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for script, process in processes.items():
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143, f"{script} ended with status {process.poll()}"
        with open(args.folder / f"{script}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["hours", "memory_mb", "open_files", "checkpoint_kb"], *samples[script]])
        hours, memory, files, size = np.array(samples[script]).T
        slope, error = growth(hours, memory)
        steps = int((args.folder / script / "episodes.csv").read_text().splitlines()[-1].split(",")[0])
        record("soak", script, hours=round(hours[-1], 3), steps=steps, memory_mb=round(memory[-1], 1),
               mb_per_hour=round(slope, 2), standard_error=round(error, 2), open_files=int(files.max()),
               checkpoint_kb=round(size.max(), 1))
        print(f"{script}: {steps:,} steps in {hours[-1]:.2f} h, memory {memory[-1]:.0f} MB, {slope:+.2f} ± {error:.2f} "
              f"MB/h, at most {files.max():.0f} open files, checkpoint {size.max():.0f} kB")
        axes.plot(hours, memory, label=f"{script}: {slope:+.1f} MB/h")
    axes.set(xlabel="hours", ylabel="memory, MB", ylim=(0, None))
    axes.legend()
    (ROOT / "docs" / "images").mkdir(parents=True, exist_ok=True)
    figure.savefig(ROOT / "docs" / "images" / "soak.png", dpi=120)


if __name__ == "__main__":
    main()
