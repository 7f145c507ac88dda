"""What the suites and the guard need: our programs built, medians, cells of tables."""
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / "peers"


def build(arguments, profile="release"):
    """Builds a program of ours; where it is, or None with why not."""
    command = ["cargo", "build", "--profile", profile, "--locked", "--message-format", "json", *arguments]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, check=False)
    found = None
    for line in done.stdout.splitlines():
        found = json.loads(line).get("executable") or found
    if done.returncode or not found:
        print(f"left out, it does not build: {' '.join(arguments)}", file=sys.stderr)
        return None
    return found


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def cells(*values):
    return "| " + " | ".join(values) + " |\n"


def number(value, digits=3, suffix=""):
    """To so many significant digits, or a dash."""
    if value is None:
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}{suffix}"
    return f"{value:#.{digits}g}".rstrip(".") + suffix
