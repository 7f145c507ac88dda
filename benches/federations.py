"""The suite `federations`: whole simulated federations, the same split for everyone."""
import functools
import gzip
import json
import pathlib
import statistics
import subprocess
import sys

import measure
from support import HERE, PEERS, build, cells, median, number

ROOT = HERE.parent
FEDAVG = {
    "models": ["fedavg-cnn"],
    "partition": "dirichlet:0.1",
    "clients": 100,
    "private-epochs": 1,
}
DS_FL = {
    "partition": "shards:2",
    "clients": 10,
    "public": 4 / 9,  # 4,000 of 9,000 samples; 5,000 are private
    "samples": 1000,
    "private-epochs": 3,
    "distillation-epochs": 3,
}
# Peers whose packages do not install on every Python.
NEEDS = {"pfl_fedavg.py": "pfl", "blazefl_fedavg.py": "blazefl"}
COMMON = {"teacher": "none", "transport": "memory", "batch": 50, "seed": 1, "baselines": False}


def works(args):
    """Name, what it is, rounds, our configuration (or how many clients do nothing), flags of ours, peers with arguments.

    For `fedavg` the public share is one sample: all the rest is private.
    """
    split, cores = ["--split", "SPLIT"], ["--cores", "2"]
    fedavg = [*split, *cores, "--per-round", "10", "--net", "fedavg-cnn"]
    yield (
        "fedavg",
        "`fedavg`, FedAvg CNN, 100 clients, dirichlet:0.1, 10 a round",
        5,
        FEDAVG | {"method": "fedavg", "data": args.data, "public": 1e-4 if "mini" in args.data else 2e-5},
        ["--per-round", "10"],
        {
            "PyTorch, 2 threads": ["torch_fedavg.py", *fedavg],
            "PyTorch, 2 workers": ["torch_fedavg.py", *fedavg, "--workers", "2"],
            "Flower": ["flower_fedavg.py", *fedavg],
            "pfl-research, 2 threads": ["pfl_fedavg.py", *fedavg],
            "pfl-research, 2 workers": ["pfl_fedavg.py", *fedavg, "--workers", "2"],
            "BlazeFL, 2 threads": ["blazefl_fedavg.py", *fedavg],
        },
    )
    for net, model, rounds in (("mlp", "mlp-s", 10), ("fedavg-cnn", "fedavg-cnn", 3)):
        same = [*split, "--net", net]
        peers = {
            "PyTorch, 1 thread": ["torch_dsfl.py", *same, "--cores", "1"],
            "PyTorch, 2 threads": ["torch_dsfl.py", *same, "--cores", "2"],
            "Flower": ["flower_dsfl.py", *same, "--cores", "2"],
        }
        if net != "mlp":
            del peers["PyTorch, 1 thread"]
        yield (
            f"ds-fl-{net}",
            f"`ds-fl:era`, {'MLP 784-64-10' if net == 'mlp' else 'FedAvg CNN'}, 10 clients, shards:2, 1,000 of 4,000 public",
            rounds,
            DS_FL | {"method": "ds-fl:era", "models": [model]},
            [],
            peers,
        )
    for nodes in (100, 1000, 10_000):
        # Flower is known to take minutes a round for the last.
        peers = {"Flower": ["flower_idle.py", *cores, "--nodes", str(nodes)]} if nodes <= 1000 else {}
        yield f"idle-{nodes}", f"no training, {nodes:,} clients answer 1,000 x 10 logits", 5, nodes, [], peers
    for nodes, rounds in ((2, 50), (100, 10)):
        what = f"no training, {nodes} clients answer 1,000 x 10 logits over QUIC on loopback, with TLS"
        # A hundred of Flower's nodes, each at least two processes of Python, fit no small machine; two take seconds a round.
        deployed = ["flower_deployed.py", "--nodes", str(nodes), "--rounds", str(min(rounds, args.rounds or 6))]
        peers = {"Flower, deployed": deployed} if nodes <= 2 else {}
        yield f"idle-quic-{nodes}", what, rounds, nodes, ["quic"], peers


def toml(config):
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()) + (
        "steps = { sgd = { learning-rate = 0.1 } }\n"
    )


class Ours:
    """Our simulator on one configuration."""

    def __init__(self, program, config, flags, folder):
        self.program, self.config, self.flags, self.folder = program, config, flags, folder

    def command(self, rounds, **more):
        """Runs so many rounds; results go to a folder of that name."""
        path = self.folder / "run.toml"
        path.write_text(toml(COMMON | self.config | {"rounds": rounds} | more))
        return [self.program, "--config", str(path)]

    def split(self):
        """Shares the data out to a folder; no method is needed for that."""
        target = self.folder / "split"
        config = {key: value for key, value in self.config.items() if key not in ("method", "models")}
        path = self.folder / "split.toml"
        path.write_text(toml(COMMON | config))
        subprocess.run(
            [self.program, "--config", str(path), "--share-out", str(target)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return target

    def run(self, rounds):
        """What a run took, and its rounds."""
        out = self.folder / f"out-{rounds}"
        done = measure.run([*self.command(rounds, out=str(out)), "--no-baselines", *self.flags], folder=ROOT)
        lines = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
        rows = []
        for row in lines[:rounds]:
            rows.append({"seconds": row["seconds"], "accuracy": mean(row["clients_on_test"])})
            if "clients" in row:
                rows[-1] |= {"clients": row["clients"], "samples": sum(map(self.samples, row["clients"]))}
        # Where there is a closing round, students distil the last labels in it.
        rows[-1]["accuracy"] = mean(lines[-1]["clients_on_test"])
        return done, steady(rows), rows

    def samples(self, client):
        """How many a client has, as the head of its labels says."""
        with gzip.open(self.folder / "split" / f"client-{client}" / "labels.gz") as file:
            return int.from_bytes(file.read(8)[4:], "big")


def mean(values):
    values = list(values)
    return statistics.fmean(values) if values else None


def steady(rows):
    """Seconds a round, without the first, in which workers start."""
    return mean(row["seconds"] for row in rows[1:] or rows)


def interpreter(args, who, script):
    """What runs a peer; None, and why, where that lacks a package."""
    python = args.blazefl or args.python if script == "blazefl_fedavg.py" else args.python
    needs = NEEDS.get(script, "json")
    if subprocess.run([python, "-c", f"import {needs}"], stderr=subprocess.DEVNULL, check=False).returncode:
        print(f"left out, {python} has no {needs}: {who}", file=sys.stderr)
        return None
    return python


def peer(python, arguments, rounds, split, participants):
    """A peer's run."""
    script, *rest = [str(split) if word == "SPLIT" else word for word in arguments]
    # A peer may have a number of rounds of its own.
    command = [python, str(PEERS / script), "--rounds", str(rounds), *rest]
    if participants:
        command += ["--participants", str(participants)]
    return plain(command)


def plain(command):
    """A run of a program that prints its rounds."""
    done = measure.run(command)
    return done, steady(done.lines), done.lines


def record(done, seconds, rows):
    rounds = len(rows)
    return {
        "seconds_a_round": seconds,
        "start": max(0.0, done.wall - seconds * rounds),
        "wall": done.wall,
        "cpu": done.cpu,
        "peak_pss": done.peak_pss,
        "peak_rss": done.peak_rss,
        "rounds": rounds,
        "samples_a_round": mean(row["samples"] for row in (rows[1:] or rows) if "samples" in row),
        "accuracy": rows[-1].get("accuracy"),
    }


def cut(folder):
    """The first 9,000 training samples of fashion-mnist-mini."""
    target = folder / "fashion-mnist-9000"
    if not target.exists():
        source = ROOT / "fixtures"
        subprocess.run(
            [sys.executable, source / "cut-idx.py", source / "fashion-mnist-mini", target, "9000", "2000"], check=True
        )
    return str(target)


def compare(args, folder):
    """What is known after each work."""
    program = args.simulate or build(["-p", "fedistill-simulator", "--bin", "fedistill-simulate"])
    if not program:
        sys.exit("fedistill-simulate is needed to share out the data")
    program = str(pathlib.Path(program).resolve())
    idle = None if args.peers_only else build(["-p", "fedistill-simulator", "--example", "idle_round"])
    results = []
    for name, what, rounds, config, flags, peers in works(args):
        if args.only and name not in args.only:
            continue
        rounds = args.rounds or rounds
        place = folder / name
        place.mkdir()
        split = participants = None
        contenders = {}
        if isinstance(config, int):
            if idle:
                contenders["ours"] = lambda: plain([idle, "--json", str(config), str(rounds), *flags])
        else:
            config.setdefault("data", cut(folder) if name.startswith("ds-fl") else None)
            ours = Ours(program, config, flags, place)
            split = ours.split()
            if not args.peers_only:
                contenders["ours"] = lambda: ours.run(rounds)
                if name == "fedavg":
                    participants = place / "participants.json"
                    participants.write_text(json.dumps([row["clients"] for row in ours.run(rounds)[2]]))
        for who, arguments in peers.items():
            if python := interpreter(args, who, arguments[0]):
                run = functools.partial(peer, python, arguments, rounds, split, participants)
                contenders[who] = run
        if not contenders:
            continue
        runs = {who: [] for who in contenders}
        for repeat in range(args.repeats):
            for who, run in list(contenders.items())[:: 1 if repeat % 2 == 0 else -1]:
                runs[who].append(record(*run()))
                print(f"{name}: {who}, {repeat + 1} of {args.repeats}", file=sys.stderr)
        medians = {
            who: {key: median(run[key] for run in done) for key in done[0]} for who, done in runs.items() if done
        }
        results.append({"name": name, "what": what, "medians": medians, "runs": runs})
        yield {"works": results}


def table(results):
    text = f"{results['machine']['cpu']}, {results['machine']['cores']} cores\n"
    for work in results["works"]:
        rivals = [values["seconds_a_round"] for who, values in work["medians"].items() if who != "ours"]
        best = min(rivals, default=None)
        text += f"\n{work['what']}\n\n"
        text += cells("who", "seconds a round", "of the best peer's", "start, s", "CPU s", "wall s", "rounds", "peak PSS, MB", "peak RSS, MB", "samples a round", "accuracy")
        text += cells("---", *["--:"] * 10)
        for who, values in work["medians"].items():
            text += cells(
                who,
                number(values["seconds_a_round"]),
                number(values["seconds_a_round"] / best if best else None, 2),
                number(values["start"], 2),
                number(values["cpu"]),
                number(values["wall"]),
                number(values["rounds"]),
                number(values["peak_pss"] / 1e6),
                number(values["peak_rss"] / 1e6),
                number(values["samples_a_round"]),
                "-" if values["accuracy"] is None else f"{values['accuracy']:.1%}",
            )
    return text
