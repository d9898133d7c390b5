"""The diffs in docs/recipes.md: each applies to the script as it is, and the result trains."""

import csv
import importlib.util
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from toys import options

PAGE = (ROOT / "docs/recipes.md").read_text()
DIFFS = re.findall(r"```diff\n(.*?)```", PAGE, re.S)
TINY = {
    "env_id": "people_tasks:Plain-v0",
    "total_timesteps": 96,
    "num_envs": 2,
    "num_steps": 16,
    "num_minibatches": 2,
    "update_epochs": 1,
    "learning_starts": 40,
    "batch_size": 8,
    "buffer_size": 100,
    "hidden_sizes": (8, 8),
    "eval_episodes": 1,
    "vectorization": "sync",
    "device": "cpu",
}


def test_the_page_has_its_recipes():
    headings = re.findall("^## (.*)", PAGE, re.M)
    for words in ("task", "wrapper", "network", "schedule", "algorithm", "program"):
        assert any(words in heading for heading in headings), words
    assert len(DIFFS) >= 6


@pytest.mark.parametrize("diff", DIFFS, ids=range(1, len(DIFFS) + 1))
def test_a_recipe_applies_and_trains(diff, tmp_path, monkeypatch):
    script = re.match(r"--- a/(\w+)\.py", diff)[1]
    path = tmp_path / f"{script}.py"
    shutil.copy(ROOT / path.name, path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    done = subprocess.run(
        ["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert path.read_text() != (ROOT / path.name).read_text()

    spec = importlib.util.spec_from_file_location("recipe", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recipe", module)
    spec.loader.exec_module(module)
    folder = module.train(options(module, run_dir=tmp_path / "run", **TINY))
    with open(folder / "evaluations.csv") as file:
        assert [row["global_step"] for row in csv.DictReader(file)] == ["0", "96"]
