"""The benchmark's tools: campaigns that are killed, results that keep versions apart, the report, error rates.

Most campaigns run a stand-in for a script: it keeps the contract (config.json, evaluations.csv, --resume) in
milliseconds, does what its options say (how long to sleep, where to die), and notes its starts and ends in a file.
"""

import concurrent.futures
import csv
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from conftest import ROOT, assert_same_run

MISSING = "benchmark/requirements.txt is not installed"
BENCHMARK = ROOT / "benchmark"
sys.path.insert(0, str(BENCHMARK))
import common
import compare
import report
import speed

STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
options = {"--steps": "6", "--sleep": "0", "--die": "", "--x": "0", **dict(zip(sys.argv[1::2], sys.argv[2::2]))}
fresh = "--resume" not in options
folder = Path(options["--run-dir" if fresh else "--resume"])
if options["--x"] == "bad":
    sys.exit(print("stand_in.py: --x bad: no", file=sys.stderr) or 2)
if fresh:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"processor": "none", "device": "cpu", **options}))
    (folder / "checkpoint").write_text("0")
options = json.loads((folder / "config.json").read_text())
trace = folder.with_name(folder.name + ".trace")
def note(what):
    with open(trace, "a") as file:
        file.write(f"{what} {os.getpid()}\\n")
if "stubborn" in options["--die"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note("start")
first = int((folder / "checkpoint").read_text())
lines = (folder / "evaluations.csv").read_text().splitlines() if first else [
    "global_step,wall_seconds,return_mean,return_std,episode_length_mean"]
lines = lines[:first + 1]
for step in range(first, int(options["--steps"])):
    value = step * (1 - (float(options["--x"]) - 0.3) ** 2) + int(options["--seed"]) / 7
    lines.append(f"{step},{step / 10},{value},0.5,1000.0")
    (folder / "evaluations.csv").write_text("\\n".join(lines) + "\\n")
    time.sleep(float(options["--sleep"]))
    if "always" in options["--die"] or "once" in options["--die"] and fresh and step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "checkpoint").write_text(str(step + 1))
    percent = 100 * (step + 1) // int(options["--steps"])
    print(f"step {step + 1}, {percent}%, 1 steps/s, 0:00:01 left", flush=True)
note("end")
"""


SCRIPTS = ["reinforce", "a2c", "ppo_continuous", "ddpg", "td3"]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "old, new, same",
    [
        ("# γ, discount factor", "# γ", True),
        ("must be at least", "has to be at least", True),
        ('"""Trains, and returns the folder of the run."""', '"""Trains."""', True),
        ('say(f"run folder', 'say(f"the run folder', True),
        ("runs", "trials", True),
        ("gamma: float = 0.99", "gamma: float = 0.98", False),
        ("eval_episodes: int = 10", "eval_episodes: int = 5", False),
        ("    return env\n", "    return gym.wrappers.ClipAction(env)\n", False),
        ("envs.begin_all()\n            for _", "for _", False),
        ("metrics = {}\n", "metrics = {}\n        torch.manual_seed(0)\n", False),
    ],
)
def test_a_version_is_what_decides_numbers(script, old, new, same):
    text = (ROOT / f"{script}.py").read_text()
    assert old in text
    edited = text.replace(old, new)
    assert edited != text
    assert (common.version_of(edited) == common.version_of(text)) == same


@pytest.fixture
def stand_in(tmp_path):
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    return path


def tool(name, *options):
    return [sys.executable, str(BENCHMARK / f"{name}.py"), *map(str, options)]


def campaign(script, root, *options, seeds=(1, 2, 3), status=0):
    done = subprocess.run(
        tool(
            "run",
            "--scripts",
            script,
            "--tasks",
            "Toy-v0",
            "--root",
            root,
            "--seeds",
            *seeds,
            "--every",
            "1",
            *options,
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def starts(root):
    """{(options, seed): how often its run was started}."""
    found = {}
    for trace in root.rglob("*.trace"):
        lines = trace.read_text().split("\n")[:-1]
        found[trace.parent.parent.name, int(trace.stem)] = sum(
            line.startswith("start") for line in lines
        )
    return found


# ── run.py ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_campaign_goes_on_and_repeats_nothing(number, stand_in, tmp_path):
    options = ["--options", "sleep=0.15", "--workers", "2"]
    campaign(stand_in, tmp_path / "whole", *options, seeds=range(1, 6))
    root = tmp_path / "killed"
    process = subprocess.Popen(
        tool(
            "run",
            "--scripts",
            stand_in,
            "--tasks",
            "Toy-v0",
            "--root",
            root,
            *options,
            "--seeds",
            *range(1, 6),
        )
    )
    while len(finished := list(root.rglob("provenance.json"))) < 2:
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(120)
    finished = {path: path.stat().st_mtime_ns for path in finished}
    assert len(list(root.rglob("provenance.json"))) < 5
    assert "of them done before" in campaign(stand_in, root, *options, seeds=range(1, 6))
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    assert all(starts(root)["sleep=0.15", int(path.parent.name)] == 1 for path in finished)
    one, other = (common.read(tmp_path / name) for name in ("whole", "killed"))
    assert len(one) == 5 and [run.rows for run in one] == [run.rows for run in other]
    assert "5 runs, 5 of them done before" in campaign(stand_in, root, *options, seeds=range(1, 6))


def test_what_outlives_its_campaign_is_waited_for(stand_in, tmp_path):
    """Training that does not end with a killed run.py: a second campaign must not write beside it."""
    options = ["--options", "die=stubborn,sleep=0.3"]
    process = subprocess.Popen(
        tool(
            "run",
            "--scripts",
            stand_in,
            "--tasks",
            "Toy-v0",
            "--root",
            tmp_path / "root",
            "--seeds",
            "1",
            *options,
        )
    )
    while not list((tmp_path / "root").rglob("*.trace")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    campaign(stand_in, tmp_path / "root", *options, seeds=[1])
    words = [
        line.split() for line in next((tmp_path / "root").rglob("*.trace")).read_text().splitlines()
    ]
    assert words[0][0] == "start" and words[1] == ["end", words[0][1]] and len(words) == 4


def test_a_second_campaign_that_is_interrupted_leaves_the_first_alone(stand_in, tmp_path):
    """The same command twice, by mistake: the second waits for the first's runs, and a request to end is its alone."""
    command = tool(
        "run",
        "--scripts",
        stand_in,
        "--tasks",
        "Toy-v0",
        "--root",
        tmp_path / "root",
        "--seeds",
        1,
        2,
        "--options",
        "sleep=0.5",
    )
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not list((tmp_path / "root").rglob("*.trace")):
        time.sleep(0.02)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while "of the whole" not in second.stdout.readline():
        pass
    second.send_signal(signal.SIGINT)
    assert "stopping" in second.communicate(timeout=20)[0] and second.returncode == 130
    assert "2 of 2 runs done" in first.communicate()[0] and first.returncode == 0
    assert set(starts(tmp_path / "root").values()) == {1} and not list(
        (tmp_path / "root").rglob("*.stop-*")
    )


def test_a_disk_that_fails_is_a_run_that_fails(stand_in, tmp_path):
    """Not a campaign that ends in a traceback, and whose other runs go on unseen."""
    (job,) = common.jobs_of(tmp_path / "root", [stand_in], ["default"], ["Toy-v0"], [1])
    job.beside(".lock").mkdir(parents=True)
    assert common.execute(job).startswith("failed: ") and "seed 1: failed: [Errno" in campaign(
        stand_in, tmp_path / "root", seeds=[1, 2], status=1
    )
    assert [run.seed for run in common.read(tmp_path / "root")] == [2]


def test_what_dies_is_resumed_and_what_is_wrong_is_not(stand_in, tmp_path):
    campaign(stand_in, tmp_path / "once", "--options", "die=once")
    runs = common.read(tmp_path / "once")
    assert [run.attempts for run in runs] == [2, 2, 2] and set(
        starts(tmp_path / "once").values()
    ) == {2}
    campaign(stand_in, tmp_path / "never")
    assert [run.rows for run in runs] == [run.rows for run in common.read(tmp_path / "never")]
    said = campaign(
        stand_in,
        tmp_path / "always",
        "--options",
        "default",
        "die=always",
        "--retries",
        2,
        status=1,
    )
    assert said.count("failed: exit status -9") == 3 and len(common.read(tmp_path / "always")) == 3
    assert [
        n for (options, _), n in starts(tmp_path / "always").items() if options == "die=always"
    ] == [3, 3, 3]
    said = campaign(stand_in, tmp_path / "bad", "--options", "x=bad", seeds=[1], status=1)
    assert "--x bad: no" in said and not common.read(tmp_path / "bad")
    (log,) = (tmp_path / "bad").rglob("*.log")
    assert log.read_text().count("bad: no") == 1


def test_damaged_run_fails_and_is_left_as_it_is(stand_in, tmp_path):
    campaign(stand_in, tmp_path / "root", seeds=[1])
    folder = next((tmp_path / "root").rglob("provenance.json")).parent
    (folder / "provenance.json").unlink()
    (folder / "config.json").write_text('{"half')
    files = {path: path.read_bytes() for path in folder.iterdir()}
    assert "seed 1: failed" in campaign(
        stand_in, tmp_path / "root", "--retries", 1, seeds=[1], status=1
    )
    assert files == {path: path.read_bytes() for path in folder.iterdir()}


def test_versions_and_packages_are_told_apart(stand_in, tmp_path):
    root = tmp_path / "root"
    campaign(stand_in, root, "--collect", "--results", tmp_path / "results", seeds=[1])
    stand_in.write_text(STAND_IN.replace("/ 7", "/ 8"))
    process = subprocess.Popen(
        tool(
            "run",
            "--scripts",
            stand_in,
            "--tasks",
            "Toy-v0",
            "--root",
            root,
            "--seeds",
            1,
            2,
            "--options",
            "sleep=0.1",
            "--collect",
            "--results",
            tmp_path / "results",
        )
    )
    while len(list(root.rglob("*.trace"))) < 2:
        time.sleep(0.02)
    stand_in.write_text("raise SystemExit('edited while a campaign was under way')")
    assert process.wait() == 0
    old, *new = sorted(common.read(tmp_path / "results"), key=lambda run: run.options)
    assert (
        len(new) == 2 and len({run.version for run in new}) == 1 and old.version != new[0].version
    )
    assert [float(run.rows[0]["return_mean"]) for run in (old, *new)] == [1 / 7, 1 / 8, 2 / 8]
    stand_in.write_text(STAND_IN)
    assert old.version == common.version_of(STAND_IN)
    packages = next(root.glob(f"*-{old.version}/packages.json"))
    packages.write_text(packages.read_text().replace('"numpy": "', '"numpy": "1'))
    campaign(stand_in, root, seeds=[1, 2], status=2)
    runs = next(
        (tmp_path / "results").glob(f"*-{old.version}/runs.jsonl")
    )  # refused before training, not after it
    runs.write_text(runs.read_text().replace('"numpy": "', '"numpy": "1'))
    campaign(
        stand_in,
        tmp_path / "new",
        "--collect",
        "--results",
        tmp_path / "results",
        seeds=[3],
        status=2,
    )
    assert not starts(tmp_path / "new")


def test_collecting_keeps_every_digit_and_adds(stand_in, tmp_path):
    for seeds in [1, 2], [2, 3]:
        campaign(
            stand_in,
            tmp_path / "root",
            "--collect",
            "--results",
            tmp_path / "results",
            "--options",
            "x=0.1",
            "default",
            "note=" + 300 * "y",
            seeds=seeds,
        )
    runs, collected = common.read(tmp_path / "root"), common.read(tmp_path / "results")
    assert len(runs) == 9 and runs == collected
    assert {
        run.options for run in common.read(next((tmp_path / "results").iterdir()) / "x=0.1")
    } == {"x=0.1"}
    files = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*.*")}
    common.collect(runs[:2], tmp_path / "results")
    assert files == {path: path.read_bytes() for path in (tmp_path / "results").rglob("*.*")}
    other = runs[0]._replace(
        provenance=runs[0].provenance | {"packages": {"numpy": "1"}, "seed": 9}
    )
    with pytest.raises(SystemExit):
        common.collect([other], tmp_path / "results")


def test_script_of_ours(tmp_path):
    """One campaign with a real script, and its run is the script's own, to the bit."""
    words = ["--total-timesteps", "3000", "--eval-frequency", "1000", "--eval-episodes", "2"]
    words += ["--checkpoint-frequency", "350", "--no-anneal-lr"]
    options = ",".join(
        f"{name[2:]}={value}" for name, value in zip(words[:-1:2], words[1::2], strict=True)
    )
    command = tool(
        "run", "--scripts", "a2c", "--tasks", "Pendulum-v1", "--seeds", 3, "--root", tmp_path / "r"
    )
    done = subprocess.run(
        [*command, "--options", f"{options},no-anneal-lr"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "1 of 1 runs done, 100 % of the whole" in done.stdout, (
        done.stdout + done.stderr
    )
    subprocess.run(
        [
            sys.executable,
            ROOT / "a2c.py",
            *words,
            "--env-id",
            "Pendulum-v1",
            "--seed",
            "3",
            "--run-dir",
            tmp_path / "own",
            "--device",
            "cpu",
            "--num-threads",
            "1",
        ],
        check=True,
        capture_output=True,
    )
    folder = next((tmp_path / "r").rglob("provenance.json")).parent
    assert_same_run(tmp_path / "own", folder)
    subprocess.run(
        [sys.executable, folder.parents[2] / "a2c.py", "--resume", folder],
        check=True,
        capture_output=True,
    )
    (run,) = common.read(tmp_path / "r")
    assert run.version == common.version_of((ROOT / "a2c.py").read_text())
    assert run.packages["torch"] == run.config["versions"]["torch"]
    assert run.config["processor"] and run.commit
    common.collect(
        [run], tmp_path / "collected"
    )  # what a run is, not where on somebody's machine it lay
    assert not [
        path for path in (tmp_path / "collected").rglob("*.*") if str(tmp_path) in path.read_text()
    ]
    assert run.config["options"]["anneal_lr"] is False and (
        folder.parents[2] / "native_mujoco.py"
    ).exists() == bool(run.native)


# ── statistics ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_aggregates_by_hand():
    assert (
        report.iqm(np.array([9.0, 1, 2, 3, 100])) == (2 + 3 + 9) / 3
    )  # one of five left out on each side
    found = {
        "a2c": {"Ant-v5": np.array([0.0, 2, 1, 0.5]), "Hopper-v5": np.array([0.5, 3, 1, 0.2])},
        "td3": {"Hopper-v5": np.array([1.0, 0, 0.25, 0.5, 0.7])},
        "ddpg": {"Toy-v0": np.array([0.0, 1])},
    }
    rows = [row.split(" | ")[2:] for row in report.aggregate_table(found).split("\n")[2:]]
    assert [cells[0] for cells in rows] == ["8", "5", "2"] and rows[2] == ["2", "0.50", "0.50 |"]
    assert rows[0][1].startswith("0.75 [") and rows[0][2].startswith(
        "0.35 ["
    )  # (0.5 + 0.5 + 1 + 1) / 4; 2.8 / 8
    assert rows[1][1].startswith("0.48 [") and rows[1][2].startswith("0.51 [")
    assert report.pooled([column(0.0, 4), column(3.0, 6, 9)]).mean() == (2 + 6) / 2  # not 22 / 5
    rows = report.improvement_table(found).split("\n")[2:]  # of 20 pairs 6 won, 2 even
    assert len(rows) == 1 and rows[0] == "| P(td3 > a2c) | Hopper | 0.35 |"


def column(*values):
    return np.array(values)[:, None]


def test_probability_of_improvement_by_hand():
    assert report.probability_of_improvement(column(1.0, 3), column(2.0, 1)) == (0.5 + 2) / 4
    two = column(1.0, 3), column(5.0), column(2.0, 1), column(7.0, 8, 3)  # X on two tasks, then Y
    assert report.probability_of_improvement(*two) == (2.5 / 4 + 1 / 3) / 2


def test_intervals_are_as_wide_as_theory_says():
    """Of a mean over three tasks with deviations 1, 2, 3 and other numbers of seeds: ± 1.96 √(Σ σ² n) / Σ n. Of an IQM
    of 200 normal numbers: ± 1.96 √(1.195 / 200), 1.195 being 4 (∫ x² φ + q²/2) between the quartiles ∓q.
    With other draws than these, which are seeded, it would fail once in about a thousand."""
    rng = np.random.default_rng(0)
    strata = [rng.normal(100 * i, i, 100 * i) for i in (1, 2, 3)]
    middle = np.concatenate(strata).mean()
    found = re.findall(
        "[0-9.]+", report.estimate(lambda *scores: np.concatenate(scores).mean(), strata)
    )
    half = 1.96 * np.sqrt(sum(x.var() * len(x) for x in strata)) / 600
    assert np.array(found, float) == pytest.approx(
        [middle, middle - half, middle + half], abs=0.15 * half + 0.005
    )
    low, high = report.bootstrap(np.stack([scipy.stats.norm.ppf((np.arange(200) + 0.5) / 200)] * 2))
    half = 1.96 * np.sqrt(1.195 / 200)
    assert (
        low == pytest.approx(-half, rel=0.1)
        and high == pytest.approx(half, rel=0.1)
        and low[0] == low[1]
    )


# ── compare.py ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_permutation_test_by_brute_force():
    a, b = np.array([3.0, 5, 8]), np.array([1.0, 2, 4])
    sums = np.array(
        [sum(choice) for choice in itertools.combinations([3, 5, 8, 1, 2, 4], 3)]
    )  # of B's
    (_, difference, _, p), (_, aggregate, _, p_both) = compare.compare({"x": (a, b)})[0]
    assert difference == pytest.approx(7 / 3 - 16 / 3) and p == np.mean(sums <= 7) == 0.1
    assert aggregate == pytest.approx(-3 / np.std([3, 5, 8, 1, 2, 4])) and p_both == pytest.approx(
        0.1, abs=0.015
    )
    # a second task on another scale, where B is better by 50: of the 20 × 20 outcomes those that are as bad together
    rows, worse, verdict = compare.compare(
        {"x": (a, b), "y": (np.array([0.0, 100]), np.array([100.0, 100]))}
    )
    x, y = (
        (2 * sums - 23) / 3 / np.std([3, 5, 8, 1, 2, 4]),
        np.array([-50] * 3 + [50] * 3) / np.std([0, 100, 100, 100]),
    )
    exact = np.mean(x[:, None] + y <= -3 / np.std([3, 5, 8, 1, 2, 4]) + y[-1] + 1e-9)
    assert rows[1][1:2] + rows[1][3:] == (50, 1) and not worse and not verdict
    assert rows[2][1] == pytest.approx((-3 / np.std([3, 5, 8, 1, 2, 4]) + y[-1]) / 2)
    assert rows[2][3] == pytest.approx(exact, abs=0.025)  # 10,000 draws: 5 deviations


def test_ties_are_ties():
    """Equal runs on both sides, as where a task is solved: sums of floats depend on their order, p must not."""
    rng = np.random.default_rng(0)
    for scale in 1.0, 1e4, 1e-6:
        for _ in range(10):
            runs = rng.choice(scale * (9 + rng.random(4)), 8)
            exact = [Fraction(run) for run in runs]
            sums = [sum(choice) for choice in itertools.combinations(exact, 4)]
            p = compare.compare({"x": (runs[:4], runs[4:])})[0][0][3]
            assert p == pytest.approx(np.mean([each <= sum(exact[4:]) for each in sums]))


def alarms(simulations, draw_a, draw_b):
    """How often compare says that B is worse."""
    rng = np.random.default_rng(1)
    return sum(
        compare.compare(
            {task: (draw_a(rng, task), draw_b(rng, task)) for task in range(4)}, seed=seed
        )[2]
        for seed in range(simulations)
    )


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(compare, "DRAWS", 1000)


def test_false_alarm_rate(quick):
    """Equal, skewed, of four scales: at most 5 % alarms. 400 comparisons give 39 or more once in 25,000."""

    def draw(rng, task):
        return 10.0**task * rng.exponential(size=5)

    assert 0 < alarms(400, draw, draw) < 39


def test_power(quick):
    """Five seeds against five, four tasks: a loss of 1.5 deviations on all is seen, one of 4 on a single task too."""

    def draw(rng, task):
        return rng.normal(task, 1, 5)

    assert alarms(100, draw, lambda rng, task: rng.normal(task - 1.5, 1, 5)) >= 95
    assert alarms(100, draw, lambda rng, task: rng.normal(task - 4 * (task == 2), 1, 5)) >= 90
    assert alarms(100, draw, lambda rng, task: rng.normal(task + 1.5, 1, 5)) == 0


def test_compare_command(stand_in, tmp_path):
    root, results = tmp_path / "root", tmp_path / "results"
    campaign(
        stand_in,
        root,
        "--options",
        "x=1",
        "x=0.3",
        "--collect",
        "--results",
        results,
        seeds=range(1, 7),
    )
    bad, good = (next(results.iterdir()) / options for options in ("x=1", "x=0.3"))
    for a, b, status, said in (
        (bad, good, 0, "B is not shown to be worse"),
        (good, bad, 1, "B is worse"),
        (next(root.glob("*/x=0.3")), bad, 1, "B is worse"),
        (good, good.parent, 2, "several"),
        (good, results / "none", 2, "no finished runs"),
    ):
        done = subprocess.run(tool("compare", a, b), capture_output=True, text=True)
        assert done.returncode == status and said in done.stdout + done.stderr, (
            done.stdout + done.stderr
        )


# ── report.py ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_committed_report_is_what_the_results_make():
    done = subprocess.run(tool("report", "--check"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    for folder in (BENCHMARK / "results").glob("a2c-*"):
        shutil.copytree(folder, tmp_path / "results" / folder.name)
    shutil.copy(BENCHMARK / "results" / "speed.jsonl", tmp_path / "results")
    (tmp_path / "README.md").write_text("before\n<!-- results -->\nold\n<!-- end -->\nlast\n")
    options = itertools.chain(
        *(
            (f"--{name}", tmp_path / file)
            for name, file in (
                ("results", "results"),
                ("report", "report.md"),
                ("readme", "README.md"),
            )
        )
    )
    command = tool("report", *options)
    return lambda *more: (
        subprocess.run([*command, *more], capture_output=True, text=True).returncode
    )


@pytest.mark.slow
def test_report_notices_a_changed_digit(copy, tmp_path):
    assert copy("--check") == 1
    assert copy() == 0 and copy("--check") == 0
    assert (tmp_path / "figures" / "all.png").read_bytes()[1:4] == b"PNG"
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n<!-- results -->\n| task") and "old" not in readme
    assert readme.endswith("different.\n<!-- end -->\nlast\n")
    record, path = fake_speed(), tmp_path / "results" / "speed.jsonl"
    speed.save(path, record)
    assert copy("--check") == 1 and copy() == 0 and copy("--check") == 0
    assert "## Speed" in (tmp_path / "report.md").read_text()
    record["rounds"][0]["sb3"]["seconds"] *= 2
    speed.save(path, record)
    assert copy("--check") == 1 and copy() == 0 and copy("--check") == 0
    path = next((tmp_path / "results").glob("a2c-*/evaluations.csv"))
    lines = path.read_text().split("\n")
    cells = lines[-2].split(",")
    path.write_text(
        "\n".join([*lines[:-2], ",".join([*cells[:5], str(float(cells[5]) - 30), *cells[6:]]), ""])
    )
    assert copy("--check") == 1


def fake_runs(
    task,
    returns,
    script="td3",
    version="aaaaaaaa",
    finished="2026",
    options="default",
    steps=1_000_000,
):
    provenance = dict(
        script=script, version=version, options=options, task=task, commit="abc", finished=finished
    )
    return [
        common.Result(
            provenance | {"seed": seed},
            {},
            [
                {"global_step": str(step), "return_mean": str(value)}
                for step, value in ((0, 0.0), (steps, final))
            ],
        )
        for seed, final in enumerate(returns)
    ]


def test_few_seeds_make_no_claims():
    one, four, five = ([5000.0, 5100, 5200, 4900, 5050][:n] for n in (1, 4, 5))
    for returns, said, intervals in (one, "one seed", 0), (four, "ahead", 0), (five, "ahead", 1):
        row = report.final_table(
            common.groups(fake_runs("Humanoid-v5", returns, "ppo_continuous"))
        ).split("\n")[-1]
        assert (
            f"| {said} |" in row
            and row.count("[") == intervals
            and row.count("±") == (2 if len(returns) > 1 else 1)
        )
    table = report.final_table(common.groups(fake_runs("Humanoid-v5", five, steps=500_000)))
    assert "other number of steps" in table
    assert "| none found |  |" in report.final_table(common.groups(fake_runs("Toy-v0", five)))


def test_verdict_by_hand():
    """Welch: ours 10, 12, 14 (mean 12, variance 4); published 8 ± 2 (16): t = 4 / √(4/3 + 4/16) = 3.18, ν = 2.81."""
    ours = np.array([10.0, 12, 14])
    assert report.verdict(ours, 7.9, 2, 16) == "not significant"  # two-sided p = 0.0519
    assert (
        report.verdict(ours, 7.7, 2, 16) == "ahead"
        and report.verdict(ours, 16.3, 2, 16) == "behind"
    )  # 0.0464
    assert report.verdict(ours * 0 + 1000, 1000, 0, 10) == "not significant"
    assert report.verdict(ours * 0 + 1000, 999, 0, 10) == "ahead"


def test_versions_are_not_pooled_and_the_newest_is_drawn():
    old = fake_runs("Ant-v5", [1.0, 2], version="bbbbbbbb", finished="2025")
    cells = common.groups(old + fake_runs("Ant-v5", [5.0]))
    assert [len(runs) for runs in cells.values()] == [2, 1] and report.final_table(cells).count(
        "\n"
    ) == 3
    assert [[run.version for run in runs] for runs in report.newest(cells).values()] == [
        ["aaaaaaaa"]
    ]


def test_overview_counts_cells_of_newest_versions_and_default_options():
    cells = common.groups(
        [
            *fake_runs("Hopper-v5", [9000.0, 9000], "a2c"),
            *fake_runs("Humanoid-v5", [5000.0, 5010], "ddpg"),
            *fake_runs("Swimmer-v5", [10.0, 11, 12, 13, 14], "ppo_continuous"),  # 108.5 ± 21.5 (10)
            *fake_runs("Hopper-v5", [2500.0, 3500], "ppo_continuous"),  # 2912 ± 748 (3)
            *fake_runs("Hopper-v5", [9000.0, 9000], "ppo_continuous", "bbbbbbbb", "2025"),
            *fake_runs("Ant-v5", [1.0]),
            *fake_runs("Toy-v0", [1.0, 2.0]),
            *fake_runs("Pusher-v5", [1.0, 2.0], options="tau=1"),
        ]
    )
    count, table = report.matrix(cells)
    assert [int(number) for number in re.findall("[0-9]+", count)] == [
        5,
        2,
        1,
        1,
        1,
        0,
        0,
        1,
    ]  # alike: PPO on Hopper
    assert [line.split(" | ") for line in table.replace("| ", "", 1).split("\n| ")[2:]] == [
        ["Ant-v5", "–", "–", "–", "–", "1.0 (1) / 4,911 |"],
        ["Hopper-v5", "–", "9,000 ± 0.0 (2) > 1,224", "3,000 ± 707 (2) ≈ 2,912", "–", "– |"],
        ["Humanoid-v5", "–", "–", "–", "5,005 ± 7.1 (2) > 1,700", "– |"],
        ["Swimmer-v5", "–", "–", "12.0 ± 1.6 (5) < 108", "–", "– |"],
        ["Toy-v0", "–", "–", "–", "–", "1.5 ± 0.7 (2) |"],
        ["*a run of HalfCheetah-v5*", "–", "–", "–", "–", "– |"],
    ]


def test_every_target_has_its_protocol():
    """Each target is found among the published numbers, so that a protocol other than ours is said."""
    rows = list(csv.DictReader(open(BENCHMARK / "published" / "published_targets.csv")))
    scripts = {name: script for script, name in report.NAMES.items()}
    protocols = [
        report.target(scripts[row["algorithm"]], f"{row['env']}-v5")["protocol"] for row in rows
    ]
    said = dict(zip([(row["algorithm"], row["env"]) for row in rows], protocols, strict=True))
    assert (
        said["PPO", "HalfCheetah"] == "sampled actions"
        and said["PPO", "Pusher"] == "returns of training"
    )
    assert said["TD3", "HalfCheetah"] == said["TD3", "Ant"] == said["PPO", "Hopper"] == ""
    assert said["DDPG", "Walker2d"] == "mean of the last 10 evaluations"
    assert all(
        said["REINFORCE", env] == "sampled actions"
        for algorithm, env in said
        if algorithm == "REINFORCE"
    )


def test_scores_by_hand(monkeypatch):
    zero, one = common.reference("HalfCheetah-v5")
    assert one == 11653 and -320 < zero < -240
    assert common.reference("HumanoidStandup-v5") is None  # nothing published
    runs = fake_runs("HalfCheetah-v5", [zero, one]) + fake_runs(
        "HalfCheetah-v5", [0.0], options="tau=0.1"
    )
    assert report.scores(common.groups(runs))["td3"]["HalfCheetah-v5"].tolist() == [0, 1]


# ── speed.py ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fake_speed(cell="a2c", device="cpu", **seconds):
    """Three rounds of 1200 steps; `seconds` of a side are those of the rounds, or None where it did not run."""
    seconds = {
        "ours": (2, 3, 4),
        "sb3": (4, 3, 8),
        "minimal": (4, 6, 8),
        "environment": (1, 1, 1),
        "update": (1, 2, 2),
        "peak": (0.1, 0.1, 0.1),
    } | seconds
    rounds = [
        {side: values and {"steps": 1200, "seconds": values[i]} for side, values in seconds.items()}
        for i in range(3)
    ]
    for sides in rounds:
        sides["update"]["flops"] = 2.0
    return {
        "cell": cell,
        "device": device,
        "date": "now",
        "script": "0a",
        "threads": 2,
        "processor": "none, 2 cores",
        "versions": {"torch": "1", "jax": "2"},
        "rounds": rounds,
    }


def test_speed_by_hand(tmp_path):
    """Ours 600, 400, 300 steps/s beside 300, 400, 150: the medians are 400 and 300, the ratios 2, 1, 2. The limits are
    600, 400, 400, of which it reaches 1, 1, 3/4; of arithmetic's 12,000 / 2 steps a tenth, a fifteenth, a twentieth."""
    marks = [(0, 1.0), (100, 2.5), (300, 3.0), (500, 7.0)]
    assert speed.between(marks, 100) == {"steps": 400, "seconds": 4.5} == speed.between(marks, 50)
    with pytest.raises(SystemExit):
        speed.between(marks, 400)
    scaling = (
        speed.CELLS["td3-scaling"],
        speed.CELLS["ppo_continuous-scaling"],
    )  # whole steps, whole rollouts of 256
    assert [speed.lengths(cell, "sync 64") for cell in scaling] == [(1000, 2048), (16384, 49152)]
    table = report.speed_table({("a2c", "cpu"): fake_speed()}).split("\n")
    assert len(table) == 6 and table[2].startswith("| a2c.py, 16 × 5 steps | Stable-Baselines3 | ")
    assert "a2c.py --compile" in table[4] and " | not run | 1.6 | not run | " in table[4]
    assert table[2].endswith(" | 400 / 300 = 2.00 [1.00, 2.00] | 1.6 | not run | `0a`, 3, now |")
    assert table[3].endswith(
        "| minimal loop | 400 / 200 = 2.00 [2.00, 2.00] | – | not run | `0a`, 3, now |"
    )
    row = report.limits_table({("a2c", "cpu"): fake_speed()}).split("\n")[2]
    assert row.endswith(
        "| cpu | 1,200 | 600 | 400 | 400 | 100 % | 0.00 M | 0 G | 6,000 | 6.7 % | `0a`, 3, now |"
    )
    both = {
        ("td3", "cpu"): fake_speed("td3", sbx=(1, 1, 1)),
        ("td3", "cuda"): fake_speed("td3", "cuda", sbx=None),
    }
    rows = report.speed_table(both).split("\n")
    assert "| SBX (JAX) | 400 / 1,200 = 0.33 [0.25, 0.50] | 1.0 (missed) | not run |" in rows[3]
    assert rows[2].endswith("| 1.8 | 400 / 300 = 2.00 [1.00, 2.00] | `0a`, 3, now |")
    assert report.limits_table(both).count("\n") == 3 and report.speed_table(both, True).split(
        "\n"
    )[2].endswith("] |")
    ppo = {("ppo_continuous", "cpu"): fake_speed("ppo_continuous", compiled=(2, 1, 2), sbx=None)}
    rows = report.speed_table(ppo).split("\n")[
        2:
    ]  # 3 peers without --compile, then with it: 600, 1200, 600 steps/s
    assert (
        len(rows) == 6
        and "32 minibatches of 64 | Stable" in rows[0]
        and "| 2.2 (missed) |" in rows[0]
    )
    assert (
        rows[3].startswith("| ppo_continuous.py --compile")
        and "600 / 300 = 3.00 [2.00, 4.00] | 2.2 |" in rows[3]
    )
    times = {side: (1, 2, 4) if "native" in side else (2, 2, 4) for side in speed.SCALING}
    scaling = fake_speed("td3-scaling", **times)
    table = report.scaling_table(both | {("td3-scaling", "cpu"): scaling}).split("\n")
    assert (
        len(table) == 2 + 5
        and table[6] == "| td3.py | cpu | 256 | 600 | 600 | 1.00 | `0a`, 3, now |"
    )
    rounds = [
        {
            "parts": dict(
                steps=1000, seconds=all_, acting=all_ / 4, environments=all_ / 2, learning=all_ / 10
            )
        }
        for all_ in (1, 4, 2)
    ]
    table = report.parts_table(
        {("a2c-parts", "cpu"): fake_speed("a2c-parts") | {"rounds": rounds}}
    ).split("\n")
    assert table[2:] == [
        "| a2c.py, 16 × 5 steps | cpu | 500 | 1,000 | 200 | 300 | 2,000 | `0a`, 3, now |"
    ]
    path = tmp_path / "speed.jsonl"
    for cell, date in ("td3", "1"), ("a2c", "2"), ("td3", "3"):  # a part replaces only that part
        speed.save(path, fake_speed(cell) | {"date": date})
    kept = [(name, record["date"]) for (name, _), record in speed.read_speed(path).items()]
    assert kept == [("a2c", "2"), ("td3", "3")]


def test_seconds_to_a_return_by_hand():
    def runs(*times):
        rows = [
            [
                {"wall_seconds": "1", "return_mean": "2999"},
                {"wall_seconds": str(when), "return_mean": "3000"},
            ]
            for when in times
        ]
        return [
            run._replace(rows=rows[i] if times[i] else rows[i][:1])
            for i, run in enumerate(fake_runs(speed.ENV, times))
        ]

    said = [
        report.reaching_table(common.groups(runs(*times))).split("\n")[-1]
        for times in ((5, 7, 90), (5, None, 8), (5, None, None), (5, None))
    ]
    assert said == [
        "| td3 | 3 | 7 |",
        "| td3 | 3 | 8 |",
        "| td3 | 3 | not reached |",
        "| td3 | 2 | not reached |",
    ]
    assert "| a2c | 0 | – |" in report.reaching_table(common.groups(runs(5)))


def test_speed_refuses_in_one_line():
    for words in (
        ["--cells", "nope"],
        ["--rounds", 0],
        ["--threads", 10**6],
        ["--steps", "x"],
        ["--side", "ours"],
    ):
        done = subprocess.run(tool("speed", *words), capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
        assert done.stderr.startswith("speed.py: ") and words[0][2:] in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("cell", speed.CELLS)
def test_every_side_runs(cell, tmp_path):
    for package in "stable_baselines3", "sbx":
        pytest.importorskip(package, reason=MISSING)
    path = tmp_path / "speed.jsonl"
    subprocess.run(
        tool(
            "speed",
            "--cells",
            cell,
            "--rounds",
            1,
            "--threads",
            1,
            "--results",
            path,
            "--steps",
            8000 if "reinforce" in cell else 2048,
        ),
        check=True,
    )
    record = json.loads(path.read_text())
    assert record["rounds"][0].keys() == speed.CELLS[cell].sides.keys()
    assert all(
        sides["steps"] > 0 and sides["seconds"] > 0 for sides in record["rounds"][0].values()
    )
    if (
        cell == "ppo_continuous"
    ):  # multiply-adds: forwards, two backwards but for the first layers', ten times; then
        first, rest, values = (
            2 * 17 * 64,
            2 * 64 * 64 + 64 * 6 + 64,
            2 * (17 * 64 + 64 * 64 + 64),
        )  # V twice, π once
        actor = 17 * 64 + 64 * 64 + 64 * 6
        assert (
            record["rounds"][0]["update"]["flops"]
            == 2 * (10 * (2 * first + 3 * rest) + values + actor)
            == 637_568
        )
    found = record["rounds"][0].get("parts", {"seconds": 1})
    assert (
        sum(found.get(part, 0) for part in speed.PARTS) < found["seconds"]
        and found.get("learning") != 0
    )
    tables = report.speed_table, report.scaling_table, report.parts_table
    assert any(table({(cell, "cpu"): record}) for table in tables)


# ── tune.py ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_search_goes_on_after_a_kill(stand_in, tmp_path):
    """The stand-in is best at x = 0.3: the search gets near, stops what is bad, and validates on seeds kept for it.

    The search draws by chance; that it finds no good x, or nothing to stop, comes about once in a thousand times."""
    optuna = pytest.importorskip("optuna", reason=MISSING)
    options = [
        "--script",
        stand_in,
        "--space",
        "x=0.05..5",
        "--fixed",
        "sleep=0.25",
        "--tasks",
        "Toy-v0",
        "--seeds",
        1,
        "--validation-tasks",
        "Toy-v0",
        "--validation-seeds",
        7,
        8,
        "--trials",
        14,
        "--warm-up",
        2,
        "--root",
        tmp_path / "tune",
    ]

    def study():
        (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/tune/study.db")
        return optuna.load_study(
            study_name=name, storage=f"sqlite:///{tmp_path}/tune/study.db"
        ).get_trials()

    process = subprocess.Popen(tool("tune", *options))
    while len(list((tmp_path / "tune").rglob("provenance.json"))) < 3:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = {trial.number: trial.value for trial in study() if trial.value is not None}
    done = subprocess.run(tool("tune", *options), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = study()
    assert before.items() <= {trial.number: trial.value for trial in after}.items()
    ended = [trial for trial in after if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(ended) == 14 and any(trial.state.name == "PRUNED" for trial in ended)
    best = max((trial for trial in ended if trial.params), key=lambda trial: trial.value or -1e9)
    assert (
        best.value == pytest.approx(5 * (1 - (best.params["x"] - 0.3) ** 2) + 1 / 7)
        and best.value > 3
    )
    runs = common.read(tmp_path / "tune")
    assert {run.seed for run in runs if run.options.endswith(f"x={best.params['x']!r}")} == {
        1,
        7,
        8,
    }
    assert len([run for run in runs if run.seed == 1]) < 14  # those stopped early have not finished
    assert "| sleep" not in done.stdout and f"| x={best.params['x']!r} |" in done.stdout


def test_a_search_keeps_to_the_script_that_it_began_with(stand_in, tmp_path):
    pytest.importorskip("optuna", reason=MISSING)
    import tune

    tuner = tune.Tuner(tune.Args(script=str(stand_in), root=tmp_path / "tune", fixed="sleep=0"))
    (before,) = tuner.jobs({"x": "1"}, ["Toy-v0"], [3])
    stand_in.write_text("raise SystemExit('edited while a search was under way')")
    (after,) = tuner.jobs({"x": "1"}, ["Toy-v0"], [3])
    assert after == before and (after.options, after.task, after.seed) == (
        "sleep=0,x=1",
        "Toy-v0",
        3,
    )
    assert common.execute(after) == "done"


def test_a_validation_that_is_interrupted_stops_its_runs(stand_in, tmp_path):
    """Or the pool would work off its queue, after "stopped" was said."""
    pytest.importorskip("optuna", reason=MISSING)
    import tune

    tuner = tune.Tuner(tune.Args(script=str(stand_in), root=tmp_path / "tune"))

    class Interrupted(concurrent.futures.Future):
        def result(self, timeout=None):
            raise KeyboardInterrupt

    tuner.submit = lambda job: Interrupted()
    with pytest.raises(KeyboardInterrupt):
        list(tuner.validate([("default", {})]))
    assert len(list((tmp_path / "tune").rglob("*.stop-*"))) == 9  # three tasks, three seeds


# ── Ray ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_lost_node(tmp_path):
    """Two nodes with room for one run each; one is removed in mid-run. The runs end as local ones do, to the bit."""
    pytest.importorskip("ray", reason=MISSING)
    from ray.cluster_utils import Cluster

    words = [
        "--scripts",
        "td3",
        "--tasks",
        "InvertedPendulum-v5",
        "--seeds",
        1,
        2,
        "--options",
        "total-timesteps=4000,learning-starts=1000,eval-frequency=2000,eval-episodes=2,checkpoint-frequency=500",
    ]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        process = subprocess.Popen(
            tool("run", *words, "--root", tmp_path / "ray", "--ray", cluster.address),
            stdout=subprocess.PIPE,
            text=True,
        )
        while len(list((tmp_path / "ray").rglob("checkpoint.pt"))) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)
        said = process.communicate(timeout=500)[0]
        assert process.returncode == 0 and said.count(": done") == 2, said
    finally:
        cluster.shutdown()
    logs = [path.read_text().count("run folder:") for path in (tmp_path / "ray").rglob("*.log")]
    assert sorted(logs) == [1, 2], "one of the runs must have moved"
    subprocess.run(tool("run", *words, "--root", tmp_path / "local"), check=True)
    for run in common.read(tmp_path / "local"):
        job = common.Job(tmp_path / "local", *run.key, run.seed)
        assert_same_run(job.folder, job._replace(root=tmp_path / "ray").folder)
    assert len(common.read(tmp_path / "local")) == 2
