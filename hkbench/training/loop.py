"""The training engine: an iterator of epochs over what a feed gives, for teachers and students alike.

One loop for CPU and GPU. Everything random in an epoch follows from (seed, epoch), so a resumed training
equals an unbroken one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hkbench.analysis.metrics import metrics_of
from hkbench.config import usable_memory_bytes
from hkbench.data.order import advise_window, epoch_windows
from hkbench.errors import HkbenchError, UsageError
from hkbench.models.classifier import Classifier
from hkbench.store.device_lock import DeviceShare
from hkbench.store.records import Metrics
from hkbench.training.evaluate import feature_logits, network_logits
from hkbench.training.feed import Batch, TrainingData, feed_for
from hkbench.training.forward import Outputs, classifier_of, forward_of
from hkbench.training.losses import LossConfig, compute_loss
from hkbench.training.optimizers import OptimizerConfig, build_optimizer, divides_by_scale
from hkbench.training.precision import mixed_dtype, suit_bfloat16
from hkbench.training.schedules import build_schedule

CHECK_LOSS_EVERY = 32
MEMORY_SHARE = 0.5
"""Of this machine's memory; a store that is larger is read in windows, block by block."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A recipe. Epochs and sizes in pictures; `warmup_epochs` and `clip_norm` as floats.

    `gradual_epochs` above 0 begins with the head alone and wakes one more stage of the body every so many
    epochs, the last first (arXiv 1801.06146, section 3.3), until only the frozen ones rest.
    `mixed_precision` None means: where the device is faster so.
    `compiled` puts the network through torch.compile, on a GPU with CUDA graphs: it costs up to minutes for
    each architecture, so it is for long trainings.
    """

    epochs: int
    batch_size: int = 64
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=lambda: LossConfig(name="hard"))
    schedule: str = "cosine"
    warmup_epochs: float = 0.5
    gradual_epochs: int = 0
    clip_norm: float = 5.0
    ema_decay: float | None = None
    mixed_precision: bool | None = None
    compiled: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One epoch as it went; metrics are of the validation part."""

    epoch: int
    train_loss: float
    learning_rate: float
    seconds: float
    metrics: Metrics


class DivergedError(HkbenchError):
    """A loss that became infinite or NaN."""


class Training:
    """One network on its way through its epochs.

    Args:
        network: takes float32 (batch, 3, size, size) in [0, 1], gives logits (batch, classes). Where the
            data's inputs are features of frozen stages, a `Classifier` with these stages.
        data: pictures, parts, views and, for a distillation loss, teacher logits.
        config: the recipe.
        device: where to train.

    `on_step` may be set to a function of (steps done, steps of the epoch), called now and then, and
    `device_share` to a share of the device, so that measurements elsewhere can pause `epochs`.
    """

    def __init__(
        self, network: nn.Module, data: TrainingData, config: TrainingConfig, device: torch.device
    ) -> None:
        _refuse_what_lacks(network, data, config)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._amp_dtype = mixed_dtype(device, wanted=config.mixed_precision)
        if self._amp_dtype is not None and device.type == "cpu":
            suit_bfloat16(self.network)
        self.data = data
        self.config = config
        self.device = device
        self.epoch = 0
        self.steps_an_epoch = max(1, len(data.train) // config.batch_size)
        self._optimizer = build_optimizer(self.network, config.optimizer)
        self._divides_by_scale = divides_by_scale(self._optimizer)
        self._schedule = build_schedule(
            config.schedule,
            self._optimizer,
            steps=self.steps_an_epoch * config.epochs,
            warmup_steps=round(self.steps_an_epoch * config.warmup_epochs),
        )
        self._average = (
            AveragedModel(self.network, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True)
            if config.ema_decay is not None
            else None
        )
        self._feed = feed_for(data, device, with_teacher=config.loss.needs_teacher)
        self._forward = forward_of(self.network, data, compiled=config.compiled)
        self._trained = [each for each in self.network.parameters() if each.requires_grad]
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp_dtype is torch.float16)
        self.on_step: Callable[[int, int], None] | None = None
        self.device_share = DeviceShare()

    @property
    def trained(self) -> nn.Module:
        """The network to evaluate and ship: the moving average where there is one."""
        return self._average.module if self._average is not None else self.network

    @property
    def precision(self) -> str:
        """What the steps compute in: float32, or the shorter type of a mixed precision."""
        return str(self._amp_dtype or torch.float32).removeprefix("torch.")

    def epochs(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, one for each step of the iterator; pauses don't count as seconds.

        Raises:
            DivergedError: the loss is no longer a number.
        """
        while self.epoch < self.config.epochs:
            started = self.device_share.clock()
            with self.device_share:
                train_loss = self.train_epoch()
                self.epoch += 1
                metrics = self.evaluate()
            yield EpochResult(
                epoch=self.epoch,
                train_loss=train_loss,
                learning_rate=float(self._schedule.get_last_lr()[0]),
                seconds=self.device_share.clock() - started,
                metrics=metrics,
            )

    def train_epoch(self) -> float:
        """Train one epoch, without evaluating it, and return its mean loss.

        Raises:
            DivergedError: the loss is no longer a number.
        """
        self._wake()
        self.network.train()
        rng = np.random.default_rng((self.config.seed, self.epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        # What is made ahead fits in memory; pictures needn't.
        row_bytes = self.data.pictures[:1].nbytes if self.data.inputs is None else 0
        memory_bytes = round(MEMORY_SHARE * usable_memory_bytes())
        windows = epoch_windows(self.data.train, rng, store_row_bytes=row_bytes, memory_bytes=memory_bytes)
        order = np.concatenate(windows)
        views = _views_of_epoch(self.epoch, self.data.views.shape[0], len(order), self.config.seed)
        size = self.config.batch_size
        batches = [order[step * size : (step + 1) * size] for step in range(self.steps_an_epoch)]
        losses = torch.zeros(self.steps_an_epoch, device=self.device)
        coming = self._coming_windows(windows)
        for step, batch in enumerate(self._feed.epoch(batches, views)):
            self.device_share.pause()
            if step in coming:
                advise_window(self.data.pictures, coming[step])
            losses[step] = self._step(batch)
            if step % CHECK_LOSS_EVERY == 0 or step + 1 == self.steps_an_epoch:
                self._refuse_divergence(losses[: step + 1])
                if self.on_step is not None:
                    self.on_step(step + 1, self.steps_an_epoch)
        return float(losses.mean())

    def _wake(self) -> None:
        """Let those stages rest that gradual unfreezing hasn't come to yet, as far as the epoch tells."""
        if self.config.gradual_epochs:
            network = classifier_of(self.network)
            network.rest(max(0, len(network.stages) - self.epoch // self.config.gradual_epochs))

    def _coming_windows(self, windows: list[NDArray[np.int64]]) -> dict[int, NDArray[np.int64]]:
        """Return, by the step at which a window begins, the pictures of the window after it."""
        begins = np.cumsum([0, *(len(window) for window in windows)]) // self.config.batch_size
        following = zip(begins.tolist(), windows[1:], strict=False)
        return {step: self.data.train[window] for step, window in following}

    def _step(self, batch: Batch) -> Tensor:
        inputs = batch.inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self._amp_dtype, enabled=self._amp_dtype is not None):
            outputs = self._forward(inputs)
        loss = self._loss_of(outputs, batch)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        self._clip_gradients()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self.network)
        return loss.detach()

    def _loss_of(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return a batch's loss; an auxiliary head adds its cross-entropy (arXiv 1409.4842, section 5)."""
        logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, None)
        targets = batch.targets(logits.shape[1])
        loss = compute_loss(logits, targets, batch.teacher_logits, self.config.loss)
        if auxiliary is None:
            return loss
        weight = classifier_of(self.network).auxiliary_weight
        smoothing = self.config.loss.label_smoothing
        return loss + weight * functional.cross_entropy(auxiliary.float(), targets, label_smoothing=smoothing)

    def _clip_gradients(self) -> None:
        """Scale the gradients down to `clip_norm` where their norm is larger.

        The fused optimisers divide by a scale while they step, which saves a pass over the gradients; for
        others, or with a scaler of its own, they are scaled before.
        """
        gradients = [each.grad for each in self._trained if each.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._scaler.is_enabled() or not self._divides_by_scale:
            nn.utils.clip_grads_with_norm_(self._trained, self.config.clip_norm, norm)
        else:
            scaling: Any = self._optimizer
            scaling.grad_scale = (norm / self.config.clip_norm).clamp_(min=1.0)

    def _refuse_divergence(self, losses: Tensor) -> None:
        """Refuse an epoch's losses so far, one a step, of which one is no number."""
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            step = int(bad[0])
            raise DivergedError(f"The loss became {float(losses[step])} {self._place(self.epoch, step)}.")

    def _place(self, epoch: int, step: int) -> str:
        """Say where in the training a step was, both counted from 0."""
        factor = self._schedule.lr_lambdas[0](epoch * self.steps_an_epoch + step)
        rate = self._schedule.base_lrs[0] * factor
        return f"at step {step + 1} of epoch {epoch + 1}, at learning rate {rate:.3g}"

    def evaluate(self) -> Metrics:
        """Return the metrics of the validation part, without augmentation.

        Raises:
            DivergedError: a logit that float16 can't hold, or a metric that is no number.
        """
        data, pause = self.data, self.device_share.pause
        if data.validation_inputs is None:
            logits = network_logits(self.trained, data.pictures, data.validation, self.device, pause)
        else:
            logits = feature_logits(classifier_of(self.trained), data.validation_inputs, self.device, pause)
        if not np.abs(logits).max() <= np.finfo(np.float16).max:  # so that NaN is refused too
            place = self._place(self.epoch - 1, self.steps_an_epoch - 1)
            raise DivergedError(f"The logits of the validation part grew past float16 {place}.")
        return metrics_of(logits, data.labels[data.validation])

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to go on as if never interrupted."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict() if self._average is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a training where `state_dict` was read from it."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def _refuse_what_lacks(network: nn.Module, data: TrainingData, config: TrainingConfig) -> None:
    """Refuse a recipe that asks for a teacher or for stages which aren't there."""
    if config.loss.needs_teacher and data.teacher_logits is None:
        raise HkbenchError(f"The loss '{config.loss.name}' needs a teacher and none was given.")
    if config.gradual_epochs and not (isinstance(network, Classifier) and network.stages):
        raise UsageError(
            f"gradual_epochs is {config.gradual_epochs}, but the network has no stages to wake "
            "one by one; set it to 0."
        )


def _views_of_epoch(epoch: int, views: int, pictures: int, seed: int) -> NDArray[np.int64]:
    """Return the view of each picture in an epoch: all views in turn, each picture starting elsewhere."""
    offsets = np.random.default_rng(seed).integers(views, size=pictures)
    return (offsets + epoch) % views


def _moving_average(decay: float) -> Any:
    average: Any = get_ema_multi_avg_fn
    return average(decay)
