"""What the federations' peers share: data as `fedistill-simulate --share-out` writes it, who takes part, arguments, reports."""
import argparse
import functools
import gzip
import json
import pathlib
import random
import time

import numpy as np
import torch

import nets

STUDENTS = {"mlp": nets.small_mlp, "fedavg-cnn": nets.fedavg_cnn}


def idx(path):
    raw = gzip.decompress(pathlib.Path(path).read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">u4", dimensions, 4).astype(int)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def images(folder):
    return torch.from_numpy(idx(folder / "images.gz").astype(np.float32) / 255)[:, None]


@functools.cache
def labelled(folder, name):
    """Samples and labels of `client-0` and so on, or `test`."""
    folder = pathlib.Path(folder) / name
    return images(folder), torch.from_numpy(idx(folder / "labels.gz").astype(np.int64))


@functools.cache
def transfer(folder):
    return images(pathlib.Path(folder) / "transfer")


def clients(folder):
    return sum(1 for _ in pathlib.Path(folder).glob("client-*"))


def arguments(text, **defaults):
    """The arguments of a peer, of which each takes those that it has defaults for."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2, help="threads or worker processes in all")
    known = {
        "split": {"required": True, "help": "the folder that --share-out wrote"},
        "per_round": {"type": int, "help": "clients that take part in a round"},
        "participants": {"help": "JSON: for each round the clients that take part; drawn from the seed without it"},
        "net": {"choices": STUDENTS},
        "workers": {"type": int, "help": "worker processes; 0 trains in this one with all threads"},
        "nodes": {"type": int},
        "samples": {"type": int, "help": "public samples a round"},
        "rate": {"type": float},
        "batch": {"type": int},
        "epochs": {"type": int},
    }
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **known[name])
    return parser.parse_args()


def participants(args, round_number):
    """Which clients take part in a round, counted from 1."""
    if args.participants:
        rounds = json.loads(pathlib.Path(args.participants).read_text())
        return rounds[(round_number - 1) % len(rounds)]
    chosen = random.Random(args.seed * 1_000_003 + round_number)
    return chosen.sample(range(clients(args.split)), args.per_round)


def fit(net, x, y, loss, rate, batch, epochs):
    """Plain SGD over shuffled batches."""
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(epochs):
        for indices in torch.randperm(len(x)).split(batch):
            optimiser.zero_grad()
            loss(net(x[indices]), y[indices]).backward()
            optimiser.step()


def soft_loss(logits, labels):
    return torch.nn.functional.kl_div(logits.log_softmax(1), labels, reduction="batchmean")


def logits(net, x, batch=500):
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(part) for part in x.split(batch)])


def accuracy(net, x, y):
    return (logits(net, x).argmax(1) == y).float().mean().item()


class Reporter:
    """Prints a JSON line a round: how long it took since the last."""

    def __init__(self):
        self.begun = time.perf_counter()

    def round(self, number, **more):
        now = time.perf_counter()
        print(json.dumps({"round": number, "seconds": now - self.begun, **more}), flush=True)
        self.begun = time.perf_counter()
