"""Every data set of the registry: named classes, unique ids, one class a product, pictures that decode."""

import pytest

from hkbench.data.decode import decode
from hkbench.data.sources import DATASETS


@pytest.fixture(scope="module", params=DATASETS)
def source(request):
    return DATASETS[request.param]()


def test_labels_are_of_named_classes_each_with_enough_pictures(source):
    assert len(set(source.classes)) == len(source.classes) >= 2
    counts = [int((source.labels == label).sum()) for label in range(len(source.classes))]
    assert sum(counts) == len(source.labels) == len(source.ids)
    assert min(counts) >= 3


def test_ids_are_unique_and_a_product_has_one_class(source):
    assert len(set(source.ids)) == len(source.ids)
    if source.groups is not None:
        classes = {}
        for group, label in zip(source.groups, source.labels.tolist(), strict=True):
            assert classes.setdefault(group, label) == label


@pytest.mark.parametrize("place", [0, 0.37, 0.9999])
def test_pictures_decode_to_the_size_asked_for(source, place):
    picture = decode(source.read(int(place * len(source.ids))), 48)
    assert picture.shape == (3, 48, 48)
    assert picture.min() < picture.max()


def test_opening_again_gives_the_same_fingerprint(source):
    assert DATASETS[source.name]().fingerprint == source.fingerprint
