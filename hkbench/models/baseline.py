"""The baseline that the others are measured against: a plain CNN, convolutions and pooling only."""

from torch import nn

from hkbench.models.classifier import Parts, global_pool

CHANNELS = (16, 32, 64, 128)
HIDDEN = 256


def baseline_cnn(classes: int) -> Parts:
    """Build four 3×3 convolutions, each with batch-norm, ReLU and 2×2 pooling, and two linear layers."""
    layers: list[nn.Module] = []
    before = 3
    for channels in CHANNELS:
        layers += [
            nn.Conv2d(before, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        before = channels
    head = nn.Sequential(
        global_pool(),
        nn.Linear(before, HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(HIDDEN, classes),
    )
    return Parts(
        body=nn.Sequential(*layers),
        head=head,
        channels=before,
        stages=tuple(tuple(map(str, range(at, at + 4))) for at in range(0, len(layers), 4)),
    )
