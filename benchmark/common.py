"""What the benchmark's tools share: one run from its start to its end, the collected results, and their scale.

A run is known by script, version, options, task and seed; its folder is {script}-{version}/{options}/{task}/{seed}.
The version is a hash of what decides a script's numbers, see version_of; a result's commit has the text that made it.
"""

import ast
import concurrent.futures
import csv
import fcntl
import hashlib
import importlib.metadata
import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE / "published"
PACKAGES = "torch", "gymnasium", "mujoco", "numpy"
FIELDS = ["options", "task", "seed"]  # what tells runs of one version apart
WHERE = (
    "run_dir",
    "resume",
    "checksum",
)  # of a configuration: where a run lay, and a checksum that covers it


def fail(message):
    sys.exit(print(message, file=sys.stderr) or 2)


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# Training ends, saving first, when the process that started it is gone. Only on Linux; elsewhere the lock suffices.
START = """import ctypes, os, signal, sys
if sys.platform == "linux": ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"""


class Job(NamedTuple):
    root: Path
    script: str
    version: str
    options: str  # "default", or "name=value,name=value" in the order of names
    task: str
    seed: int
    commit: str | None = None
    packages: dict | None = None
    native: str | None = (
        None  # the hash of native_mujoco.py, which makes no difference but to the time
    )
    retries: int = 3
    campaign: str = ""  # one call of run.py or tune.py: another's wish to stop is not ours

    @property
    def home(self):
        return self.root / f"{self.script}-{self.version}"

    @property
    def folder(self):
        parts = [
            re.sub(r"[^\w.=,-]", "_", str(part)) for part in (self.options, self.task, self.seed)
        ]
        return self.home.joinpath(
            *(x if len(x) < 150 else f"{x[:100]}-{git_hash(x.encode())}" for x in parts)
        )

    def beside(self, suffix):
        return self.folder.with_name(self.folder.name + suffix)

    @property
    def done(self):
        return (self.folder / "provenance.json").exists()

    @property
    def name(self):
        return f"{self.script}-{self.version} {self.options} {self.task} seed {self.seed}"

    @property
    def stop_file(self):
        return self.beside(f".stop-{self.campaign}")

    def stop(self):  # asks the run to save and end, or not to begin, wherever it is
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    def progress(self):  # (percent, what the script said last)
        log = (
            self.beside(".log").read_text(errors="replace") if self.beside(".log").exists() else ""
        )
        lines = [("starting", 0), *re.findall(r"(step \d+, (\d+)%[^\r\n]*)", log)]
        said, percent = lines[-1]
        return int(percent), said


def options_of(text):  # {name: value}; the value of a flag such as no-anneal-lr is ""
    return (
        {} if text == "default" else dict(option.partition("=")[::2] for option in text.split(","))
    )


def text_of(options):
    return (
        ",".join(f"{name}={value}" if value else name for name, value in sorted(options.items()))
        or "default"
    )


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()[:8]


# what of a script's last section decides numbers; the rest is folders, logs, checkpoints and the command line
DECIDES = {"evaluate", "summary", "compiled", "initialize", "set_up"}


class WithoutWords(ast.NodeTransformer):
    """Takes from a syntax tree what is only said: docstrings, messages of errors, prints."""

    def visit_Raise(self, node):
        return ast.Raise()

    def visit_Expr(self, node):
        is_text = isinstance(node.value, ast.Constant)
        function = getattr(getattr(node.value, "func", None), "id", None)
        if is_text or function in ("say", "print"):
            return ast.Pass()
        return node


def version_of(text):
    """A hash of what decides a script's numbers: its syntax tree, without imports and words.

    Of the section "run folder", which is about files and the command line, only DECIDES count.
    """
    first_line_of_the_run = text.partition("# ── 7  run folder")[0].count("\n") + 1
    decisive = []
    for node in ast.parse(text).body:
        is_import = isinstance(node, (ast.Import, ast.ImportFrom))
        is_plumbing = node.lineno > first_line_of_the_run
        if not is_import and (not is_plumbing or getattr(node, "name", "") in DECIDES):
            decisive.append(node)
    tree = WithoutWords().visit(ast.Module(decisive, []))
    return hashlib.sha1(ast.unparse(ast.fix_missing_locations(tree)).encode()).hexdigest()[:8]


def jobs_of(root, scripts, variants, tasks, seeds, retries=3):
    """The matrix as jobs. Scripts are copied to `root`, and the copies run: editing a script changes no campaign."""
    jobs, packages, campaign = (
        [],
        {name: importlib.metadata.version(name) for name in PACKAGES},
        uuid.uuid4().hex[:8],
    )
    for path in map(Path, scripts):

        def git(*words, folder=path.parent):
            return subprocess.run(
                ["git", "-C", folder, *words], capture_output=True, text=True
            ).stdout.strip()

        commit = git("rev-parse", "--short", "HEAD") + "-dirty" * bool(
            git("status", "--porcelain", "--", path.name)
        )
        version = version_of(path.read_text())
        home = Job(root, path.stem, version, "", "", 0).home
        if not (home / path.name).exists():
            write(home / "packages.json", json.dumps(packages).encode())
            for file in path.with_name("native_mujoco.py"), path:
                file.exists() and write(home / file.name, file.read_bytes())
        made_with = json.loads((home / "packages.json").read_text())
        if made_with != packages:
            fail(
                f"{home}: its runs were made with {made_with}, here is {packages}; give another --root"
            )
        native = home / "native_mujoco.py"
        rest = (
            commit or None,
            packages,
            git_hash(native.read_bytes()) if native.exists() else None,
            retries,
            campaign,
        )
        for variant, task, seed in itertools.product(variants, tasks, seeds):
            jobs.append(
                Job(root, path.stem, version, text_of(options_of(variant)), task, seed, *rest)
            )
    return jobs


def write(path, content):  # beside it, then over it: never half a file
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, path)


def execute(job):
    """Runs a job to its end, from where it stands: 'done', 'stopped', or 'failed: …'. One at a time for each folder."""
    try:
        return attempt(job)
    except OSError as error:  # such as a full disk: this run's, not the campaign's end
        return f"failed: {error}"
    finally:
        job.stop_file.unlink(missing_ok=True)


def attempt(job):
    here = {name: importlib.metadata.version(name) for name in PACKAGES}
    if here != job.packages:
        return f"failed: this machine has {here}"
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(job.beside(".lock"), "w") as lock, open(job.beside(".log"), "ab") as log:
        while not locked(
            lock
        ):  # the training process holds it too, so what outlived its parent is waited for
            if job.stop_file.exists():
                return "stopped"
            time.sleep(0.2)
        for _ in range(job.retries + 1):
            if job.done or job.stop_file.exists():
                return "done" if job.done else "stopped"
            if job.folder.exists():
                options = ["--resume", job.folder]
            else:
                values = {"device": "cpu", "num-threads": "1"} | options_of(job.options)
                options = [
                    word for name, value in values.items() for word in (f"--{name}", *value.split())
                ]
                options += ["--env-id", job.task, "--seed", job.seed, "--run-dir", job.folder]
            log.write(b"starting\n")
            log.flush()
            command = [sys.executable, "-c", START, job.home / f"{job.script}.py", *options]
            process = subprocess.Popen(
                map(str, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                env={"OMP_NUM_THREADS": "1"} | os.environ,
            )
            status, asked = None, False
            while status is None:
                try:
                    status = process.wait(0.2)
                except subprocess.TimeoutExpired:
                    if job.stop_file.exists() and not asked:
                        process.terminate()
                        asked = True
            if status == 0:
                fields = (
                    "script",
                    "version",
                    "native",
                    "commit",
                    "options",
                    "task",
                    "seed",
                    "packages",
                )
                attempts = job.beside(".log").read_text(errors="replace").count("starting\n")
                provenance = {name: getattr(job, name) for name in fields} | {
                    "attempts": attempts,
                    "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
                write(job.folder / "provenance.json", json.dumps(provenance, indent=2).encode())
            elif asked or status in (130, 143):
                return "stopped"
            elif status == 2:
                break
        said = job.beside(".log").read_text(errors="replace").split("\n")
        return (
            "done"
            if job.done
            else f"failed: exit status {status}, {[line for line in said if line.strip()][-1:]}"
        )


def locked(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def submitter(workers, ray_address=None, cpus=1, gpus=0.0):
    """job → future of what `execute` says: in `workers` threads here, or as Ray tasks, which move from lost nodes."""
    if ray_address:
        import ray

        ray.init(ray_address, log_to_driver=False, logging_level="warning")
        ray.cloudpickle.register_pickle_by_value(
            sys.modules[__name__]
        )  # the nodes need no copy of this repository
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(execute)
    else:
        pool = concurrent.futures.ThreadPoolExecutor(workers)

    def submit(job):
        return remote.remote(job).future() if ray_address else pool.submit(execute, job)

    return submit


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Result(NamedTuple):
    provenance: dict
    config: dict
    rows: list  # of evaluations.csv, as text

    def __getattr__(self, name):
        if name in self.provenance:
            return self.provenance[name]
        raise AttributeError(name)

    def column(self, name):
        return np.array([float(row[name]) for row in self.rows])

    @property
    def key(self):  # runs with the same key differ in the seed only
        return self.script, self.version, self.options, self.task


def read(*folders):
    """Finished runs under folders, run.py's or collected. A path's last part may be the options that they must have."""
    results = []
    for folder in map(Path, folders):
        only = None if folder.exists() else folder.name
        folder = folder if folder.exists() else folder.parent
        for path in sorted(folder.rglob("provenance.json")):
            config = json.loads((path.parent / "config.json").read_text())
            config = {name: value for name, value in config.items() if name not in WHERE}
            results.append(
                Result(
                    json.loads(path.read_text()),
                    config,
                    list(csv.DictReader(open(path.parent / "evaluations.csv"))),
                )
            )
        for path in sorted(folder.rglob("runs.jsonl")):
            rows = {}
            for row in csv.DictReader(open(path.parent / "evaluations.csv")):
                rows.setdefault(tuple(row.pop(field) for field in FIELDS), []).append(row)
            for entry in map(json.loads, open(path)):
                config = entry.pop("config")
                results.append(
                    Result(entry, config, rows[tuple(str(entry[field]) for field in FIELDS)])
                )
        if only:
            results = [result for result in results if result.options == only]
    return sorted(results, key=lambda result: (*result.key, result.seed))


def refuse_to_mix(home, packages, results):
    """Ends the program where a result was made with other packages than these; all are to be collected in home."""
    for result in results:
        if result.packages != packages:
            fail(
                f"{home}: would mix runs made with {result.packages} and {packages}; give another --results"
            )


def collect(results, target):
    """Adds runs to {target}/{script}-{version}/: evaluations.csv, and runs.jsonl with configuration and provenance."""
    for home, new in itertools.groupby(
        results, key=lambda result: target / f"{result.script}-{result.version}"
    ):
        home.mkdir(parents=True, exist_ok=True)
        added, lines, place = list(new), io.StringIO(), os.open(home, os.O_RDONLY)
        fcntl.flock(place, fcntl.LOCK_EX)  # others may collect at the same time
        known = {(result.key, result.seed): result for result in [*read(home), *added]}
        kept = sorted(known.values(), key=lambda result: (*result.key, result.seed))
        refuse_to_mix(home, kept[0].packages, kept)
        rows = [
            [*(run.provenance[field] for field in FIELDS), *row.values()]
            for run in kept
            for row in run.rows
        ]
        csv.writer(lines, lineterminator="\n").writerows([[*FIELDS, *kept[0].rows[0]], *rows])
        write(home / "evaluations.csv", lines.getvalue().encode())
        write(
            home / "runs.jsonl",
            "".join(
                json.dumps(result.provenance | {"config": result.config}) + "\n" for result in kept
            ).encode(),
        )
        os.close(place)


def groups(results):
    """{key: results}, in order."""
    return {
        key: list(group) for key, group in itertools.groupby(results, key=lambda result: result.key)
    }


# ── scores ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def reference(task):
    """(return of random actions, best published mean) of a task: the scores 0 and 1, or None where one is unknown."""
    env = task.rpartition("-v")[0]
    zero = [
        float(row["mean"])
        for row in csv.DictReader(open(PUBLISHED / "random_returns.csv"))
        if row["env"] == env
    ]
    one = [
        float(row["mean"])
        for row in csv.DictReader(open(PUBLISHED / "published_targets.csv"))
        if row["env"] == env
    ]
    return (zero[0], max(one)) if zero and one else None
