"""What one trial needs to know, each with its default: the parameters that a space may search."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hkbench.errors import UsageError, unknown
from hkbench.models.registry import MODELS, stage_count
from hkbench.training.loop import TrainingConfig
from hkbench.training.losses import LossConfig, loss_config
from hkbench.training.optimizers import OPTIMIZERS, OptimizerConfig

Architecture = tuple[str, int, bool]
"""(model, image size, frozen body): what decides bytes and latency."""


class TrialSettings(BaseModel):
    """All settings of a trial. Names are those of a space's parameters and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights: Literal["auto", "none", "imagenet"] = "auto"
    frozen_body: bool = False
    frozen_stages: int = Field(default=0, ge=0)
    image_size: int = Field(default=64, ge=16, le=512)
    loss: str = "kd"
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    temperature: float | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    optimizer: str = "sgd"
    learning_rate: float = Field(default=0.05, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=2)
    warmup_epochs: float = Field(default=0.5, ge=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    mixed_precision: bool | None = None
    compiled: bool = False

    @property
    def loss_config(self) -> LossConfig:
        """The loss with its effective weights."""
        return loss_config(
            self.loss,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            temperature=self.temperature,
            label_smoothing=self.label_smoothing,
        )

    @property
    def architecture(self) -> Architecture:
        """What decides the cost of the exported file."""
        return self.model, self.image_size, self.frozen_body

    def training(self, epochs: int, seed: int) -> TrainingConfig:
        """Return the recipe for the training engine."""
        return TrainingConfig(
            epochs=epochs,
            batch_size=self.batch_size,
            optimizer=OptimizerConfig(
                name=self.optimizer,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                momentum=self.momentum,
            ),
            loss=self.loss_config,
            warmup_epochs=self.warmup_epochs,
            ema_decay=self.ema_decay,
            mixed_precision=self.mixed_precision,
            compiled=self.compiled,
            seed=seed,
        )


def settings_of(values: dict[str, Any]) -> TrialSettings:
    """Validate a trial's settings; nothing is built. Weights `auto` become ImageNet's where they are at hand.

    Raises:
        UsageError: an unknown name or model, a value out of range, a loss without its parameters.
    """
    try:
        settings = TrialSettings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"The trial setting '{name}': {problem['msg']}.") from error
    if settings.model not in MODELS:
        raise unknown("model", settings.model, MODELS)
    if settings.image_size < MODELS[settings.model].smallest_image_size:
        raise UsageError(
            f"{settings.model} takes pictures of at least {MODELS[settings.model].smallest_image_size} px, "
            f"found image_size {settings.image_size}."
        )
    _ = settings.loss_config
    if settings.optimizer not in OPTIMIZERS:
        raise unknown("optimizer", settings.optimizer, OPTIMIZERS)
    weights = settings.weights
    if weights == "auto":
        weights = "imagenet" if MODELS[settings.model].has_imagenet_weights else "none"
    if (settings.frozen_body or settings.frozen_stages) and weights == "none":
        raise UsageError(f"A frozen body needs weights, and {settings.model} has none here to start from.")
    if settings.frozen_stages > stage_count(settings.model):
        raise UsageError(
            f"{settings.model} has {stage_count(settings.model)} stages, found frozen_stages "
            f"{settings.frozen_stages}."
        )
    return settings.model_copy(update={"weights": weights})
