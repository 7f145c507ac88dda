#!/usr/bin/env python3
"""CPU time of one PyTorch training step, inference or loss, at one thread.

usage: torch_steps.py NAME REPEATS      prints one JSON line, as our example `step_times --json` does
       torch_steps.py --peak            the same of the product of two 1024 x 1024 matrices

Names: those of nets.NETS (forward, backward, update at batch 64), the same with -inference (batch 256), kd-loss.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

import nets

BATCH, INFERENCE_BATCH = 64, 256


def step(name):
    make, _ = nets.NETS[name]
    net = make().train()
    x = nets.samples(name, BATCH)
    classes = net(x).shape[1]
    labels = torch.randint(0, classes, (BATCH,))
    if name == "tinybert-4":
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4)
    else:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01)

    def run():
        optimiser.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimiser.step()

    return run, BATCH * nets.step_flops(make(), x[:1])


def inference(name):
    make, _ = nets.NETS[name]
    net = make().eval()
    x = nets.samples(name, INFERENCE_BATCH)

    def run():
        with torch.inference_mode():
            net(x)

    return run, INFERENCE_BATCH * nets.flops(make(), x[:1])


def kd_loss(temperature=4.0, shape=(1024, 100)):
    logits = torch.randn(shape, requires_grad=True)
    teacher = torch.randn(shape)

    def run():
        logits.grad = None
        loss = F.kl_div(
            F.log_softmax(logits / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean"
        )
        (loss * temperature**2).backward()

    return run, 0


def peak(size=1024):
    a, b = torch.randn(size, size), torch.randn(size, size)
    return (lambda: a @ b), 2 * size**3


def work(name):
    if name == "--peak":
        return peak()
    if name == "kd-loss":
        return kd_loss()
    if name.endswith("-inference"):
        return inference(name.removesuffix("-inference"))
    return step(name)


def main(name, repeats):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    run, flops = work(name)
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    median = statistics.median(times)
    print(
        json.dumps(
            {
                "name": name.lstrip("-"),
                "cpu_ms_median": median * 1e3,
                "flops": flops,
                "gflops": flops / median / 1e9,
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)
