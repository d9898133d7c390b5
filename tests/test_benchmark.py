"""The benchmark's tools: campaigns that are killed, results that keep versions apart, the report,
error rates.

Most campaigns run a stand-in for a script: it keeps the contract (config.json, evaluations.csv,
--resume) in milliseconds, does what its options say (how long to sleep, where to die), and notes
its starts and ends in a file.
"""

import concurrent.futures
import itertools
import json
import math
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
from conftest import ROOT, SCRIPTS, assert_same_run, run

BENCHMARK = ROOT / "benchmark"
sys.path.insert(0, str(BENCHMARK))
import compare  # noqa: E402
import estimates  # noqa: E402
import reproduce  # noqa: E402
import results  # noqa: E402
import runs  # noqa: E402
import speed  # noqa: E402
import speed_tables  # noqa: E402
import tables  # noqa: E402

MISSING = "benchmark/requirements.txt is not installed"
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

DEFAULTS = {"--steps": "6", "--sleep": "0", "--die": "", "--x": "0"}
options = {**DEFAULTS, **dict(zip(sys.argv[1::2], sys.argv[2::2]))}
is_new = "--resume" not in options
folder = Path(options["--run-dir" if is_new else "--resume"])
if options["--x"] == "bad":
    print("stand_in.py: --x bad: no", file=sys.stderr)
    sys.exit(2)
if is_new:
    folder.mkdir(parents=True)
    config = {"processor": "none", "device": "cpu", **options}
    (folder / "config.json").write_text(json.dumps(config))
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
lines = ["global_step,wall_seconds,return_mean,return_std,episode_length_mean"]
if first:
    lines = (folder / "evaluations.csv").read_text().splitlines()[: first + 1]
for step in range(first, int(options["--steps"])):
    value = step * (1 - (float(options["--x"]) - 0.3) ** 2) + int(options["--seed"]) / 7
    lines.append(f"{step},{step / 10},{value},0.5,1000.0")
    (folder / "evaluations.csv").write_text("\\n".join(lines) + "\\n")
    time.sleep(float(options["--sleep"]))
    if "always" in options["--die"] or ("once" in options["--die"] and is_new and step == 3):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "checkpoint").write_text(str(step + 1))
    percent = 100 * (step + 1) // int(options["--steps"])
    print(f"step {step + 1}, {percent}%, 1 steps/s, 0:00:01 left", flush=True)
note("end")
"""


@pytest.fixture
def stand_in(tmp_path):
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    return path


def tool(name, *options):
    return [sys.executable, str(BENCHMARK / f"{name}.py"), *map(str, options)]


def campaign_command(script, root, *options, seeds=(1, 2, 3), task="Toy-v0"):
    words = ["--scripts", script, "--tasks", task, "--root", root, "--seeds", *seeds]
    return tool("run", *words, "--every", 1, *options)


def campaign(script, root, *options, status=0, **more):
    command = campaign_command(script, root, *options, **more)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def start_campaign(script, root, *options, **more):
    command = campaign_command(script, root, *options, **more)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_files(folder, pattern, count=1):
    for _ in range(6000):  # two minutes
        found = list(folder.rglob(pattern))
        if len(found) >= count:
            return found
        time.sleep(0.02)
    pytest.fail(f"{len(found)} files {pattern}, not {count}")


def starts(root):
    """{(options, seed): how often its run was started}."""
    found = {}
    for trace in root.rglob("*.trace"):
        lines = trace.read_text().splitlines()
        count = sum(line.startswith("start") for line in lines)
        found[trace.parent.parent.name, int(trace.stem)] = count
    return found


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


# ── versions ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "old, new, same",
    [
        ("# γ, discount factor", "# γ", True),
        ("must be at least", "has to be at least", True),
        ('"""Trains, and returns the folder of the run."""', '"""Trains."""', True),
        ('say(f"run folder', 'say(f"the run folder', True),
        ("runs", "trials", True),
        ('"actions": torch', '"all_actions": torch', True),
        ("gamma: float = 0.99", "gamma: float = 0.98", False),
        ("eval_episodes: int = 10", "eval_episodes: int = 5", False),
        ("    return env\n", "    return gym.wrappers.ClipAction(env)\n", False),
        ("envs.begin_all()\n        for _", "for _", False),
        ("metrics = {}\n", "metrics = {}\n        torch.manual_seed(0)\n", False),
        ("\ndef main(", "\nclass NewNetwork:\n    width = 3\n\n\ndef main(", False),
    ],
)
def test_a_version_is_what_decides_numbers(script, old, new, same):
    text = (ROOT / f"{script}.py").read_text()
    assert old in text
    edited = text.replace(old, new)
    assert edited != text
    assert (runs.version_of(edited) == runs.version_of(text)) == same


WITH_ROWS = {  # scripts: tasks, steps
    "ddpg": (["HalfCheetah-v5", "Hopper-v5"], 3000),
    "td3": (["HalfCheetah-v5", "Hopper-v5"], 3000),
    "a2c": (["HalfCheetah-v5", "Hopper-v5"], 50_000),
    "ppo_continuous": (["HalfCheetah-v5", "Hopper-v5"], 50_000),
    "reinforce": (["HalfCheetah-v5", "Hopper-v5"], 50_000),
    "dqn": (["CartPole-v1", "Acrobot-v1"], 20_000),
    "double_dqn": (["CartPole-v1", "Acrobot-v1"], 20_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", WITH_ROWS)
def test_texts_of_one_version_make_the_same_runs(script, tmp_path):
    """The present text, and that of the commit which made the first row of its version."""
    path = runs.find_script(script)
    version = runs.version_of(path.read_text())
    assert version in runs.SAME_RUNS.values()
    rows = [run for run in results.read(BENCHMARK / "results") if run.version == version]
    first = min(rows, key=lambda run: run.finished)
    (tmp_path / "older").mkdir()
    older = reproduce.script_of_commit(first, tmp_path / "older")
    tasks, steps = WITH_ROWS[script]
    options = ["--total-timesteps", steps, "--eval-frequency", steps // 5]
    if script in ("ddpg", "td3"):
        options += ["--learning-starts", 1000]
    for task in tasks:
        for text, folder in ((path, "present"), (older, "older")):
            words = [*options, "--env-id", task, "--run-dir", f"{folder}-{task}"]
            run(text, *words, cwd=tmp_path)
        assert_same_run(tmp_path / f"present-{task}", tmp_path / f"older-{task}")


def test_the_commit_of_each_recorded_run_has_its_version(tmp_path):
    """So that it can be reproduced when the script has changed. Edits of before a commit cannot.

    The oldest rows have Git's hash of the file as their version.
    """
    if reproduce.git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("needs the whole history")
    first_of_text = {}
    for folder in ("results", "gate", "tuning"):
        for path in sorted((BENCHMARK / folder).rglob("runs.jsonl")):
            for row in results.read(path.parent):
                if not row.commit.endswith("-dirty"):
                    first_of_text.setdefault((row.script, row.commit, row.version), row)
    assert len(first_of_text) > 20
    for row in first_of_text.values():
        script = reproduce.script_of_commit(row, tmp_path)
        assert reproduce.has_version(script, row.version), row
        reproduce.script_of(row, tmp_path)  # exits where it finds none


# ── run.py ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_campaign_goes_on_and_repeats_nothing(number, stand_in, tmp_path):
    options = ["--options", "sleep=0.15", "--workers", "2"]
    seeds = range(1, 6)
    campaign(stand_in, tmp_path / "whole", *options, seeds=seeds)
    root = tmp_path / "killed"
    process = start_campaign(stand_in, root, *options, seeds=seeds)
    finished = wait_for_files(root, "provenance.json", 2)
    process.send_signal(number)
    process.communicate(timeout=120)
    times = {path: path.stat().st_mtime_ns for path in finished}
    assert len(list(root.rglob("provenance.json"))) < 5
    assert "of them done before" in campaign(stand_in, root, *options, seeds=seeds)
    for path, modified in times.items():
        assert path.stat().st_mtime_ns == modified
        assert starts(root)["sleep=0.15", int(path.parent.name)] == 1
    whole = results.read(tmp_path / "whole")
    killed = results.read(root)
    assert len(whole) == 5 and [run.rows for run in whole] == [run.rows for run in killed]
    assert "5 runs, 5 of them done before" in campaign(stand_in, root, *options, seeds=seeds)


def test_what_outlives_its_campaign_is_waited_for(stand_in, tmp_path):
    """Training that does not end with a killed run.py: a second one must not write beside it."""
    options = ["--options", "die=stubborn,sleep=0.3"]
    process = start_campaign(stand_in, tmp_path / "root", *options, seeds=[1])
    wait_for_files(tmp_path / "root", "*.trace")
    process.kill()
    process.communicate()
    campaign(stand_in, tmp_path / "root", *options, seeds=[1])
    (trace,) = (tmp_path / "root").rglob("*.trace")
    events = [line.split() for line in trace.read_text().splitlines()]
    assert [what for what, _ in events] == ["start", "end", "start", "end"]
    assert events[0][1] == events[1][1]


def test_a_second_campaign_that_is_interrupted_leaves_the_first_alone(stand_in, tmp_path):
    """The same command twice, by mistake: a request to stop is of one campaign alone."""
    root = tmp_path / "root"
    options = ["--options", "sleep=0.5"]
    first = start_campaign(stand_in, root, *options, seeds=[1, 2])
    wait_for_files(root, "*.trace")
    second = start_campaign(stand_in, root, *options, seeds=[1, 2])
    for line in second.stdout:
        if "of the whole" in line:
            break
    second.send_signal(signal.SIGINT)
    assert "stopping" in second.communicate(timeout=20)[0] and second.returncode == 130
    assert "2 of 2 runs done" in first.communicate()[0] and first.returncode == 0
    assert set(starts(root).values()) == {1}
    assert not list(root.rglob("*.stop-*"))


def test_a_disk_that_fails_is_a_run_that_fails(stand_in, tmp_path):
    root = tmp_path / "root"
    (job,) = runs.make_jobs(root, [stand_in], ["default"], ["Toy-v0"], [1])
    job.beside(".lock").mkdir(parents=True)
    assert runs.execute(job).startswith("failed: ")
    said = campaign(stand_in, root, seeds=[1, 2], status=1)
    assert "seed 1: failed: [Errno" in said
    assert [run.seed for run in results.read(root)] == [2]


def test_a_run_that_died_before_it_had_options_begins_anew(stand_in, tmp_path):
    root = tmp_path / "root"
    (job,) = runs.make_jobs(root, [stand_in], ["default"], ["Toy-v0"], [1])
    job.folder.mkdir(parents=True)
    assert runs.execute(job) == "done"
    assert [run.seed for run in results.read(root)] == [1]


def test_an_edit_that_keeps_the_version_reaches_the_runs(stand_in, tmp_path):
    runs.make_jobs(tmp_path, [stand_in], ["default"], ["Toy-v0"], [1])
    stand_in.write_text(stand_in.read_text() + "# a comment\n")
    (job,) = runs.make_jobs(tmp_path, [stand_in], ["default"], ["Toy-v0"], [1])
    assert (job.home / stand_in.name).read_text() == stand_in.read_text()


def test_builds_of_one_version_of_a_package_are_the_same(stand_in, tmp_path):
    campaign(stand_in, tmp_path, seeds=[1])
    (path,) = tmp_path.rglob("packages.json")
    packages = json.loads(path.read_text())
    torch = packages["torch"].partition("+")[0]
    path.write_text(json.dumps(packages | {"torch": f"{torch}+another_build"}))
    campaign(stand_in, tmp_path, seeds=[1, 2])


def test_tasks_whose_evaluations_have_other_columns_are_collected_together(stand_in, tmp_path):
    campaign(stand_in, tmp_path / "root", seeds=[1, 2])
    first, second = results.read(tmp_path / "root")
    rows = [row | {"success_rate": "0.5"} for row in second.rows]
    for result in (first, second._replace(rows=rows)):
        results.collect([result], tmp_path / "results")
    again = results.read(tmp_path / "results")
    assert [run.rows[-1]["success_rate"] for run in again] == ["", "0.5"]
    assert [run.final_return for run in again] == [first.final_return, second.final_return]


def test_what_dies_is_resumed(stand_in, tmp_path):
    campaign(stand_in, tmp_path / "once", "--options", "die=once")
    once = results.read(tmp_path / "once")
    assert [run.attempts for run in once] == [2, 2, 2]
    assert set(starts(tmp_path / "once").values()) == {2}
    campaign(stand_in, tmp_path / "never")
    assert [run.rows for run in once] == [run.rows for run in results.read(tmp_path / "never")]


def test_options_may_be_json():
    variant = 'env-kwargs={"a": {"b":1,"c":[0,true,false]}, "d": 2},hidden-sizes=64 64,no-anneal-lr'
    options = runs.parse_options(variant)
    assert options == {
        "env-kwargs": '{"a": {"b":1,"c":[0,true,false]}, "d": 2}',
        "hidden-sizes": "64 64",
        "no-anneal-lr": "",
    }
    words = ["--env-kwargs", options["env-kwargs"], "--hidden-sizes", "64", "64", "--no-anneal-lr"]
    assert runs.command_words(options) == words
    assert runs.format_options(options) == variant


def test_what_dies_again_and_again_is_given_up(stand_in, tmp_path):
    root = tmp_path / "always"
    options = ["--options", "default", "die=always", "--retries", 2]
    said = campaign(stand_in, root, *options, status=1)
    assert said.count("failed: exit status -9") == 3
    assert {run.options for run in results.read(root)} == {"default"}
    died = [count for (options, _), count in starts(root).items() if options == "die=always"]
    assert died == [3, 3, 3]


def test_a_run_keeps_the_name_of_the_library_that_was_preloaded(stand_in, tmp_path, monkeypatch):
    campaign(stand_in, tmp_path / "plain", seeds=[1])
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "fast.so"))  # not there: the loader goes on
    campaign(stand_in, tmp_path / "fast", seeds=[1])
    (plain,) = results.read(tmp_path / "plain")
    (fast,) = results.read(tmp_path / "fast")
    assert tables.machine(fast) == tables.machine(plain) + ", fast.so"


def test_a_wrong_option_is_not_tried_again(stand_in, tmp_path):
    said = campaign(stand_in, tmp_path / "bad", "--options", "x=bad", seeds=[1], status=1)
    assert "--x bad: no" in said and not results.read(tmp_path / "bad")
    (log,) = (tmp_path / "bad").rglob("*.log")
    assert log.read_text().count("bad: no") == 1


def test_a_damaged_run_fails_and_is_left_as_it_is(stand_in, tmp_path):
    root = tmp_path / "root"
    campaign(stand_in, root, seeds=[1])
    (path,) = root.rglob("provenance.json")
    path.unlink()
    (path.parent / "config.json").write_text('{"half')
    before = contents(path.parent)
    assert "seed 1: failed" in campaign(stand_in, root, "--retries", 1, seeds=[1], status=1)
    assert before == contents(path.parent)


def test_editing_a_script_changes_no_campaign_under_way(stand_in, tmp_path):
    root = tmp_path / "root"
    process = start_campaign(stand_in, root, "--options", "sleep=0.1", seeds=[1, 2])
    wait_for_files(root, "*.trace")
    stand_in.write_text("raise SystemExit('edited while a campaign was under way')")
    process.communicate()
    assert process.returncode == 0
    found = [float(run.rows[0]["return_mean"]) for run in results.read(root)]
    assert found == [1 / 7, 2 / 7]


def test_versions_are_kept_apart(stand_in, tmp_path):
    collection = ["--collect", "--results", tmp_path / "results"]
    campaign(stand_in, tmp_path / "root", *collection, seeds=[1])
    stand_in.write_text(STAND_IN.replace("/ 7", "/ 8"))
    campaign(stand_in, tmp_path / "root", *collection, seeds=[1])
    found = results.read(tmp_path / "results")
    assert len({run.version for run in found}) == 2
    assert {float(run.rows[0]["return_mean"]) for run in found} == {1 / 7, 1 / 8}


def test_other_packages_are_refused_before_training(stand_in, tmp_path):
    collection = ["--collect", "--results", tmp_path / "results"]
    campaign(stand_in, tmp_path / "root", *collection, seeds=[1])
    for pattern in ("packages.json", "runs.jsonl"):
        (path,) = tmp_path.rglob(pattern)
        path.write_text(path.read_text().replace('"numpy": "', '"numpy": "1'))
    campaign(stand_in, tmp_path / "root", seeds=[1, 2], status=2)
    campaign(stand_in, tmp_path / "new", *collection, seeds=[3], status=2)
    assert not starts(tmp_path / "new")


def test_collecting_keeps_every_digit_and_adds(stand_in, tmp_path):
    collection = ["--collect", "--results", tmp_path / "results"]
    variants = ["--options", "x=0.1", "default", "note=" + 300 * "y"]
    for seeds in ([1, 2], [2, 3]):
        campaign(stand_in, tmp_path / "root", *collection, *variants, seeds=seeds)
    made = results.read(tmp_path / "root")
    assert len(made) == 9 and made == results.read(tmp_path / "results")
    (home,) = (tmp_path / "results").iterdir()
    assert {run.options for run in results.read(home / "x=0.1")} == {"x=0.1"}
    before = contents(tmp_path / "results")
    results.collect(made[:2], tmp_path / "results")
    assert before == contents(tmp_path / "results")
    packages = {"packages": {"numpy": "1"}, "seed": 9}
    other = made[0]._replace(provenance=made[0].provenance | packages)
    with pytest.raises(SystemExit):
        results.collect([other], tmp_path / "results")


def test_each_run_is_collected_as_soon_as_it_has_finished(stand_in, tmp_path):
    options = ["--collect", "--results", tmp_path / "results", "--options", "sleep=0.3"]
    process = start_campaign(stand_in, tmp_path / "root", *options)
    wait_for_files(tmp_path / "results", "runs.jsonl")
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert 1 <= len(results.read(tmp_path / "results")) < 3


def test_a_campaign_with_a_script_of_ours_gives_its_own_run_to_the_bit(tmp_path):
    options = {
        "total-timesteps": "3000",
        "eval-frequency": "1000",
        "eval-episodes": "2",
        "checkpoint-frequency": "350",
        "no-anneal-lr": "",
    }
    variant = runs.format_options(options)
    campaign("a2c", tmp_path / "root", "--options", variant, seeds=[3], task="Pendulum-v1")
    words = runs.command_words(options | {"env-id": "Pendulum-v1", "seed": "3"})
    words += ["--device", "cpu", "--num-threads", "1", "--run-dir", str(tmp_path / "own")]
    command = [sys.executable, str(ROOT / "a2c.py"), *words]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = (tmp_path / "root").rglob("provenance.json")
    assert_same_run(tmp_path / "own", path.parent)
    (run,) = results.read(tmp_path / "root")
    assert run.version == runs.version_of((ROOT / "a2c.py").read_text())
    assert run.packages["torch"] == run.config["versions"]["torch"]
    assert run.config["processor"] and run.commit
    assert run.config["options"]["anneal_lr"] is False
    # what a run is, not where on somebody's machine it lay
    results.collect([run], tmp_path / "collected")
    for content in contents(tmp_path / "collected").values():
        assert str(tmp_path).encode() not in content


# ── reproduce.py ─────────────────────────────────────────────────────────────────────────────────


def test_the_interval_of_another_run_by_hand():
    """Of 10, 12, 14: mean 12, deviation 2, t(0.975, 2) = 4.303: 12 ± 4.303 · 2 · √(4/3)."""
    low, high = reproduce.interval_of_another_run([10.0, 12.0, 14.0])
    assert low == pytest.approx(12 - 9.937, abs=1e-3)
    assert high == pytest.approx(12 + 9.937, abs=1e-3)
    assert reproduce.interval_of_another_run([1000.0, 1000.0]) == (990.0, 1010.0)
    assert reproduce.interval_of_another_run([1.0]) is None


def test_a_row_of_the_table_is_reproduced(tmp_path):
    variant = "eval-episodes=2,total-timesteps=2000"
    collected = tmp_path / "results"
    options = ["--options", variant, "--collect", "--results", collected]
    campaign("a2c", tmp_path / "root", *options, seeds=[1, 2], task="Pendulum-v1")
    words = ["a2c", "Pendulum-v1", "--options", variant, "--results", collected]
    command = tool("reproduce", *words, "--root", tmp_path / "again")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nthe same to the last digit\ninside" in done.stdout
    (table,) = collected.rglob("evaluations.csv")
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines, lines[-1]]))  # as of a run with one evaluation more
    done = subprocess.run([*command, "--seed", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nnot the same to the last digit\ninside" in done.stdout
    table.write_text(re.sub(r"-\d+\.\d+", "-99999", table.read_text()))  # as no run comes out
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not the same to the last digit\nOUTSIDE" in done.stdout
    done = subprocess.run([*command, "--version", "none"], capture_output=True, text=True)
    assert done.returncode == 2 and "a2c Pendulum-v1: not in" in done.stderr
    done = subprocess.run([*command[:2], "td4", *command[3:]], capture_output=True, text=True)
    assert done.returncode == 2 and "there are: a2c" in done.stderr


# ── statistics ───────────────────────────────────────────────────────────────────────────────────


def column(*values):
    return np.array(values)[:, None]


def test_iqm_leaves_out_a_quarter_on_each_side():
    assert estimates.iqm(np.array([9.0, 1, 2, 3, 100])) == (2 + 3 + 9) / 3


def test_all_tasks_weigh_the_same_in_an_aggregate():
    assert estimates.pooled([column(0.0, 4), column(3.0, 6, 9)]).mean() == (2 + 6) / 2
    found = {
        "a2c": {"Ant-v5": np.array([0.0, 2, 1, 0.5]), "Hopper-v5": np.array([0.5, 3, 1, 0.2])},
        "td3": {"Hopper-v5": np.array([1.0, 0, 0.25, 0.5, 0.7])},
        "ddpg": {"Toy-v0": np.array([0.0, 1])},
    }
    rows = [row.split(" | ") for row in tables.aggregate_table(found, {}).splitlines()[2:]]
    assert [row[2] for row in rows] == ["8", "5", "2"]
    iqm = [row[3].partition(" [")[0] for row in rows]
    gap = [row[4].partition(" [")[0].removesuffix(" |") for row in rows]
    assert iqm == ["0.75", "0.48", "0.50"]  # (0.5 + 0.5 + 1 + 1) / 4; (0.25 + 0.5 + 0.7) / 3
    assert gap == ["0.35", "0.51", "0.50"]  # (1 + 0 + 0 + 0.5 + 0.5 + 0 + 0 + 0.8) / 8
    assert "[" not in rows[2][3]  # too few runs for an interval
    (row,) = tables.improvement_table(found, {}).splitlines()[2:]  # of 20 pairs 6 won, 2 even
    assert row == "| P(td3 > a2c) | Hopper | 0.35 |"


def test_aggregates_mark_the_tasks_with_runs_of_an_older_version():
    present = runs.version_of((ROOT / "td3.py").read_text())
    made = [
        *fake_runs("Ant-v5", [1.0, 2, 3], version=present),
        *fake_runs("Hopper-v5", [1.0, 2, 3]),
        *fake_runs("Ant-v5", [1.0, 2, 3], "a2c"),
        *fake_runs("Hopper-v5", [1.0, 2, 3], "a2c"),
    ]
    cells = results.group(sorted_runs(made))
    found = tables.scores(cells)
    rows = tables.aggregate_table(found, cells).splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["Ant\\*, Hopper\\*", "Ant, Hopper\\*"]
    (row,) = tables.improvement_table(found, cells).splitlines()[2:]
    assert row.split(" | ")[1] == "Ant\\*, Hopper\\*"


def test_probability_of_improvement_by_hand():
    better = estimates.probability_of_improvement
    assert better(column(1.0, 3), column(2.0, 1)) == (0.5 + 2) / 4
    two_tasks = (column(1.0, 3), column(5.0), column(2.0, 1), column(7.0, 8, 3))  # X, then Y
    assert better(*two_tasks) == (2.5 / 4 + 1 / 3) / 2


def test_intervals_are_as_wide_as_theory_says():
    """Of a mean over three tasks with deviations 1, 2, 3: ± 1.96 √(Σ σ² n) / Σ n. Of an IQM of 200
    normal numbers: ± 1.96 √(1.195 / 200), 1.195 being 4 (∫ x² φ + q²/2) between the quartiles ∓q.
    With other draws than these, which are seeded, it would fail once in about a thousand."""
    rng = np.random.default_rng(0)
    tasks = [rng.normal(100 * i, i, 100 * i) for i in (1, 2, 3)]
    middle = np.concatenate(tasks).mean()
    value, ends = estimates.estimate(lambda *scores: np.concatenate(scores).mean(), tasks)
    half = 1.96 * np.sqrt(sum(x.var() * len(x) for x in tasks)) / 600
    assert value == pytest.approx(middle)
    assert ends == pytest.approx([middle - half, middle + half], abs=0.15 * half + 0.005)
    normal = scipy.stats.norm.ppf((np.arange(200) + 0.5) / 200)
    low, high = estimates.bootstrap_iqm(np.stack([normal, normal]))
    half = 1.96 * np.sqrt(1.195 / 200)
    assert low == pytest.approx(-half, rel=0.1) and high == pytest.approx(half, rel=0.1)
    assert low[0] == low[1]


def test_welch_by_hand():
    """Ours 10, 12, 14: mean 12, variance 4; published 8 ± 2 (16): t = 4 / √(4/3 + 4/16)."""
    ours = np.array([10.0, 12, 14])
    t, p = estimates.welch(ours, 8, 2, 16)
    assert t == pytest.approx(3.179, abs=1e-3) and p == pytest.approx(0.0553, abs=1e-3)
    assert estimates.welch(np.full(3, 1000.0), 1000, 0, 10) == (0.0, 1.0)
    assert estimates.welch(np.full(3, 1000.0), 999, 0, 10)[1] == 0


def test_holm_by_hand():
    """The smallest counts three times, the next twice, never less than the one before."""
    adjusted = compare.holm([0.04, 0.01, 0.03])
    assert adjusted.tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert compare.holm([0.9, 0.8]).tolist() == [1, 1]
    assert len(compare.holm([])) == 0


# ── compare.py ───────────────────────────────────────────────────────────────────────────────────


def test_the_aggregate_of_two_tasks_by_brute_force():
    """On the second task, of another scale, B is better by 50."""
    x = (np.array([3.0, 5, 8]), np.array([1.0, 2, 4]))
    y = (np.array([0.0, 100]), np.array([100.0, 100]))
    sums = np.array([sum(choice) for choice in itertools.combinations([3, 5, 8, 1, 2, 4], 3)])
    x_outcomes = (2 * sums - 23) / 3 / np.std([3, 5, 8, 1, 2, 4])
    y_outcomes = np.array([-50] * 3 + [50] * 3) / np.std([0, 100, 100, 100])
    observed = -3 / np.std([3, 5, 8, 1, 2, 4]) + y_outcomes[-1]
    exact = np.mean(x_outcomes[:, None] + y_outcomes <= observed + 1e-9)
    rows, worse, is_worse = compare.compare({"x": x, "y": y})
    assert rows[0].difference == pytest.approx(7 / 3 - 16 / 3)
    assert rows[0].p == np.mean(sums <= 7) == 0.1
    assert rows[1].difference == 50 and rows[1].p == 1
    assert not worse and not is_worse
    assert rows[2].difference == pytest.approx(observed / 2)
    assert rows[2].p == pytest.approx(exact, abs=0.025)  # 10,000 draws: 5 deviations


def test_equal_runs_on_both_sides_are_ties():
    """As where a task is solved: sums of floats depend on their order, p must not."""
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e4, 1e-6):
        for _ in range(10):
            values = rng.choice(scale * (9 + rng.random(4)), 8)
            exact = [Fraction(value) for value in values]
            sums = [sum(choice) for choice in itertools.combinations(exact, 4)]
            (row, _), _, _ = compare.compare({"x": (values[:4], values[4:])})
            assert row.p == pytest.approx(np.mean([each <= sum(exact[4:]) for each in sums]))


def alarms(simulations, draw_a, draw_b):
    """How often compare says that B is worse."""
    rng = np.random.default_rng(1)
    count = 0
    for seed in range(simulations):
        pairs = {task: (draw_a(rng, task), draw_b(rng, task)) for task in range(4)}
        _, _, is_worse = compare.compare(pairs, seed=seed)
        count += is_worse
    return count


def test_false_alarm_rate(monkeypatch):
    """Equal, skewed, of four scales: at most 5 % alarms. 400 comparisons give 39 or more once in
    14,000."""
    monkeypatch.setattr(compare, "DRAWS", 1000)

    def draw(rng, task):
        return 10.0**task * rng.exponential(size=5)

    assert 0 < alarms(400, draw, draw) < 39


def test_power(monkeypatch):
    """Five seeds against five, four tasks: a loss of 1.5 deviations on all tasks is seen, one of 4
    deviations on a single task too. The draws are fixed."""
    monkeypatch.setattr(compare, "DRAWS", 1000)

    def draw(rng, task):
        return rng.normal(task, 1, 5)

    assert alarms(100, draw, lambda rng, task: rng.normal(task - 1.5, 1, 5)) >= 95
    assert alarms(100, draw, lambda rng, task: rng.normal(task - 4 * (task == 2), 1, 5)) >= 90
    assert alarms(100, draw, lambda rng, task: rng.normal(task + 1.5, 1, 5)) == 0


def test_the_command_compares_folders(stand_in, tmp_path):
    root = tmp_path / "root"
    collection = ["--collect", "--results", tmp_path / "results"]
    options = ["--options", "x=1", "x=0.3", *collection]
    campaign(stand_in, root, *options, seeds=range(1, 7))
    (home,) = (tmp_path / "results").iterdir()
    bad = home / "x=1"
    good = home / "x=0.3"
    (good_runs,) = root.glob("*/x=0.3")
    for a, b, status, said in (
        (bad, good, 0, "B is not shown to be worse"),
        (good, bad, 1, "B is worse"),
        (good_runs, bad, 1, "B is worse"),
        (good, home, 2, "several"),
        (good, tmp_path / "none", 2, "no finished runs"),
    ):
        done = subprocess.run(tool("compare", a, b), capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        assert said in done.stdout + done.stderr


TABLE = BENCHMARK / "results/ppo_continuous-dfd6c706"
GATE = BENCHMARK / "gate/ppo_continuous-dfd6c706"  # PPO on HalfCheetah-v5 and Hopper-v5


@pytest.mark.parametrize(
    "options, status, said",
    [
        ("compile", 0, "B is not shown to be worse"),  # the same script, other seeds
        ("compile,gamma=0.9", 1, "B is worse"),
    ],
)
def test_a_weakened_script_is_told_from_an_unchanged_one(options, status, said):
    done = subprocess.run(tool("compare", TABLE, GATE / options), capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout


def test_how_often_a_weakened_and_an_unchanged_script_are_called_worse(monkeypatch):
    """Drawn from these runs: four unchanged ones, against four others and against the three that
    are weakened."""
    monkeypatch.setattr(compare, "DRAWS", 1000)
    rng = np.random.default_rng(0)
    weakened = compare.runs_by_task(GATE / "compile,gamma=0.9")
    unchanged = compare.runs_by_task(GATE / "compile")
    false_alarms = 0
    found = 0
    for draw in range(200):
        same = {}
        worse = {}
        for task, more in unchanged.items():
            runs_of_table = compare.runs_by_task(TABLE)[task]
            returns = rng.permutation(compare.final_returns(runs_of_table + more))
            same[task] = (returns[:4], returns[4:8])
            worse[task] = (returns[:4], compare.final_returns(weakened[task]))
        false_alarms += compare.compare(same, seed=draw)[2]
        found += compare.compare(worse, seed=draw)[2]
    assert false_alarms <= 10  # of 200: the stated 5 %; the draws are fixed
    assert found >= 190


@pytest.mark.parametrize("seeds, most_tasks", [(4, 1), (5, 6), (6, 23)])
def test_how_many_tasks_so_few_seeds_can_decide(seeds, most_tasks):
    """As compare.py says: all of B below all of A is one of C(2n, n) orders; 2.5 % is for tasks."""
    least_p = 1 / math.comb(2 * seeds, seeds)
    assert compare.holm([least_p] + [1.0] * (most_tasks - 1))[0] <= 0.025
    assert compare.holm([least_p] + [1.0] * most_tasks)[0] > 0.025


# ── report.py ────────────────────────────────────────────────────────────────────────────────────


def test_the_committed_report_is_what_the_results_make():
    done = subprocess.run(tool("report", "--check"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agrees" in done.stdout


@pytest.mark.slow
def test_the_report_notices_a_changed_digit(tmp_path):
    for folder in (BENCHMARK / "results").glob("a2c-*"):
        shutil.copytree(folder, tmp_path / "results" / folder.name)
    marks = (
        "before\n<!-- results -->\nold\n<!-- end -->\n<!-- speed -->\nold\n<!-- end -->\nafter\n"
    )
    (tmp_path / "README.md").write_text(marks)
    options = ["--results", tmp_path / "results", "--report", tmp_path / "report.md"]
    options += ["--readme", tmp_path / "README.md"]

    def report(*more):
        done = subprocess.run(tool("report", *options, *more), capture_output=True, text=True)
        return done.returncode

    assert report("--check") == 1
    assert report() == 0 and report("--check") == 0
    assert (tmp_path / "figures" / "all.png").read_bytes()[1:4] == b"PNG"
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n<!-- results -->\n| task") and "old" not in readme
    assert readme.endswith("<!-- end -->\nafter\n")
    alone = ["--results", tmp_path / "results", "--report", tmp_path / "mine/README.md"]
    done = subprocess.run(tool("report", *alone, "--readme", "None"), capture_output=True)
    assert done.returncode == 0 and (tmp_path / "mine/figures/all.png").exists()
    assert (tmp_path / "README.md").read_text() == readme
    speed.save(fake_speed(), tmp_path / "results" / "speed.jsonl")
    assert report("--check") == 1 and report() == 0 and report("--check") == 0
    assert "as a multiple of Stable-Baselines3's" in (tmp_path / "README.md").read_text()
    path = next((tmp_path / "results").glob("a2c-*/evaluations.csv"))
    *lines, last = path.read_text().splitlines()
    cells = last.split(",")
    cells[5] = str(float(cells[5]) - 30)
    path.write_text("\n".join([*lines, ",".join(cells), ""]))
    assert report("--check") == 1


def fake_runs(task, returns, script="td3", options="default", steps=1_000_000, **provenance):
    provenance = {
        "script": script,
        "version": "aaaaaaaa",
        "options": options,
        "task": task,
        "commit": "abc",
        "finished": "2026",
        **provenance,
    }
    made = []
    for seed, final in enumerate(returns):
        rows = [
            {"global_step": "0", "return_mean": "0"},
            {"global_step": str(steps), "return_mean": str(final)},
        ]
        made.append(results.Result(provenance | {"seed": seed}, {}, rows))
    return made


@pytest.fixture
def all_are_current(monkeypatch):
    monkeypatch.setattr(tables, "is_current", lambda key: True)


@pytest.mark.parametrize(
    "returns, verdict, intervals",
    [
        ([5000.0], "one seed", 0),
        ([5000.0, 5100, 5200, 4900], "ahead, p < 0.001", 0),
        ([5000.0, 5100, 5200, 4900, 5050], "ahead, p < 0.001", 1),
    ],
)
def test_few_seeds_make_no_claims(returns, verdict, intervals, all_are_current):
    cells = results.group(fake_runs("Humanoid-v5", returns, "ppo_continuous"))
    row = tables.final_table(cells).splitlines()[-1]
    assert f"| {verdict} |" in row
    assert row.count("[") == intervals
    assert row.count("±") == (2 if len(returns) > 1 else 1)


def test_what_cannot_be_compared_has_no_verdict(all_are_current):
    returns = [5000.0, 5100]
    cells = results.group(fake_runs("Humanoid-v5", returns, steps=500_000))
    assert "| other number of steps |" in tables.final_table(cells)
    cells = results.group(fake_runs("Toy-v0", returns))
    assert "| none found |  |" in tables.final_table(cells)


def test_verdicts_are_corrected_for_the_number_of_cells(all_are_current):
    """Beside PPO's 2912 ± 748 (3) on Hopper: p = 0.028, enough alone, not among 13 cells."""
    hopper = fake_runs("Hopper-v5", [5400.0, 5450, 5500, 5350, 5400], "ppo_continuous")
    alone = tables.compare_with_published(results.group(hopper))
    others = [f"{name}-v5" for name in ("Ant", "Walker2d", "Swimmer", "Reacher")]
    cells = list(hopper)
    for script, task in itertools.product(("ppo_continuous", "a2c", "td3"), others):
        mean = float(results.published_target(tables.NAMES[script], task)["mean"])
        cells += fake_runs(task, [mean - 1, mean, mean + 1], script)
    among = tables.compare_with_published(results.group(sorted_runs(cells)))
    key = hopper[0].key
    assert len(among) == 13
    assert alone[key].verdict == "ahead"
    assert among[key].verdict == "not significantly different"
    assert alone[key].p == among[key].p == pytest.approx(0.028, abs=0.0005)


def sorted_runs(made):
    return sorted(made, key=lambda run: (*run.key, run.seed))


def test_versions_are_not_pooled_and_the_newest_is_drawn():
    old = fake_runs("Ant-v5", [1.0, 2], version="bbbbbbbb", finished="2025")
    cells = results.group(sorted_runs(old + fake_runs("Ant-v5", [5.0])))
    assert [len(each) for each in cells.values()] == [1, 2]
    latest, older = tables.latest_and_older(cells)
    assert [runs[0].version for runs in latest.values()] == ["aaaaaaaa"]
    assert tables.older_table(older).splitlines()[2:] == [
        "| td3 | Ant-v5 | 2 | 1.5 ± 0.7 | `bbbbbbbb` |"
    ]
    (newest,) = results.newest(cells).values()
    assert [run.version for run in newest] == ["aaaaaaaa"]


def test_the_present_version_comes_before_one_that_was_run_later():
    present = runs.version_of((ROOT / "td3.py").read_text())
    made = fake_runs("Ant-v5", [5.0], version=present, finished="2025")
    made += fake_runs("Ant-v5", [1.0], finished="2027")
    made += fake_runs("Ant-v5", [2.0], "script_of_my_own")  # which is not here
    cells = results.group(sorted_runs(made))
    mine, ours = results.newest(cells).values()
    assert [run.script for run in mine] == ["script_of_my_own"]
    assert results.is_current(mine[0].key)  # it cannot be known to be older
    assert [run.version for run in ours] == [present]


def test_runs_with_compile_count_as_default():
    compiled = fake_runs("Ant-v5", [1.0, 2], options="compile", finished="2027")
    cells = results.group(sorted_runs(fake_runs("Ant-v5", [5.0]) + compiled))
    assert list(results.newest(cells)) == [("td3", "default", "Ant-v5")]
    assert "| 1.5 ± 0.7 (2)\\*<br>published 4,911 |" in tables.overview_table(
        cells, tables.CONTINUOUS
    )


def test_other_options_stand_beside_the_default_of_their_task():
    defaults = [*fake_runs("Hopper-v5", [2500.0, 3500]), *fake_runs("Ant-v5", [1.0])]
    other = [
        *fake_runs("Hopper-v5", [4000.0, 5000], options="compile,tau=1"),
        *fake_runs("Toy-v0", [7.0], options="tau=1"),
    ]
    table = tables.validation_table(results.group(other), results.group(sorted_runs(defaults)))
    assert table.splitlines()[2:] == [
        "| td3 | Hopper-v5 | compile,tau=1 | 2 | 4,500 ± 707 | 3,000 ± 707\\* | `aaaaaaaa` |",
        "| td3 | Toy-v0 | tau=1 | 1 | 7.0 | – | `aaaaaaaa` |",
    ]


def test_the_overview_has_the_newest_version_and_marks_what_is_older_than_the_script(monkeypatch):
    made = [
        *fake_runs("Hopper-v5", [9000.0, 9000], "a2c"),
        *fake_runs("Humanoid-v5", [5000.0, 5010], "ddpg"),
        *fake_runs("Swimmer-v5", [10.0, 11, 12, 13, 14], "ppo_continuous"),  # 108.5 ± 21.5 (10)
        *fake_runs("Hopper-v5", [2500.0, 3500], "ppo_continuous"),  # 2912 ± 748 (3)
        *fake_runs(
            "Hopper-v5", [9000.0, 9000], "ppo_continuous", version="bbbbbbbb", finished="2025"
        ),
        *fake_runs("Ant-v5", [1.0], version=runs.version_of((ROOT / "td3.py").read_text())),
        *fake_runs("Toy-v0", [1.0, 2.0]),
        *fake_runs("Pusher-v5", [1.0, 2.0], options="tau=1"),
    ]
    cells = results.group(sorted_runs(made))
    assert tables.overview_table(cells, tables.CONTINUOUS).splitlines() == [
        "| task | A2C | PPO | DDPG | TD3 |",
        "| --- | --: | --: | --: | --: |",
        "| Ant-v5 | not run | not run | not run | 1.0 (1)<br>published 4,911 |",
        "| Hopper-v5 | 9,000 ± 0.0 (2)\\*<br>published 1,224 "
        "| 3,000 ± 707 (2)\\*<br>published 2,912 | not run | not run |",
        "| Humanoid-v5 | not run | not run | 5,005 ± 7.1 (2)\\*<br>published 1,700 | not run |",
        "| Swimmer-v5 | not run | 12.0 ± 1.6 (5)\\*<br>published 108 | not run | not run |",
        "| Toy-v0 | not run | not run | not run | 1.5 ± 0.7 (2)\\* |",
    ]
    count = tables.count_verdicts(cells)
    assert count.startswith(
        "Of 5 pairs of a script and a task with a published number, our returns are: 0 ahead, "
        "0 behind, 0 not significantly different, 4 without a verdict (older version), 1 without "
        "a verdict (one seed)."
    )
    monkeypatch.setattr(tables, "is_current", lambda key: True)
    count = tables.count_verdicts(cells)
    assert count.startswith(
        "Of 5 pairs of a script and a task with a published number, our returns are: 2 ahead, "
        "1 behind, 1 not significantly different, 1 without a verdict (one seed)."
    )
    assert "Of the 1 whose published number" in count  # PPO on Hopper


def test_scores_by_hand():
    zero, one = results.reference("HalfCheetah-v5")
    assert one == 11653 and -320 < zero < -240
    assert results.reference("HumanoidStandup-v5") is None  # nothing published
    made = fake_runs("HalfCheetah-v5", [zero, one])
    made += fake_runs("HalfCheetah-v5", [0.0], options="tau=0.1")
    scores = tables.scores(results.group(made))
    assert scores["td3"]["HalfCheetah-v5"].tolist() == [0, 1]


# ── speed.py ─────────────────────────────────────────────────────────────────────────────────────


def fake_speed(cell="td3", **seconds):
    """Three rounds of 1200 steps; `seconds` of a side are those of the rounds."""
    seconds = {
        "ours": (2, 3, 4),
        "compiled": (1, 2, 2),
        "sb3": (4, 3, 8),
        "ours busy": (4, 4, 4),
        "sb3 busy": (8, 6, 8),
        "update": (1.2, 2.4, 2.4),
        "compiled update": (0.9, 1.2, 1.2),
        "products": (0.6, 0.6, 1.2),
    } | seconds
    rounds = []
    for i in range(3):
        rounds.append({side: {"steps": 1200, "seconds": x[i]} for side, x in seconds.items()})
    return {
        "cell": cell,
        "device": "cpu",
        "threads": 1,
        "date": "now",
        "version": "0a",
        "processor": "none, 2 cores",
        "versions": {"torch": "1"},
        "rounds": rounds,
    }


def test_a_rate_is_of_the_steps_after_the_first_mark_that_counts():
    marks = [(0, 1.0), (100, 2.5), (300, 3.0), (500, 7.0)]
    assert speed.between(marks, 100) == {"steps": 400, "seconds": 4.5}
    assert speed.between(marks, 50) == {"steps": 400, "seconds": 4.5}


def test_speed_tables_by_hand():
    """Ours 600, 400, 300 steps/s beside 300, 400, 150: the ratios are 2, 1, 2. Compiled 1200, 600,
    600: 4, 1.5, 4. Busy, ours keeps 2/4, 3/4, 4/4, the peer 4/8, 3/6, 8/8."""
    records = [fake_speed()]
    eager, compiled = speed_tables.speed_table(records).splitlines()[2:]
    start = "| TD3, an update of 256 per step | cpu | 1 |"
    assert eager == f"{start} eager | 400 | 300 | 2.00 [1.00, 2.00] | – | – | 3, now |"
    assert compiled == f"{start} --compile | 600 | 300 | 4.00 [1.50, 4.00] | – | – | 3, now |"
    (busy,) = speed_tables.busy_table(records).splitlines()[2:]
    assert busy == f"{start} 0.75 [0.50, 1.00] | 0.50 [0.50, 1.00] |"
    (limits,) = speed_tables.limit_table(records).splitlines()[2:]
    times = "0.50 | 2.00 | 1.00 | 2.00 [2.00, 4.00] | 1.50 [1.00, 2.00]"
    assert limits == f"{start} {times} |"
    sentence = speed_tables.sentence(records)
    assert "TD3 2.0 (with `--compile` 4.0); [how" in sentence
    sentence = speed_tables.sentence([fake_speed(sbx=(1, 1, 1))])
    assert "of SBX's, in JAX, with `--compile`: TD3 0.5; [how" in sentence


def test_a_record_replaces_only_the_older_one_of_its_cell(tmp_path):
    path = tmp_path / "speed.jsonl"
    for cell, date in (("td3", "1"), ("a2c", "2"), ("td3", "3")):
        speed.save(fake_speed(cell) | {"date": date}, path)
    kept = [(record["cell"], record["date"]) for record in speed_tables.read_speed(path)]
    assert kept == [("a2c", "2"), ("td3", "3")]


@pytest.mark.slow
@pytest.mark.parametrize("cell", speed.CELLS)
def test_every_side_runs(cell, monkeypatch, tmp_path):
    for package in ("stable_baselines3", "sbx"):
        pytest.importorskip(package, reason=MISSING)
    path = tmp_path / "speed.jsonl"
    subprocess.run(
        tool("speed", "--cells", cell, "--rounds", 1, "--results", path), check=True, timeout=900
    )
    (record,) = speed_tables.read_speed(path)
    (sides,) = record["rounds"]
    assert tuple(sides) == speed.CELLS[cell].sides
    for measured in sides.values():
        assert measured["steps"] > 0 and measured["seconds"] > 0
    assert speed_tables.speed_table([record]).count("\n") == 3
    if "products" in sides:
        assert speed.rate(sides["products"]) > speed.rate(sides["update"])


# ── tune.py ──────────────────────────────────────────────────────────────────────────────────────


def studies(root):
    optuna = pytest.importorskip("optuna", reason=MISSING)
    storage = f"sqlite:///{root}/study.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def test_a_search_goes_on_after_a_kill(stand_in, tmp_path):
    """The stand-in is best at x = 0.3: the search gets near and stops what is bad. It draws by
    chance; that it finds no good x, or nothing to stop, comes about once in a thousand times."""
    pytest.importorskip("optuna", reason=MISSING)
    root = tmp_path / "tune"
    options = ["--script", stand_in, "--space", "x=0.05..5", "--fixed", "sleep=0.25"]
    options += ["--tasks", "Hopper-v5", "--seeds", 1, "--trials", 14, "--warm-up", 2]
    options += ["--root", root, "--summary", tmp_path / "summary"]
    process = subprocess.Popen(tool("tune", *options))
    wait_for_files(root, "provenance.json", 3)
    process.kill()
    process.wait()
    before = {trial.number: trial.value for trial in studies(root) if trial.value is not None}
    done = subprocess.run(tool("tune", *options), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = studies(root)
    assert before.items() <= {trial.number: trial.value for trial in after}.items()
    ended = [trial for trial in after if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(ended) == 14
    assert any(trial.state.name == "PRUNED" for trial in ended)
    complete = [trial for trial in ended if trial.params and trial.state.name == "COMPLETE"]
    best = max(complete, key=lambda trial: trial.value)
    x = best.user_attrs["options"]["x"]
    value = 5 * (1 - (float(x) - 0.3) ** 2) + 1 / 7
    assert best.value == pytest.approx(results.score("Hopper-v5", value))
    assert abs(float(x) - 0.3) < 0.7
    made = results.read(root)
    assert len(made) < 14  # those stopped early have not finished
    options = f"--options sleep=0.25 sleep=0.25,x={x}"
    command = f"--tasks Hopper-v5 {options} --seeds 201 202 203 204 205"
    assert command in done.stdout
    home = f"runs/benchmark/stand_in-{runs.version_of(stand_in.read_text())}"
    assert f"compare.py {home}/sleep=0.25,x={x} {home}/sleep=0.25\n" in done.stdout
    table = results.read_table(tmp_path / "summary" / "stand_in.csv")
    assert len(table) >= 14 and {row["state"] for row in table} >= {"complete", "pruned"}
    assert (tmp_path / "summary" / "stand_in-importance.png").exists()


def test_a_trial_that_is_interrupted_is_tried_again(stand_in, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason=MISSING)
    import tune

    args = tune.Args(script=str(stand_in), space=("x=0.1..1",), root=tmp_path)
    tuner = tune.Tuner(args)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "watch", interrupted)
    monkeypatch.setattr(tuner, "submit", lambda job: concurrent.futures.Future())
    monkeypatch.setattr(concurrent.futures, "wait", lambda futures, timeout: None)
    with pytest.raises(KeyboardInterrupt):
        tune.open_study(args, tuner).optimize(tuner.objective, 1)
    again = tune.open_study(args, tuner).get_trials()
    assert [trial.state.name for trial in again] == ["FAIL", "WAITING"]
    assert again[1].user_attrs["is_default"]


def test_ctrl_c_ends_parallel_trials_with_the_runs_that_wait(stand_in, tmp_path):
    """The default's two runs are done, the third runs, the others wait for it."""
    pytest.importorskip("optuna", reason=MISSING)
    options = ["--script", stand_in, "--space", "x=0.1..1", "--fixed", "sleep=0.5"]
    options += ["--tasks", "Hopper-v5", "--seeds", 1, 2, "--parallel", 2, "--root", tmp_path]
    process = subprocess.Popen(tool("tune", *options), stdout=subprocess.PIPE, text=True)
    wait_for_files(tmp_path, "evaluations.csv", 3)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert "the same command goes on from here" in said
    assert process.returncode == 130
    assert said.count("trial 0: complete") == 1
    assert len(list(tmp_path.rglob("*.trace"))) == 3


def test_a_task_without_a_published_number_is_searched_alone():
    pytest.importorskip("optuna", reason=MISSING)
    import tune

    tune.check(tune.Args(space=("x=0.1..1",), tasks=("Toy-v0",)))
    assert results.score("Toy-v0", 7.5) == 7.5


# ── Ray, and what all tools say ──────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_runs_of_a_lost_node_go_on_elsewhere_and_end_the_same_to_the_bit(tmp_path):
    """Two nodes with room for one run each; one is removed in mid-run."""
    pytest.importorskip("ray", reason=MISSING)
    from ray.cluster_utils import Cluster

    variant = (
        "total-timesteps=4000,learning-starts=1000,eval-frequency=2000,eval-episodes=2,"
        "checkpoint-frequency=500"
    )
    options = ["--options", variant]
    where = {"seeds": [1, 2], "task": "InvertedPendulum-v5"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        address = ["--ray", cluster.address]
        process = start_campaign("td3", tmp_path / "ray", *options, *address, **where)
        wait_for_files(tmp_path / "ray", "checkpoint.pt", 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        said = process.communicate(timeout=500)[0]
        assert process.returncode == 0 and said.count(": done") == 2, said
    finally:
        cluster.shutdown()
    logs = [path.read_text().count("run folder:") for path in (tmp_path / "ray").rglob("*.log")]
    assert sorted(logs) == [1, 2], "one of the runs must have moved"
    campaign("td3", tmp_path / "local", *options, **where)
    folders = [path.parent for path in (tmp_path / "local").rglob("provenance.json")]
    assert len(folders) == 2
    for folder in folders:
        assert_same_run(folder, tmp_path / "ray" / folder.relative_to(tmp_path / "local"))


TOOLS = ("run", "reproduce", "compare", "report", "speed", "tune")


@pytest.mark.parametrize("name", TOOLS)
def test_help_works_and_says_what_is_not_installed(name, tmp_path):
    """Packages that cannot be imported stand in for those that are not there."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "absent = ('optuna', 'ray', 'rliable', 'sbx', 'stable_baselines3')\n"
        "importlib.util.find_spec = lambda name: None if name in absent else find(name)\n"
    )
    command = [*tool(name), "--help"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    if name in ("run", "report", "speed", "tune"):
        assert "Not installed here" in done.stdout
        assert "benchmark/requirements.txt" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    "command, named",
    [
        (tool("speed", "--cells", "nope"), ["--cells nope", "td3"]),
        (tool("run", "--scripts", "nope"), ["--scripts nope"]),
        (tool("reproduce", "td3", "Nope-v1"), ["td3 Nope-v1", "HalfCheetah-v5"]),
        (
            tool("tune", "--space", "tau=0.1..1", "--tasks", "Nope-v1", "Ant-v5"),
            ["--tasks: Nope-v1", "no published number"],
        ),
        (tool("tune", "--space", "tau=0..1"), ["--space tau=0..1", "0 < low < high"]),
        (tool("tune"), ["--space"]),
        (tool("tune", "--space", "gamma"), ["--space gamma", "name=low..high"]),
        (tool("report", "--results", "nowhere"), ["--results nowhere"]),
    ],
    ids=lambda x: " ".join(map(str, x[2:])) if len(x) > 3 else None,
)
def test_a_mistake_is_named_in_one_line(command, named, tmp_path):
    if "tune.py" in command[1]:
        pytest.importorskip("optuna", reason=MISSING)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    for part in named:
        assert part in done.stderr
