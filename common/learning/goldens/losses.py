#!/usr/bin/env python3
"""Records what the losses of distillation are for small inputs: one file a case, beside those of make.py.

usage: losses.py [FOLDER]        (this folder by default; needs torch and numpy, nothing else)

Each loss is written down from its paper's formula, with the operations that the formula names; gradients are autograd's.
"""
import torch
import torch.nn.functional as F

from make import case, normal, seeded

ROWS, CLASSES, WIDTH = 7, 10, 6


def loss(name, compute, learnt=("x",), **inputs):
    """The loss, and its gradient with regard to what is learnt."""
    seeded(name)
    inputs = {key: make() if callable(make) else make for key, make in inputs.items()}

    def run(leaves):
        for key in learnt:
            leaves[key].requires_grad_()
        value = compute(leaves)
        grads = torch.autograd.grad(value, [leaves[key] for key in learnt])
        return {"loss": value.reshape(1)} | {f"d{key}": grad for key, grad in zip(learnt, grads)}

    case(name, inputs, run)


logits = normal(ROWS, CLASSES, scale=3.0)
labels = lambda: torch.randint(0, CLASSES, (ROWS,)).float()
shares = lambda: (torch.randn(ROWS, CLASSES) * 2).softmax(1)
# A client with seven classes of ten, and labels of those alone.
frequencies = torch.tensor([0.3, 0.0, 0.2, 0.05, 0.0, 0.15, 0.1, 0.0, 0.15, 0.05])
held = lambda: torch.tensor([0, 2, 3, 5, 6, 8, 9])[torch.randint(0, 7, (ROWS,))].float()


def of(table, index):
    """The value of each row at its index."""
    return table.gather(1, index.long()[:, None])[:, 0]


def without(table, index):
    """Each row without the value at its index."""
    rows = range(len(table))
    return torch.stack([torch.cat([table[r, : int(index[r])], table[r, int(index[r]) + 1 :]]) for r in rows])


def kl(p, q):
    """Sum of p log(p / q) over classes, mean over rows."""
    return (p * (p / q).log()).sum(1).mean()


def of_labels():
    loss(
        "cross_entropy_smoothed",
        lambda t: F.cross_entropy(t["x"], t["labels"].long(), label_smoothing=0.1),
        x=logits,
        labels=labels,
    )

    def restricted(t):
        """A softmax over the classes that are held, nothing else."""
        classes = torch.nonzero(t["frequencies"])[:, 0]
        places = (classes[None, :] == t["labels"][:, None]).long().argmax(1)
        return F.cross_entropy(t["x"][:, classes], places)

    loss("held_cross_entropy_0", restricted, x=logits, labels=held, frequencies=frequencies)

    def balanced(power):
        """Ren et al. 2020, eq. 3, with frequencies to a power: n_y e^z_y / sum n_i e^z_i."""

        def compute(t):
            weighted = t["frequencies"] ** power * t["x"].exp() * (t["frequencies"] > 0)
            return -(of(weighted, t["labels"]) / weighted.sum(1)).log().mean()

        return compute

    for name, power in (("1", 1.0), ("05", 0.5)):
        loss(f"held_cross_entropy_{name}", balanced(power), x=logits, labels=held, frequencies=frequencies)


def of_distributions():
    loss(
        "soft_cross_entropy_logits",
        lambda t: -(t["target"].softmax(1) * t["x"].softmax(1).log()).sum(1).mean(),
        x=logits,
        target=logits,
    )

    def at(temperature, x):
        """Hinton et al. 2015, eq. 1."""
        powers = (x / temperature).exp()
        return powers / powers.sum(1, keepdim=True)

    def softened(temperature, p):
        """What a softmax of log p is at a temperature."""
        powers = p ** (1 / temperature)
        return powers / powers.sum(1, keepdim=True)

    loss("kd_t40", lambda t: 1600 * kl(at(40, t["target"]), at(40, t["x"])), x=logits, target=logits)
    for temperature in (1, 3):
        square = temperature**2
        loss(
            f"kd_probabilities_t{temperature}",
            lambda t: square * kl(softened(temperature, t["target"]), at(temperature, t["x"])),
            x=logits,
            target=shares,
        )
        loss(
            f"reverse_kl_t{temperature}",
            lambda t: square * kl(at(temperature, t["x"]), at(temperature, t["target"])),
            x=logits,
            target=logits,
        )
        loss(
            f"reverse_kl_probabilities_t{temperature}",
            lambda t: square * kl(at(temperature, t["x"]), softened(temperature, t["target"])),
            x=logits,
            target=shares,
        )

        def not_true(t):
            """Lee et al. 2022, eq. 5: softmax of the logits of all classes but the true one."""
            own, target = without(t["x"], t["labels"]), without(t["target"], t["labels"])
            return square * kl(at(temperature, target), at(temperature, own))

        loss(f"not_true_t{temperature}", not_true, x=logits, target=logits, labels=labels)

    def decoupled(temperature, alpha, beta):
        """Zhao et al. 2022, eq. 2 and 7: alpha KL(b^T || b^S) + beta KL(p-hat^T || p-hat^S)."""

        def parts(x, index):
            p = at(temperature, x)
            true = of(p, index)
            return torch.stack([true, 1 - true], 1), without(p, index) / (1 - true)[:, None]

        def compute(t):
            index = t["labels"] if "labels" in t else t["target"].argmax(1)
            (own_b, own_rest), (b, rest) = parts(t["x"], index), parts(t["target"], index)
            return temperature**2 * (alpha * kl(b, own_b) + beta * kl(rest, own_rest))

        return compute

    loss("decoupled", decoupled(4, 1, 8), x=logits, target=logits, labels=labels)
    loss("decoupled_target", decoupled(2, 1.5, 0), x=logits, target=logits, labels=labels)
    # Without labels, the target's most likely class.
    loss("decoupled_unlabelled", decoupled(4, 1, 8), x=logits, target=logits)


def of_features():
    features = normal(ROWS, WIDTH)
    loss("hint", lambda t: F.mse_loss(t["x"], t["target"]), x=features, target=features)
    # Romero et al. 2015: a learnt regressor leads from the student's width to the teacher's.
    loss(
        "hint_adapted",
        lambda t: F.mse_loss(t["x"] @ t["weights"], t["target"]),
        learnt=("x", "weights"),
        x=features,
        weights=normal(WIDTH, 9, scale=0.4),
        target=normal(ROWS, 9),
    )

    def prototypes(t):
        """Tan et al. 2022: the mean square to the prototype of the sample's class; where there is none, the
        authors' program puts the sample's own features."""
        known = (t["prototypes"] != 0).any(1)[t["labels"].long()]
        target = torch.where(known[:, None], t["prototypes"][t["labels"].long()], t["x"].detach())
        return F.mse_loss(t["x"], target)

    table = lambda: torch.randn(CLASSES, WIDTH) * (torch.arange(CLASSES) % 3 != 0)[:, None]
    loss("prototypes", prototypes, x=features, prototypes=table, labels=lambda: torch.tensor([0.0, 1, 2, 3, 4, 8, 8]))

    # Zagoruyko and Komodakis 2017, eq. 2, of vectors, squared: the distance of both at length 1.
    loss(
        "attention_transfer",
        lambda t: (F.normalize(t["x"]) - F.normalize(t["target"])).square().sum(1).mean(),
        x=features,
        target=features,
    )

    def similarity(t):
        """Tung and Mori 2019, eq. 1 to 4."""
        g = [F.normalize(q @ q.T, dim=1) for q in (t["x"], t["target"])]
        return (g[0] - g[1]).square().sum() / ROWS**2

    loss("similarity", similarity, x=features, target=normal(ROWS, 9))

    def huber(a, b):
        """Park et al. 2019, eq. 4."""
        return F.huber_loss(a, b, reduction="sum", delta=1.0)

    def distances(x):
        """Eq. 5 and 6: of all ordered pairs, by their mean."""
        pairs = [(i, j) for i in range(ROWS) for j in range(ROWS) if i != j]
        lengths = torch.stack([torch.linalg.vector_norm(x[i] - x[j]) for i, j in pairs])
        return lengths / lengths.mean()

    def angles(x):
        """Eq. 8: cosines at the middle one of each three, once for each order. The authors' program takes the
        middle one for an end too, where the cosine is 0 on both sides."""
        out = []
        for middle in range(ROWS):
            ends = [F.normalize(x[i] - x[middle], dim=0) for i in range(ROWS) if i != middle]
            out += [a @ b for a in ends for b in ends]
        return torch.stack(out)

    # Means over all pairs and triples of indices, as in the authors' program.
    of_distances = lambda t: huber(distances(t["x"]), distances(t["target"])) / ROWS**2
    of_angles = lambda t: huber(angles(t["x"]), angles(t["target"])) / ROWS**3
    both = lambda t: 25 * of_distances(t) + 50 * of_angles(t)
    # One sample far out, so that some differences are beyond the square's end.
    spread = lambda: torch.cat([torch.randn(ROWS - 1, WIDTH), 9 * torch.randn(1, WIDTH)])
    loss("relational_distance", of_distances, x=spread, target=normal(ROWS, 9))
    loss("relational_angle", of_angles, x=features, target=normal(ROWS, 9))
    loss("relational", both, x=spread, target=normal(ROWS, 9))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for make in (of_labels, of_distributions, of_features):
        make()
