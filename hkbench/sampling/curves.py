"""What a trial will reach at its last epoch, from all learning curves so far: a Gaussian process.

A trial's accuracy after epoch t is modelled as m(t) + a(x) + g(x) + h(x, t) + noise. m is the mean curve; a
is a sum of what each parameter adds by itself, g what a point x of the space gains beside that for good, h
what it gains for a while. Each covariance of a is Matérn 5/2 in its parameter, those of g and h in all of x
with a length for each parameter; h is exponential in log t besides. The sum lets ten trials say what a
parameter does (additive Gaussian processes, Duvenaud et al., NIPS 2011). In the manner of freeze-thaw
Bayesian optimisation (arXiv 1406.3896), with the mean curve learned from the increments that trials had, so
that those which were stopped early don't pull its end down. Lengths and scales are those of the greatest
posterior density.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

JITTER = 1e-6
LENGTH, SCALE_A = 0.3, -0.7
"""What is expected of the logs of lengths and of the scales of a, before anything is seen."""
LENGTH_T = -2
FEWEST = 4
"""Below so many observations the model is left as its priors say."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Values after epochs: `points` float (trials, columns), `epochs` (n,), `values` (n,), and `trials` (n,),
    whose each is: its place among the points.
    """

    points: NDArray[np.float64]
    epochs: NDArray[np.float64]
    values: NDArray[np.float64]
    trials: NDArray[np.int64]


class CurveModel:
    """The model; `fit` chooses its lengths and scales, `predict` conditions it on what is known.

    Args:
        groups: int (columns,), which columns share a length.
        last: the epoch that is predicted.
    """

    def __init__(self, groups: NDArray[np.int64], last: int) -> None:
        self._groups = torch.from_numpy(groups)
        self._last = last
        self._width = int(groups.max()) + 1 if len(groups) else 0
        self._columns = [torch.from_numpy(np.flatnonzero(groups == group)) for group in range(self._width)]
        # log lengths in x, log scales of a, then logs of: scale g, scale h, length in log t, noise
        self._expected = np.concatenate(
            [np.full(self._width, LENGTH), np.full(self._width, SCALE_A), np.log([0.5, 0.5, 1.0, 0.1])]
        )
        self._parameters = self._expected

    def fit(self, seen: Observations) -> None:
        """Choose the lengths and scales that explain the observations best."""
        if len(seen.values) < FEWEST:
            return
        points, epochs, values = _tensors(seen.points, np.log(seen.epochs), self._residuals(seen))
        trials = torch.from_numpy(seen.trials)
        alone = self._alone(points, points)

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            wanted = torch.tensor(parameters, requires_grad=True)
            steady, passing = self._over_points(wanted, alone, points, points)
            covariance = _over_time(wanted, steady, passing, (trials, epochs), (trials, epochs))
            covariance = covariance + (torch.exp(2 * wanted[-1]) + JITTER) * torch.eye(len(values))
            factor = torch.linalg.cholesky(covariance)
            scaled = torch.linalg.solve_triangular(factor, values[:, None], upper=False)[:, 0]
            found = 0.5 * scaled.square().sum() + factor.diagonal().log().sum() - self._log_prior(wanted)
            found.backward()
            assert wanted.grad is not None
            slope: NDArray[np.float64] = wanted.grad.numpy()
            return float(found.detach()), slope

        best = minimize(
            loss,
            self._parameters,
            jac=True,
            method="L-BFGS-B",
            bounds=[
                *[(-3.0, 3.0)] * self._width,
                *[(-5.0, 1.5)] * self._width,
                *[(-4.0, 2.0), (-4.0, 1.0), (-2.0, 2.0), (-4.0, 0.0)],
            ],
            options={"maxiter": 60},
        )
        self._parameters = best.x

    def _log_prior(self, parameters: Tensor) -> Tensor:
        prior: Tensor = -0.5 * (parameters - torch.from_numpy(self._expected)).square().sum()
        return prior

    def _residuals(self, seen: Observations) -> NDArray[np.float64]:
        self._mean, self._scale = mean_curve(seen, self._last)
        residuals: NDArray[np.float64] = (seen.values - self._mean[seen.epochs.astype(int)]) / self._scale
        return residuals

    def predict(
        self, seen: Observations, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of the value at the last epoch, float (points,) each."""
        with torch.no_grad():
            wanted = torch.from_numpy(self._parameters)
            last = np.full(len(points), math.log(self._last))
            asked, at = _tensors(points, last)
            known, epochs, values = _tensors(seen.points, np.log(seen.epochs), self._residuals(seen))
            seen_at = (torch.from_numpy(seen.trials), epochs)
            steady, passing = self._over_points(wanted, self._alone(known, known), known, known)
            covariance = _over_time(wanted, steady, passing, seen_at, seen_at)
            covariance += (torch.exp(2 * wanted[-1]) + JITTER) * torch.eye(len(values))
            factor = torch.linalg.cholesky(covariance)
            steady, passing = self._over_points(wanted, self._alone(known, asked), known, asked)
            between = _over_time(wanted, steady, passing, seen_at, (torch.arange(len(asked)), at))
            half = torch.linalg.solve_triangular(factor, between, upper=False)
            weights = torch.cholesky_solve(values[:, None], factor)[:, 0]
            mean = between.T @ weights
            scales = torch.exp(2 * wanted[self._width : 2 * self._width + 2]).sum()
            variance = (scales - half.square().sum(dim=0)).clamp_min(1e-12)
        return (
            self._mean[self._last] + self._scale * mean.numpy(),
            self._scale * variance.sqrt().numpy(),
        )

    def _alone(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the correlation of points in each parameter alone, float (parameters, a, b)."""
        return torch.stack([_matern(a[:, columns], b[:, columns]) for columns in self._columns])

    def _over_points(self, parameters: Tensor, alone: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the covariance of points for good, and of what they gain for a while, float (a, b) each."""
        lengths = torch.exp(parameters[: self._width])[self._groups]
        scales_a = torch.exp(parameters[self._width : 2 * self._width])
        scale_g, scale_h = torch.exp(parameters[2 * self._width : 2 * self._width + 2])
        near = _matern(a / lengths, b / lengths)
        steady = scale_g.square() * near + torch.tensordot(scales_a.square(), alone, dims=1)
        return steady, scale_h.square() * near


def _over_time(
    parameters: Tensor, steady: Tensor, passing: Tensor, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]
) -> Tensor:
    """Return the covariance of values: each is of a point, by its place, after the log of an epoch."""
    (at, s), (places, t) = a, b
    in_time = torch.exp(-(s[:, None] - t[None, :]).abs() / torch.exp(parameters[LENGTH_T]))
    pairs = at[:, None], places[None, :]
    return steady[pairs] + passing[pairs] * in_time


def mean_curve(seen: Observations, last: int) -> tuple[NDArray[np.float64], float]:
    """Return the mean value after each epoch, float (last + 1,) with [0] unused, and the scale about it.

    The mean after the first epoch that is seen, plus the mean increments from each epoch to the next that
    trials had.
    """
    total, count = np.zeros(last + 1), np.zeros(last + 1)
    order = np.lexsort((seen.epochs, seen.trials))
    epochs, values, trials = seen.epochs[order].astype(int), seen.values[order], seen.trials[order]
    starts = values[epochs == epochs.min()] if len(epochs) else np.zeros(1)
    for before in range(len(epochs) - 1):
        after = before + 1
        if trials[before] != trials[after]:
            continue
        steps = epochs[after] - epochs[before]
        total[epochs[before] + 1 : epochs[after] + 1] += (values[after] - values[before]) / steps
        count[epochs[before] + 1 : epochs[after] + 1] += 1
    increments = np.divide(total, count, out=np.zeros(last + 1), where=count > 0)
    mean = starts.mean() + np.cumsum(increments)
    residual = seen.values - mean[seen.epochs.astype(int)] if len(epochs) else np.ones(1)
    return mean, max(float(residual.std()), 1e-3)


def _tensors(*arrays: NDArray[np.float64]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(each, dtype=np.float64)) for each in arrays)


def _matern(a: Tensor, b: Tensor) -> Tensor:
    lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None, :]
    square = (lengths - 2 * a @ b.T).clamp_min(0)  # no (points, points, columns) in between
    distance = (5 * square + 1e-12).sqrt()
    return (1 + distance + 5 * square / 3) * torch.exp(-distance)
