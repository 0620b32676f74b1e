"""Distillation as PyTorch's tutorials do it: pictures from a folder, a teacher that runs on every batch.

Sources: "Knowledge Distillation Tutorial" (pytorch.org), the loss and the step; torchvision's documentation,
the transforms and `ImageFolder`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import densenet121, squeezenet1_1

from benchmarks.peers.plan import PeerPlan, PeerSettings

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4

Batch = tuple[Tensor, Tensor]
"""float32 (batch, 3, size, size), normalised; int64 (batch,)."""


def train_transform(image_size: int) -> transforms.Compose:
    """Return the augmentation, with the strengths of hkbench's own views."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(image_size, scale=(0.6, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10),
            transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def plain_transform(image_size: int) -> transforms.Compose:
    """Return what the validation part goes through."""
    return transforms.Compose(
        [
            transforms.Resize(image_size),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def loaders(plan: PeerPlan, settings: PeerSettings) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """Return the loaders of the train and the validation part."""
    size = plan.image_size
    train = ImageFolder(str(plan.pictures / "train"), train_transform(size))
    validation = ImageFolder(str(plan.pictures / "validation"), plain_transform(size))
    return (
        DataLoader(
            train,
            batch_size=plan.batch_size,
            shuffle=True,
            num_workers=settings.workers,
            drop_last=True,  # as hkbench does, so that both take the same steps
        ),
        DataLoader(validation, batch_size=plan.batch_size, num_workers=settings.workers),
    )


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    """Return `α·CE + (1−α)·T²·KL` of a batch, written as the tutorial writes it."""
    soft_targets = nn.functional.softmax(teacher_logits / temperature, dim=-1)
    soft_found = nn.functional.log_softmax(student_logits / temperature, dim=-1)
    divergence = torch.sum(soft_targets * (soft_targets.log() - soft_found)) / soft_found.size(0)
    hard = nn.functional.cross_entropy(student_logits, labels)
    return alpha * hard + (1 - alpha) * temperature**2 * divergence


class OnlineDistillation:
    """A student, its teacher and an optimiser, in the settings' layout."""

    def __init__(self, config: dict[str, float], plan: PeerPlan, settings: PeerSettings) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self._temperature, self._alpha = config["temperature"], config["alpha"]
        self.student = squeezenet1_1(num_classes=plan.classes).to(memory_format=self._layout)
        self.teacher = load_teacher(plan).to(memory_format=self._layout)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=config["learning_rate"],
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        self.train_loader, self.validation_loader = loaders(plan, settings)

    def step(self, inputs: Tensor, labels: Tensor) -> float:
        """Take one step and return its loss."""
        inputs = inputs.to(memory_format=self._layout)
        self.optimizer.zero_grad()
        with torch.no_grad():
            teacher_logits = self.teacher(inputs)
        loss = distillation_loss(
            self.student(inputs), teacher_logits, labels, temperature=self._temperature, alpha=self._alpha
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()

    def endless_batches(self) -> Iterator[Batch]:
        """Yield batches of epoch after epoch."""
        while True:
            yield from self.train_loader

    def accuracy(self) -> float:
        """Return the student's accuracy on the validation part."""
        self.student.eval()
        correct = total = 0
        with torch.no_grad():
            for inputs, labels in self.validation_loader:
                predicted = self.student(inputs.to(memory_format=self._layout)).argmax(dim=1)
                correct += int((predicted == labels).sum())
                total += labels.size(0)
        return correct / total


def load_teacher(plan: PeerPlan) -> nn.Module:
    """Return the teacher in eval mode; it takes normalised pictures."""
    teacher: nn.Module = densenet121(num_classes=plan.classes)
    teacher.load_state_dict(torch.load(plan.teacher, weights_only=True))
    return teacher.eval()
