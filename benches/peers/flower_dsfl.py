#!/usr/bin/env python3
"""DS-FL with entropy reduction on Flower's simulation engine; students live in the clients' contexts.

One message a client and round, as a deployment would have it: the last round's labels go out with the next question.
"""
import flower_common  # first: it sets what workers inherit
import numpy as np
import torch
import torch.nn.functional as F
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import data

TEMPERATURE = 0.1
args = data.arguments(__doc__, split=None, net="mlp", samples=1000, rate=0.1, batch=50, epochs=3)
client_app = ClientApp()


@client_app.train()
def train(message, context):
    torch.set_num_threads(1)
    config, arrays = message.content["config"], message.content["arrays"]
    torch.manual_seed(args.seed * 1_000_003 + config["round"] * 1000 + config["client"])
    student = data.STUDENTS[args.net]()
    if "student" in context.state:
        student.load_state_dict(context.state["student"].to_torch_state_dict())
    public, metrics = data.transfer(args.split), {}
    if "labels" in arrays:
        labels = torch.from_numpy(arrays["labels"].numpy())
        before = public[torch.from_numpy(arrays["before"].numpy())]
        data.fit(student, before, labels, data.soft_loss, args.rate, args.batch, args.epochs)
        metrics["accuracy"] = data.accuracy(student, *data.labelled(args.split, "test"))
    x, y = data.labelled(args.split, f"client-{config['client']}")
    data.fit(student, x, y, F.cross_entropy, args.rate, args.batch, args.epochs)
    answer = data.logits(student, public[torch.from_numpy(arrays["samples"].numpy())]).softmax(1)
    context.state["student"] = ArrayRecord(student.state_dict())
    content = {"arrays": ArrayRecord({"answer": Array(answer.numpy())}), "metrics": MetricRecord(metrics)}
    return Message(content=RecordDict(content), reply_to=message)


def main(grid):
    count = data.clients(args.split)
    chance = np.random.default_rng(args.seed)
    public = len(data.transfer(args.split))
    past, report = {}, data.Reporter()
    for number in range(1, args.rounds + 1):
        samples = chance.permutation(public)[: args.samples]
        arrays = ArrayRecord({"samples": Array(samples), **past})
        contents = [
            RecordDict({"arrays": arrays, "config": ConfigRecord({"round": number, "client": client})})
            for client in range(count)
        ]
        replies = flower_common.exchange(grid, contents)
        mean = np.mean([reply["arrays"]["answer"].numpy() for reply in replies], axis=0)
        labels = torch.from_numpy(mean / TEMPERATURE).softmax(1).numpy()
        past = {"before": Array(samples), "labels": Array(labels)}
        accuracies = [reply["metrics"]["accuracy"] for reply in replies if "accuracy" in reply["metrics"]]
        report.round(number, accuracy=float(np.mean(accuracies)) if accuracies else None)


if __name__ == "__main__":
    flower_common.simulate(main, client_app, data.clients(args.split), args.cores)
