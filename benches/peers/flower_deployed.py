#!/usr/bin/env python3
"""What a deployed round of Flower costs by itself: its SuperLink and SuperNodes as processes on loopback, without TLS."""
import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

APP = pathlib.Path(__file__).resolve().parent / "flower_app"
PROGRAMS = pathlib.Path(sys.executable).parent
PATIENCE = 300  # seconds without a new line


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(ready, what):
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not come")
        time.sleep(0.05)
    return found


def accepts(port):
    with socket.socket() as dialer:
        return dialer.connect_ex(("127.0.0.1", port)) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    args = parser.parse_args()
    started = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
        environment = {**os.environ, "FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0", "PATH": path}

        def start(program, *arguments):
            command = [PROGRAMS / program, *map(str, arguments)]
            log = open(folder / f"{program}-{len(started)}.log", "w")
            # A session of its own, so that what it starts can be ended with it.
            started.append(
                subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
            )

        try:
            link = free_port()
            address = f"127.0.0.1:{link}"
            start("flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--port", link)
            wait(lambda: accepts(link), "the SuperLink")
            for _ in range(args.nodes):
                start("flower-supernode", "--insecure", "--superlink", address, "--port", free_port())
            (folder / "config.toml").write_text(
                f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
            )
            out = folder / "rounds.jsonl"
            out.touch()
            config = f'rounds={args.rounds} nodes={args.nodes} out="{out}"'
            run = [PROGRAMS / "flwr", "run", APP, "bench", "--run-config", config]
            subprocess.run(run, env=environment, cwd=folder, check=True, stdout=sys.stderr)
            with open(out) as lines:
                for _ in range(args.rounds):
                    print(wait(lines.readline, "a round"), end="", flush=True)
        finally:
            # Nodes first: none looks for a SuperLink that has gone.
            for process in reversed(started):
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
