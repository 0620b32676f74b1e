"""What one trial needs to know, each with its default: the parameters that a space may search."""

from typing import Any

from pydantic import Field, ValidationError

from hkbench.errors import UsageError, unknown
from hkbench.models.activations import activations_in
from hkbench.models.architecture import Architecture
from hkbench.models.build import check, sketch
from hkbench.models.counts import check_precision
from hkbench.models.registry import entry_of
from hkbench.training.loop import TrainingConfig
from hkbench.training.losses import LossConfig, loss_config
from hkbench.training.optimizers import OptimizerConfig, check_optimizer, peak_rate
from hkbench.training.schedules import SCHEDULES


class TrialSettings(Architecture):
    """All settings of a trial: its network's structure and what follows here. A space uses the same names.

    `weights` is auto (ImageNet's where they are at hand), none, imagenet, a file or hf-hub:owner/repository.
    `body_rate` multiplies the learning rate of the body, `layer_decay` that of each of its stages once more
    for every stage that comes after it. `gradual_epochs` wakes one more stage every so many epochs. `seed` is
    added to the search's own. `precision` is that of the file that is shipped: its bytes, latency and, at the
    end of the training, its answers are the trial's. What the steps compute in is up to `mixed_precision`.
    """

    weights: str = "auto"
    unfreeze: str = "all"
    gradual_epochs: int = Field(default=0, ge=0)
    loss: str = "kd"
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    temperature: float | None = None
    hard_weight: float | None = None
    soft_weight: float | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    optimizer: str = "sgd"
    learning_rate: float | None = None
    weight_decay: float = 1e-4
    momentum: float = 0.9
    body_rate: float = 1.0
    layer_decay: float = 1.0
    schedule: str = "cosine"
    batch_size: int = Field(default=64, ge=2)
    warmup_epochs: float = Field(default=0.5, ge=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    mixed_precision: bool | None = None
    precision: str = "fp32"
    compiled: bool = False
    seed: int = Field(default=0, ge=0)

    @property
    def loss_config(self) -> LossConfig:
        """The loss with its effective weights."""
        return loss_config(
            self.loss,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            temperature=self.temperature,
            hard_weight=self.hard_weight,
            soft_weight=self.soft_weight,
            label_smoothing=self.label_smoothing,
        )

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """The optimiser with its rates."""
        return OptimizerConfig(
            name=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            body_rate=self.body_rate,
            layer_decay=self.layer_decay,
        )

    @property
    def architecture(self) -> Architecture:
        """The structure alone: what decides the cost of the exported file."""
        return Architecture.model_validate(self.model_dump(include=set(Architecture.model_fields)))

    def training(self, epochs: int, seed: int) -> TrainingConfig:
        """Return the recipe for the training engine."""
        return TrainingConfig(
            epochs=epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer_config,
            loss=self.loss_config,
            schedule=self.schedule,
            warmup_epochs=self.warmup_epochs,
            gradual_epochs=self.gradual_epochs,
            ema_decay=self.ema_decay,
            mixed_precision=self.mixed_precision,
            compiled=self.compiled,
            seed=seed,
        )


def settings_of(values: dict[str, Any]) -> TrialSettings:
    """Validate a trial's settings; nothing is built.

    Weights `auto` become ImageNet's where they are at hand, and a learning rate that isn't set the
    optimiser's own.

    Raises:
        UsageError: an unknown name or model, a value out of range, a loss without its parameters.
    """
    try:
        settings = TrialSettings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise unknown("trial setting", name, TrialSettings.model_fields) from error
        raise UsageError(
            f"The trial setting '{name}': {problem['msg']}, found {problem['input']}."
        ) from error
    check(settings.architecture, settings.unfreeze)
    _ = settings.loss_config
    check_precision(settings.precision)
    check_optimizer(settings.optimizer_config)
    if settings.schedule not in SCHEDULES:
        raise unknown("schedule", settings.schedule, SCHEDULES)
    weights = settings.weights
    if weights == "auto":
        entry = entry_of(settings.model, settings.image_size)
        weights = "imagenet" if entry.has_imagenet_weights else "none"
    if settings.unfreeze != "all" and weights == "none":
        raise UsageError(f"A frozen body needs weights, and {settings.model} has none here to start from.")
    rate = peak_rate(settings.optimizer_config)
    return settings.model_copy(update={"weights": weights, "learning_rate": rate})


def lost_worth(settings: TrialSettings) -> str | None:
    """Return a warning where another activation makes pretrained weights worth little; None otherwise."""
    if settings.activation is None or settings.weights == "none":
        return None
    as_published = settings.architecture.model_copy(update={"activation": None})
    if activations_in(sketch(as_published).body) <= {settings.activation}:
        return None
    return (
        f"{settings.model} starts from pretrained weights, but with another activation, "
        f"{settings.activation}: they were learned with its own, so little of their worth is left."
    )
