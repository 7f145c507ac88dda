#!/usr/bin/env python3
"""Federated averaging with BlazeFL: its own server and thread pool of clients."""
import torch
from blazefl.contrib.fedavg import FedAvgBaseServerHandler, FedAvgPartitionType, FedAvgThreadPoolClientTrainer

import data

args = data.arguments(
    __doc__, split=None, per_round=10, participants=None, net="fedavg-cnn", rate=0.1, batch=50, epochs=1
)
TEST_BATCH = 500


class Nets:
    def select_model(self, name):
        return data.STUDENTS[name]()


class Split:
    """The split of the other peers, as batches."""

    def get_dataloader(self, type_, cid, batch_size, generator=None):
        if type_ == FedAvgPartitionType.TEST:
            x, y = data.labelled(args.split, "test")
            return list(zip(x.split(TEST_BATCH), y.split(TEST_BATCH)))
        x, y = data.labelled(args.split, f"client-{cid}")
        order = torch.randperm(len(x), generator=generator)
        return ((x[part], y[part]) for part in order.split(batch_size))


class Server(FedAvgBaseServerHandler):
    """A server that asks the clients that all peers ask."""

    def sample_clients(self):
        return data.participants(args, self.round + 1)


def main():
    # Clients share the cores; BlazeFL lets each thread of its pool train one.
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    clients = data.clients(args.split)
    for client in range(clients):
        data.labelled(args.split, f"client-{client}")
    common = {"model_selector": Nets(), "model_name": args.net, "dataset": Split(), "device": "cpu"}
    common |= {"num_clients": clients, "batch_size": args.batch, "seed": args.seed}
    server = Server(global_round=args.rounds, sample_ratio=args.per_round / clients, **common)
    trainer = FedAvgThreadPoolClientTrainer(epochs=args.epochs, lr=args.rate, num_parallels=args.cores, **common)
    report = data.Reporter()
    while not server.if_stop():
        trainer.local_process(server.downlink_package(), server.sample_clients())
        packages = trainer.uplink_package()
        for package in packages:
            server.load(package)
        samples = sum(package.data_size for package in packages)
        report.round(server.round, accuracy=server.get_summary()["server_acc"], samples=samples)


if __name__ == "__main__":
    main()
