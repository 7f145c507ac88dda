#!/usr/bin/env python3
"""Federated averaging in plain PyTorch: a loop over clients, in this process or in a pool of workers."""
import torch
import torch.nn.functional as F

import data


def train(task):
    """Trains clients one after another from `state`; the sum of their weights by samples, and how many those are."""
    args, seed, state, chosen = task
    torch.manual_seed(seed)
    net = data.STUDENTS[args.net]()
    total, count = None, 0
    for client in chosen:
        net.load_state_dict(state)
        x, y = data.labelled(args.split, f"client-{client}")
        data.fit(net, x, y, F.cross_entropy, args.rate, args.batch, args.epochs)
        ours = {name: values * len(x) for name, values in net.state_dict().items()}
        total = ours if total is None else {name: values + ours[name] for name, values in total.items()}
        count += len(x)
    return total, count


def test(task):
    args, state, start, end = task
    net = data.STUDENTS[args.net]()
    net.load_state_dict(state)
    x, y = data.labelled(args.split, "test")
    return data.accuracy(net, x[start:end], y[start:end]) * (end - start)


def prepare(threads):
    torch.set_num_threads(threads)


def shares(args, chosen, workers):
    """The largest client goes to whoever has the least so far."""
    parts = [[0, []] for _ in range(workers)]
    sizes = {client: len(data.labelled(args.split, f"client-{client}")[1]) for client in chosen}
    for client in sorted(chosen, key=sizes.get, reverse=True):
        least = min(parts, key=lambda part: part[0])
        least[0] += sizes[client]
        least[1].append(client)
    return [part for _, part in parts if part]


def main():
    args = data.arguments(
        __doc__,
        split=None,
        per_round=10,
        participants=None,
        net="fedavg-cnn",
        workers=0,
        rate=0.1,
        batch=50,
        epochs=1,
    )
    workers = max(1, args.workers)
    prepare(max(1, args.cores // workers))
    run = map
    if args.workers:
        pool = torch.multiprocessing.get_context("spawn").Pool(workers, prepare, (max(1, args.cores // workers),))
        run = pool.map
    torch.manual_seed(args.seed)
    state = data.STUDENTS[args.net]().state_dict()
    tests = len(data.labelled(args.split, "test")[1])
    for client in range(data.clients(args.split)):
        data.labelled(args.split, f"client-{client}")
    report = data.Reporter()
    for number in range(1, args.rounds + 1):
        chosen = data.participants(args, number)
        seed = args.seed * 1_000_003 + number
        parts = shares(args, chosen, workers) if args.workers else [chosen]
        done = list(run(train, [(args, seed + i, state, part) for i, part in enumerate(parts)]))
        count = sum(n for _, n in done)
        state = {name: sum(total[name] for total, _ in done) / count for name in state}
        cuts = [tests * i // workers for i in range(workers + 1)]
        right = sum(run(test, [(args, state, a, b) for a, b in zip(cuts, cuts[1:])]))
        report.round(number, accuracy=right / tests, samples=count)
    if args.workers:
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
