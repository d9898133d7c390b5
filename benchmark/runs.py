"""One run of the benchmark, from its start to its end.

A run is known by script, version, options, task and seed. Its folder is
{root}/{script}-{version}/{options}/{task}/{seed}, with its log and its lock beside it. The version
is a hash of what decides a script's numbers, see `version_of`.
"""

import ast
import concurrent.futures
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
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

PACKAGES = ("torch", "gymnasium", "mujoco", "numpy")  # that decide numbers
HERE = Path(__file__).resolve().parent
REQUIREMENTS = "pip install -r benchmark/requirements.txt"


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def missing(*packages):
    """A sentence for --help about packages that are not installed; "" where all are."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"\nNot installed here: {', '.join(absent)}. Run: {REQUIREMENTS}"


def require(*packages):
    sentence = missing(*packages)
    if sentence:
        fail(sentence.strip())


def script_path(name):
    """The path of a script that is given by its name or by its path; None: there is none."""
    root = HERE.parent
    for path in (Path(name), root / f"{name}.py", root / "discrete" / f"{name}.py"):
        if path.suffix == ".py" and path.is_file():
            return path.resolve()


def find_script(name, option="script"):
    path = script_path(name)
    if path is None:
        fail(f"{option} {name}: must be a path of a script, or the name of one in {HERE.parent}")
    return path


# ── options ──────────────────────────────────────────────────────────────────────────────────────


def parse_options(text):
    """ "tau=0.1,no-anneal-lr" → {"tau": "0.1", "no-anneal-lr": ""}; a flag has no value.

    A value may be JSON, as in env-kwargs={"a": 1, "b": [2, 3]}.
    """
    if text == "default":
        return {}
    return dict(option.partition("=")[::2] for option in split_outside_brackets(text))


def split_outside_brackets(text):
    """The parts between commas, but for commas inside of {…} and […]."""
    parts = [""]
    depth = 0
    for letter in text:
        if letter in "{[":
            depth += 1
        if letter in "}]":
            depth -= 1
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def format_options(options):
    """The inverse, in the order of names."""
    words = [f"{name}={value}" if value else name for name, value in sorted(options.items())]
    return ",".join(words) or "default"


def command_words(options):
    words = []
    for name, value in options.items():
        is_json = value.startswith("{")
        words.append(f"--{name}")
        words += [value] if is_json else value.split()
    return words


# ── versions ─────────────────────────────────────────────────────────────────────────────────────

# of a script's last section what decides no numbers: folders, logs, the command line; also in the
# older texts whose runs are in the results, so that a name stays here when a script drops it
PLUMBING = {
    *("SCRIPT", "MAY_CHANGE", "RESUME_MAY_CHANGE", "EVALUATE_MAY_CHANGE", "NOT_SAVED"),
    *("UsageError", "TrainingError", "Run", "CommandLine", "command_to", "describe", "main"),
    *("stop_signals", "say", "check_sizes", "task_sizes"),
    *("note_changed_script", "make_folder", "replacing", "saved_options", "write_config"),
    *("generators_state", "set_generators_state", "load_checkpoint", "load_state", "load_args"),
    *("load_agent", "load_policy", "evaluate_run", "processor_name", "choose_device"),
    *("convert_options", "has_type", "as_declared", "without_numpy", "must_be_loadable"),
    *("must_be_at_least", "must_be_fraction", "must_be_sizes", "check_args", "check_spaces"),
    *("check_task", "check_training_args", "check_unchanged", "check_video", "command_line"),
    *("parse_args", "exit_on_signal", "__main__"),
}
# methods that save and resume, and that end what an error left
SAVING = {"state_dict", "load_state_dict", "save_files", "load_files", "replay", "play_again"}
SAVING |= {"__enter__", "__exit__", "open", "close"}
# calls that say something, or refuse what is wrong
SAYING = re.compile("say|print|check_.*|must_be_.*")


# texts that make the same runs to the bit as an older text, and so keep its version, although the
# hash is another; test_texts_of_one_version_make_the_same_runs compares the present one. Entries
# stay: the commits of recorded runs have these texts.
SAME_RUNS = {
    "cd2b7878": "72dc0a3a",  # td3
    "90da6495": "72dc0a3a",
    "0fdf67cf": "72dc0a3a",
    "1889b0fb": "fce7b6b8",  # ddpg
    "cdb02b11": "35300b71",  # a2c
    "5233d189": "35300b71",
    "7a03845f": "35300b71",
    "6b63528a": "dfd6c706",  # ppo_continuous
    "7d1c489c": "dfd6c706",
    "7b80ce94": "dfd6c706",
    "f9b95f38": "67e689a2",  # reinforce
    "70c9c99e": "67e689a2",
    "9a892f54": "67e689a2",
    "96cedd87": "582225fc",  # dqn
    "89f238f2": "582225fc",
    "24618468": "582225fc",
    "c1d386fb": "940273e0",  # double_dqn
    "4df479a0": "940273e0",
    "a3af76ba": "940273e0",
}


class WithoutPlumbing(ast.NodeTransformer):
    """Takes from a syntax tree what decides no numbers: docstrings, messages, checks, saving."""

    def visit_FunctionDef(self, node):
        return None if node.name in SAVING else self.generic_visit(node)

    def visit_Raise(self, node):
        return ast.Raise()

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):
            return ast.Pass()
        function = getattr(node.value, "func", None)
        name = getattr(function, "attr", None) or getattr(function, "id", "")
        return None if SAYING.fullmatch(name) else node


def version_of(text):
    """A hash of what decides a script's numbers: its syntax tree, without imports and plumbing.

    Of the section "run folder", which is about files and the command line, PLUMBING does not count.
    Nor does native_mujoco.py, which gives the same numbers as Gymnasium's tasks. A text in
    SAME_RUNS has the version of the older one.
    """
    first_line_of_the_run = text.partition("# ── 7  run folder")[0].count("\n") + 1
    decisive = []
    for node in ast.parse(text).body:
        is_import = isinstance(node, (ast.Import, ast.ImportFrom))
        is_in_the_run = node.lineno > first_line_of_the_run
        if not is_import and not (is_in_the_run and name_of(node) in PLUMBING):
            decisive.append(node)
    tree = WithoutPlumbing().visit(ast.Module(decisive, []))
    version = short_hash(ast.unparse(ast.fix_missing_locations(tree)))
    return SAME_RUNS.get(version, version)


def name_of(node):
    """Of a definition, or of a variable that gets a value."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    if isinstance(node, ast.If):
        return "__main__"
    return getattr(node, "name", "")


def short_hash(text):
    return hashlib.sha1(text.encode()).hexdigest()[:8]


def installed_packages():
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def public(packages):
    """Versions without what tells builds of one version apart: 2.13.0+cpu is 2.13.0."""
    return {name: version.partition("+")[0] for name, version in packages.items()}


def commit_of(path):
    """The present commit, with -dirty where this file differs from it; None: no git."""

    def git(*words):
        command = ["git", "-C", path.parent, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    with contextlib.suppress(FileNotFoundError):
        commit = git("rev-parse", "--short", "HEAD")
        if commit and git("status", "--porcelain", "--", path.name):
            commit += "-dirty"
        return commit or None


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


def file_name(text):
    name = re.sub(r"[^\w.=,-]", "_", text)
    if len(name) >= 150:  # file systems allow 255 bytes
        name = f"{name[:100]}-{short_hash(name)}"
    return name


class Job(NamedTuple):
    """A run to be made."""

    root: Path
    script: str
    version: str
    options: str  # "default", or as `format_options` writes them
    task: str
    seed: int
    commit: str | None = None
    packages: dict | None = None
    retries: int = 3  # times that a run which died is resumed
    campaign: str = ""  # the call of a tool that made this job: stop requests are its own

    @property
    def home(self):
        return self.root / f"{self.script}-{self.version}"

    @property
    def options_folder(self):
        return self.home / file_name(self.options)

    @property
    def folder(self):
        return self.options_folder / file_name(self.task) / str(self.seed)

    def beside(self, suffix):
        return self.folder.with_name(self.folder.name + suffix)

    @property
    def is_done(self):
        return (self.folder / "provenance.json").exists()

    @property
    def name(self):
        return f"{self.script}-{self.version} {self.options} {self.task} seed {self.seed}"

    @property
    def stop_file(self):
        return self.beside(f".stop-{self.campaign}")

    def request_stop(self):
        """Asks the run to save and end, or not to begin, wherever it runs."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    def log_text(self):
        path = self.beside(".log")
        return path.read_text(errors="replace") if path.exists() else ""

    def progress(self):
        """(fraction done, what the script said last)."""
        if self.is_done:
            return 1.0, "done"
        said = re.findall(r"(step \d+, (\d+)%[^\r\n]*)", self.log_text())
        if not said:
            return 0.0, "starting"
        line, percent = said[-1]
        return int(percent) / 100, line


def make_jobs(root, scripts, variants, tasks, seeds, retries=3):
    """The matrix as jobs.

    The scripts are copied to `root` and the copies run, so that an edit does not change a campaign.
    """
    campaign = uuid.uuid4().hex[:8]
    packages = installed_packages()
    jobs = []
    for path in map(Path, scripts):
        version = version_of(path.read_text())
        first = Job(root, path.stem, version, "", "", 0)
        copy_script(path, first.home, packages)
        common = (commit_of(path), packages, retries, campaign)
        for variant, task, seed in itertools.product(variants, tasks, seeds):
            options = format_options(parse_options(variant))
            jobs.append(Job(root, path.stem, version, options, task, seed, *common))
    return jobs


def copy_script(path, home, packages):
    """A script whose version is the same may have changed in other things: the copy follows."""
    record = home / "packages.json"
    if not record.exists():
        write(record, json.dumps(packages))
    made_with = json.loads(record.read_text())
    if public(made_with) != public(packages):
        fail(
            f"{home}: its runs were made with {made_with}, here is {packages}; give another --root"
        )
    for file in (path.with_name("native_mujoco.py"), path):
        if file.exists():
            write(home / file.name, file.read_text())


def write(path, text):
    """Replaces a file at once, never by half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new_path = path.with_name(f"{path.name}.{os.getpid()}")
    new_path.write_text(text)
    os.replace(new_path, path)


# ── execution ────────────────────────────────────────────────────────────────────────────────────

# Training ends, saving first, when the process that started it is gone (on Linux; elsewhere the
# lock makes the next campaign wait for it).
START = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def execute(job):
    """Runs a job to its end, from where it stands: "done", "stopped", or "failed: …"."""
    try:
        return attempt(job)
    except OSError as error:  # such as a full disk: this run fails, the campaign goes on
        return f"failed: {error}"
    finally:
        job.stop_file.unlink(missing_ok=True)


def attempt(job):
    installed = installed_packages()
    if public(installed) != public(job.packages):
        return f"failed: this machine has {installed}"
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(job.beside(".lock"), "w") as lock, open(job.beside(".log"), "ab") as log:
        while not try_to_lock(lock):
            if job.stop_file.exists():
                return "stopped"
            time.sleep(0.2)
        for _ in range(job.retries + 1):
            if job.is_done:
                return "done"
            if job.stop_file.exists():
                return "stopped"
            status = run_script(job, lock, log)
            if status == 0:
                write_provenance(job)
            elif status in (130, 143):
                return "stopped"
            elif status == 2:
                break  # a mistake on the command line: trying again does not help
        if job.is_done:
            return "done"
    end = "\n".join(job.log_text().splitlines()[-12:])
    return f"failed: exit status {status}; the end of {job.beside('.log')}:\n{end}"


def try_to_lock(file):
    """Locks the file. The training process holds the lock too, even if its parent is killed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def run_script(job, lock, log):
    """Starts or resumes the script, waits for it, and returns its exit status."""
    if (job.folder / "config.json").exists():
        words = ["--resume", str(job.folder)]
    else:
        shutil.rmtree(job.folder, ignore_errors=True)  # of a run that died before it began
        options = {"device": "cpu", "num-threads": "1"} | parse_options(job.options)
        words = command_words(options)
        words += ["--env-id", job.task, "--seed", str(job.seed), "--run-dir", str(job.folder)]
    log.write(b"starting\n")
    log.flush()
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(job.home / f"{job.script}.py"), *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[lock.fileno()],
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    is_asked = False
    while True:
        try:
            status = process.wait(0.2)
            return 143 if is_asked and status != 0 else status
        except subprocess.TimeoutExpired:
            if job.stop_file.exists() and not is_asked:
                process.terminate()
                is_asked = True


def write_provenance(job):
    provenance = {
        "script": job.script,
        "version": job.version,
        "commit": job.commit,
        "options": job.options,
        "task": job.task,
        "seed": job.seed,
        "packages": job.packages,
        "preloaded": Path(os.environ.get("LD_PRELOAD", "")).name,
        "attempts": job.log_text().count("starting\n"),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write(job.folder / "provenance.json", json.dumps(provenance, indent=2))


def make_submitter(workers, ray_address=None, cpus=1, gpus=0):
    """A function from a job to the future of what `execute` says of it.

    It runs in `workers` threads here, or as Ray tasks, which move away from lost nodes.
    """
    if ray_address is None:
        pool = concurrent.futures.ThreadPoolExecutor(workers)
        return lambda job: pool.submit(execute, job)

    require("ray")
    import ray

    ray.init(ray_address, log_to_driver=False, logging_level="warning")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes need no copy of it
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(execute)
    return lambda job: remote.remote(job).future()
