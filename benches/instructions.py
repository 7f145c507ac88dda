#!/usr/bin/env python3
"""Holds the instructions that training steps take against those in instructions.txt: a guard that no clock disturbs.

Each step runs under valgrind, with AVX2, as valgrind knows no AVX-512. `--update` writes what it counts.
"""
import argparse
import concurrent.futures
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

from support import HERE, build

FILE = HERE / "instructions.txt"
HEAD = "# Instructions of a step (name, batch, count): by benches/instructions.py --update, with "
# Room for another compiler; the same one counts the same each time.
TOLERANCE = 0.05


def obstacle():
    """Why nothing can be counted here, if so."""
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    flags = pathlib.Path("/proc/cpuinfo").read_text().split() if platform.machine() == "x86_64" else ()
    if not {"avx2", "fma"} <= set(flags):
        return "the counts are those of x86-64 processors with AVX2"
    return None


def count(program, name, batch):
    """Instructions of one step, after one that warms up."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"]
    done = subprocess.run(
        [*command, program, "--counted", batch, name],
        env=os.environ | {"FEDISTILL_KERNELS": "avx2"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found or found[1] == "0":
        sys.exit(f"{name}: nothing was counted\n{done.stdout}{done.stderr}")
    return int(found[1])


def complaint(name, now, before):
    """What is wrong with a count and what to do, if anything is."""
    change = f"{name}: a step takes {now:,} instructions, {abs(now / before - 1):.1%} {{}} than the {before:,} of {FILE.name}"
    if now > before * (1 + TOLERANCE):
        return change.format("more") + ": make it cheaper, or run benches/instructions.py --update and say in the commit why it has to be"
    if now < before * (1 - TOLERANCE):
        return change.format("fewer") + ": keep that by benches/instructions.py --update"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    if why := obstacle():
        print(f"SKIPPED: {why}, so nothing was counted and nothing is guarded", file=sys.stderr)
        return args.update
    head, *lines = FILE.read_text().splitlines()
    works = [line.split() for line in lines]
    # The whole workspace, so that tests find what this builds, and the other way round.
    program = build(["--workspace", "--example", "step_times"], profile="dev")
    if not program:
        return 1
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(lambda work: count(program, *work[:2]), works))
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if args.update:
        lines = (f"{name:<20} {batch:>3} {now:>12}\n" for (name, batch, *_), now in zip(works, counts))
        FILE.write_text(HEAD + compiler + "\n" + "".join(lines))
        return 0
    complaints = []
    for (name, batch, before), now in zip(works, counts):
        print(f"{name} at batch {batch}: {now:,} instructions a step, {now / int(before) - 1:+.1%}")
        complaints.append(complaint(name, now, int(before)))
    complaints = [text for text in complaints if text]
    if complaints and compiler not in head:
        complaints.append(f"The compiler is another one, too: {compiler}, not {head.removeprefix(HEAD)}")
    print(*complaints, sep="\n", file=sys.stderr, end="\n" if complaints else "")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
