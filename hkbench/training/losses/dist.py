"""Distillation of relations: the student's probabilities correlate with the teacher's, by picture and class.

Source: Huang et al., "Knowledge Distillation from A Stronger Teacher" (arXiv 2205.10536), section 4, and the
authors' code, whose later version multiplies both terms by τ². At the default τ = 1 that changes nothing.
"""

from torch import Tensor
from torch.nn import functional

from hkbench.training.losses.config import LossArguments, LossConfig, not_negative, positive

BETA, GAMMA, TEMPERATURE = 2.0, 2.0, 1.0
"""The paper's weights and its temperature for ImageNet."""

SMALLEST_NORM = 1e-4
"""Below this a centred row or column of probabilities counts as constant, and its correlation goes to 0.

It lies above float32's rounding of a constant one, and bounds the gradient, which goes with 1/norm, to what
float16 holds. The authors add 1e-8, its square, to the product of the two norms instead; then a constant row
or column of the student alone gets gradients of 1e8.
"""


def configure_dist(arguments: LossArguments) -> LossConfig:
    """Configure `CE + β·τ²·inter + γ·τ²·intra`; τ is `temperature`, α the paper's weight of CE is 1.

    Raises:
        UsageError: β or γ is negative, or τ is not above 0.
    """
    beta = not_negative("beta", BETA if arguments.beta is None else arguments.beta)
    gamma = not_negative("gamma", GAMMA if arguments.gamma is None else arguments.gamma)
    given = TEMPERATURE if arguments.temperature is None else arguments.temperature
    temperature = positive("temperature", given)
    return LossConfig(
        name="dist",
        weights=(("hard", 1.0), ("inter", beta * temperature**2), ("intra", gamma * temperature**2)),
        temperature=temperature,
        label_smoothing=arguments.label_smoothing,
    )


def dist_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, config: LossConfig, temperature: float
) -> Tensor:
    """Return the two weighted Pearson distances, 1 − correlation; both logits are float32 (batch, classes).

    `inter` is the mean over the pictures of the distance between their rows, `intra` the mean over the
    classes of that between their columns. A constant row or column, such as any column of a batch of one,
    has distance 1.
    """
    del labels
    mean = 1 / student.shape[1]  # of every row of probabilities
    found = functional.softmax(student / temperature, dim=1) - mean
    wanted = functional.softmax(teacher / temperature, dim=1) - mean
    inter = functional.cosine_similarity(found, wanted, dim=1, eps=SMALLEST_NORM)
    found, wanted = found - found.mean(dim=0), wanted - wanted.mean(dim=0)
    intra = functional.cosine_similarity(found, wanted, dim=0, eps=SMALLEST_NORM)
    return config.weight("inter") * (1 - inter.mean()) + config.weight("intra") * (1 - intra.mean())
