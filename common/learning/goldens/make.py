#!/usr/bin/env python3
"""Records what PyTorch's layers, losses and optimisers give for small inputs: one file a case.

usage: make.py [FOLDER]        (this folder by default; needs torch and numpy, nothing else)

Inputs are float32. Everything else is computed from them in float64 and rounded to float32 once, so a difference to a
file is the tested code's own rounding; that float32 PyTorch agrees with what is written is checked for each case.
"""
import json
import pathlib
import struct
import sys
import zlib

import torch
import torch.nn.functional as F

FOLDER = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
FOLDER = FOLDER.parent if FOLDER.is_file() else FOLDER
TOLERANCE = 2e-5


def write(path, tensors):
    """A safetensors file of float32 tensors, in the order of their names."""
    header, body = {}, b""
    for name in sorted(tensors):
        values = tensors[name].detach().to(torch.float32).contiguous()
        data = values.numpy().astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def case(name, inputs, compute):
    """`compute` takes a dict of leaves and returns a dict of results; it runs in both precisions."""

    def run(dtype):
        leaves = {key: value.detach().clone().to(dtype) for key, value in inputs.items()}
        return {key: value.detach().float() for key, value in compute(leaves).items()}

    exact, single = run(torch.float64), run(torch.float32)
    for key, value in exact.items():
        error = (value - single[key]).abs().max().item() / max(1.0, value.abs().max().item())
        assert error < TOLERANCE, f"{name}: {key} differs by {error:.1e} between precisions"
    write(FOLDER / f"{name}.safetensors", {**inputs, **exact})


def seeded(name):
    """A case's numbers depend on its name alone, so adding one leaves the others as they are."""
    torch.manual_seed(zlib.crc32(name.encode()))


def layer(name, forward, **inputs):
    """Forward, and the gradient of sum(y * dy) with regard to each of x, weight and bias that is there."""
    seeded(name)
    inputs = {key: make() if callable(make) else make for key, make in inputs.items()}
    shape = forward({key: value.clone() for key, value in inputs.items()}).shape
    inputs["dy"] = torch.randn(shape)
    learnt = [key for key in inputs if key == "x" or key.split(".")[-1] in ("weight", "bias")]

    def compute(leaves):
        for key in learnt:
            leaves[key].requires_grad_()
        y = forward(leaves)
        grads = torch.autograd.grad(y, [leaves[key] for key in learnt], leaves["dy"])
        return {"y": y} | {dotted(key): grad for key, grad in zip(learnt, grads)}

    case(name, inputs, compute)


def dotted(key):
    """q.weight -> q.dweight"""
    head, _, last = key.rpartition(".")
    return f"{head}.d{last}" if head else f"d{last}"


def normal(*shape, scale=1.0, shift=0.0):
    return lambda: torch.randn(shape) * scale + shift


def linear():
    layer(
        "linear",
        lambda t: F.linear(t["x"], t["weight"], t["bias"]),
        x=normal(3, 21),
        weight=normal(13, 21, scale=0.3),
        bias=normal(13),
    )


def convolutions():
    for kernel, stride, padding in ((3, 1, 1), (3, 2, 1), (5, 1, 2), (1, 1, 0), (1, 2, 0)):
        for inputs, outputs in ((3, 8), (8, 4)):
            layer(
                f"conv2d_k{kernel}_s{stride}_p{padding}_c{inputs}_{outputs}",
                lambda t: F.conv2d(t["x"], t["weight"], t["bias"], stride, padding),
                x=normal(3, inputs, 5, 6),
                weight=normal(outputs, inputs, kernel, kernel, scale=0.3),
                bias=normal(outputs),
            )
    channels = 20  # no SIMD width divides it
    for stride in (1, 2):
        layer(
            f"depthwise_k3_s{stride}_p1",
            lambda t: F.conv2d(t["x"], t["weight"], t["bias"], stride, 1, groups=channels),
            x=normal(3, channels, 5, 6),
            weight=normal(channels, 1, 3, 3, scale=0.5),
            bias=normal(channels),
        )


def norms():
    def trained(leaves):
        for key in ("x", "weight", "bias"):
            leaves[key].requires_grad_()
        mean, var = leaves["running_mean"].clone(), leaves["running_var"].clone()
        y = F.batch_norm(leaves["x"], mean, var, leaves["weight"], leaves["bias"], True, 0.1, 1e-5)
        grads = torch.autograd.grad(y, [leaves[k] for k in ("x", "weight", "bias")], leaves["dy"])
        names = ("dx", "dweight", "dbias")
        return {"y": y, "running_mean_after": mean, "running_var_after": var} | dict(zip(names, grads))

    shape = (3, 4, 5, 6)
    inputs = {
        "x": normal(*shape, scale=1.5, shift=0.7),
        "weight": normal(4, scale=0.3, shift=1.0),
        "bias": normal(4),
        "running_mean": normal(4, scale=0.5),
        "running_var": lambda: torch.rand(4) + 0.5,
    }
    seeded("batch_norm_train")
    made = {key: make() for key, make in inputs.items()}
    case("batch_norm_train", made | {"dy": torch.randn(shape)}, trained)
    layer(
        "batch_norm_eval",
        lambda t: F.batch_norm(
            t["x"], t["running_mean"], t["running_var"], t["weight"], t["bias"], False, 0.1, 1e-5
        ),
        **inputs,
    )
    layer(
        "group_norm",  # two groups of four channels
        lambda t: F.group_norm(t["x"], 2, t["weight"], t["bias"], 1e-5),
        x=normal(3, 8, 5, 6, scale=1.5, shift=0.7),
        weight=normal(8, scale=0.3, shift=1.0),
        bias=normal(8),
    )
    layer(
        "layer_norm",
        lambda t: F.layer_norm(t["x"], (21,), t["weight"], t["bias"], 1e-5),
        x=normal(3, 7, 21, scale=1.5, shift=0.7),
        weight=normal(21, scale=0.3, shift=1.0),
        bias=normal(21),
    )


def normed():
    """An inverted residual block's inside: 1 x 1 to wide, depthwise 3 x 3 with stride 2, 1 x 1 to narrow, each
    normalised by the batch's statistics, the first two with ReLU6."""
    inputs, wide, outputs = 5, 20, 6
    shapes = {"0.conv": (wide, inputs, 1, 1), "1.depthwise": (wide, 1, 3, 3), "2.conv": (outputs, wide, 1, 1)}
    norms = {"0.batch-norm": wide, "1.batch-norm": wide, "2.batch-norm": outputs}

    def forward(leaves, kept):
        y = leaves["x"]
        for (conv, shape), norm in zip(shapes.items(), norms):
            groups = wide if conv == "1.depthwise" else 1
            y = F.conv2d(y, leaves[f"{conv}.weight"], None, 2 if groups > 1 else 1, shape[-1] // 2, groups=groups)
            mean, var = kept[f"{norm}.running_mean"], kept[f"{norm}.running_var"]
            y = F.batch_norm(y, mean, var, leaves[f"{norm}.weight"], leaves[f"{norm}.bias"], True, 0.1, 1e-5)
            y = y if norm == "2.batch-norm" else F.relu6(y)
        return y

    def compute(leaves):
        learnt = [key for key in leaves if key == "x" or key.split(".")[-1] in ("weight", "bias")]
        for key in learnt:
            leaves[key].requires_grad_()
        kept = {key: value.clone() for key, value in leaves.items() if "running" in key}
        y = forward(leaves, kept)
        grads = torch.autograd.grad(y, [leaves[key] for key in learnt], leaves["dy"])
        after = {f"{key}_after": value for key, value in kept.items()}
        return {"y": y} | after | {dotted(key): grad for key, grad in zip(learnt, grads)}

    seeded("normed")
    made = {"x": torch.randn(7, inputs, 6, 7)}
    made |= {f"{conv}.weight": torch.randn(shape) * 0.5 for conv, shape in shapes.items()}
    for norm, channels in norms.items():
        made[f"{norm}.weight"] = torch.randn(channels) * 0.3 + 1.5
        made[f"{norm}.bias"] = torch.randn(channels) + 1
        made[f"{norm}.running_mean"] = torch.randn(channels) * 0.5
        made[f"{norm}.running_var"] = torch.rand(channels) + 0.5
    made["dy"] = torch.randn(7, outputs, 3, 4)
    case("normed", made, compute)


def pools_and_activations():
    layer("max_pool_2x2", lambda t: F.max_pool2d(t["x"], 2), x=normal(3, 4, 5, 6))
    # Of equal values the first in row order takes the gradient, and all of it.
    ties = lambda: torch.randint(0, 3, (3, 4, 6, 6)).float()
    layer("max_pool_2x2_ties", lambda t: F.max_pool2d(t["x"], 2), x=ties)
    layer("global_avg_pool", lambda t: t["x"].mean((2, 3)), x=normal(3, 4, 5, 6))
    spread = lambda: torch.cat([torch.randn(3, 21) * 3, torch.tensor([[-12.0, -6.0, 0.0, 6.0, 12.0] + [0.1] * 16])])
    layer("gelu", lambda t: F.gelu(t["x"]), x=spread)
    layer("relu", lambda t: F.relu(t["x"]), x=spread)
    layer("relu6", lambda t: F.relu6(t["x"]), x=spread)


def attention(t, heads=3):
    batch, length, width = t["x"].shape

    def split(part):
        rows = F.linear(t["x"], t[f"{part}.weight"], t[f"{part}.bias"])
        return rows.view(batch, length, heads, width // heads).transpose(1, 2)

    scores = split("q") @ split("k").transpose(2, 3) / (width // heads) ** 0.5
    if "mask" in t:
        scores = scores.masked_fill(t["mask"][:, None, None, :] == 0, float("-inf"))
    mixed = (scores.softmax(-1) @ split("v")).transpose(1, 2).reshape(batch, length, width)
    return F.linear(mixed, t["out.weight"], t["out.bias"])


def attentions():
    width = 24
    inputs = {"x": normal(2, 7, width)}
    for part in ("q", "k", "v", "out"):
        inputs[f"{part}.weight"] = normal(width, width, scale=width**-0.5)
        inputs[f"{part}.bias"] = normal(width, scale=0.3)
    layer("attention", attention, **inputs)
    mask = torch.tensor([[1.0] * 7, [1.0] * 4 + [0.0] * 3])
    layer("attention_masked", attention, mask=mask, **inputs)


def embedding():
    layer(
        "embedding",  # 3 rows of 5 ids of a table of 11; some ids come twice, some never
        lambda t: F.embedding(t["ids"].long(), t["weight"]),
        ids=lambda: torch.randint(0, 11, (3, 5)).float(),
        weight=normal(11, 6),
    )


def loss(name, compute, **inputs):
    """The loss and its gradient with regard to the logits x."""
    seeded(name)
    inputs = {key: make() if callable(make) else make for key, make in inputs.items()}

    def run(leaves):
        leaves["x"].requires_grad_()
        value = compute(leaves)
        return {"loss": value.reshape(1), "dx": torch.autograd.grad(value, leaves["x"])[0]}

    case(name, inputs, run)


def losses():
    rows, classes = 7, 10
    logits = normal(rows, classes, scale=3.0)
    shares = lambda: torch.randn(rows, classes).softmax(1)
    loss(
        "cross_entropy",
        lambda t: F.cross_entropy(t["x"], t["labels"].long()),
        x=logits,
        labels=lambda: torch.randint(0, classes, (rows,)).float(),
    )
    loss("soft_cross_entropy", lambda t: F.cross_entropy(t["x"], t["target"]), x=logits, target=shares)
    for temperature in (1, 4):
        loss(
            f"kd_t{temperature}",
            lambda t: temperature**2
            * F.kl_div(
                F.log_softmax(t["x"] / temperature, 1),
                F.log_softmax(t["target"] / temperature, 1),
                log_target=True,
                reduction="batchmean",
            ),
            x=logits,
            target=logits,
        )
    loss("l1", lambda t: F.l1_loss(t["x"], t["target"]), x=logits, target=logits)
    loss("mse", lambda t: F.mse_loss(t["x"], t["target"]), x=logits, target=logits)


def optimisers():
    steps, size = 5, 37
    makers = {
        "sgd_momentum": lambda w: torch.optim.SGD([w], lr=0.05, momentum=0.9),
        "adamw": lambda w: torch.optim.AdamW([w], lr=0.01, weight_decay=0.1),
    }
    for name, maker in makers.items():

        def run(leaves):
            weight = leaves["weight"].clone().requires_grad_()
            optimiser = maker(weight)
            after = []
            for step in range(steps):
                weight.grad = leaves["gradients"][step].clone()
                optimiser.step()
                after.append(weight.detach().clone())
            return {"weights": torch.stack(after)}

        seeded(name)
        case(name, {"weight": torch.randn(size), "gradients": torch.randn(steps, size)}, run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for make in (
        linear,
        convolutions,
        norms,
        normed,
        pools_and_activations,
        attentions,
        embedding,
        losses,
        optimisers,
    ):
        make()
