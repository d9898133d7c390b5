"""python tests/robustness.py: writes docs/robustness.md from what the tests and soak.py recorded.

record() adds to the file that the environment variable ROBUSTNESS names; without it, tests record nothing."""
import fcntl
import json
import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def record(kind, script, **figures):
    path = os.environ.get("ROBUSTNESS")
    if path:
        with open(path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tests run side by side
            print(json.dumps({"kind": kind, "script": script, "date": time.strftime("%Y-%m-%d"), **figures}), file=file)
