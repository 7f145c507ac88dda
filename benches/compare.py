#!/usr/bin/env python3
"""Compares our programs with PyTorch, Flower, pfl-research and BlazeFL, side by side: medians of interleaved runs as Markdown and JSON.

Needs Linux, Rust and Python with venv; README.md says what is compared and how.
"""
import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import venv

import federations
import steps

HERE = pathlib.Path(__file__).resolve().parent
SUITES = {"steps": steps, "federations": federations}


def python(args, folder):
    """The peers' interpreter: the one that is named, or that of a throw-away environment in `folder`."""
    if args.python:
        return args.python
    print("installing the peers into a throw-away environment", file=sys.stderr)
    venv.create(folder / "venv", with_pip=True)
    found = folder / "venv" / "bin" / "python"
    install = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", HERE / "requirements.txt"], check=True)
    return str(found)


def machine():
    model = platform.processor()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}): times will not be worth much", file=sys.stderr)
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load_before": load}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="steps, federations; both by default")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, of which the median is taken")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of works, with commas between")
    parser.add_argument("--python", help="an interpreter that has requirements.txt, instead of a throw-away one")
    parser.add_argument("--blazefl", help="an interpreter that has BlazeFL, where --python has not")
    parser.add_argument("--peers-only", action="store_true", help="leave our programs out")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results", help="folder of tables and JSON")
    parser.add_argument("--rounds", type=int, help="rounds of each federation, instead of each its own number")
    parser.add_argument("--data", default="fashion-mnist", help="data of fedavg; fashion-mnist-mini to try things out")
    parser.add_argument("--simulate", help="a built fedistill-simulate to use instead of building one")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fedistill-benches-"))
    try:
        args.python = python(args, folder)
        for name in args.suites or SUITES:
            here = machine()
            text = ""
            for done in SUITES[name].compare(args, folder):
                # Written after each work, so that who stops early keeps what there is.
                results = {"machine": here, **done}
                text = SUITES[name].table(results)
                (args.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
                (args.out / f"{name}.md").write_text(text)
            print(text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
