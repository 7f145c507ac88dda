#!/usr/bin/env python3
"""What Flower's simulation engine costs by itself: clients answer 1,000 x 10 logits and train nothing; the server averages."""
import flower_common  # first: it sets what workers inherit
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

import data

args = data.arguments(__doc__, nodes=100)
client_app = ClientApp()


@client_app.query()
def answer(message, context):
    seed = message.content["config"]["round"]
    logits = np.full((1000, 10), seed, dtype=np.float32)
    return Message(content=RecordDict({"arrays": ArrayRecord({"logits": Array(logits)})}), reply_to=message)


def main(grid):
    report = data.Reporter()
    for number in range(1, args.rounds + 1):
        contents = [RecordDict({"config": ConfigRecord({"round": number})}) for _ in range(args.nodes)]
        total = np.zeros((1000, 10), dtype=np.float32)
        for reply in flower_common.exchange(grid, contents, "query"):
            total += reply["arrays"]["logits"].numpy()
        assert (total == number * args.nodes).all()
        report.round(number)


if __name__ == "__main__":
    flower_common.simulate(main, client_app, args.nodes, args.cores)
