"""The training engine: an iterator of epochs over mapped pictures, their views and a teacher's logits.

One loop trains teachers and students, on a CPU or a GPU. Everything random in an epoch follows from
(seed, epoch), so a resumed training equals an unbroken one.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hkbench.analysis.predictions import metrics_of
from hkbench.data.augment import apply_views, plain
from hkbench.errors import HkbenchError
from hkbench.store.records import Metrics
from hkbench.training.losses import LossConfig, compute_loss
from hkbench.training.optimizers import OptimizerConfig, build_optimizer, cosine_schedule

EVALUATION_BATCH = 256
CHECK_LOSS_EVERY = 32


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A recipe. Epochs and sizes in pictures; `warmup_epochs` and `clip_norm` as floats."""

    epochs: int
    batch_size: int = 64
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=lambda: LossConfig(name="hard"))
    warmup_epochs: float = 0.5
    clip_norm: float = 5.0
    ema_decay: float | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training reads. Views and teacher logits are indexed by position in `train`.

    Attributes:
        pictures: uint8 (pictures, 3, size, size), usually mapped from the picture store.
        labels: int64 (pictures,).
        train: int64 (train,), indices into `pictures`.
        validation: int64 (validation,), indices into `pictures`.
        views: float16 (views, train, parameters), as `data.augment` samples them.
        teacher_logits: float16 (views, train, classes), or None without a teacher.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    views: NDArray[np.float16]
    teacher_logits: NDArray[np.float16] | None = None


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
        network: takes float32 (batch, 3, size, size) in [0, 1], gives logits (batch, classes).
        data: pictures, parts, views and, for a distillation loss, teacher logits.
        config: the recipe.
        device: where to train.

    `on_step` may be set to a function of (steps done, steps of the epoch), called now and then.
    """

    def __init__(
        self, network: nn.Module, data: TrainingData, config: TrainingConfig, device: torch.device
    ) -> None:
        if config.loss.needs_teacher and data.teacher_logits is None:
            raise HkbenchError(f"The loss '{config.loss.name}' needs a teacher and none was given.")
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.data = data
        self.config = config
        self.device = device
        self.epoch = 0
        self._steps_an_epoch = max(1, len(data.train) // config.batch_size)
        self._optimizer = build_optimizer(self.network, config.optimizer)
        self._schedule = cosine_schedule(
            self._optimizer,
            steps=self._steps_an_epoch * config.epochs,
            warmup_steps=round(self._steps_an_epoch * config.warmup_epochs),
        )
        self._average = (
            AveragedModel(self.network, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True)
            if config.ema_decay is not None
            else None
        )
        self._amp_dtype = _amp_dtype(device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp_dtype is torch.float16)
        self.on_step: Callable[[int, int], None] | None = None

    @property
    def trained(self) -> nn.Module:
        """The network to evaluate and ship: the moving average where there is one."""
        return self._average.module if self._average is not None else self.network

    def epochs(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, one for each step of the iterator.

        Raises:
            DivergedError: the loss is no longer a number.
        """
        while self.epoch < self.config.epochs:
            started = time.perf_counter()
            train_loss = self._train_epoch()
            self.epoch += 1
            metrics = self.evaluate()
            yield EpochResult(
                epoch=self.epoch,
                train_loss=train_loss,
                learning_rate=float(self._schedule.get_last_lr()[0]),
                seconds=time.perf_counter() - started,
                metrics=metrics,
            )

    def _train_epoch(self) -> float:
        self.network.train()
        rng = np.random.default_rng((self.config.seed, self.epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        order = rng.permutation(len(self.data.train))
        views = _views_of_epoch(self.epoch, self.data.views.shape[0], len(order), self.config.seed)
        total = torch.zeros((), device=self.device)
        for step in range(self._steps_an_epoch):
            chosen = order[step * self.config.batch_size : (step + 1) * self.config.batch_size]
            total += self._step(*self._batch(chosen, views[chosen]))
            if step % CHECK_LOSS_EVERY == 0 or step + 1 == self._steps_an_epoch:
                self._refuse_divergence(float(total), step)
                if self.on_step is not None:
                    self.on_step(step + 1, self._steps_an_epoch)
        return float(total) / self._steps_an_epoch

    def _batch(
        self, chosen: NDArray[np.int64], views: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (views of the pictures, labels, teacher logits) of positions in the train part."""
        rows = self.data.train[chosen]
        pictures = self._to_device(self.data.pictures[rows])
        parameters = self._to_device(self.data.views[views, chosen])
        labels = self._to_device(self.data.labels[rows])
        teacher = None
        if self.config.loss.needs_teacher and self.data.teacher_logits is not None:
            teacher = self._to_device(self.data.teacher_logits[views, chosen])
        return apply_views(pictures, parameters), labels, teacher

    def _step(self, inputs: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self._amp_dtype, enabled=self._amp_dtype is not None):
            logits = self.network(inputs)
        loss = compute_loss(logits, labels, teacher_logits, self.config.loss)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self.network)
        return loss.detach()

    def _refuse_divergence(self, total: float, step: int) -> None:
        if not np.isfinite(total):
            raise DivergedError(
                f"The loss became {total} by step {step} of epoch {self.epoch + 1}, "
                f"at learning rate {self._schedule.get_last_lr()[0]:.3g}."
            )

    def evaluate(self) -> Metrics:
        """Return the metrics of the validation part, without augmentation.

        Raises:
            DivergedError: a logit that float16 can't hold, or a metric that is no number.
        """
        logits = self.logits(self.data.validation)
        if not np.abs(logits).max() <= np.finfo(np.float16).max:  # so that NaN is refused too
            raise DivergedError(f"The logits of the validation part grew past float16 in epoch {self.epoch}.")
        return metrics_of(logits, self.data.labels[self.data.validation])

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the trained network's logits, (rows, classes), of pictures without augmentation."""
        return network_logits(self.trained, self.data.pictures, rows, self.device)

    def _to_device(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

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


def network_logits(
    network: nn.Module, pictures: NDArray[np.uint8], rows: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """Return a network's logits, (rows, classes), of the named pictures without augmentation."""
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            batch = torch.from_numpy(pictures[rows[start : start + EVALUATION_BATCH]]).to(device)
            inputs = plain(batch).contiguous(memory_format=torch.channels_last)
            found.append(network(inputs).float().cpu().numpy())
    return np.concatenate(found)


def _views_of_epoch(epoch: int, views: int, pictures: int, seed: int) -> NDArray[np.int64]:
    """Return the view of each picture in an epoch: all views in turn, each picture starting elsewhere."""
    offsets = np.random.default_rng(seed).integers(views, size=pictures)
    return (offsets + epoch) % views


def _moving_average(decay: float) -> Any:
    average: Any = get_ema_multi_avg_fn
    return average(decay)


def _amp_dtype(device: torch.device) -> torch.dtype | None:
    """Return the reduced precision that a device trains faster in, or None."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
