"""Feeds: on whatever way batches reach the device, they are the same batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_fakes import bright_pictures, three_parts

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.training.ahead import open_ahead
from hkbench.training.feed import HostFeed, ResidentFeed, StreamedFeed, TrainingData, _Columns, feed_for
from hkbench.training.rendered import rendered_views

CPU = torch.device("cpu")
VIEWS = 3


@pytest.fixture(params=["plain", "mixed"])
def made(request, tmp_path):
    store, split = bright_pictures(tmp_path), three_parts()
    policy = ViewPolicy(erasing=0.5, mixup=0.5 if request.param == "mixed" else 0.0)
    table = sample_views(VIEWS, len(split.train), 0, policy)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(VIEWS, len(split.train), 3)).astype(np.float16)
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=table.parameters,
        partners=table.partners,
        teacher_logits=logits,
    )
    path = rendered_views([store], split, table)[store.size]
    return data, replace(data, inputs=open_ahead(path, VIEWS))


def epoch_of(feed, data):
    rng = np.random.default_rng(1)
    order, views = rng.permutation(len(data.train)), rng.integers(VIEWS, size=len(data.train))
    return list(feed.epoch([order[at : at + 16] for at in range(0, 64, 16)], views))


def same(one, other):
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.teacher_logits, b.teacher_logits)
        assert torch.equal(a.targets(3), b.targets(3))


def columns(data):
    return _Columns.of(data, with_teacher=True)


def test_rendered_ahead_or_on_the_way_the_bits_are_the_same(made):
    on_the_way, ahead = made
    same(epoch_of(HostFeed(columns(on_the_way)), on_the_way), epoch_of(HostFeed(columns(ahead)), ahead))


@pytest.mark.parametrize("feed", [ResidentFeed, StreamedFeed])
def test_resident_and_streamed_batches_are_those_of_the_host(made, feed):
    for data in made:
        same(epoch_of(HostFeed(columns(data)), data), epoch_of(feed(columns(data), CPU), data))


def test_inputs_are_pictures_in_0_to_1_in_channels_last(made):
    for data in made:
        batch = epoch_of(feed_for(data, CPU, with_teacher=True), data)[0]
        assert batch.inputs.shape == (16, 3, 32, 32)
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
        assert 0 <= batch.inputs.min() < 0.2
        assert 0.8 < batch.inputs.max() <= 1


def test_mixed_targets_are_shares_of_both_labels(made):
    data, _ = made
    batch = epoch_of(feed_for(data, CPU, with_teacher=True), data)[0]
    if data.partners is None:
        assert torch.equal(batch.targets(3), batch.labels)
        return
    targets = batch.targets(3)
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
    own = targets.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
    assert (own >= batch.share - 1e-6).all()
    assert (own < 0.999).any(), "something was mixed in"


def test_without_a_teacher_no_logits_are_fetched(made):
    data, _ = made
    assert epoch_of(feed_for(data, CPU, with_teacher=False), data)[0].teacher_logits is None


def test_data_that_takes_more_than_half_of_what_is_free_to_a_trial_streams(made, monkeypatch):
    data, _ = made
    device, least = torch.device("meta"), 2 * columns(data).nbytes
    for free, kind in ((least, ResidentFeed), (least - 2, StreamedFeed)):
        monkeypatch.setattr("hkbench.training.feed.free_bytes", lambda device, free=free: free)
        assert type(feed_for(data, device, with_teacher=True)) is kind


def test_a_streamed_epoch_can_be_left_early(made):
    data, _ = made
    feed = StreamedFeed(columns(data), CPU)
    batches = feed.epoch([np.arange(16)] * 50, np.zeros(len(data.train), dtype=np.int64))
    next(batches)
    batches.close()
    assert len(epoch_of(feed, data)) == 4
