#!/usr/bin/env python3
"""Federated averaging with Flower: its FedAvg strategy, its simulation engine, the split and clients of the other peers."""
import flower_common  # first: it sets what workers inherit
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

import data

args = data.arguments(
    __doc__, split=None, per_round=10, participants=None, net="fedavg-cnn", rate=0.1, batch=50, epochs=1
)
client_app = ClientApp()


@client_app.train()
def train(message, context):
    torch.set_num_threads(1)
    config = message.content["config"]
    torch.manual_seed(args.seed * 1_000_003 + config["server-round"])
    net = data.STUDENTS[args.net]()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = data.labelled(args.split, f"client-{config['client']}")
    data.fit(net, x, y, F.cross_entropy, args.rate, args.batch, args.epochs)
    answer = RecordDict(
        {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": len(x)})}
    )
    return Message(content=answer, reply_to=message)


class Chosen(FedAvg):
    """FedAvg whose messages say which client's data a node has this round, so that all peers train the same clients."""

    def configure_train(self, server_round, arrays, config, grid):
        config["server-round"] = server_round
        chosen = data.participants(args, server_round)
        for client, node in zip(chosen, flower_common.nodes(grid, len(chosen))):
            own = ConfigRecord({**config, "client": client})
            yield Message(RecordDict({"arrays": arrays, "config": own}), dst_node_id=node, message_type="train")

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        failed = [reply.error for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} clients failed, the first with {failed[0]}")
        self.samples = sum(reply.content["metrics"]["num-examples"] for reply in replies)
        return super().aggregate_train(server_round, replies)


def main(grid):
    torch.manual_seed(args.seed)
    net = data.STUDENTS[args.net]()
    test = data.labelled(args.split, "test")
    strategy = Chosen(fraction_train=args.per_round / data.clients(args.split), fraction_evaluate=0.0)
    report = data.Reporter()

    def evaluate(server_round, arrays):
        net.load_state_dict(arrays.to_torch_state_dict())
        accuracy = data.accuracy(net, *test)
        if server_round:
            report.round(server_round, accuracy=accuracy, samples=strategy.samples)
        else:
            report.__init__()
        return MetricRecord({"accuracy": accuracy})

    strategy.start(
        grid=grid, initial_arrays=ArrayRecord(net.state_dict()), num_rounds=args.rounds, evaluate_fn=evaluate
    )


if __name__ == "__main__":
    flower_common.simulate(main, client_app, data.clients(args.split), args.cores)
