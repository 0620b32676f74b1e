"""How trials share a GPU: shares by estimate, estimates by probe and measurement, and too little memory."""

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkbench.driver.gpu_estimates import MARGIN
from hkbench.driver.gpu_packing import (
    PARTS,
    RAY_UNITS,
    Decision,
    GpuPacking,
    data_bytes_of,
    job_of,
)
from hkbench.spaces.settings import TrialSettings
from hkbench.store.records import TelemetryRecord, Usage
from hkbench.training.feed import TrainingData, _Columns
from hkbench.training.gpu_memory import CONTEXT_BYTES
from hkbench.training.memory_probe import BatchPeak, Found, MemoryProbe, ProbeFailure, ProbeJob

MIB, GIB = 1024**2, 1024**3
SHARES = (1.0, 0.5, 0.3333, 0.25, 0.1666, 0.125)


def trial(**changes: Any) -> TrialSettings:
    return TrialSettings.model_validate(
        {"model": "household_s", "batch_size": 64, "image_size": 64} | changes
    )


def packing(device_gib: float = 16, cores: int = 8, data_bytes: dict[int, int] | None = None) -> GpuPacking:
    return GpuPacking(device_bytes=round(device_gib * GIB), cores_per_gpu=cores, data_bytes=data_bytes or {})


def probe_of(
    job: ProbeJob, *, fixed_mib: float = 500, picture_mib: float = 10, context_mib: int = 500
) -> MemoryProbe:
    """Return what a device would show whose memory follows the model: some fixed, some for each picture."""
    peaks = [
        BatchPeak(
            batch_size=batch,
            reserved_bytes=round((fixed_mib + picture_mib * batch) * MIB),
            allocated_bytes=round((fixed_mib + picture_mib * batch) * MIB),
        )
        for batch in job.batch_sizes
    ]
    return MemoryProbe(
        job=job,
        device_bytes=16 * GIB,
        context_bytes=context_mib * MIB,
        weight_bytes=MIB,
        peaks=(peaks[0], peaks[1]),
        evaluation_bytes=MIB,
    )


def probed(found: GpuPacking | None = None, **changes: Any) -> GpuPacking:
    found = found or packing()
    settings = trial()
    found.learn(settings, probe_of(job_of(settings, 69), **changes))
    return found


def test_a_trial_has_a_whole_device_until_something_is_measured() -> None:
    found = packing()
    assert found.share_of(trial()) == 1
    found.note_peak(trial(), 300 * MIB)
    assert found.share_of(trial()) == 0.125
    assert found.share_of(trial(model="mobilenet_v2")) == 1
    assert found.share_of(trial(compiled=True)) == 1
    assert found.share_of(trial(unfreeze="none")) == 1


@pytest.mark.parametrize(
    ("fixed_mib", "share"),
    # A share holds 0.98 · 16 GiB / parts less a context of 500 MiB: 1507 MiB in 1/8, 2176 in 1/6, …
    [(700, 0.125), (731, 0.1666), (1400, 0.25), (2600, 0.3333), (4100, 0.5), (6300, 1.0), (30_000, 1.0)],
)
def test_the_least_share_that_holds_a_trial_is_taken(fixed_mib: float, share: float) -> None:
    # With the margin of a tenth, 64 pictures of 10 MiB and these are the estimate.
    assert probed(fixed_mib=fixed_mib).share_of(trial()) == share


def test_the_margin_is_a_tenth_of_what_the_model_says() -> None:
    holds = packing(device_gib=16).allowed_bytes(0.125)  # with the context that is assumed
    context_mib = CONTEXT_BYTES // MIB
    fits = holds / MIB / 1.1 - 640
    assert MARGIN == 0.1
    assert probed(fixed_mib=fits - 1, context_mib=context_mib).share_of(trial()) == 0.125
    assert probed(fixed_mib=fits + 1, context_mib=context_mib).share_of(trial()) == 0.1666


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.125),
        ({"batch_size": 128}, 0.1666),
        ({"batch_size": 256}, 0.25),
        ({"image_size": 128}, 0.25),  # as four times the batch
        ({"image_size": 256}, 1.0),
        ({"batch_size": 16, "image_size": 128}, 0.125),
    ],
)
def test_batch_and_picture_size_follow_from_one_probe(changes: dict[str, int], share: float) -> None:
    assert probed().share_of(trial(**changes)) == share


def test_pictures_that_lie_on_the_device_count() -> None:
    assert probed(packing(data_bytes={64: 2 * GIB})).share_of(trial()) == 0.25
    assert probed(packing(data_bytes={64: 9 * GIB})).share_of(trial()) == 0.125  # so many stream


def test_the_bytes_of_the_pictures_are_those_that_a_feed_keeps() -> None:
    data = TrainingData(
        pictures=np.zeros((10, 3, 32, 32), np.uint8),
        labels=np.zeros(10, np.int64),
        train=np.arange(8),
        validation=np.arange(2),
        views=np.zeros((2, 8, 5), np.float16),
        teacher_logits=np.zeros((2, 8, 4), np.float16),
    )
    rendered = TrainingData(**(vars(data) | {"inputs": np.zeros((2, 8, 64, 64, 3), np.uint8)}))
    by_size: dict[int, TrainingData] = {32: data, 64: rendered}
    shared: Any = SimpleNamespace(stores=by_size, open=lambda size: SimpleNamespace(data=by_size[size]))
    beside = 10 * 8 + 8 * 8 + 2 * 8 * 5 * 2 + 2 * 8 * 4 * 2
    assert data_bytes_of(shared) == {32: 10 * 3 * 32**2 + beside, 64: 2 * 8 * 3 * 64**2 + beside}
    assert data_bytes_of(shared)[32] == _Columns.of(data, with_teacher=True).nbytes


@pytest.mark.parametrize(("cores", "most"), [(0, 1), (1, 1), (2, 2), (5, 4), (7, 6), (64, 8)])
def test_no_more_trials_share_a_device_than_it_has_cores(cores: int, most: int) -> None:
    found = probed(packing(device_gib=80, cores=cores))
    assert found.least_share == found.share_of(trial()) == RAY_UNITS // most / RAY_UNITS


def test_what_others_hold_of_a_device_is_not_shared_out() -> None:
    found = GpuPacking(device_bytes=16 * GIB, cores_per_gpu=8, data_bytes={}, held_bytes=4 * GIB)
    assert found.allowed_bytes(0.5) == packing(device_gib=12).allowed_bytes(0.5)
    assert found.memory_fraction(0.5) == found.allowed_bytes(0.5) / (16 * GIB)  # torch counts from the whole
    assert found.memory_fraction(1.0) == 1.0


def test_shares_fill_a_device_as_ray_counts() -> None:
    assert tuple(RAY_UNITS // parts / RAY_UNITS for parts in PARTS) == SHARES
    assert all(
        parts * round(share * RAY_UNITS) <= RAY_UNITS for parts, share in zip(PARTS, SHARES, strict=True)
    )


@pytest.mark.parametrize("device_gib", [4, 16, 80])
def test_the_limits_of_all_trials_and_their_contexts_fit_on_the_device(device_gib: int) -> None:
    found = probed(packing(device_gib=device_gib), context_mib=490)
    for parts, share in zip(PARTS[1:], SHARES[1:], strict=True):
        fraction = found.memory_fraction(share)
        assert 0 <= fraction < 1 / parts
        assert parts * (fraction * device_gib * GIB + 490 * MIB) <= device_gib * GIB
    assert found.memory_fraction(1.0) == 1.0


def test_a_limit_is_never_below_nothing() -> None:
    found = packing(device_gib=1)
    assert found.memory_fraction(0.125) == 0
    found.note_peak(trial(), 1)
    assert found.share_of(trial()) == 1  # no smaller part holds the context itself


def test_a_measured_peak_raises_all_estimates_of_its_kind_and_lowers_none() -> None:
    found = probed()
    assert found.share_of(trial()) == 0.125
    found.note_peak(trial(), 100 * MIB)
    assert found.share_of(trial()) == 0.125
    found.note_peak(trial(), 3 * GIB)
    assert found.share_of(trial()) == 0.25
    assert found.share_of(trial(batch_size=128)) == 0.3333  # it too was predicted too low
    found.note_peak(trial(), 100 * MIB)
    assert found.share_of(trial()) == 0.25


def test_peaks_alone_bound_what_is_like_them() -> None:
    found = packing()
    found.note_peak(trial(), 1200 * MIB)
    assert found.share_of(trial()) == 0.125
    assert found.share_of(trial(batch_size=16)) == 0.125  # no more than the larger batch
    assert found.share_of(trial(batch_size=256)) == 0.5  # at most four times as much
    assert found.share_of(trial(image_size=128)) == 0.5
    assert found.share_of(trial(optimizer="plain_sgd")) == 0.125
    assert (
        found.share_of(trial(optimizer="adamw")) == 1
    )  # it keeps more of each weight, and nobody knows how many


def test_peaks_that_grow_from_epoch_to_epoch_are_no_contradiction() -> None:
    found = packing()
    for peak_mib in (300, 600, 1200):
        found.note_peak(trial(), peak_mib * MIB)
    assert found.share_of(trial()) == 0.125
    found.on_out_of_memory(7, trial(), 0.125, None)
    assert found.share_of(trial()) == 0.1666
    found.note_peak(trial(), 2000 * MIB)  # what it was then, where it had room
    assert found.share_of(trial()) == 0.25


def test_a_trial_with_resting_stages_bounds_no_other() -> None:
    found = packing()
    found.note_peak(trial(gradual_epochs=2), 300 * MIB)
    assert found.share_of(trial(gradual_epochs=2)) == 1
    assert found.share_of(trial()) == 1


@given(
    batches=st.lists(st.sampled_from([4, 16, 64, 256]), min_size=1, max_size=6),
    sizes=st.lists(st.sampled_from([32, 64, 128]), min_size=6, max_size=6),
    peaks=st.lists(st.integers(1, 20 * GIB), min_size=6, max_size=6),
    is_probed=st.booleans(),
)
def test_no_estimate_is_below_what_was_measured(
    batches: list[int], sizes: list[int], peaks: list[int], is_probed: bool
) -> None:
    found = probed() if is_probed else packing()
    measured = list(zip(batches, sizes, peaks, strict=False))
    for batch, size, peak in measured:
        found.note_peak(trial(batch_size=batch, image_size=size), peak)
    for batch, size, peak in measured:
        share = found.share_of(trial(batch_size=batch, image_size=size))
        assert share == 1 or found.allowed_bytes(share) >= peak


@pytest.mark.parametrize("share", SHARES[1:])
@pytest.mark.parametrize("is_probed", [True, False])
@pytest.mark.parametrize("asked", [None, 20 * MIB])
def test_out_of_memory_in_a_share_goes_on_in_the_next_larger_one(
    share: float, is_probed: bool, asked: int | None
) -> None:
    found = probed() if is_probed else packing()
    found.note_peak(trial(), 10 * MIB)
    verdict = found.on_out_of_memory(7, trial(), share, asked)
    larger = SHARES[SHARES.index(share) - 1]
    assert verdict.decision is Decision.REQUEUE
    assert verdict.share == larger
    assert found.share_of(trial()) == larger  # and so does the next trial like it
    assert found.share_of(trial(batch_size=128)) >= larger
    assert verdict.constraints == {}


def test_a_share_that_cannot_hold_what_was_asked_for_is_passed_over() -> None:
    verdict = probed().on_out_of_memory(7, trial(), 0.125, 6 * GIB)
    assert verdict.share == 0.5
    assert verdict.reason == (
        "trial 7 ran out of memory in 1/8 of a GPU; 6.0 GiB more were asked for; it goes on in 1/2, and all "
        "of household_s is packed less"
    )


def test_packing_is_lowered_for_all_of_a_network_that_was_only_measured() -> None:
    found = packing()
    found.note_peak(trial(), 300 * MIB)
    found.on_out_of_memory(7, trial(), 0.125, None)
    assert found.share_of(trial(batch_size=32)) == 0.1666
    assert found.share_of(trial(batch_size=128)) == 0.25  # twice what 1/8 holds


def test_other_networks_are_packed_as_before() -> None:
    found = probed()
    other = trial(model="mobilenet_v2")
    found.learn(other, probe_of(job_of(other, 69)))
    found.on_out_of_memory(7, trial(), 0.125, None)
    assert found.share_of(trial()) == 0.1666
    assert found.share_of(other) == 0.125


def test_a_trial_is_requeued_only_until_it_has_a_whole_device() -> None:
    found, held = probed(), [0.125]
    for _ in range(len(PARTS)):
        verdict = found.on_out_of_memory(7, trial(), held[-1], 64 * MIB)
        if verdict.decision is not Decision.REQUEUE:
            break
        held.append(verdict.share)
    assert held == [0.125, 0.1666, 0.25, 0.3333, 0.5, 1.0]
    assert verdict.decision is Decision.TOO_LARGE


@pytest.mark.parametrize(
    ("asked", "violation", "said"),
    [
        (2 * GIB, 2.0 * GIB, "out of memory alone on a GPU of 16.0 GiB; 2.0 GiB more were asked for"),
        (512, 512.0, "out of memory alone on a GPU of 16.0 GiB; 0 MiB more were asked for"),
        (None, 1.0, "out of memory alone on a GPU of 16.0 GiB"),
    ],
)
def test_out_of_memory_alone_breaks_a_limit_by_what_was_asked_for(
    asked: int | None, violation: float, said: str
) -> None:
    verdict = packing().on_out_of_memory(7, trial(), 1.0, asked)
    assert verdict.decision is Decision.TOO_LARGE
    assert verdict.constraints == {"gpu_bytes": violation}
    assert verdict.reason == said


@pytest.mark.parametrize(
    ("asked_mib", "others_gib", "decision"),
    [
        (500, 12.0, Decision.OCCUPIED),
        (500, 0.4, Decision.TOO_LARGE),
        (100, 1.0, Decision.TOO_LARGE),  # less than a tenth of the device: a desktop's
        (8000, 5.0, Decision.TOO_LARGE),  # without the others it had not been enough either
    ],
)
def test_a_device_that_others_hold_is_not_the_trials_fault(
    asked_mib: int, others_gib: float, decision: Decision
) -> None:
    others = round(others_gib * GIB)
    verdict = packing().on_out_of_memory(7, trial(), 1.0, asked_mib * MIB, others)
    assert verdict.decision is decision
    if decision is Decision.OCCUPIED:
        assert verdict.constraints == {}
        assert verdict.reason.startswith("out of memory on a GPU of which other processes held 12.0 GiB")


def test_one_network_of_each_kind_is_probed_at_its_largest(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[ProbeJob] = []

    def prober(jobs: Sequence[ProbeJob]) -> list[Found]:
        asked.extend(jobs)
        return [
            ProbeFailure(reason="too deep") if job.architecture.model == "mobilenet_v2" else probe_of(job)
            for job in jobs
        ]

    found = packing()
    trials = [
        trial(batch_size=32), trial(batch_size=64, optimizer="adamw"), trial(batch_size=16),
        trial(batch_size=3), trial(model="mobilenet_v2"), trial(model="mobilenet_v3_small", compiled=True),
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        found.probe(trials, 69, prober=prober)
    assert [(job.architecture.model, job.batch_sizes, job.optimizer) for job in asked] == [
        ("household_s", (32, 64), "adamw"),
        ("mobilenet_v2", (32, 64), "sgd"),
    ]
    assert [found.share_of(each) for each in trials] == [0.125, 0.125, 0.125, 0.125, 1, 1]
    assert "mobilenet_v2 isn't packed before it has been trained: too deep" in caplog.text

    found.probe([], 69, prober=prober)
    found.probe([trial(compiled=True)], 69, prober=prober)
    assert len(asked) == 2


def test_a_job_has_two_batches_that_a_batch_norm_takes() -> None:
    assert job_of(trial(batch_size=4), 69).batch_sizes == (2, 4)
    assert job_of(trial(batch_size=3), 69).batch_sizes == (3, 6)
    assert job_of(trial(batch_size=2), 69).batch_sizes == (2, 4)


def row(
    name: str, peak_bytes: int | None, reason: str | None = None, source: Any = "trial"
) -> TelemetryRecord:
    usage = Usage(seconds=1.0, peak_gpu_bytes=peak_bytes, gpu_reason=reason)
    return TelemetryRecord(source=source, name=name, epoch=1, usage=usage)


def test_a_search_that_is_resumed_packs_as_before() -> None:
    trials = {1: trial(), 2: trial(model="mobilenet_v2"), 3: trial(model="mobilenet_v3_small")}
    device = "process memory: this process isn't in NVML's list, the device's is given"
    telemetry = [
        row("1", GIB), row("1", 3 * GIB + CONTEXT_BYTES), row("1", 2 * GIB),
        row("2", GIB, device),  # of all trials together: of none of them
        row("3", None, "the work was given no GPU"),
        row("9", 9 * GIB),  # of a trial whose settings nobody knows
        row("model", 9 * GIB, source="benchmark"),
    ]  # fmt: skip
    live, resumed = packing(), packing()
    live.note_peak(trial(), 3 * GIB)
    resumed.recall(telemetry, trials)
    assert [resumed.share_of(each) for each in trials.values()] == [0.25, 1, 1]
    assert resumed.share_of(trial(batch_size=128)) == live.share_of(trial(batch_size=128))


def test_a_search_that_is_resumed_knows_where_memory_ran_out() -> None:
    live, resumed = probed(), probed()
    verdicts = [live.on_out_of_memory(7, trial(), share, 20 * MIB) for share in (0.125, 0.1666, 0.25)]
    reasons = ["the worker process was lost", *(verdict.reason for verdict in verdicts)]
    resumed.recall_failures(trial(), reasons[:1])
    assert resumed.share_of(trial()) == 0.125
    resumed.recall_failures(trial(), reasons)
    assert resumed.share_of(trial()) == live.share_of(trial()) == 0.3333
    resumed.recall_failures(trial(), [live.on_out_of_memory(7, trial(), 1.0, None).reason])
    assert resumed.share_of(trial()) == 0.3333


def test_the_context_is_the_largest_that_was_probed() -> None:
    found = packing()
    assert found.context_bytes == CONTEXT_BYTES
    found.learn(trial(), probe_of(job_of(trial(), 69), context_mib=300))
    assert found.context_bytes == 300 * MIB
    other = trial(model="mobilenet_v2")
    found.learn(other, probe_of(job_of(other, 69), context_mib=450))
    assert found.context_bytes == 450 * MIB
    found.learn(other, probe_of(job_of(other, 69), context_mib=350))
    assert found.context_bytes == 450 * MIB
