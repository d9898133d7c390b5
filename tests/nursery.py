"""Starts a script in a tenth of a second: a process that has imported what they all import forks a child for each."""
import ctypes
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path


class Nursery:
    """Asks the process below, over a pipe, for children and for how they ended."""
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def ask(self, *request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, script, *options, cwd, namespace=None, **environment):
        """As `python script options` in `cwd`, its output in files beside that; it sees the mounts of `namespace`."""
        said = Path(cwd).parent / f"{Path(cwd).name}.said"
        said.mkdir(exist_ok=True)
        outputs = [said / f"{time.monotonic_ns()}.{name}" for name in ("stdout", "stderr")]
        for path in outputs:
            path.touch()
        pid = self.ask([str(script), *map(str, options)], str(cwd), [*map(str, outputs)], environment, namespace)
        return Child(self, pid, *outputs)


class Child:
    def __init__(self, nursery, pid, stdout, stderr):
        self.nursery, self.pid, self.files, self.status = nursery, pid, (stdout, stderr), None
        self.end = os.pidfd_open(pid)

    def ended(self, timeout=0):
        return bool(select.select([self.end], [], [], timeout)[0])

    def wait(self, timeout=120):
        if self.status is None:
            if not self.ended(timeout):
                self.kill(signal.SIGKILL, group=True)
                raise TimeoutError(f"still running after {timeout} s\n{self.stdout}\n{self.stderr}")
            self.status = self.nursery.ask(self.pid)
            os.close(self.end)
        return self.status

    def kill(self, number, group=False):
        if self.status is None:  # even where it has ended nobody else has its number: nobody has waited for it
            (os.killpg if group and os.getpgid(self.pid) == self.pid else os.kill)(self.pid, number)  # from setsid on

    @property
    def stdout(self):
        return self.files[0].read_text()

    @property
    def stderr(self):
        return self.files[1].read_text()

    def descendants(self):
        """Processes of the child's session that still run, itself left out."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, (state, _, _, session) = int(path.parent.name), path.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.pid != pid and state != "Z":
                found.append(pid)
        return found

    def orphans(self, patience=5):
        end = time.monotonic() + patience
        while (left := self.descendants()) and time.monotonic() < end:
            time.sleep(0.02)
        return left


def serve():
    """Returns in a child, with what it is to run; in the nursery, when nobody asks any more."""
    for line in sys.stdin:
        request = json.loads(line)
        if len(request) == 1:
            answer = os.waitstatus_to_exitcode(os.waitpid(request[0], 0)[1])
        elif not (answer := os.fork()):
            return request
        print(json.dumps(answer), flush=True)
    sys.exit()


if __name__ == "__main__":
    import gymnasium, mujoco, numpy, torch, tqdm, tyro  # noqa: E401, F401, I001
    import torch._dynamo, torch.utils.tensorboard  # noqa: E401, F401 (torch.optim imports the first when it is used)
    sys.argv, folder, files, environment, namespace = serve()
    os.setsid()
    for number, path in enumerate([os.devnull, *files]):
        os.dup2(os.open(path, os.O_RDWR), number)
    if namespace:
        assert not ctypes.CDLL(None).setns(os.open(f"/proc/{namespace}/ns/mnt", os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[0:1] = [str(Path(sys.argv[0]).parent), str(Path(__file__).parent)]
    runpy.run_path(sys.argv[0], run_name="__main__")
