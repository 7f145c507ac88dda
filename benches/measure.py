"""Runs a program and measures its whole process tree: wall and CPU seconds, peak memory, and when its lines came."""
import ctypes
import dataclasses
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time

INTERVAL = 0.04  # seconds between samples of memory
RESCAN = 0.2  # between looks for new processes
PAGE = os.sysconf("SC_PAGE_SIZE")
SUBREAPER = 36


@dataclasses.dataclass
class Run:
    wall: float
    cpu: float
    peak_rss: int
    """Bytes: the largest sum over processes of resident memory; what they share counts for each."""
    peak_pss: int
    """Bytes: the same with shared pages counted once; 0 where the kernel does not tell."""
    samples: int
    lines: list
    """JSON objects that it printed, each with `at`: seconds since it was started."""


class Failed(Exception):
    pass


def descendants(root):
    """Process ids of all that descend from `root`, without it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, queue = [], [root]
    while queue:
        of = children.get(queue.pop(), [])
        found += of
        queue += of
    return found


def rss(process):
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def pss(process):
    try:
        with open(f"/proc/{process}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class Sampler(threading.Thread):
    """Samples memory until told to stop. PSS is dear to read: only when RSS has grown, or once a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.peak_rss = self.peak_pss = self.samples = 0

    def run(self):
        processes, scanned, looked, last = [], 0.0, 0.0, 0
        while not self.done.wait(INTERVAL):
            now = time.monotonic()
            if now - scanned > RESCAN or not processes:
                processes, scanned = descendants(os.getpid()), now
            total = sum(map(rss, processes))
            self.samples += 1
            if total > max(last * 1.01, self.peak_rss * 0.9) or now - looked > 1:
                self.peak_pss = max(self.peak_pss, sum(map(pss, processes)))
                last, looked = total, now
            self.peak_rss = max(self.peak_rss, total)

    def stop(self):
        self.done.set()
        self.join()


def reap(patience=5.0):
    """Waits for what the program left behind, which is ours as the reaper of orphans; ends what stays."""
    deadline = time.monotonic() + patience
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            if time.monotonic() > deadline:
                for left in descendants(os.getpid()):
                    os.kill(left, signal.SIGKILL)
                deadline += patience
            time.sleep(0.02)


def cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(command, environment=None, folder=None, timeout=3600):
    """Runs `command`; what it prints as JSON objects, a line each, and what it took.

    Raises `Failed` with the end of what it said when it fails.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    before, begun, lines = cpu(), time.perf_counter(), []
    sampler = Sampler()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(environment or {})}, cwd=folder
        )
        sampler.start()
        watchdog = threading.Timer(timeout, child.kill)
        watchdog.start()
        for line in child.stdout:
            at = time.perf_counter() - begun
            if line.startswith(b"{"):
                lines.append(json.loads(line) | {"at": at})
        code = child.wait()
        watchdog.cancel()
        wall = time.perf_counter() - begun
        sampler.stop()
        reap()
        if code:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-15:]
            raise Failed("\n".join([f"exit status {code}: {' '.join(map(str, command))}", *said]))
    # The two are not sampled at the same instants.
    peak_rss = max(sampler.peak_rss, sampler.peak_pss)
    return Run(wall, cpu() - before, peak_rss, sampler.peak_pss, sampler.samples, lines)
