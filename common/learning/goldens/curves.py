#!/usr/bin/env python3
"""Records how two nets learn in PyTorch, from weights and orders of batches that need no PyTorch to make again.

usage: curves.py [FILE]        (curves.json in this folder by default; needs torch and numpy)
"""
import gzip
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[2] / "fixtures" / "fashion-mnist-mini"
SEED, BATCH, EPOCHS = 1, 50, 3
MASK = (1 << 64) - 1


def splitmix64(x):
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def stream(seed, number, index):
    """Value `index` of stream `number`: tensors are streams 0, 1, ..; the order of epoch e is stream 128 + e."""
    return splitmix64((seed << 40) + (number << 32) + index)


def initialise(net, seed):
    """Weight, bias, weight, bias, ... uniform in +-1/sqrt(fan_in); a bias has its layer's fan_in."""
    layers = [layer for layer in net if hasattr(layer, "weight")]
    for place, layer in enumerate(layers):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for tensor, values in ((2 * place, layer.weight), (2 * place + 1, layer.bias)):
            units = np.array([stream(seed, tensor, i) >> 40 for i in range(values.numel())], dtype=np.float64)
            drawn = ((units * 2.0**-23 - 1.0) * bound).astype(np.float32)
            values.data = torch.from_numpy(drawn).view(values.shape).to(values.dtype)


def order(seed, epoch, count):
    indices = list(range(count))
    for i in range(count - 1, 0, -1):
        j = stream(seed, 128 + epoch, i) % (i + 1)
        indices[i], indices[j] = indices[j], indices[i]
    return indices


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def fedavg_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def read(name):
    raw = gzip.decompress((DATA / f"{name}.gz").read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">u4", dimensions, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape.astype(int))


def load(part):
    images = torch.from_numpy(read(f"{part}-images-idx3-ubyte").astype(np.float32) / np.float32(255))
    return images[:, None], torch.from_numpy(read(f"{part}-labels-idx1-ubyte").astype(np.int64))


def accuracy(net, samples, labels):
    with torch.inference_mode():
        right = sum((net(x).argmax(1) == y).sum().item() for x, y in zip(samples.split(500), labels.split(500)))
    return right / len(labels)


def curve(make, rate, dtype):
    net = make()
    net.to(dtype)
    initialise(net, SEED)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    samples, labels = load("train")
    test, answers = load("t10k")
    samples, test = samples.to(dtype), test.to(dtype)
    result = {"first_losses": [], "mean_losses": [], "accuracy": [], "initial_accuracy": accuracy(net, test, answers)}
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.tensor(order(SEED, epoch, len(labels))).split(BATCH):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(samples[batch]), labels[batch])
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch)
            if len(result["first_losses"]) < 10:
                result["first_losses"].append(round(loss.item(), 7))
        result["mean_losses"].append(round(total / len(labels), 6))
        result["accuracy"].append(accuracy(net, test, answers))
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "curves.json"
    curves = {"torch": torch.__version__.split("+")[0], "seed": SEED, "batch": BATCH, "epochs": EPOCHS, "nets": {}}
    for name, make, rate in (("mlp", mlp, 0.1), ("fedavg-cnn", fedavg_cnn, 0.05)):
        curves["nets"][name] = {
            "learning_rate": rate,
            "float32": curve(make, rate, torch.float32),
            # How far rounding alone moves a curve.
            "float64": curve(make, rate, torch.float64),
        }
    curves["checks"] = {
        "splitmix64(0)": str(splitmix64(0)),
        "splitmix64(1)": str(splitmix64(1)),
        "order(seed, 0, 10)": order(SEED, 0, 10),
        "order(seed, 1, 10)": order(SEED, 1, 10),
    }
    net = mlp()
    initialise(net, SEED)
    for place, layer in enumerate((net[1], net[3])):
        curves["checks"][f"mlp tensor {2 * place}, first 3"] = layer.weight.flatten()[:3].tolist()
        curves["checks"][f"mlp tensor {2 * place + 1}, first 3"] = layer.bias[:3].tolist()
    target.write_text(json.dumps(curves, indent=1) + "\n")
