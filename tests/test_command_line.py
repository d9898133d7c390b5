"""Bad usage: exit status 2, one line that names the option, the value and what would be right; nothing is created."""

import dataclasses
import json
import re
import shutil
import sys
import zlib

import pytest
from conftest import OFF_POLICY, ON_POLICY, SCRIPTS, SMALL, checkpoint, load, run
from hostile import complaint, one_in_turn, options_of, path_of
from robustness import record
from toy_envs import BAD as BAD_SPACES

MAY_BE_ZERO = {
    "seed",
    "num-threads",
    "eval-frequency",
    "checkpoint-frequency",
    "learning-starts",
    "gamma",
    "gae-lambda",
    "vf-coef",
    "ent-coef",
    "exploration-noise",
    "policy-noise",
    "noise-clip",
}
AT_MOST_ONE = {"gamma", "gae-lambda", "tau"}
MAY_CHANGE = {
    "total-timesteps",
    "eval-episodes",
    "checkpoint-frequency",
    "capture-video",
    "track",
    "vectorization",
    "device",
    "num-threads",
}


def fields(script):
    """Of its options: name, type in words."""
    for field in dataclasses.fields(load(script).Args):
        kind = getattr(field.type, "__name__", str(field.type))
        yield (
            field.name.replace("_", "-"),
            kind if kind in ("int", "float", "bool", "str") else str(field.type),
        )


def bad_numbers(script):
    """Every numeric option with values that it must not take: options, what the line must hold."""
    for name, kind in fields(script):
        number = "int" if "int" in kind else "float" if "float" in kind else None
        if not number or kind == "bool":
            continue
        wrong = ["-1", "-3"] + ["0"] * (name not in MAY_BE_ZERO) + ["1.5"] * (name in AT_MOST_ONE)
        wrong += ["nan", "inf", "1e300"] if number == "float" else [str(10**30)]
        for value in wrong:
            said = (
                str(float(value))
                if number == "float"
                else f"({value},)"
                if "tuple" in kind
                else value
            )
            yield [f"--{name}", value], rf"--{name} {re.escape(said)}: must be from \S+ to \S+$"
        for value in ["many", "1,000", "0x10", ""] + ["1.5", "nan", "inf", "1e3"] * (
            number == "int"
        ):
            yield (
                [f"--{name}", value],
                rf"--{name}.*{number}" if "tuple" not in kind else rf"--{name}:",
            )
        yield [f"--{name}={value}" for value in ["-inf"]], rf"--{name}"
        if "tuple" not in kind:
            yield [f"--{name}"], rf"--{name}"
        else:
            yield [f"--{name}", "64", "0"], rf"--{name} \(64, 0\): must be from 1 to"


BAD = [  # options, a pattern for the line
    ("--nonsense 1", "--nonsense"),
    ("--gama 0.9", "--gama.*--gamma"),
    ("stray", "stray"),
    ("--vectorization fast", "--vectorization.*sync.*async"),
    ("--vectorization", "--vectorization"),
    ("--device tpu", "--device tpu: not on this machine, which has cpu"),
    ("--device cuda:99", "--device cuda:99: not on this machine"),
    ("--device mps:7", "--device mps:7: not on this machine"),
    ("--device ", "--device"),
    ("--compile maybe", "maybe"),
    ("--env-id NoSuchTask-v0", "--env-id NoSuchTask-v0.*NoSuchTask"),
    ("--env-id HalfCheetah-v99", "--env-id HalfCheetah-v99.*v5"),
    ("--env-id no_such_module:Task-v0", "--env-id no_such_module:Task-v0.*no_such_module"),
    ("--env-id toy_envs:NoSuchTask-v0", "--env-id toy_envs:NoSuchTask-v0"),
    ("--env-id a:b:c", "--env-id a:b:c"),
    ("--env-id ", "--env-id"),
    ("--env-id CartPole-v1", "--env-id CartPole-v1.*Box"),
    ("--env-id FrozenLake-v1", "--env-id FrozenLake-v1.*Box"),
    ("--resume nowhere", "nowhere: holds no run; .*need a run's folder"),
    ("--evaluate nowhere", "nowhere: holds no run; .*need a run's folder"),
    ("--track", "--track: needs wandb; pip install wandb"),
]
BAD_OF = {
    "reinforce": [
        ("--num-envs 8 --total-timesteps 999", "--total-timesteps 999.*1000"),
        ("--env-id Pendulum-v1 --num-envs 4 --total-timesteps 199", "--total-timesteps 199.*200"),
    ],
    "a2c": [
        ("--num-envs 8 --num-steps 200 --total-timesteps 1599", "--total-timesteps 1599.*1600"),
        ("--total-timesteps 1", "--total-timesteps 1:"),
    ],
    "ppo_continuous": [
        ("--num-envs 8 --num-steps 200 --total-timesteps 1599", "--total-timesteps 1599.*1600"),
        ("--num-envs 2 --num-steps 100 --num-minibatches 7", "--num-minibatches 7.*divide"),
        ("--num-envs 1 --num-steps 4 --num-minibatches 8", "--num-minibatches 8.*divide"),
    ],
    "ddpg": [],
    "td3": [],
}
for name in OFF_POLICY:
    BAD_OF[name] = [
        ("--batch-size 100 --buffer-size 50", "--batch-size 100: more than --buffer-size 50"),
        ("--num-envs 100 --buffer-size 50 --batch-size 9", "--num-envs 100: more than memory"),
        ("--learning-starts 1000 --total-timesteps 1000", "--learning-starts 1000"),
        ("--learning-starts 2000 --total-timesteps 1000", "--learning-starts 2000"),
        ("--learning-starts 5 --num-envs 4 --total-timesteps 9", "--learning-starts 5: at most 4"),
        (
            "--num-envs 2000 --total-timesteps 1000 --learning-starts 0",
            "--num-envs 2000|--total-timesteps 1000",
        ),
        ("--buffer-size 1000000000000", "--buffer-size 1000000000000"),
    ]


def bad_lines(script):
    yield from bad_numbers(script)
    for line, pattern in BAD + BAD_OF[script]:
        yield re.split(" ", line), pattern


def check_in_process(script, lines, tmp_path, monkeypatch, capsys):
    """parse_args() of the module on each line; all that is wrong, at the end."""
    module, before, wrong = load(script), sorted(tmp_path.rglob("*")), []
    monkeypatch.chdir(tmp_path)
    for options, pattern in lines:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, options)])
        try:
            status = f"taken as {module.parse_args()}"
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            status = repr(error)
        out, err = capsys.readouterr()
        right = re.fullmatch(rf"{script}.py: .*({pattern}).*\n", err) and "---" not in err
        if (status, out) != (2, "") or not right:
            wrong.append((*options, pattern, status, out, err))
    record("bad lines", script, tried=len(lines), wrong=len(wrong))
    assert not wrong, "\n".join(map(str, wrong))
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_lines(script, tmp_path, monkeypatch, capsys):
    lines = list(bad_lines(script))
    assert len(lines) > 120
    check_in_process(script, lines, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("script", ["ppo_continuous", "td3"])
def test_compile_without_a_compiler(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_in_process(
        script,
        [(["--compile"], "--compile: no C.. compiler; install")],
        tmp_path,
        monkeypatch,
        capsys,
    )


def test_options_of_a_run_are_fixed(script, tmp_path, monkeypatch, capsys, whole):
    shutil.copytree(whole(script, *options_of(script)), tmp_path / "run")
    shutil.copytree(
        whole(SCRIPTS[SCRIPTS.index(script) - 1], *options_of(SCRIPTS[SCRIPTS.index(script) - 1])),
        tmp_path / "other",
    )
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    total = config["total_timesteps"]
    lines = [
        (["--resume", "run", "--evaluate", "run"], "--resume run.*--evaluate"),
        (["--evaluate", "run", "--resume", "copy"], "--evaluate|--resume"),
        (["--resume", "other"], "other: holds a run of"),
        (["--evaluate", "other"], "other: holds a run of"),
        (["--resume", "empty"], "empty: holds no run"),
        (["--resume", "file"], "file: holds no run"),
        (["--resume", "run/config.json"], "run/config.json: holds no run"),
        (["--run-dir", "run"], "--run-dir run: exists; give a new one, or --resume it"),
        (["--run-dir", "empty"], "--run-dir empty: exists"),
        (["--run-dir", "file"], "--run-dir file: exists"),
        (["--resume", "run", "--run-dir", "elsewhere"], "--run-dir elsewhere: cannot change"),
        (["--resume", "run", "--nonsense"], "--nonsense"),
        (["--resume", "run", "--total-timesteps", "0"], "--total-timesteps 0: must be"),
    ]
    for name, kind in fields(script):
        if name in MAY_CHANGE | {"run-dir", "resume", "evaluate"}:
            continue
        value = config[name.replace("-", "_")]
        if kind == "bool":
            option, said = [f"--no-{name}" if value else f"--{name}"], f"--{name} {not value}"
        else:
            new = {"env-id": "Pendulum-v1", "wandb-project-name": "mine"}.get(name)
            new = new or (0.123 if "float" in kind else 7)
            option, said = [f"--{name}", new], f"--{name} {(new,) if 'tuple' in kind else new}"
        for how in "--resume", "--evaluate":
            lines.append(
                ([how, "run", *option], rf"{re.escape(said)}: cannot change now, this run has")
            )
    check_in_process(script, lines, tmp_path, monkeypatch, capsys)
    assert total == json.loads((tmp_path / "run" / "config.json").read_text())["total_timesteps"]


def test_a_run_from_a_gpu_is_evaluated_elsewhere(tmp_path, whole):
    """The run says cuda, as if it came from a machine that has it."""
    shutil.copytree(whole("a2c", *options_of("a2c")), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text()) | {"device": "cuda", "checksum": 0}
    path.write_text(json.dumps(config | {"checksum": zlib.crc32(json.dumps(config).encode())}))
    said = run("a2c", "--evaluate", "run", cwd=tmp_path, status=2).stderr
    assert said == "a2c.py: --device cuda: not on this machine, which has cpu\n"
    assert (
        "episodes: return"
        in run("a2c", "--evaluate", "run", "--device", "cpu", cwd=tmp_path).stdout
    )


def test_no_hidden_layers_is_a_linear_policy(tmp_path):
    run(
        "a2c",
        *SMALL["a2c"],
        "--env-id",
        "Pendulum-v1",
        "--hidden-sizes",
        "--run-dir",
        "run",
        cwd=tmp_path,
    )
    assert checkpoint(tmp_path / "run")["agent"]["actor.1.0.weight"].shape == (1, 3)


@one_in_turn(*BAD_SPACES)
def test_spaces_that_cannot_be(script, case, nursery, tmp_path):
    said = complaint(
        nursery.start(path_of(script), "--env-id", f"toy_envs:{case}-v0", cwd=tmp_path), status=2
    )
    assert f"--env-id toy_envs:{case}-v0" in said and "Box" in said and not list(tmp_path.iterdir())
    record("bad lines", script, tried=1, wrong=0)


@one_in_turn(*(line for line, _ in BAD[:-3:2]), "--gamma 2", "--seed x", "--num-envs 0")
def test_bad_lines_end_to_end(script, case, tmp_path):
    said = run(script, *case.split(" "), cwd=tmp_path, status=2)
    assert (
        said.stdout == ""
        and said.stderr.count("\n") == 1
        and said.stderr.startswith(f"{script}.py: ")
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", OFF_POLICY)
def test_memory_that_does_not_fit(script, nursery, tmp_path):
    child = nursery.start(
        path_of(script), "--buffer-size", 10**9, "--env-id", "Humanoid-v5", cwd=tmp_path
    )
    assert "--buffer-size" in complaint(child, status=2) and not list(tmp_path.iterdir())


def test_less_than_a_run_has_already(nursery, tmp_path, whole):
    script = ON_POLICY[1]
    shutil.copytree(whole(script, *options_of(script)), tmp_path / "run")
    child = nursery.start(
        path_of(script), "--resume", "run", "--total-timesteps", 1000, cwd=tmp_path
    )
    assert re.search("--total-timesteps 1000: .*1152", complaint(child, status=2))


def test_help_names_every_option_of_the_contract(script, tmp_path):
    said = run(script, "--help", cwd=tmp_path).stdout
    for option in (
        "env-id seed total-timesteps num-envs vectorization device num-threads compile eval-frequency "
        "eval-episodes checkpoint-frequency run-dir resume evaluate capture-video track wandb-project-name "
        "learning-rate gamma"
    ).split():
        assert re.search(rf"--{option}[ ,]", said), option
