"""What the hostile tests share: small runs of toy tasks, and what must hold after something has happened to them."""
import re
import time
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPTS, assert_same_run

EVERYWHERE = "--eval-episodes 2 --eval-frequency 400 --checkpoint-frequency 100 --hidden-sizes 8 8".split()
OFF_POLICY_TOY = "--total-timesteps 720 --learning-starts 200 --batch-size 16 --buffer-size 300".split() + EVERYWHERE
TOY = {  # options of a run of a second or so
    "reinforce": ["--total-timesteps", "1200", *EVERYWHERE],
    "a2c": ["--total-timesteps", "1152", "--num-steps", "16", *EVERYWHERE],
    "ppo_continuous": ["--total-timesteps", "1152", *EVERYWHERE] + (
        "--num-steps 32 --num-minibatches 4 --update-epochs 2".split()),
    "ddpg": OFF_POLICY_TOY,
    "td3": OFF_POLICY_TOY,
}


def one_in_turn(*cases, scripts=SCRIPTS):
    """Each case with one script in turn by default, with all of them where slow tests run."""
    return pytest.mark.parametrize("script, case", [
        pytest.param(script, case, marks=[] if i % len(scripts) == j else pytest.mark.slow)
        for i, case in enumerate(cases) for j, script in enumerate(scripts)])


one_of_each = pytest.mark.parametrize("script", [  # family; all of them where slow tests run
    pytest.param(script, marks=[] if script in ("ppo_continuous", "td3") else pytest.mark.slow) for script in SCRIPTS])


def options_of(script, task="Walk", num_envs=1, vectorization="sync"):
    return [*TOY[script], "--env-id", f"toy_envs:{task}-v0", "--num-envs", num_envs, "--vectorization", vectorization]


def path_of(script):
    return ROOT / f"{script}.py"


def wait_for(path, child):
    while not path.exists() and not child.ended():
        time.sleep(0.0002)


def notable(child):
    """What it says on stderr between the lines of progress."""
    return [line for line in child.stderr.splitlines() if line.strip() and not re.search(r"\d steps, .* left$", line)]


def complaint(child, status=1):
    """The one line that a script says of what went wrong: between lines of progress, and without a traceback."""
    assert child.wait() == status, child.stderr
    lines = notable(child)
    assert len(lines) == 1 and re.match(r"\w+\.py: ", lines[0]), child.stderr
    return lines[0]


def go_on(nursery, script, folder, options):
    """What a user does after whatever happened: resume; or start again, where there is no folder."""
    how = ["--resume", folder] if folder.exists() else [*options, "--run-dir", folder]
    return nursery.start(path_of(script), *how, cwd=folder.parent)


def finish(nursery, script, folder, whole, options=()):
    """The run goes on to its end, and then equals the undisturbed one. Returns what went on."""
    child = go_on(nursery, script, folder, options)
    assert child.wait() == 0, child.stderr
    assert not child.orphans()
    assert_same_run(whole, folder)
    assert not [path.name for path in [*folder.rglob("*.tmp"), *folder.parent.glob("*.new")]]
    return child


def start_and_wait(nursery, script, folder, *, file="checkpoint.pt", options=(), **where):
    child = nursery.start(path_of(script), *(options or options_of(script)), "--run-dir", folder, cwd=folder.parent,
                          **where)
    seen = Path(f"/proc/{where['namespace']}/root{folder}") if "namespace" in where else folder
    wait_for(seen / file, child)
    assert not child.ended(), child.stderr
    return child


def doctored(script, folder, code):
    """A copy of the script with `code` before it starts; by the same name, so that its runs are that script's."""
    source, marker = path_of(script).read_text(), 'if __name__ == "__main__":'
    assert source.count(marker) == 1
    (folder / "doctored").mkdir()
    path = folder / "doctored" / f"{script}.py"
    path.write_text(source.replace(marker, code + marker))
    return path
