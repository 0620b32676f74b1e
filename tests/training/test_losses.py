"""Each loss against its paper's equations in float64, at its extremes, and by what must not change it."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax

from hkbench.errors import UsageError
from hkbench.training.losses import LOSSES, compute_loss, loss_config

CLASSES = 7
ARGUMENTS = {
    "hard": {"label_smoothing": 0.1},
    "kd": {"alpha": 0.3, "temperature": 2.0},
    "dkd": {"alpha": 1.5, "beta": 6.0, "temperature": 4.0},
    "dist": {"beta": 2.0, "gamma": 3.0, "temperature": 1.5},
    "lskd": {"alpha": 0.2, "temperature": 3.0},
}
TAUGHT = [name for name in ARGUMENTS if name != "hard"]


def cross_entropy(student, targets):
    return -(targets * log_softmax(student, axis=1)).sum(1).mean()


def divergence(wanted, found):
    """KL of softmax(wanted) from softmax(found), mean over the rows."""
    p = softmax(wanted, axis=1)
    return (p * (log_softmax(wanted, axis=1) - log_softmax(found, axis=1))).sum(1).mean()


def hard(student, teacher, targets, *, label_smoothing):
    del teacher
    return cross_entropy(student, (1 - label_smoothing) * targets + label_smoothing / targets.shape[1])


def kd(student, teacher, targets, *, alpha, temperature):
    soft = temperature**2 * divergence(teacher / temperature, student / temperature)
    return alpha * cross_entropy(student, targets) + (1 - alpha) * soft


def without(logits, at):
    return np.stack([np.delete(row, column) for row, column in zip(logits, at, strict=True)])


def dkd(student, teacher, targets, *, alpha, beta, temperature):
    at = targets.argmax(1)
    sides = []
    for logits in (teacher / temperature, student / temperature):
        rest = without(logits, at)
        target = logits[np.arange(len(at)), at]
        sides.append((np.stack([target, logsumexp(rest, axis=1)], axis=1), rest))
    (teacher_pair, teacher_rest), (student_pair, student_rest) = sides
    target_term = divergence(teacher_pair, student_pair)
    rest_term = divergence(teacher_rest, student_rest)
    return cross_entropy(student, targets) + temperature**2 * (alpha * target_term + beta * rest_term)


def distance(x, y):
    if x.std() == 0 or y.std() == 0:
        return 1.0
    return 1 - np.corrcoef(x, y)[0, 1]


def dist(student, teacher, targets, *, beta, gamma, temperature):
    p, q = softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1)
    inter = np.mean([distance(x, y) for x, y in zip(p, q, strict=True)])
    intra = np.mean([distance(x, y) for x, y in zip(p.T, q.T, strict=True)])
    return cross_entropy(student, targets) + temperature**2 * (beta * inter + gamma * intra)


def z_scores(logits):
    return (logits - logits.mean(1, keepdims=True)) / logits.std(1, ddof=1, keepdims=True)


def lskd(student, teacher, targets, *, alpha, temperature):
    soft = temperature**2 * divergence(z_scores(teacher) / temperature, z_scores(student) / temperature)
    return alpha * cross_entropy(student, targets) + (1 - alpha) * soft


PAPERS = {"hard": hard, "kd": kd, "dkd": dkd, "dist": dist, "lskd": lskd}


def batch(seed, size, scale=3.0):
    """Return student and teacher logits (float32, so that both sides start from the same) and labels."""
    generator = np.random.default_rng(seed)
    student, teacher = (scale * generator.standard_normal((2, size, CLASSES))).astype(np.float32)
    return student, teacher, generator.integers(0, CLASSES, size)


def mixed(seed, size):
    """Return the probabilities of mixed-up labels, float32, without ties."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, CLASSES, (2, size))
    share = generator.uniform(0.55, 1, (size, 1))
    return (share * np.eye(CLASSES)[first] + (1 - share) * np.eye(CLASSES)[second]).astype(np.float32)


def loss_of(name, student, teacher, labels, **arguments):
    config = loss_config(name, **(ARGUMENTS[name] | arguments))
    tensors = [torch.as_tensor(each) for each in (student, labels, teacher)]
    return compute_loss(*tensors, config)


def expected(name, student, teacher, targets, **arguments):
    sides = (each.astype(np.float64) for each in (student, teacher, targets))
    return PAPERS[name](*sides, **(ARGUMENTS[name] | arguments))


def test_every_loss_of_the_registry_has_its_paper_here():
    assert set(PAPERS) == set(ARGUMENTS) == set(LOSSES)


@pytest.mark.parametrize("size", [1, 2, 9, 64])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PAPERS)
def test_a_loss_equals_its_papers_equations_in_float64(name, seed, size):
    student, teacher, labels = batch(seed, size)
    found = loss_of(name, student, teacher, labels)
    assert float(found) == pytest.approx(
        expected(name, student, teacher, np.eye(CLASSES)[labels]), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("name", TAUGHT)
def test_t_squared_is_in_the_loss_at_every_temperature(name, temperature):
    student, teacher, labels = batch(0, 16)
    found = loss_of(name, student, teacher, labels, temperature=temperature)
    wanted = expected(name, student, teacher, np.eye(CLASSES)[labels], temperature=temperature)
    assert float(found) == pytest.approx(wanted, rel=2e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PAPERS)
def test_labels_may_be_probabilities(name, seed):
    student, teacher, _ = batch(seed, 9)
    targets = mixed(seed, 9)
    found = loss_of(name, student, teacher, targets)
    assert float(found) == pytest.approx(expected(name, student, teacher, targets), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", TAUGHT)
def test_smoothing_is_of_the_labels_alone(name):
    student, teacher, labels = batch(0, 9)
    targets = np.eye(CLASSES)[labels]
    plain = expected(name, student, teacher, targets)
    smoothing = cross_entropy(student, np.full_like(targets, 1 / CLASSES)) - cross_entropy(student, targets)
    weight = loss_config(name, **ARGUMENTS[name]).weight_hard
    found = loss_of(name, student, teacher, labels, label_smoothing=0.2)
    assert float(found) == pytest.approx(plain + weight * 0.2 * smoothing, rel=1e-4)


@pytest.mark.parametrize("name", PAPERS)
def test_gradients_equal_finite_differences_in_float64(name):
    student, teacher, labels = batch(1, 5, scale=1.5)
    logits = torch.tensor(student, requires_grad=True)
    loss_of(name, logits, teacher, labels).backward()
    step = 1e-6
    wanted = np.zeros(student.shape)
    for at in np.ndindex(*student.shape):
        shift = np.zeros(student.shape)
        shift[at] = step
        above, below = (
            expected(name, student.astype(np.float64) + sign * shift, teacher, np.eye(CLASSES)[labels])
            for sign in (1, -1)
        )
        wanted[at] = (above - below) / (2 * step)
    np.testing.assert_allclose(logits.grad.numpy(), wanted, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PAPERS)
def test_half_precision_logits_are_computed_in_float32(name, dtype):
    student, teacher, labels = batch(2, 16)
    rounded = [torch.tensor(each).to(dtype) for each in (student, teacher)]
    low = loss_of(name, *rounded, labels)
    assert low.dtype == torch.float32
    assert float(low) == float(loss_of(name, *(each.float() for each in rounded), labels))
    assert float(low) == pytest.approx(float(loss_of(name, student, teacher, labels)), rel=0.05)


EXTREMES = {
    "opposite": ([[6e4, -6e4, 0.0], [-6e4, 6e4, 0.0]], [[-6e4, 6e4, 0.0], [6e4, -6e4, 0.0]]),
    "certain": ([[6e4, -6e4, -6e4], [6e4, -6e4, -6e4]], [[6e4, -6e4, -6e4], [6e4, -6e4, -6e4]]),
    "equal": ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    "equal student, one-hot teacher": (
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[6e4, -6e4, -6e4], [-6e4, 6e4, -6e4]],
    ),
    "one-hot student, equal teacher": (
        [[6e4, -6e4, -6e4], [-6e4, 6e4, -6e4]],
        [[6e4, 6e4, 6e4], [-6e4, -6e4, -6e4]],
    ),
    "all low but one": ([[-6e4, -6e4, 6e4], [1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [-6e4, -6e4, 6e4]]),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("name", PAPERS)
def test_extreme_logits_give_a_finite_loss_and_gradients(name, temperature, case, dtype):
    student, teacher = (torch.tensor(each, dtype=dtype) for each in EXTREMES[case])
    for label in range(3):
        student = student.detach().requires_grad_()
        labels = torch.full((2,), label)
        loss = loss_of(name, student, teacher, labels, temperature=temperature)
        loss.backward()
        assert torch.isfinite(loss)
        assert loss >= -1e-6
        assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", TAUGHT)
def test_a_student_equal_to_its_teacher_has_no_soft_loss(name):
    logits, _, labels = batch(0, 16)
    alone = loss_config(name, **ARGUMENTS[name]).weight_hard * cross_entropy(logits, np.eye(CLASSES)[labels])
    assert float(loss_of(name, logits, logits, labels)) == pytest.approx(alone, abs=2e-5)


@pytest.mark.parametrize("name", TAUGHT)
def test_a_loss_doesnt_change_with_a_shift_of_all_logits_of_a_picture(name):
    student, teacher, labels = batch(0, 16)
    shift = np.arange(16, dtype=np.float32)[:, None]
    moved = loss_of(name, student - shift, teacher + shift, labels)
    assert float(moved) == pytest.approx(float(loss_of(name, student, teacher, labels)), rel=1e-4)


def soft_part(name, student, teacher, labels, **arguments):
    total = loss_of(name, student, teacher, labels, **arguments)
    weight = loss_config(name, **(ARGUMENTS[name] | arguments)).weight_hard
    return float(total) - weight * cross_entropy(student.astype(np.float64), np.eye(CLASSES)[labels])


def test_standardised_logits_are_free_of_scale_and_plain_ones_are_not():
    student, teacher, labels = batch(0, 16)
    scale = np.linspace(0.5, 8, 16, dtype=np.float32)[:, None]
    for moved in ((student * scale + 1, teacher), (student, teacher * scale - 1)):
        assert soft_part("lskd", *moved, labels) == pytest.approx(
            soft_part("lskd", student, teacher, labels), rel=1e-3
        )
        assert soft_part("kd", *moved, labels) != pytest.approx(
            soft_part("kd", student, teacher, labels), rel=0.05
        )


def test_relations_are_free_of_affine_changes_of_a_pictures_probabilities():
    student, teacher, labels = batch(0, 16)
    p = softmax(student.astype(np.float64), axis=1)
    share = np.linspace(0.2, 1, 16)[:, None]
    moved = np.log(share * p + (1 - share) / CLASSES).astype(np.float32)
    by_picture, by_class = {"gamma": 0.0, "temperature": 1.0}, {"beta": 0.0, "temperature": 1.0}
    assert soft_part("dist", moved, teacher, labels, **by_picture) == pytest.approx(
        soft_part("dist", student, teacher, labels, **by_picture), rel=1e-3
    )
    assert soft_part("dist", moved, teacher, labels, **by_class) != pytest.approx(
        soft_part("dist", student, teacher, labels, **by_class), rel=1e-2
    )


def test_decoupled_terms_put_together_make_kd():
    # Equation 6 of arXiv 2203.08679: KL = TCKD + (1 − p_t) · NCKD, here of one picture.
    student, teacher, labels = batch(3, 1)
    rest = 1 - softmax(teacher[0].astype(np.float64) / 2)[labels[0]]
    parts = soft_part("dkd", student, teacher, labels, alpha=1.0, beta=rest, temperature=2.0)
    assert parts == pytest.approx(
        soft_part("kd", student, teacher, labels, alpha=0.0, temperature=2.0), rel=1e-3
    )


@pytest.mark.parametrize(
    ("name", "arguments", "weights"),
    [
        ("hard", {}, {"hard": 1}),
        ("kd", {"alpha": 0.3, "temperature": 2}, {"hard": 0.3, "soft": 2.8}),
        ("kd", {"alpha": 0, "temperature": 4}, {"hard": 0, "soft": 16}),
        ("kd", {"alpha": 1, "temperature": 4}, {"hard": 1, "soft": 0}),
        ("dkd", {}, {"hard": 1, "tckd": 16, "nckd": 128}),
        ("dkd", {"alpha": 2, "beta": 0.5, "temperature": 1}, {"hard": 1, "tckd": 2, "nckd": 0.5}),
        ("dkd", {"alpha": 0, "beta": 0}, {"hard": 1, "tckd": 0, "nckd": 0}),
        ("dist", {}, {"hard": 1, "inter": 2, "intra": 2}),
        ("dist", {"beta": 1, "gamma": 3, "temperature": 4}, {"hard": 1, "inter": 16, "intra": 48}),
        ("lskd", {"alpha": 0.1}, {"hard": 0.1, "soft": 3.6}),
        ("lskd", {"alpha": 0.5, "temperature": 4}, {"hard": 0.5, "soft": 8}),
    ],
)
def test_effective_weights_hold_t_squared_and_the_papers_defaults(name, arguments, weights):
    config = loss_config(name, **arguments)
    assert dict(config.weights) == pytest.approx(weights)
    assert config.weight_hard == pytest.approx(weights["hard"])
    assert config.weight_soft == pytest.approx(sum(weights.values()) - weights["hard"])
    assert config.needs_teacher == (config.weight_soft > 0)


def test_a_loss_that_needs_no_teacher_reads_none():
    student, _, labels = batch(0, 4)
    config = loss_config("kd", alpha=1, temperature=2)
    found = compute_loss(torch.tensor(student), torch.tensor(labels), None, config)
    assert float(found) == pytest.approx(cross_entropy(student, np.eye(CLASSES)[labels]), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "kdd"}, "Did you mean 'kd'"),
        ({"name": "kd"}, "needs both"),
        ({"name": "kd", "alpha": 0.5}, "needs both"),
        ({"name": "kd", "alpha": 1.5, "temperature": 2}, r"\[0, 1\], found 1.5"),
        ({"name": "kd", "alpha": 0.5, "temperature": 0}, "above 0, found 0"),
        ({"name": "lskd", "temperature": 2}, "'lskd' needs alpha"),
        ({"name": "lskd", "alpha": -0.5}, r"alpha must lie in \[0, 1\], found -0.5"),
        ({"name": "dkd", "alpha": -1}, "alpha must be a finite number of at least 0, found -1"),
        ({"name": "dkd", "beta": float("inf")}, "beta must be a finite number of at least 0, found inf"),
        ({"name": "dist", "gamma": -2}, "gamma must be a finite number of at least 0, found -2"),
        ({"name": "hard", "label_smoothing": 1}, r"label_smoothing must lie in \[0, 1\), found 1"),
    ],
)
def test_bad_losses_are_refused_in_a_line(arguments, message):
    with pytest.raises(UsageError, match=message):
        loss_config(**arguments)
