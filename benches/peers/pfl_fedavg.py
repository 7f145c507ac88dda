#!/usr/bin/env python3
"""Federated averaging with pfl-research: its algorithm and its simulated backend, in this process or in several under torchrun."""
import dataclasses
import functools
import itertools
import os
import sys

import data

args = data.arguments(
    __doc__, split=None, per_round=10, participants=None, net="fedavg-cnn", workers=0, rate=0.1, batch=50, epochs=1
)
if args.workers > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
    # pfl looks for its workers when it is imported: they have to be there before.
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.workers)]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, args.cores // args.workers)))
    os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv])

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, StringMetricName, Weighted, get_overall_value
from pfl.model.pytorch import PyTorchModel


class Net(torch.nn.Module):
    """A net with the loss and the metrics that pfl asks for."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def loss(self, x, y):
        self.net.train()
        return F.cross_entropy(self.net(x), y)

    @torch.inference_mode()
    def metrics(self, x, y):
        self.net.eval()
        return {"accuracy": Weighted((self.net(x).argmax(1) == y).sum().item(), len(y))}


class NoLocalTests(FederatedAveraging):
    """Without the first round's tests of clients on their own data, which no other peer does."""

    def get_next_central_contexts(self, *rest):
        contexts, model, metrics = super().get_next_central_contexts(*rest)
        if contexts:
            contexts = tuple(dataclasses.replace(context, do_evaluation=False) for context in contexts)
        return contexts, model, metrics


class EachRound(CentralEvaluationCallback):
    """Tests after each round, the first included, but not before it; reports."""

    def __init__(self, dataset, batch, sizes, first):
        super().__init__(dataset, model_eval_params=NNEvalHyperParams(local_batch_size=batch))
        self.sizes, self.first, self.report = sizes, first, None

    def on_train_begin(self, *, model):
        self.report = data.Reporter()
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        stop, metrics = self._eval(model)
        if self.first:
            accuracy = get_overall_value(metrics[StringMetricName("Central val | accuracy")])
            number = central_iteration + 1
            samples = sum(self.sizes[client] for client in data.participants(args, number))
            self.report.round(number, accuracy=accuracy, samples=samples)
        return stop, metrics


@functools.cache
def client(index):
    return data.labelled(args.split, f"client-{index}")


def shuffled(index):
    """A client's data in a new order: pfl takes batches as they come."""
    x, y = client(index)
    order = torch.randperm(len(x))
    return PyTorchTensorDataset((x[order], y[order]), user_id=index)


def main():
    workers = max(1, args.workers)
    torch.set_num_threads(max(1, args.cores // workers))
    # The same in all workers: they begin with one net, and draw the same cohorts.
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    net = Net(data.STUDENTS[args.net]())
    central = torch.optim.SGD(net.parameters(), lr=1.0)
    model = PyTorchModel(net, torch.optim.SGD, central)
    sizes = {index: len(client(index)[1]) for index in range(data.clients(args.split))}
    rounds = (data.participants(args, number) for number in range(1, args.rounds + 1))
    # pfl draws ahead: after the last round it begins again.
    chosen = itertools.cycle(list(itertools.chain.from_iterable(rounds)))
    users = FederatedDataset(shuffled, chosen.__next__, user_id_to_weight=sizes)
    backend = SimulatedBackend(users, users, postprocessors=[WeightByDatapoints()])
    test = PyTorchTensorDataset(data.labelled(args.split, "test"))
    NoLocalTests().run(
        NNAlgorithmParams(
            central_num_iterations=args.rounds,
            evaluation_frequency=1,
            train_cohort_size=args.per_round,
            val_cohort_size=None,
        ),
        backend,
        model,
        NNTrainHyperParams(
            local_num_epochs=args.epochs, local_learning_rate=args.rate, local_batch_size=args.batch
        ),
        callbacks=[EachRound(test, 500, sizes, int(os.environ.get("RANK", 0)) == 0)],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
