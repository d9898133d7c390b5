"""python tests/robustness.py: writes docs/robustness.md from what the tests and soak.py recorded.

They add to the file that the environment variable ROBUSTNESS names, a line of JSON each; without it tests record
nothing. The file holds one campaign: remove it before the next.

    rm tests/robustness.jsonl; export ROBUSTNESS=tests/robustness.jsonl
    pytest -m "slow or not slow" tests/test_faults.py tests/test_damage.py tests/test_command_line.py
    python tests/soak.py --minutes 60 td3 ppo_continuous && python tests/robustness.py"""
import collections
import fcntl
import json
import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DAMAGE = "nothing lost", "the previous checkpoint took over", "refused in one line"
PAGE = """# What the scripts survive

Made by `python tests/robustness.py` from what tests and a soak recorded, {first} to {last}, on Linux.

## Killed and resumed

Runs on two environments, half of them in processes of their own, were killed at random moments, resumed, killed again;
at the end evaluations, episodes, weights, optimizers and generators were compared with those of an undisturbed run, to
the bit. `tests/test_faults.py`, slow part.

{kills}

## Damaged files

A bit, the end, or all of a file of a run was changed: of either checkpoint, of a table, of the replay memory, of
`config.json`. In the first two cases the run then ended to the bit as without the damage. `tests/test_damage.py`.

{damage}

## Bad command lines

Each must end with status 2 and one line that names option, value and remedy, and must create nothing: every numeric
option of each script with some ten bad values, and mistakes that concern several. `tests/test_command_line.py`.

{lines}

## Long runs

Small networks, evaluations and checkpoints every few seconds. Growth: least squares over the last three quarters of
the time, ± its standard error. `tests/soak.py`.

{soak}
"""


def record(kind, script, **figures):
    path = os.environ.get("ROBUSTNESS")
    if path:
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tests run side by side
            print(json.dumps({"kind": kind, "script": script, "date": time.strftime("%Y-%m-%d"), **figures}), file=file)


def table(header, rows):
    """Markdown, with a last row of sums over the columns of whole numbers."""
    sums = [sum(column) for column in list(zip(*rows, strict=True))[1:]] if rows else []
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows, *[["all", *sums]] * (len(rows) > 1)]
    return "\n".join("| " + " | ".join(f"{x:,}" if isinstance(x, int) else x for x in line) + " |" for line in lines)


def page(entries):
    by = collections.defaultdict(lambda: collections.defaultdict(list))
    for entry in entries:
        by[entry["kind"]][f"`{entry['script']}.py`"].append(entry)

    def kills(of):
        blows = [blow for entry in of for blow in entry["kills"]]
        signals = ([n for signal, _, n in blows if signal == one] for one in ("SIGKILL", "SIGTERM", "SIGINT"))
        moments = ([n for _, at, n in blows if at == one] for one in ("starting", "resuming", "writing", "any"))
        two = [n for signal, _, n in blows if "+" in signal]
        groups = [[n for *_, n in blows], *signals, two, *moments]
        return [*map(sum, groups), sum(entry["lost"] for entry in of)]

    def damage(of):
        count = collections.Counter(entry["what"] for entry in of)
        return [len(of), *(count[what] for what in DAMAGE)]

    soak = ["| script | hours | steps | memory, MB | growth, MB/h | open files | checkpoint, kB |",
            "|---|--:|--:|--:|--:|--:|--:|"]
    for script, of in by["soak"].items():
        soak += ["| {} | {hours:.2f} | {steps:,} | {memory_mb:.0f} | {mb_per_hour:+.2f} ± {standard_error:.2f} | "
                 "{open_files} | {checkpoint_kb:.0f} |".format(script, **entry) for entry in of]
    dates = [entry["date"] for entry in entries]
    return PAGE.format(
        first=min(dates), last=max(dates),
        soak="\n".join(soak) + "\n\n![memory over time](images/soak.png)" if by["soak"] else "None is recorded yet.",
        kills=table(["script", "kills", "SIGKILL", "SIGTERM", "SIGINT", "two signals", "while starting", "resuming",
                     "writing a checkpoint", "at any moment", "runs lost"],
                    [[s, *kills(of)] for s, of in by["kills"].items()]),
        damage=table(["script", "files damaged", *DAMAGE], [[s, *damage(of)] for s, of in by["damage"].items()]),
        lines=table(["script", "tried", "answered wrongly"],
                    [[s, sum(e["tried"] for e in of), sum(e["wrong"] for e in of)]
                     for s, of in by["bad lines"].items()]))


if __name__ == "__main__":
    recorded = Path(os.environ.get("ROBUSTNESS", ROOT / "tests" / "robustness.jsonl")).read_text().splitlines()
    (ROOT / "docs" / "robustness.md").write_text(page(sorted(map(json.loads, recorded), key=lambda e: e["script"])))
