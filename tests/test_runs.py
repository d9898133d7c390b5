"""What a user sees: the same seed gives the same run, evaluating changes nothing, one file is enough."""
import json
import shutil

import pytest
from conftest import (
    OFF_POLICY, ONE_OF_EACH, ROOT, SMALL, assert_same_run, checkpoint, evaluations, flatten, load, run)


@ONE_OF_EACH
def test_same_seed_same_bytes_and_evaluate_repeats_training(script, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", "2"]
    run(script, *options, "--run-dir", "first", cwd=tmp_path)
    run(script, *options, "--run-dir", "second", cwd=tmp_path)
    run(script, *options, "--seed", "2", "--run-dir", "other", cwd=tmp_path)
    assert_same_run(tmp_path / "first", tmp_path / "second")
    assert (tmp_path / "first" / "episodes.csv").read_text() != (tmp_path / "other" / "episodes.csv").read_text()
    last = evaluations(tmp_path / "first")[-1]
    said = run(script, "--evaluate", "first", cwd=tmp_path).stdout
    assert f"return {last['return_mean']} ± {last['return_std']}, length {last['episode_length_mean']}" in said


@ONE_OF_EACH
def test_vectorization_changes_no_bit(script, tmp_path):
    options = [*SMALL[script], "--env-id", "Hopper-v5", "--num-envs", "2"]
    run(script, *options, "--vectorization", "native", "--run-dir", "native", cwd=tmp_path)
    run(script, *options, "--vectorization", "sync", "--run-dir", "sync", cwd=tmp_path)
    assert_same_run(tmp_path / "native", tmp_path / "sync")


@ONE_OF_EACH
def test_evaluation_leaves_training_untouched(script, tmp_path):
    options = [*SMALL[script], "--env-id", "InvertedPendulum-v5"]
    run(script, *options, "--run-dir", "often", cwd=tmp_path)
    options += ["--eval-frequency", "0", "--eval-episodes", "1", "--checkpoint-frequency", "0"]
    run(script, *options, "--run-dir", "once", cwd=tmp_path)
    assert (tmp_path / "often" / "episodes.csv").read_bytes() == (tmp_path / "once" / "episodes.csv").read_bytes()
    assert len(evaluations(tmp_path / "often")) > 1 == len(evaluations(tmp_path / "once"))
    often, once = (flatten(checkpoint(tmp_path / name)["agent"]) for name in ("often", "once"))
    assert all((often[name] == once[name]).all() for name in often)


@ONE_OF_EACH
def test_one_file_alone(script, tmp_path):
    """In an empty folder a script trains, resumes, extends, evaluates; the run's folder holds what it promises."""
    shutil.copy(ROOT / f"{script}.py", tmp_path)
    here = tmp_path / f"{script}.py"
    said = run(here, *SMALL[script], "--env-id", "Pendulum-v1", cwd=tmp_path).stdout
    folder, = (tmp_path / "runs").iterdir()
    assert f"--resume runs/{folder.name}" in said and folder.name.startswith(f"Pendulum-v1__{script}__1__")
    files = {"config.json", "evaluations.csv", "episodes.csv", "checkpoint.pt", "checkpoint.previous.pt"}
    files |= {f"{script}.py"} | ({"replay"} if script in OFF_POLICY else set())
    assert {path.name for path in folder.iterdir() if "tfevents" not in path.name} == files
    assert (folder / "evaluations.csv").read_text().startswith(
        "global_step,wall_seconds,return_mean,return_std,episode_length_mean\n0,")
    assert (folder / "episodes.csv").read_text().startswith("global_step,episode_return,episode_length\n")
    assert json.loads((folder / "config.json").read_text())["env_id"] == "Pendulum-v1"
    steps = int(evaluations(folder)[-1]["global_step"])
    run(here, "--resume", folder, "--total-timesteps", 2 * steps, cwd=tmp_path)
    assert int(evaluations(folder)[-1]["global_step"]) == 2 * steps
    assert "2 episodes: return -" in run(here, "--evaluate", folder, cwd=tmp_path).stdout
    assert {path.name for path in tmp_path.iterdir()} == {f"{script}.py", "runs"}


@ONE_OF_EACH
def test_video(script, tmp_path):
    run(script, *SMALL[script], "--env-id", "audit_env:Audit-v0", "--run-dir", "run", cwd=tmp_path)
    plain = run(script, "--evaluate", "run", cwd=tmp_path).stdout
    assert run(script, "--evaluate", "run", "--capture-video", cwd=tmp_path).stdout == plain
    video, = (tmp_path / "run" / "videos").glob("*.mp4")
    assert b"ftyp" in video.read_bytes()[:16]


@ONE_OF_EACH
def test_track_starts_wandb(script, tmp_path):
    """With a stand-in for the package, that writes down what it is called with."""
    (tmp_path / "wandb.py").write_text("import json\ndef init(**kw): json.dump(kw, open('said', 'w'), default=str)\n")
    shutil.copy(ROOT / f"{script}.py", tmp_path)
    options = ["--env-id", "Pendulum-v1", "--run-dir", "run", "--track", "--wandb-project-name", "mine"]
    run(tmp_path / f"{script}.py", *SMALL[script], *options, cwd=tmp_path)
    said = json.loads((tmp_path / "said").read_text())
    assert said["project"] == "mine" and said["id"] == "run" and said["sync_tensorboard"] is True
    assert said["config"]["env_id"] == "Pendulum-v1"


@pytest.mark.parametrize("num_envs", [1, 4])
def test_num_envs_does_not_change_the_number_of_steps(script, num_envs, tmp_path):
    run(script, *SMALL[script], "--env-id", "Pendulum-v1", "--num-envs", num_envs, "--run-dir", "run", cwd=tmp_path)
    total = int(SMALL[script][SMALL[script].index("--total-timesteps") + 1])
    assert int(evaluations(tmp_path / "run")[-1]["global_step"]) == total


def test_a_task_without_version_is_the_newest_and_named_so(script, monkeypatch):
    monkeypatch.setattr("sys.argv", [script, "--env-id", "Pendulum", "--total-timesteps", "20000"])
    args = load(script).parse_args()
    assert args.env_id == "Pendulum-v1" and args.run_dir.name.startswith("Pendulum-v1__")
