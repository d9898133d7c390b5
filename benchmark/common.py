"""What the benchmark's tools share: versions of scripts, runs, collected results, scores.

A run is known by script, version, options, task and seed; its folder is
{script}-{version}/{options}/{task}/{seed}.
"""

import ast
import concurrent.futures
import contextlib
import csv
import fcntl
import hashlib
import importlib.metadata
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE / "published"
PACKAGES = ("torch", "gymnasium", "mujoco", "numpy")
RUN_FIELDS = ["options", "task", "seed"]  # what tells runs of one version apart


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


# ── versions ─────────────────────────────────────────────────────────────────────────────────────

# Of a script's last section: command line, checks, printing. Runs that begin have the same numbers
# without these. What is in doubt is not here, and counts.
DECIDES_NOTHING = {
    "check_args",
    "check_spaces",
    "check_task",
    "check_video",
    "CommandLine",
    "command_line",
    "command_to",
    "evaluate_run",
    "exit_on_signal",
    "in_words",
    "main",
    "note_changed_script",
    "parse_args",
    "print_progress",
    "say",
}
LAST_SECTION = re.compile("^# ── 7  ", re.MULTILINE)


def version_of(source):
    """The version of a script, given its text: 8 hex digits that stay while its numbers do.

    A comment, a docstring, a message, a check of options or the command line may change.
    """
    words = canonical(what_decides(source))
    return hashlib.sha1(words.encode()).hexdigest()[:8]


def what_decides(source):
    """The syntax tree of what decides a script's numbers; it can be run."""
    heading = LAST_SECTION.search(source)
    last_section = source.count("\n", 0, heading.start()) if heading else source.count("\n") + 1
    tree = WhatDecides(last_section).visit(ast.parse(source))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    body = []
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            node.names = [alias for alias in node.names if bound_name(alias) in used]
            if not node.names:
                continue
        body.append(node)
    tree.body = body
    return tree


def bound_name(alias):
    """The name that `import …` gives to a module."""
    return alias.asname or alias.name.partition(".")[0]


class WhatDecides(ast.NodeTransformer):
    """Takes out docstrings, the text of messages, and what DECIDES_NOTHING names."""

    def __init__(self, last_section):
        self.last_section = last_section  # line of its heading

    def visit_Module(self, node):
        return self.without_docstring(node)

    def visit_ClassDef(self, node):
        return self.definition(node)

    def visit_FunctionDef(self, node):
        return self.definition(node)

    def definition(self, node):
        if node.name in DECIDES_NOTHING and node.lineno > self.last_section:
            return None
        return self.without_docstring(node)

    def without_docstring(self, node):
        if ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        self.generic_visit(node)
        if not node.body:
            node.body = [ast.Pass()]
        return node

    def visit_Raise(self, node):
        return WithoutText().visit(node)

    def visit_Yield(self, node):
        return WithoutText().visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name) and node.func.id in ("say", "print"):
            node.args = [WithoutText().visit(argument) for argument in node.args]
            return node
        return self.generic_visit(node)


class WithoutText(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        return ast.Constant("")


def canonical(node):
    """A syntax tree as text, without what differs between versions of Python."""
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={canonical(value)}"
            for name, value in ast.iter_fields(node)
            if value not in (None, [])
        ]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(canonical(each) for each in node)}]"
    return repr(node)


def file_hash(content):
    """The beginning of a file's hash in git: `git show <hash>` prints it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()[:8]


# ── running ──────────────────────────────────────────────────────────────────────────────────────

# Training ends, saving first, when the process that started it is gone. Only on Linux; elsewhere
# the lock suffices.
START = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Job(NamedTuple):
    """One run: what it is, and how it stands."""

    root: Path
    script: str
    version: str
    options: str  # "default", or "name=value,name=value" in the order of names
    task: str
    seed: int
    made_with: dict | None = None  # see `home_of`
    retries: int = 3
    campaign: str = ""  # one call of run.py or tune.py: another's wish to stop is not ours

    @property
    def home(self):
        return self.root / f"{self.script}-{self.version}"

    @property
    def folder(self):
        folder = self.home
        for part in (self.options, self.task, str(self.seed)):
            name = re.sub(r"[^\w.=,-]", "_", part)
            if len(name) >= 150:
                name = f"{name[:100]}-{file_hash(name.encode())}"
            folder = folder / name
        return folder

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

    def stop(self):
        """Asks the run to save and end, or not to begin, wherever it is."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    def log(self):
        path = self.beside(".log")
        return path.read_text(errors="replace") if path.exists() else ""

    def progress(self):
        """(percent, what the script said last)"""
        found = re.findall(r"(step \d+, (\d+)%[^\r\n]*)", self.log())
        if not found:
            return 0, "starting"
        said, percent = found[-1]
        return int(percent), said


def options_of(text):
    """'name=value,flag' → {name: value}; the value of a flag such as no-anneal-lr is ''."""
    if text == "default":
        return {}
    options = {}
    for option in re.split(r",(?=[\w-]+(?:=|,|$))", text):  # a value of JSON may have commas
        name, _, value = option.partition("=")
        options[name] = value
    return options


def text_of(options):
    if not options:
        return "default"
    return ",".join(f"{name}={value}" if value else name for name, value in sorted(options.items()))


def words_of(options):
    """{name: value} → words of a command line."""
    words = []
    for name, value in options.items():
        words.append(f"--{name}")
        words += [value] if value.startswith("{") else value.split()
    return words


def installed():
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def jobs_of(root, scripts, variants, tasks, seeds, retries=3):
    """The matrix as jobs."""
    jobs = []
    campaign = uuid.uuid4().hex[:8]
    for path in map(Path, scripts):
        version = version_of(path.read_text())
        made_with = home_of(Job(root, path.stem, version, "", "", 0), path)
        for variant, task, seed in itertools.product(variants, tasks, seeds):
            options = text_of(options_of(variant))
            jobs.append(
                Job(root, path.stem, version, options, task, seed, made_with, retries, campaign)
            )
    return jobs


def home_of(job, path):
    """Makes the home of a script's version, if it is new; returns what its runs are made with.

    The script is copied there, and the copy runs: editing a script changes no campaign, and a
    version that has a home keeps the text that it began with.
    """
    record = job.home / "made_with.json"
    if not record.exists():
        native = path.with_name("native_mujoco.py")
        made_with = {
            "commit": commit_of(path),
            "file": file_hash(path.read_bytes()),
            # makes no difference but to the time
            "native": file_hash(native.read_bytes()) if native.exists() else None,
            "packages": installed(),
        }
        for file in (native, path):
            if file.exists():
                write(job.home / file.name, file.read_bytes())
        write(record, json.dumps(made_with).encode())
    made_with = json.loads(record.read_text())
    if made_with["packages"] != installed():
        fail(
            f"{job.home}: its runs were made with {made_with['packages']}, here is {installed()}; "
            "give another --root"
        )
    return made_with


def commit_of(path):
    """The commit that a file is of, with '-dirty' where it has changed since; None without git."""

    def git(*words):
        command = ["git", "-C", path.parent, *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if git("status", "--porcelain", "--", path.name) else commit


def write(path, content):
    """Beside it, then over it: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new_path = path.with_name(f"{path.name}.{os.getpid()}")
    new_path.write_bytes(content)
    os.replace(new_path, path)


def execute(job):
    """Runs a job to its end, from where it stands: 'done', 'stopped', or 'failed: …'."""
    try:
        return run_to_the_end(job)
    except OSError as error:  # such as a full disk: this run's failure, not the campaign's end
        return f"failed: {error}"
    finally:
        job.stop_file.unlink(missing_ok=True)


def run_to_the_end(job):
    if installed() != job.made_with["packages"]:
        return f"failed: this machine has {installed()}"
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(job.beside(".lock"), "w") as lock, open(job.beside(".log"), "ab") as log:
        # the training process holds it too: what outlived its parent is waited for
        while not is_locked(lock):
            if job.stop_file.exists():
                return "stopped"
            time.sleep(0.2)
        for _ in range(job.retries + 1):
            if job.done:
                return "done"
            if job.stop_file.exists():
                return "stopped"
            status = train(job, lock, log)
            if status == 0:
                write_provenance(job)
                return "done"
            if job.stop_file.exists() or status in (130, 143):
                return "stopped"
            if status == 2:
                break  # bad usage: it would be bad again
    said = [line for line in job.log().split("\n") if line.strip()]
    return f"failed: exit status {status}, {said[-1:]}"


def is_locked(file):
    """Whether we have the lock now, for as long as the file is open here or in a child."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def train(job, lock, log):
    """One process of the script, new or resumed; its exit status."""
    if (job.folder / "config.json").exists():
        options = ["--resume", job.folder]
    else:
        if job.folder.exists():  # it was killed before it had begun
            shutil.rmtree(job.folder)
        options = words_of({"device": "cpu", "num-threads": "1"} | options_of(job.options))
        options += ["--env-id", job.task, "--seed", job.seed, "--run-dir", job.folder]
    log.write(b"starting\n")
    log.flush()
    command = [sys.executable, "-c", START, job.home / f"{job.script}.py", *options]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[lock.fileno()],
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    was_asked = False
    while True:
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            if job.stop_file.exists() and not was_asked:
                process.terminate()
                was_asked = True


def write_provenance(job):
    provenance = {
        "script": job.script,
        "version": job.version,
        "options": job.options,
        "task": job.task,
        "seed": job.seed,
        **job.made_with,
        "attempts": job.log().count("starting\n"),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write(job.folder / "provenance.json", json.dumps(provenance, indent=2).encode())


def submitter(workers, ray_address=None, cpus=1, gpus=0.0):
    """job → future of what `execute` says: in threads here, or as Ray tasks that leave lost nodes.

    With Ray the address of a cluster is given; without, `workers` run at once.
    """
    if ray_address is None:
        pool = concurrent.futures.ThreadPoolExecutor(workers)
        return lambda job: pool.submit(execute, job)
    import ray

    ray.init(ray_address, log_to_driver=False, logging_level="warning")
    this_module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(this_module)  # the nodes need no copy of it
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(execute)
    return lambda job: remote.remote(job).future()


# ── results ──────────────────────────────────────────────────────────────────────────────────────


class Result(NamedTuple):
    """A finished run."""

    provenance: dict
    config: dict
    rows: list  # of evaluations.csv, as text; a task may add columns

    def __getattr__(self, name):
        if name in self.provenance:
            return self.provenance[name]
        raise AttributeError(name)

    def column(self, name):
        return np.array([float(row[name]) for row in self.rows])

    @property
    def key(self):
        """Runs with the same key differ in the seed only."""
        return self.script, self.version, self.options, self.task


def rows_of(path):
    """The rows of a CSV file, without cells that are empty."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if value} for row in rows]


def read(*folders):
    """Finished runs under folders, run.py's or collected.

    A path's last part may be the options that they must have.
    """
    results = []
    for folder in map(Path, folders):
        if folder.exists():
            results += read_folder(folder)
        else:
            found = read_folder(folder.parent)
            results += [result for result in found if result.options == folder.name]
    return sorted(results, key=lambda result: (*result.key, result.seed))


def read_folder(folder):
    results = []
    for path in folder.rglob("provenance.json"):
        provenance = json.loads(path.read_text())
        config = json.loads((path.parent / "config.json").read_text())
        results.append(Result(provenance, config, rows_of(path.parent / "evaluations.csv")))
    for path in folder.rglob("runs.jsonl"):
        rows_by_run = {}
        for row in rows_of(path.parent / "evaluations.csv"):
            run = tuple(row.pop(field) for field in RUN_FIELDS)
            rows_by_run.setdefault(run, []).append(row)
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            config = entry.pop("config")
            run = tuple(str(entry[field]) for field in RUN_FIELDS)
            results.append(Result(entry, config, rows_by_run[run]))
    return results


def refuse_to_mix(home, packages, results):
    """Ends the program where a result, to be collected in `home`, was made with other packages."""
    for result in results:
        if result.packages != packages:
            fail(
                f"{home}: would mix runs made with {result.packages} and {packages}; "
                "give another --results"
            )


def collect(results, target):
    """Adds runs to {target}/{script}-{version}/.

    evaluations.csv has their rows, runs.jsonl their configuration and provenance.
    """
    by_home = itertools.groupby(
        results, key=lambda result: target / f"{result.script}-{result.version}"
    )
    for home, new in by_home:
        home.mkdir(parents=True, exist_ok=True)
        with locked_folder(home):
            runs = {(run.key, run.seed): run for run in [*read(home), *new]}
            write_collection(home, [runs[key] for key in sorted(runs)])


@contextlib.contextmanager
def locked_folder(folder):
    """Others, who collect at the same time, wait."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def write_collection(home, runs):
    refuse_to_mix(home, runs[0].packages, runs)
    rows = []
    entries = []
    for run in runs:
        fields = {field: run.provenance[field] for field in RUN_FIELDS}
        rows += [fields | row for row in run.rows]
        entries.append(json.dumps(run.provenance | {"config": run.config}))
    write(home / "evaluations.csv", csv_text(rows).encode())
    write(home / "runs.jsonl", "".join(f"{entry}\n" for entry in entries).encode())


def csv_text(rows):
    columns = {}
    for row in rows:
        columns |= row
    file = io.StringIO()
    table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()


def groups(results):
    """{key: results}, in order."""
    found = {}
    for result in results:
        found.setdefault(result.key, []).append(result)
    return found


# ── scores ───────────────────────────────────────────────────────────────────────────────────────


def reference(task):
    """(return of random actions, best published mean) of a task: the scores 0 and 1, or None."""
    env = task.rpartition("-v")[0]
    random_returns = means(PUBLISHED / "random_returns.csv", env)
    published = means(PUBLISHED / "published_targets.csv", env)
    if not random_returns or not published:
        return None
    return random_returns[0], max(published)


def means(path, env):
    return [float(row["mean"]) for row in rows_of(path) if row["env"] == env]
