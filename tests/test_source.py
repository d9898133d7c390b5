"""Rules about the text of the scripts: self-contained, of bounded length, siblings that differ by one idea, labels."""
import ast
import difflib
import re
import sys

import pytest
from conftest import OFF_POLICY, ON_POLICY, ROOT, SCRIPTS
from toys import labels

THIRD_PARTY = {"torch", "gymnasium", "mujoco", "numpy", "tyro", "tensorboard", "tqdm"}
OWN = {"Args", "batch_steps", "checks", "Agent", "train", "total_loss", "target_q"}  # may differ between the scripts
FAMILY = {"Actor", "Critic", "mlp", "backward"}  # the same within the on-policy and within the off-policy scripts
PAIRS = [("ddpg", "td3"), ("a2c", "ppo_continuous"), ("reinforce", "a2c")]
LABELS = {  # of each script, in the order of its text
    "reinforce": {"PG": 4}, "a2c": {"PG": 1, "GAE": 3, "AC": 4}, "ppo_continuous": {"PG": 1, "GAE": 3, "PPO": 3},
    "ddpg": {"DPG": 4}, "td3": {"": 15, "DPG": 4}}
SHARED = {"reinforce": "PG", "a2c": "AC", "ppo_continuous": "AC", "ddpg": "", "td3": ""}


def text(script):
    return (ROOT / f"{script}.py").read_text()


def definitions(script):
    source = text(script)
    return {node.name: ast.get_source_segment(source, node) for node in ast.parse(source).body if hasattr(node, "name")}


def test_self_contained_and_short(script):
    lines = text(script).splitlines()
    assert len(lines) <= 450 and max(map(len, lines)) <= 120
    imported = {name.split(".")[0] for node in ast.walk(ast.parse(text(script))) for name in
                ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                 [node.module] if isinstance(node, ast.ImportFrom) else [])}
    assert imported - set(sys.stdlib_module_names) <= THIRD_PARTY
    start, end = (next(i for i, line in enumerate(lines) if line.startswith(f"# ── {n}  ")) for n in (4, 5))
    assert end - start <= 60, "the algorithm must fit one screen"


def test_same_name_same_source():
    everywhere = {}
    for script in SCRIPTS:
        for name, source in definitions(script).items():
            if name not in OWN:
                key = (name, script in OFF_POLICY) if name in FAMILY else name
                assert everywhere.setdefault(key, source) == source, f"{name} of {script}.py is not as elsewhere"


def test_plumbing_is_the_same_text():
    assert len({text(script).partition("# ── 6  plumbing")[2] for script in SCRIPTS}) == 1


@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join)
def test_siblings_differ_by_one_idea(pair):
    left, right = ([line.split() for line in text(script).splitlines()] for script in pair)
    changed = [line for line in difflib.ndiff([" ".join(x) for x in left], [" ".join(x) for x in right])
               if line[0] in "+-" and line[2:].strip()]
    assert len(changed) <= 40, "\n".join(changed)


@pytest.mark.parametrize("script", SCRIPTS)
def test_labels_in_order(script):
    body = text(script).partition('"""\nimport')[2]
    found = [(family or "", int(n)) for comment in re.findall(r"#(.*)", body)
             for family, n in re.findall(r"\[(?:([A-Z]+)-)?(\d+)\]", comment)]
    for family, count in LABELS[script].items():
        numbers = [n for f, n in found if f == family]
        assert numbers == sorted(numbers) and set(numbers) == set(range(1, count + 1)), (family, numbers)
    numbers = [n for f, n in found if f == SHARED[script]]  # labels of the sibling, on the lines that it has too
    assert numbers == sorted(numbers) and {family for family, _ in found} <= set(LABELS[script]) | {SHARED[script]}


def test_every_label_has_its_test_and_every_such_test_its_label():
    names = [node.name for path in (ROOT / "tests").glob("*.py") for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.FunctionDef)]
    tested = {match[0].replace("TD3_step_", "").replace("_", "-") for name in names
              if (match := re.search(r"(?<=^test_)(TD3_step|[A-Z]+)_\d+", name))}
    assert tested == set().union(*map(labels, SCRIPTS))


def test_on_policy_and_off_policy_are_all():
    assert set(ON_POLICY) | set(OFF_POLICY) == set(LABELS)
