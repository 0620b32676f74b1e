"""Hard labels: cross-entropy alone, with smoothing where asked for."""

from hkbench.training.losses.config import LossArguments, LossConfig


def configure_hard(arguments: LossArguments) -> LossConfig:
    """Configure plain cross-entropy: log loss (S11); labels are smoothed as in arXiv 1512.00567."""
    return LossConfig(name="hard", label_smoothing=arguments.label_smoothing)
