"""The suite `steps`: CPU time of a training step, inference or loss at one thread."""
import sys

import measure
from support import PEERS, build, cells, median, number

# Name, what it is, steps a run, our goal and the least that we accept, as shares of PyTorch's time.
WORKS = (
    ("mlp", "MLP 784-256-128-10", 300, 0.55, 0.65),
    ("fedavg-cnn", "FedAvg CNN", 15, 0.8, 1.0),
    ("resnet-8", "ResNet-8", 15, 0.8, 1.0),
    ("mobilenet-v2", "MobileNetV2 x 0.5, 32 x 32", 7, 0.5, 0.9),
    ("tinybert-4", "TinyBERT-4, 64 tokens", 3, 0.85, 1.0),
    ("kd-loss", "KD loss [1024, 100]", 300, 0.7, 1.0),
    ("mlp-inference", "MLP, inference of 256", 200, 0.7, 0.9),
    ("fedavg-cnn-inference", "FedAvg CNN, inference of 256", 9, 0.7, 0.9),
    ("resnet-8-inference", "ResNet-8, inference of 256", 9, 0.7, 0.9),
)
# Of ours in a run, each of as many steps as take 0.4 s.
MEASUREMENTS = "5"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}


def compare(args, folder):
    """What is known after each work."""
    ours = None
    if not args.peers_only:
        ours = build(["-p", "fedistill-learning", "--example", "step_times"])
    torch = [args.python, str(PEERS / "torch_steps.py")]
    peaks, works = [], []
    for name, what, inner, goal, floor in WORKS:
        if args.only and name not in args.only:
            continue
        runs = {"torch": [], "ours": []}
        for repeat in range(args.repeats):
            contenders = [("torch", [*torch, name, str(inner)])]
            if ours:
                contenders.append(("ours", [ours, "--json", name, MEASUREMENTS]))
            for who, command in contenders[:: 1 if repeat % 2 == 0 else -1]:
                done = measure.run(command, ONE_THREAD)
                runs[who].append(done.lines[-1] | {"peak_rss": done.peak_rss, "peak_pss": done.peak_pss})
            if repeat < 2:
                peaks += measure.run([*torch, "--peak", "30"], ONE_THREAD).lines
            print(f"{name}: {repeat + 1} of {args.repeats}", file=sys.stderr)
        flops = runs["torch"][0]["flops"]
        work = {"name": name, "what": what, "flops": flops, "goal": goal, "floor": floor, "runs": runs}
        for who in runs:
            work[who] = median(run["cpu_ms_median"] for run in runs[who])
        work["ratio"] = work["ours"] / work["torch"] if ours else None
        works.append(work)
        yield {"peak_gflops": median(run["gflops"] for run in peaks), "works": works}


def table(results):
    peak = results["peak_gflops"]

    def share(work, who):
        # Losses are no matrix products: nothing to hold against the peak of those.
        if not work["flops"] or work[who] is None:
            return "-"
        return f"{work['flops'] / work[who] / 1e6 / peak:.0%}"

    text = f"{results['machine']['cpu']}, one thread; peak by PyTorch's product of 1024 x 1024 matrices: {peak:.0f} GFLOP/s\n\n"
    text += cells("work (training step at batch 64 unless said)", "PyTorch, CPU ms", "ours", "ratio", "goal", "floor", "of peak: PyTorch", "ours")
    text += cells("---", *["--:"] * 7)
    for work in results["works"]:
        text += cells(
            work["what"],
            number(work["torch"]),
            number(work["ours"]),
            number(work["ratio"], 2),
            f"{work['goal']:g}",
            f"{work['floor']:g}",
            share(work, "torch"),
            share(work, "ours"),
        )
    return text
