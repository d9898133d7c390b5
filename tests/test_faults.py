"""Whatever happens to the process, the disk or the task: the run resumes to the bit, or says in one line why not."""
import collections
import csv
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import OFF_POLICY, ROOT, assert_same_run, checkpoint, command, environment
from hostile import (
    complaint,
    doctored,
    finish,
    go_on,
    one_in_turn,
    one_of_each,
    options_of,
    path_of,
    start_and_wait,
    wait_for,
)
from robustness import record

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
# kills
BLOWS = [(KILL,), (KILL,), (TERM,), (INT,), (INT, INT), (TERM, TERM), (INT, TERM), (TERM, KILL)]
MOMENTS = ["start", "any", "any", "writing", "writing"]


def torment(nursery, script, vectorization, tmp_path, whole, kills, seed, count):
    """Starts, kills and resumes runs until `kills` blows have met one alive; counts them by signals and moment."""
    options, rng = options_of(script, num_envs=2, vectorization=vectorization), random.Random(f"{script} {seed}")
    whole, seconds = whole(script, *options), 1.5
    while count.total() < kills:
        folder = tmp_path / f"killed{count.total()}"
        ended = False
        while not ended and count.total() < kills:
            blow, moment, began = rng.choice(BLOWS), rng.choice(MOMENTS), time.monotonic()
            moment = moment.replace("start", "resuming" if folder.exists() else "starting")
            child = go_on(nursery, script, folder, options)
            if moment == "writing":
                for _ in range(rng.choice([1, 1, 2, 3])):
                    wait_for(folder / "checkpoint.tmp", child)
                    while (folder / "checkpoint.tmp").exists() and rng.random() < 0.5:
                        pass
            else:
                time.sleep(rng.uniform(0, seconds if moment == "any" else 0.4))
            running, alive = "run folder:" in child.stdout, not child.ended()
            for number in blow:
                child.kill(number, group=number == INT and rng.random() < 0.5)  # a terminal's Ctrl-C is for the group
                time.sleep(rng.choice([0, 0, rng.uniform(0, 0.05)]))
            status = child.wait()
            ended = status == 0
            allowed = {0} | {-KILL if number == KILL else 128 + number for number in blow}
            if not running or re.search("saved step|final evaluation", child.stdout):  # no handlers yet, or no longer
                allowed |= {-number for number in blow}
            assert status in allowed, (blow, moment, child.stderr)
            assert KILL in blow or not running or "Traceback" not in child.stderr, child.stderr
            assert not child.orphans(), "workers outlive the process that trains"
            if alive and not ended:
                count["+".join(signal.Signals(number).name for number in blow), moment] += 1
            seconds = max(0.5, time.monotonic() - began) if ended else seconds
        finish(nursery, script, folder, whole, options)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_killed_and_resumed(script, vectorization, nursery, tmp_path, whole):
    torment(nursery, script, vectorization, tmp_path, whole, kills=2, seed=0, count=collections.Counter())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_killed_and_resumed_many_times(script, vectorization, seed, nursery, tmp_path, whole):
    count, lost = collections.Counter(), 1
    try:
        torment(nursery, script, vectorization, tmp_path, whole, 10, seed, count)
        lost = 0
    finally:
        record("kills", script, vectorization=vectorization, lost=lost, kills=[[*key, n] for key, n in count.items()])


@one_in_turn(("sync", "async"), ("async", "sync"))
def test_resumed_with_other_vectorization(script, case, nursery, tmp_path, whole):
    before, after = (options_of(script, num_envs=2, vectorization=vectorization) for vectorization in case)
    child = start_and_wait(nursery, script, tmp_path / "run", options=before)
    child.kill(KILL)
    child.wait()
    child = nursery.start(path_of(script), "--resume", "run", "--vectorization", case[1], cwd=tmp_path)
    assert child.wait() == 0, child.stderr
    assert_same_run(whole(script, *after), tmp_path / "run")


@one_of_each
@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("number", [INT, TERM], ids=["INT", "TERM"])
def test_a_request_to_stop_is_granted(script, number, vectorization, nursery, tmp_path):
    """Twice in quick succession: saves at the step where it is, not at the next multiple of the frequency."""
    child = nursery.start(path_of(script), *options_of(script, num_envs=2, vectorization=vectorization),
                          "--run-dir", "run", cwd=tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.pt", child)
    child.kill(number, group=True)
    child.kill(number, group=True)
    status = child.wait()
    assert status in (128 + number, -number) and "Traceback" not in child.stderr, child.stderr
    step = checkpoint(tmp_path / "run")["step"]
    assert f"saved step {step}; resume with: python" in child.stdout
    assert not child.orphans()


# two processes, disks, clocks
@one_of_each
def test_two_processes_on_one_folder(script, nursery, tmp_path, whole):
    first = start_and_wait(nursery, script, tmp_path / "run")
    config = (tmp_path / "run" / "config.json").read_bytes()
    second = nursery.start(path_of(script), "--resume", "run", "--eval-episodes", 9, cwd=tmp_path)
    time.sleep(0.3)
    os.kill(first.pid, signal.SIGSTOP)  # so that it cannot have ended before the second looks
    said = complaint(second)
    os.kill(first.pid, signal.SIGCONT)
    assert "run" in said and "in use" in said
    assert first.wait() == 0 and (tmp_path / "run" / "config.json").read_bytes() == config
    assert_same_run(whole(script, *options_of(script)), tmp_path / "run")


@pytest.fixture
def disk(tmp_path):
    """A folder on a small file system that only one namespace sees, and what it takes to act there."""
    if os.geteuid():
        pytest.skip("only root may mount")
    (folder := tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=4m disk "$0" && echo ok && exec cat'
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", mount, folder], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    if holder.stdout.readline() != "ok\n":
        pytest.skip("cannot mount here")
    yield collections.namedtuple("Disk", "folder seen namespace")(folder, Path(f"/proc/{holder.pid}/root{folder}"),
                                                                  holder.pid)
    holder.communicate("")


@one_of_each
@pytest.mark.parametrize("file", ["config.json", "checkpoint.pt"])
def test_disk_full(script, file, disk, nursery, whole):
    child = start_and_wait(nursery, script, disk.folder / "run", file=file, namespace=disk.namespace)
    with open(disk.seen / "ballast", "wb", 0) as ballast:
        while not child.ended():
            try:
                ballast.write(bytes(512))
            except OSError:
                time.sleep(0.01)
    said = complaint(child)
    assert "No space left on device" in said and "run" in said
    (disk.seen / "ballast").unlink()
    child = nursery.start(path_of(script), "--resume", disk.folder / "run", cwd=disk.folder, namespace=disk.namespace)
    assert child.wait() == 0, child.stderr
    assert_same_run(whole(script, *options_of(script)), disk.seen / "run")


@one_of_each
def test_file_size_limit(script, nursery, tmp_path, whole):
    child = start_and_wait(nursery, script, tmp_path / "run")
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (5000, 5000))  # leaves room for stderr, a file here too
    said = complaint(child)
    assert "File too large" in said and "run" in said
    finish(nursery, script, tmp_path / "run", whole(script, *options_of(script)))


def immutable(folder, on):
    if os.geteuid():
        return folder.chmod(0o555 if on else 0o755)
    if subprocess.run(["chattr", "+i" if on else "-i", folder], capture_output=True).returncode:
        pytest.skip("root writes everywhere, and chattr is refused here")


@one_of_each
def test_folder_becomes_read_only(script, nursery, tmp_path, whole):
    child = start_and_wait(nursery, script, tmp_path / "run")
    immutable(tmp_path / "run", True)
    try:
        said = complaint(child)
        assert re.search("not permitted|denied", said) and "run" in said
        again = complaint(nursery.start(path_of(script), "--resume", "run", cwd=tmp_path))
        assert re.search("not permitted|denied", again) and "run" in again
    finally:
        immutable(tmp_path / "run", False)
    finish(nursery, script, tmp_path / "run", whole(script, *options_of(script)))


@one_of_each
def test_read_only_disk(script, disk, nursery):
    child = start_and_wait(nursery, script, disk.folder / "run", namespace=disk.namespace)
    child.kill(KILL)
    child.wait()
    subprocess.run(["nsenter", "-t", str(disk.namespace), "-m", "mount", "-o", "remount,ro", disk.folder], check=True)
    for how in ["--resume", "run"], [*options_of(script), "--run-dir", "new"]:
        said = complaint(nursery.start(path_of(script), *how, cwd=disk.folder, namespace=disk.namespace))
        assert "Read-only file system" in said and how[-1] in said


@one_of_each
def test_unwritable_parent(script, nursery, tmp_path):
    (tmp_path / "file").write_text("")
    for folder, cause in ("file/run", "Not a directory"), ("/proc/run", "No such file or directory"):
        said = complaint(nursery.start(path_of(script), *options_of(script), "--run-dir", folder, cwd=tmp_path))
        assert folder in said and cause in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@one_of_each
def test_folder_deleted(script, nursery, tmp_path):
    child = start_and_wait(nursery, script, tmp_path / "run")
    while (tmp_path / "run").exists():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    said = complaint(child)
    assert "run/" in said and "No such file or directory" in said and not (tmp_path / "run").exists()


CLOCK = """import time
now = time.time
time.time = lambda: now() + 86400 * (int(5 * time.perf_counter()) % 3 - 1)  # every fifth of a second another day
"""


@one_of_each
def test_clock_jumps(script, tmp_path, whole):
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    paths = environment() | {"PYTHONPATH": f"{tmp_path}:{ROOT / 'tests'}"}
    done = subprocess.run(command(script, *options_of(script), "--run-dir", "run"), cwd=tmp_path, env=paths,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_run(whole(script, *options_of(script)), tmp_path / "run")
    seconds = [float(row["wall_seconds"]) for row in csv.DictReader(open(tmp_path / "run" / "evaluations.csv"))]
    assert seconds == sorted(seconds) and 0 < seconds[-1] < 600


# what must not be learned from
@one_in_turn(*(f"{what} {number}" for what in ("observation", "reward") for number in ("nan", "inf", "-inf")))
def test_task_diverges(script, case, nursery, tmp_path, whole):
    child = nursery.start(path_of(script), *options_of(script), "--run-dir", "run", cwd=tmp_path,
                          TOY_FAULT=f"{case} 500")
    said, what = complaint(child), case.split()[0]
    others = {"observation", "reward", "action", "weight", "loss"} - {what}
    assert what in said and not any(other in said for other in others) and "toy_envs:Walk-v0" in said
    assert re.search(r"step (499|500)\b", said), said
    finish(nursery, script, tmp_path / "run", whole(script, *options_of(script)))


POISON = {  # what Agent.learn, from the {n}th time on, does besides
    "loss": "metrics['losses/more'] = torch.tensor({number})",
    "weight": "next(self.actor.parameters()).data.view(-1)[0] = {number}",
    "action": "self.act = lambda obs: torch.full((len(obs), 2), {number})",
}
DOCTOR = """
learn_, count = Agent.learn, []
def learn(self, *batch):
    metrics = learn_(self, *batch)
    count.append(1)
    if len(count) >= {n}:
        {poison}
    return metrics
Agent.learn = learn

"""


@one_in_turn(*(f"{what} {number}" for what in POISON for number in ("nan", "inf")))
def test_script_diverges(script, case, nursery, tmp_path, whole):
    what, number = case.split()
    options, n = [*options_of(script), "--total-timesteps", 1100], 200 if script in OFF_POLICY else 4
    code = DOCTOR.format(n=n, poison=POISON[what].format(number=f"float('{number}')"))
    said = complaint(nursery.start(doctored(script, tmp_path, code), *options, "--run-dir", "run", cwd=tmp_path))
    assert what in said
    step = int(re.search(r"step (\d+)", said)[1])
    if script in OFF_POLICY:  # poisoned at 400; losses are looked at when they are logged, weights before each save
        assert 399 <= step <= (1000 if what == "loss" else 500)
    state = checkpoint(tmp_path / "run")
    assert state["step"] <= step and all(torch_finite(tensor) for tensor in state["agent"].values())
    finish(nursery, script, tmp_path / "run", whole(script, *options))


def torch_finite(tensor):
    return bool(tensor.isfinite().all())


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@one_in_turn("step", "reset")
def test_task_raises(script, case, vectorization, nursery, tmp_path, whole):
    options = options_of(script, num_envs=2, vectorization=vectorization)
    child = nursery.start(path_of(script), *options, "--run-dir", "run", cwd=tmp_path, TOY_FAULT=f"{case} nan 250")
    said = complaint(child)
    assert "toy_envs:Walk-v0" in said and f"broken in {case}" in said
    step = int(re.search(r"step (\d+)", said)[1])
    assert 498 <= step <= (500 if case == "step" else 580)  # an episode ends within 40 steps
    assert not child.orphans()
    finish(nursery, script, tmp_path / "run", whole(script, *options))


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@one_in_turn(1, 3)
def test_task_cannot_be_made(script, case, vectorization, nursery, tmp_path):
    """The first is made to look at it, the third is one of those that train."""
    options = options_of(script, num_envs=4, vectorization=vectorization)
    child = nursery.start(path_of(script), *options, "--run-dir", "run", cwd=tmp_path, TOY_FAULT=f"make nan {case}")
    if case == 1 or vectorization == "sync":
        said = complaint(child, status=2 if case == 1 else 1)
        assert "toy_envs:Walk-v0" in said and "broken in make" in said
    else:  # multiprocessing prints a traceback for each of the workers
        assert child.wait() == 1 and f"{script}.py: toy_envs:Walk-v0" in child.stderr
    assert not child.orphans() and not list(tmp_path.iterdir())


@one_of_each
def test_worker_killed(script, nursery, tmp_path, whole):
    options = options_of(script, num_envs=3, vectorization="async")
    child = start_and_wait(nursery, script, tmp_path / "run", options=options)
    os.kill(random.choice(child.descendants()), KILL)
    said = complaint(child)
    assert "toy_envs:Walk-v0" in said and re.search(r"step \d+", said) and not child.orphans()
    finish(nursery, script, tmp_path / "run", whole(script, *options))


@one_in_turn("Float64", "Matrix", "Tensor", "Asymmetric", "Single", "Scalar", "Half", "Fixed")
def test_boxes_of_every_kind(script, case, nursery, tmp_path, whole):
    options = options_of(script, task=case, num_envs=2)
    child = start_and_wait(nursery, script, tmp_path / "run", options=options)
    child.kill(TERM)
    assert child.wait() == 143, child.stderr
    finish(nursery, script, tmp_path / "run", whole(script, *options))
    said = nursery.start(path_of(script), "--evaluate", "run", cwd=tmp_path)
    assert said.wait() == 0 and "2 episodes: return -" in said.stdout
