"""A damaged file is named in one line, and the checkpoint before takes over where that one is good: to the bit."""
import hashlib
import json
import os
import pickle
import random
import shutil

import pytest
import torch
from conftest import OFF_POLICY, SCRIPTS, assert_same_run, checkpoint
from hostile import complaint, doctored, finish, notable, one_in_turn, options_of, path_of
from robustness import record

LATEST, PREVIOUS, REPLAY = "checkpoint.pt", "checkpoint.previous.pt", "replay/transitions.f32"
DIE_AFTER_EVALUATION = """
save_ = Run.save
def save(self):
    save_(self)
    self.step < 400 or os.kill(os.getpid(), signal.SIGKILL)
Run.save = save

"""


@pytest.fixture(scope="module")
def killed(nursery, tmp_path_factory):
    """Makes copies of one killed run, for each script. Its last checkpoint knows more rows of every file than the one
    before: of episodes.csv, of evaluations.csv, of the replay memory."""
    made = {}

    def copy(script, to):
        if script not in made:
            here = tmp_path_factory.mktemp(script)
            dies = doctored(script, here, DIE_AFTER_EVALUATION)
            child = nursery.start(dies, *options_of(script), "--run-dir", here / "run", cwd=here)
            assert child.wait() == -9, child.stderr
            made[script] = here / "run"
        shutil.copytree(made[script], to)
        return to
    return copy


def change(name, at):
    """Flips a bit of the byte where `at` says, of a file of that size."""
    def damage(folder):
        with open(folder / name, "r+b") as file:
            file.seek(at((folder / name).stat().st_size))
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    return damage


def cut(name, size):
    return lambda folder: os.truncate(folder / name, size((folder / name).stat().st_size))


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def append(name, content):
    def damage(folder):
        with open(folder / name, "ab") as file:
            file.write(content)
    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def both(*damages):
    return lambda folder: [damage(folder) for damage in damages]


def seal(content):
    return content + hashlib.sha256(content).digest()


PREVIOUS_TAKES_OVER = {
    "cut to nothing": cut(LATEST, lambda size: 0),
    "cut to a byte": cut(LATEST, lambda size: 1),
    "cut in half": cut(LATEST, lambda size: size // 2),
    "last byte missing": cut(LATEST, lambda size: size - 1),
    "first byte changed": change(LATEST, lambda size: 0),
    "middle changed": change(LATEST, lambda size: size // 2),
    "checksum changed": change(LATEST, lambda size: size - 1),
    "checksum missing": cut(LATEST, lambda size: size - 32),
    "longer": append(LATEST, b"more"),
    "text": write(LATEST, b"checkpoint"),
    "text, sealed": write(LATEST, seal(b"checkpoint")),
    "zeros": write(LATEST, bytes(50_000)),
    "last episode changed": change("episodes.csv", lambda size: size - 2),
    "last evaluation changed": change("evaluations.csv", lambda size: size - 2),
    "last episode missing": cut("episodes.csv", lambda size: size - 3),
}
NOTHING_LOST = {
    "rows after the last checkpoint": append("episodes.csv", b"999,1.0,7\n"),
    "half a row after it": append("evaluations.csv", b"999,1."),
    "the previous changed": change(PREVIOUS, lambda size: size // 2),
    "the previous missing": remove(PREVIOUS),
    "a half-written checkpoint": write("checkpoint.tmp", b"PK"),
    "a half-written configuration": write("config.tmp", b"{"),
    "died between the renames": remove(LATEST),
}
NOTHING_LEFT = {
    "both changed": both(change(LATEST, lambda size: 99), change(PREVIOUS, lambda size: 99)),
    "both cut to nothing": both(write(LATEST, b""), write(PREVIOUS, b"")),
    "first episode changed": change("episodes.csv", lambda size: 60),
    "first evaluation changed": change("evaluations.csv", lambda size: 70),
    "episodes missing": remove("episodes.csv"),
    "evaluations cut to nothing": cut("evaluations.csv", lambda size: 0),
}
OFF_POLICY_TAKES_OVER = {
    "last transition changed": change(REPLAY, lambda size: size - 1),
    "last transition cut": cut(REPLAY, lambda size: size - 1),
    "first byte of the last checkpoint's transitions": change(REPLAY, lambda size: size * 3 // 4 + 100),
}
OFF_POLICY_NOTHING_LEFT = {
    "a transition in memory changed": change(REPLAY, lambda size: size // 2),
    "a transition no longer in memory changed": change(REPLAY, lambda size: 0),
    "the replay memory missing": remove(REPLAY),
}
CONFIG = {
    "cut to nothing": cut("config.json", lambda size: 0),
    "cut in half": cut("config.json", lambda size: size // 2),
    "seed changed": lambda folder: edit(folder, '"seed": 1', '"seed": 3'),
    "a field missing": lambda folder: edit(folder, '  "seed": 1,\n', ""),
    "a field more": lambda folder: edit(folder, '"seed": 1', '"seed": 1, "sead": 1'),
    "checksum changed": change("config.json", lambda size: (size - 5)),
    "not JSON": write("config.json", b"seed = 1"),
    "a list": write("config.json", b"[]"),
    "bytes": write("config.json", bytes(range(256))),
}


def edit(folder, old, new):
    text = (folder / "config.json").read_text()
    assert text.count(old) == 1
    (folder / "config.json").write_text(text.replace(old, new))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name}


def check_taken_over(script, damage, nursery, tmp_path, killed, whole):
    damage(killed(script, tmp_path / "run"))
    said, = notable(finish(nursery, script, tmp_path / "run", whole(script, *options_of(script))))
    assert LATEST in said and f"going on from {PREVIOUS}" in said
    record("damage", script, what="the previous checkpoint took over", files=1)


def check_refused(script, damage, nursery, tmp_path, killed):
    folder = killed(script, tmp_path / "run")
    damage(folder)
    before = contents(folder)
    said = complaint(nursery.start(path_of(script), "--resume", "run", cwd=tmp_path))
    assert LATEST in said and PREVIOUS in said
    assert {**contents(folder), **before} == contents(folder), "what is left was changed"
    record("damage", script, what="refused in one line", files=1)


@one_in_turn(*PREVIOUS_TAKES_OVER)
def test_previous_takes_over(script, case, nursery, tmp_path, killed, whole):
    check_taken_over(script, PREVIOUS_TAKES_OVER[case], nursery, tmp_path, killed, whole)


@one_in_turn(*OFF_POLICY_TAKES_OVER, scripts=OFF_POLICY)
def test_previous_takes_over_where_the_memory_is_damaged(script, case, nursery, tmp_path, killed, whole):
    check_taken_over(script, OFF_POLICY_TAKES_OVER[case], nursery, tmp_path, killed, whole)


@one_in_turn(*NOTHING_LOST)
def test_nothing_lost(script, case, nursery, tmp_path, killed, whole):
    NOTHING_LOST[case](killed(script, tmp_path / "run"))
    assert not notable(finish(nursery, script, tmp_path / "run", whole(script, *options_of(script))))
    record("damage", script, what="nothing lost", files=1)


@one_in_turn(*NOTHING_LEFT)
def test_nothing_left(script, case, nursery, tmp_path, killed):
    check_refused(script, NOTHING_LEFT[case], nursery, tmp_path, killed)


@one_in_turn(*OFF_POLICY_NOTHING_LEFT, scripts=OFF_POLICY)
def test_nothing_left_where_the_memory_is_damaged(script, case, nursery, tmp_path, killed):
    check_refused(script, OFF_POLICY_NOTHING_LEFT[case], nursery, tmp_path, killed)


@one_in_turn(*CONFIG)
def test_config(script, case, nursery, tmp_path, killed):
    folder = killed(script, tmp_path / "run")
    CONFIG[case](folder)
    before = contents(folder)
    for option in "--resume", "--evaluate":
        assert "config.json" in complaint(nursery.start(path_of(script), option, "run", cwd=tmp_path))
    assert contents(folder) == before
    record("damage", script, what="refused in one line", files=1)


@one_in_turn("seed", "task", "option", "script")
def test_checkpoint_of_another_run(script, case, nursery, tmp_path, killed, whole):
    other = SCRIPTS[SCRIPTS.index(script) - 1] if case == "script" else script
    options = options_of(other, "Single") if case == "task" else options_of(other)
    options += {"seed": ["--seed", 2], "option": ["--gamma", 0.5]}.get(case, [])
    folder = killed(script, tmp_path / "run")
    shutil.copy(whole(other, *options) / LATEST, folder / LATEST)
    said, = notable(finish(nursery, script, folder, whole(script, *options_of(script))))
    names = {"seed": "seed", "task": "toy_envs:Single-v0", "option": "gamma", "script": other}
    assert LATEST in said and names[case] in said and PREVIOUS in said
    record("damage", script, what="the previous checkpoint took over", files=1)


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@one_in_turn("plain", "sealed", "in a checkpoint")
def test_malicious_pickle(script, case, nursery, tmp_path, killed, whole):
    """Refused, and nothing of it executed: also where its checksum is right, and where it hides in a real one."""
    folder, trap = killed(script, tmp_path / "run"), tmp_path / "executed"
    content = pickle.dumps(Malice(trap), protocol=2)
    if case == "in a checkpoint":
        hidden = checkpoint(folder) | {"more": Malice(trap)}
        torch.save(hidden, folder / LATEST)
        content = (folder / LATEST).read_bytes()
    (folder / LATEST).write_bytes(content if case == "plain" else seal(content))
    child = nursery.start(path_of(script), "--evaluate", "run", cwd=tmp_path)
    assert child.wait() == 0 and not trap.exists()
    said, = notable(finish(nursery, script, folder, whole(script, *options_of(script))))
    assert LATEST in said and not trap.exists()
    pickle.loads(pickle.dumps(Malice(trap)))  # it would have been
    assert trap.exists()
    record("damage", script, what="the previous checkpoint took over", files=1)


DIE_BETWEEN_THE_RENAMES = """
replace_ = os.replace
def replace(source, target):
    if str(target).endswith("checkpoint.pt"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace_(source, target)
os.replace = replace

"""


@one_in_turn("good", "damaged")
def test_killed_between_the_renames(script, case, nursery, tmp_path, killed, whole):
    """Also of the first save after a damaged checkpoint, which must not push the good one out."""
    folder = killed(script, tmp_path / "run")
    if case == "damaged":
        change(LATEST, lambda size: size // 2)(folder)
    dies = doctored(script, tmp_path, DIE_BETWEEN_THE_RENAMES)
    assert nursery.start(dies, "--resume", folder, cwd=tmp_path).wait() == -9
    finish(nursery, script, folder, whole(script, *options_of(script)))


def check_any_byte(script, seed, nursery, tmp_path, killed, whole):
    """Wherever a bit is changed: the run ends the same, or is refused in one line that names its folder."""
    rng, folder = random.Random(f"{script} {seed}"), killed(script, tmp_path / f"run{seed}")
    name = rng.choice(sorted(path.relative_to(folder) for path in contents(folder) if path.suffix != ".py"))
    change(name, lambda size: rng.randrange(size))(folder)
    child = nursery.start(path_of(script), "--resume", folder, cwd=tmp_path)
    if child.wait():
        assert str(folder) in complaint(child)
        what = "refused in one line"
    else:
        assert_same_run(whole(script, *options_of(script)), folder)
        what = "the previous checkpoint took over" if notable(child) else "nothing lost"
    record("damage", script, what=what, files=1)


def test_any_byte_of_any_file(script, nursery, tmp_path, killed, whole):
    check_any_byte(script, 0, nursery, tmp_path, killed, whole)


@pytest.mark.slow
def test_many_bytes_of_any_file(script, nursery, tmp_path, killed, whole):
    for seed in range(1, 21):
        check_any_byte(script, seed, nursery, tmp_path, killed, whole)


@pytest.mark.parametrize("name", [LATEST, PREVIOUS])
def test_killed_run_is_as_these_tests_assume(script, name, tmp_path, killed):
    state = checkpoint(killed(script, tmp_path / "run"), name)
    assert hashlib.sha256((tmp_path / "run" / name).read_bytes()[:-32]).digest() == (
        (tmp_path / "run" / name).read_bytes()[-32:])
    assert state["step"] >= 400 if name == LATEST else 300 <= state["step"] < 400
    assert json.loads((tmp_path / "run" / "config.json").read_text())["checksum"]
