"""Rules about the text of the scripts: self-contained, plain, siblings that differ by one idea."""

import ast
import difflib
import functools
import re
import sys
from pathlib import Path

import mutants
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ["reinforce", "a2c", "ppo_continuous", "ddpg", "td3"]
DISCRETE = ["discrete/q_learning", "discrete/dqn", "discrete/double_dqn"]
PLAIN_FILES = [*SCRIPTS, *DISCRETE, "discrete/dqn_atari", "native_mujoco"]

SECTIONS = [
    "1  options",
    "2  environments: the same text in all scripts",
    "3  memory",
    "4  networks",
    "5  the algorithm",
    "6  training",
    "7  run folder, checkpoint, evaluation, command line: the same text in all scripts",
]
# what may have the same name and another text: each script's own options, networks and algorithm
OWN = {"Args", "check_algorithm_args", "Agent", "train"}
# besides, what the on-policy and the off-policy scripts share among themselves only
SHARED_BY_KIND = {"mlp", "Actor", "Critic", "RolloutBuffer", "Batch"}
KIND = {
    "reinforce": "on-policy",
    "a2c": "on-policy",
    "ppo_continuous": "on-policy",
    "ddpg": "off-policy",
    "td3": "off-policy",
}
# what sections 2 and 7 of the scripts for discrete actions may have another text of: actions are
# numbers from 0 on, and nothing is MuJoCo's
DISCRETE_PLUMBING = {
    "Transition",
    "make_vector_env",
    "make_rendering_env",
    "Environments",
    "load_agent",
    "load_policy",
    "write_config",
    "check_task",
    "check_spaces",
    "check_video",
}
# the definitions of dqn.py that have another text in dqn_atari.py, and those it has besides
OWN_OF_ATARI = {"Args", "check_algorithm_args", "train"}
OWN_OF_ATARI |= {"make_env", "ReplayBuffer", "QNetwork", "Agent"}
ONLY_IN_ATARI = {"make_atari_env", "NoOpStart", "GreyFrames"}
NOT_IN_DISCRETE = {"print_mujoco_warning", "scale_action"}
# pairs of siblings, and how many lines may differ, formatted: one idea, and nothing else
DIFFERENCES = [
    ("ddpg", "td3", 74),
    ("a2c", "ppo_continuous", 68),
    ("reinforce", "a2c", 133),
    ("discrete/dqn", "discrete/double_dqn", 21),
    ("discrete/dqn", "discrete/dqn_atari", 285),  # its memory is most of it
]
LABELS = {
    "reinforce": {"PG": 5, "NORM": 5, "ACT": 1},
    "a2c": {"PG": 5, "GAE": 3, "AC": 4, "NORM": 5, "ACT": 1},
    "ppo_continuous": {"PG": 5, "GAE": 3, "PPO": 4, "AC": 4, "NORM": 5, "ACT": 1},
    "ddpg": {"": 15, "DPG": 5, "ACT": 1},
    "td3": {"": 15, "DPG": 5, "ACT": 1},
    "discrete/q_learning": {"Q": 3},
    "discrete/dqn": {"Q": 1, "DQN": 4},
    "discrete/double_dqn": {"Q": 1, "DQN": 4, "DDQN": 2},
    "discrete/dqn_atari": {"Q": 1, "DQN": 4},
}
ABSENT = {  # labels of a sibling that this script has no line for
    "ddpg": {"6", "8"},
    "a2c": {"PG-2", "PG-3", "PG-4"},
    "discrete/double_dqn": {"DQN-2"},
    "ppo_continuous": {"PG-2", "PG-3", "PG-4", "AC-1"},
}


def text(name):
    return (ROOT / f"{name}.py").read_text()


def section(script, number):
    """The text of a section, its heading included."""
    start = text(script).index(f"# ── {number}  ")
    end = text(script).find(f"# ── {number + 1}  ")
    return text(script)[start:] if end < 0 else text(script)[start:end]


PLUMBING = section("td3", 2) + section("td3", 7)


@functools.cache
def definitions(script):
    source = text(script)
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = ast.get_source_segment(source, node)
    return found


def imported_modules(script):
    modules = set()
    for node in ast.walk(ast.parse(text(script))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module.partition(".")[0])
    return modules - set(sys.stdlib_module_names)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_needs_only_the_packages_that_its_header_lists(script):
    header = text(script).partition("# ///\n")[0]
    listed = {name.replace("-", "_") for name in re.findall(r'"([\w-]+)', header)}
    optional = {"native_mujoco", "wandb"}
    assert imported_modules(script) - optional <= listed
    requirements = (ROOT / "requirements.txt").read_text()
    pinned = {name.replace("-", "_") for name in re.findall(r"^([\w-]+)", requirements, re.M)}
    assert listed == pinned


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_the_seven_sections_in_order(script):
    headings = re.findall(r"^# ── (.*?) ─+$", text(script), re.M)
    assert headings == SECTIONS


@pytest.mark.parametrize("number", [2, 7])
def test_environments_and_the_run_are_the_same_text_in_all_scripts(number):
    assert len({section(script, number) for script in SCRIPTS}) == 1


def test_what_has_the_same_name_has_the_same_text():
    first = {}
    for script in SCRIPTS:
        for name, source in definitions(script).items():
            if name in OWN:
                continue
            key = (name, KIND[script]) if name in SHARED_BY_KIND else name
            if name == "Batch" or (script, name) == ("reinforce", "RolloutBuffer"):
                continue  # what an update needs differs; REINFORCE collects whole episodes
            if (script, name) == ("reinforce", "Actor"):
                continue  # it has no entropy: see the next test
            assert first.setdefault(key, source) == source, f"{name} of {script}.py"


def test_the_networks_of_reinforce_are_those_of_a2c_without_entropy_and_critic():
    networks = section("a2c", 4)
    for start, end in [("\n    def entropy", "    # fmt: on"), ("class Critic", "")]:
        first = networks.index(start)
        last = networks.index(end, first) if end else len(networks)
        networks = networks[:first] + networks[last:]
    assert section("reinforce", 4).rstrip() == networks.rstrip()


@pytest.mark.parametrize("script", DISCRETE)
def test_the_plumbing_of_discrete_scripts_differs_in_what_is_listed_only(script):
    ours = definitions("td3")
    theirs = definitions(script)
    plumbing = {name for name in ours if re.search(rf"^(def|class) {name}\b", PLUMBING, re.M)}
    assert {name for name in plumbing if name not in theirs} == NOT_IN_DISCRETE
    changed = {name for name in plumbing & theirs.keys() if ours[name] != theirs[name]}
    assert changed <= DISCRETE_PLUMBING
    for number in (2, 7):
        assert section(script, number) == section("discrete/dqn", number)


def test_dqn_atari_is_dqn_but_for_what_is_listed():
    ours = definitions("discrete/dqn")
    theirs = definitions("discrete/dqn_atari")
    assert theirs.keys() - ours.keys() == ONLY_IN_ATARI
    assert ours.keys() - theirs.keys() == {"mlp"}
    shared = ours.keys() & theirs.keys()
    assert {name for name in shared if ours[name] != theirs[name]} == OWN_OF_ATARI
    assert section("discrete/dqn_atari", 7) == section("discrete/dqn", 7)


@pytest.mark.parametrize("left, right, most", DIFFERENCES)
def test_siblings_differ_by_one_idea(left, right, most):
    lines = [text(script).splitlines() for script in (left, right)]
    changed = [
        line for line in difflib.unified_diff(*lines, n=0) if re.match(r"[+-](?![+-])", line)
    ]
    assert len(changed) <= most, "\n".join(changed)


@pytest.mark.parametrize("script", LABELS)
def test_the_code_carries_the_labels_of_its_derivation(script):
    code = text(script).partition('"""\n\nimport')[2]
    comments = " ".join(re.findall("#(.*)", code))
    found = set(re.findall(r"\[((?:[A-Z]+-)?\d+)\]", comments))
    expected = set()
    for kind, count in LABELS[script].items():
        expected |= {f"{kind}-{n}" if kind else str(n) for n in range(1, count + 1)}
    assert found == expected - ABSENT.get(script, set())


def findings(source):
    """Places where Python says too much in one breath, as (line, what)."""
    tree = ast.parse(source)
    for number, line in enumerate(source.splitlines(), start=1):
        if len(line) > 100:
            yield number, "a line of more than 100 columns"
    inside_while = {node.test for node in ast.walk(tree) if isinstance(node, ast.While)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and not isinstance(
            node.value, (ast.Call, ast.Constant, ast.Yield, ast.YieldFrom)
        ):
            yield node.lineno, "an expression as a statement"
        if isinstance(node, ast.NamedExpr) and node not in inside_while:
            yield node.lineno, "an assignment inside an expression"
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            if isinstance(node.targets[0], ast.Tuple):
                yield node.lineno, "several assignments on one line"
        if isinstance(node, ast.IfExp):
            inner = [each for each in ast.walk(node) if isinstance(each, ast.IfExp)]
            if len(inner) > 1:
                yield node.lineno, "a conditional expression in a conditional expression"
        if isinstance(node, ast.Lambda) and isinstance(node.body, (ast.BoolOp, ast.IfExp)):
            yield node.lineno, "a decision in a lambda"
        body = getattr(node, "body", None)
        if isinstance(body, list):
            lines = [statement.lineno for statement in body]
            if len(set(lines)) < len(lines):
                yield lines[0], "several statements on one line"


@pytest.mark.parametrize("name", PLAIN_FILES)
def test_the_text_is_plain(name):
    assert not list(findings(text(name)))


@pytest.mark.parametrize(
    "golf",
    [
        "ready or wait()",
        "x = (n := 3) + 1",
        "a, b = f(x), g(y)",
        "x = 1 if a else 2 if b else 3",
        "key = lambda x: x.a or x.b()",
        "a = 1; b = 2",
        "[print(x) for x in y]",
        "x = " + "1 + " * 30 + "1",
    ],
)
def test_what_is_not_plain_is_found(golf):
    assert list(findings(golf))


@pytest.mark.parametrize("name", PLAIN_FILES)
def test_only_labelled_math_is_formatted_by_hand(name):
    for block in re.findall(r"# fmt: off\n(.*?)# fmt: on", text(name), re.S):
        assert re.search(r"# \[[A-Z0-9-]+\]", block), block


def test_each_mistake_of_mutants_py_has_its_place():
    mutants.trials(mutants.MUTANTS)
