"""The nets that training steps are timed on, in PyTorch; each as plain as a PyTorch user would write it.

usage: nets.py      prints parameters and forward FLOPs a sample (2 a multiply-add of convolutions, linears and attention)
"""
import torch
import torch.nn.functional as F
from torch import nn


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def small_mlp():
    """The student of the `ds-fl:era` federation."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def fedavg_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


class Basic(nn.Module):
    """Two 3 x 3 convolutions; a 1 x 1 projection where shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def resnet(blocks):
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    inputs = 16
    for outputs in (16, 32, 64):
        for block in range(blocks):
            layers.append(Basic(inputs, outputs, 2 if block == 0 and outputs > 16 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet_8():
    return resnet(1)


class Inverted(nn.Module):
    """Expand by 1 x 1, filter each channel by 3 x 3, project by 1 x 1; added to its input where shape stays."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = []
        if expansion != 1:
            layers += [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


# Sandler et al. 2018 at width 0.5: expansion, channels, blocks, stride of the first of them.
MOBILENET = ((1, 8, 1, 1), (6, 16, 2, 2), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))


def mobilenet_v2():
    """MobileNetV2 at width 0.5 for 32 x 32 images: a stem of stride 1, so that the last stage is 2 x 2."""
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True)]
    inputs = 16
    for expansion, outputs, count, stride in MOBILENET:
        for block in range(count):
            layers.append(Inverted(inputs, outputs, stride if block == 0 else 1, expansion))
            inputs = outputs
    layers += [nn.Conv2d(inputs, 640, 1, bias=False), nn.BatchNorm2d(640), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(640, 10))


class EncoderLayer(nn.Module):
    """BERT's: attention and feed-forward, each added to its input and then normalised."""

    def __init__(self, hidden, heads, wide):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.norm1 = nn.LayerNorm(hidden, eps=1e-12)
        self.up, self.down = nn.Linear(hidden, wide), nn.Linear(wide, hidden)
        self.norm2 = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x):
        batch, length, hidden = x.shape

        def split(rows):
            return rows.view(batch, length, self.heads, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        x = self.norm1(x + self.out(mixed.transpose(1, 2).reshape(batch, length, hidden)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class TinyBert(nn.Module):
    """Word, position and segment embeddings, four layers, tanh pooler of the first token, two classes; no dropout."""

    def __init__(self, layers=4, hidden=312, heads=12, wide=1200, vocabulary=30522, positions=512, classes=2):
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(positions, hidden)
        self.segments = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.layers = nn.Sequential(*(EncoderLayer(hidden, heads, wide) for _ in range(layers)))
        self.pooler = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, ids):
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.segments.weight[0]
        x = self.layers(self.norm(x))
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


def tinybert_4():
    return TinyBert()


def parameters(net):
    return sum(values.numel() for values in net.parameters())


def flops(net, sample):
    """Forward FLOPs of one sample."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        net.eval()(sample)
    return counter.get_total_flops()


def step_flops(net, sample):
    """FLOPs of one sample in a training step: forward, gradients of weights, gradients of inputs but the data's own.

    Counted from the forward pass, as PyTorch's counter takes depthwise convolutions for whole ones in the backward pass.
    """
    total = 3 * flops(net, sample)
    if sample.is_floating_point():
        first = next(layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
        sizes = []
        hook = first.register_forward_hook(lambda layer, inputs, output: sizes.append(output.numel()))
        with torch.inference_mode():
            net.eval()(sample)
        hook.remove()
        total -= 2 * sizes[0] * first.weight[0].numel()
    return total


IMAGE, COLOUR = (1, 28, 28), (3, 32, 32)

# Name, net, shape of a sample (for the text encoder: the length of its sequence of ids).
NETS = {
    "mlp": (mlp, IMAGE),
    "fedavg-cnn": (fedavg_cnn, IMAGE),
    "resnet-8": (resnet_8, COLOUR),
    "mobilenet-v2": (mobilenet_v2, COLOUR),
    "tinybert-4": (tinybert_4, (64,)),
}


def samples(name, count):
    shape = NETS[name][1]
    if name == "tinybert-4":
        return torch.randint(0, 30522, (count, *shape))
    return torch.randn(count, *shape)


if __name__ == "__main__":
    for name, (make, _) in NETS.items():
        net = make()
        print(f"{name:<14} {parameters(net):>12,} parameters {flops(net, samples(name, 1)):>14,} FLOPs")
