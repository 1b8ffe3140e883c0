from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data import Labelled, Source, load_splits
from nasflow_cli.train.data.load import statistics
from nasflow_cli.train.data.splits import apportion, choose_splits


def configured(**settings: object) -> DataConfig:
    return DataConfig.model_validate({"source": "digits", **settings})


def names(num: int) -> list[str]:
    return [f"c{label}" for label in range(num)]


def labels_of(*sizes: int, seed: int = 0) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    return np.random.default_rng(seed).permutation(labels)


def load_source(monkeypatch: pytest.MonkeyPatch, source: Source, **settings: object):
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    DATASETS.register("made_here")(lambda config: source)
    return load_splits(DataConfig.model_validate({"source": "made_here", **settings}))


def blank(labels: np.ndarray, shape: tuple[int, int, int] = (1, 4, 4)) -> Labelled:
    return Labelled(images=np.zeros((len(labels), *shape), dtype=np.uint8), labels=labels)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 60), min_size=2, max_size=7),
    fractions=st.tuples(st.floats(0.05, 0.6), st.floats(0.05, 0.6)),
    limit=st.none() | st.integers(2, 200),
    seed=st.integers(0, 2**32),
)
def test_no_index_is_in_two_splits_and_every_class_is_in_each(sizes, fractions, limit, seed):
    labels = labels_of(*sizes, seed=seed)
    config = configured(
        test_fraction=fractions[0], validation_fraction=fractions[1], train_limit=limit, split_seed=seed
    )
    try:
        chosen = choose_splits(labels, None, names(len(sizes)), config)
    except DataError:
        return
    parts = (chosen.train, chosen.validation, chosen.test)
    every = np.concatenate(parts)
    assert len(np.unique(every)) == len(every)
    remaining = len(labels) - round(fractions[0] * len(labels))
    used = remaining if limit is None else min(limit, remaining)
    assert len(chosen.test) == round(fractions[0] * len(labels))
    assert len(chosen.validation) == round(fractions[1] * used)
    assert len(chosen.train) == used - len(chosen.validation)
    for part in parts:
        assert np.all(np.diff(part) > 0)
        assert set(labels[part]) == set(range(len(sizes)))


def test_counts_go_to_the_largest_remainders():
    sizes = np.array([50, 33, 17])
    counts = apportion(sizes, 10, np.ones_like(sizes), sizes)
    assert counts.tolist() == [5, 3, 2]  # quotas 5.0, 3.3, 1.7


def test_a_rare_class_still_gets_one_and_the_total_stays():
    sizes = np.array([1000, 1000, 4])
    counts = apportion(sizes, 20, np.ones_like(sizes), sizes - 1)
    assert counts.tolist() == [10, 9, 1]


def test_counts_are_not_above_what_a_class_may_give():
    sizes = np.array([10, 10, 2])
    counts = apportion(sizes, 18, np.ones_like(sizes), sizes - 1)
    assert counts.tolist() == [9, 8, 1]


def test_digits_are_split_in_proportion():
    splits = load_splits(configured(test_fraction=0.2))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 1797
    assert len(splits.test) == 359  # round(0.2 * 1797)
    assert splits.num_classes == 10
    assert splits.input_shape == (1, 8, 8)
    every = np.concatenate([part.labels for part in (splits.train, splits.validation, splits.test)])
    whole, held = Counter(every.tolist()), Counter(splits.test.labels.tolist())
    assert all(abs(held[label] - 0.2 * whole[label]) <= 1 for label in range(10))


def test_digits_span_the_whole_range_of_grey_levels():
    splits = load_splits(configured())
    assert (splits.train.images.min(), splits.train.images.max()) == (0, 255)


def test_test_indices_find_the_test_images_in_the_source():
    splits = load_splits(configured(test_limit=50))
    assert len(splits.test_indices) == 50
    original, labels = load_digits(return_X_y=True)
    where = list(splits.test_indices)
    assert np.array_equal(labels[where], splits.test.labels)
    assert np.array_equal(np.rint(original[where] * 255 / 16), splits.test.images.reshape(50, 64))


def test_the_test_split_does_not_depend_on_the_other_settings():
    one = load_splits(configured(split_seed=3))
    other = load_splits(configured(split_seed=3, train_limit=200, validation_fraction=0.4))
    assert one.test_indices == other.test_indices
    assert len(other.train) == 120
    assert len(other.validation) == 80


def test_the_same_seed_splits_alike_and_another_does_not():
    labels = labels_of(40, 40)
    first, again, other = (
        choose_splits(labels, None, names(2), configured(split_seed=seed)).validation.tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_validation_and_test_choices_differ_though_their_seed_is_one():
    labels = labels_of(50, 50)
    carved = choose_splits(labels, None, names(2), configured(test_fraction=0.2))
    held = choose_splits(labels, labels, names(2), configured(validation_fraction=0.2))
    assert carved.test.tolist() != held.validation.tolist()


def test_a_larger_limit_holds_every_image_of_a_smaller_one():
    labels = labels_of(100, 60, 40)
    small, large = (choose_splits(labels, labels, names(3), configured(train_limit=limit)) for limit in (30, 90))
    used = [set(np.concatenate([part.train, part.validation]).tolist()) for part in (small, large)]
    assert [len(one) for one in used] == [30, 90]
    assert used[0] < used[1]


def test_limits_keep_the_proportions_of_the_classes():
    labels = labels_of(300, 100)
    chosen = choose_splits(labels, labels, names(2), configured(train_limit=100, test_limit=40))
    assert np.bincount(labels[np.concatenate([chosen.train, chosen.validation])]).tolist() == [75, 25]
    assert np.bincount(labels[chosen.test]).tolist() == [30, 10]


def test_statistics_are_of_the_train_split_alone_and_in_grey_levels(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 3, 5, 4), dtype=np.uint8)
    source = Source(train=Labelled(images=images, labels=labels_of(100, 100)), test=None, classes=("a", "b"))
    splits = load_source(monkeypatch, source)
    train = splits.train.images.astype(np.float64)
    assert len(train) < 200
    assert splits.mean == pytest.approx(tuple(train.mean(axis=(0, 2, 3))), rel=1e-12)
    assert splits.std == pytest.approx(tuple(train.std(axis=(0, 2, 3))), rel=1e-12)


def test_statistics_are_the_same_however_many_blocks_there_are():
    images = np.random.default_rng(1).integers(0, 256, (2500, 1, 2, 2), dtype=np.uint8)
    mean, std = statistics(images)
    assert mean[0] == pytest.approx(images.mean(), rel=1e-12)
    assert std[0] == pytest.approx(images.std(), rel=1e-12)


def test_the_deviation_of_a_constant_channel_is_one():
    assert statistics(np.full((4, 1, 2, 2), 7, dtype=np.uint8)) == ((7.0,), (1.0,))


def test_a_test_split_of_its_own_is_kept_whole(monkeypatch):
    test = blank(labels_of(3, 5))
    splits = load_source(monkeypatch, Source(train=blank(labels_of(20, 20)), test=test, classes=("a", "b")))
    assert splits.test_indices is None
    assert np.array_equal(splits.test.labels, test.labels)
    assert len(splits.train) + len(splits.validation) == 40


def test_grey_images_become_colour_where_the_test_images_are(monkeypatch):
    grey = Labelled(images=np.full((20, 1, 4, 4), 9, dtype=np.uint8), labels=labels_of(10, 10))
    source = Source(train=grey, test=blank(labels_of(2, 2), (3, 4, 4)), classes=("a", "b"))
    splits = load_source(monkeypatch, source)
    assert splits.input_shape == (3, 4, 4)
    assert splits.train.images.tolist() == np.full((16, 3, 4, 4), 9).tolist()


@pytest.mark.parametrize(
    ("sizes", "settings", "wanted"),
    [
        ((20, 2, 20), {}, "class 'c1' has 2 examples for train, validation, test, and needs at least 3"),
        ((20, 0, 20), {}, "class 'c1' has 0 examples"),
        ((1, 1, 0), {}, "2 examples for 3 classes"),
        ((20, 20), {"train_limit": 3}, "data.train_limit: 3 examples are too few.*set at least 4"),
        ((20, 20), {"test_limit": 1}, "data.test_limit: 1 examples are too few.*set at least 2"),
        ((20, 20), {"validation_fraction": 0.01}, "data.validation_fraction: 0.01 of 32 examples is 0.*raise it"),
        ((20, 20), {"test_fraction": 0.01}, "data.test_fraction: 0.01 of 40 examples is 0.*raise it"),
        ((20, 20), {"test_fraction": 0.99}, "data.test_fraction: 0.99 of 40 examples is 40.*lower it"),
    ],
)
def test_a_split_that_would_lack_a_class_is_refused(sizes, settings, wanted):
    with pytest.raises(DataError, match=wanted) as caught:
        choose_splits(labels_of(*sizes), None, names(len(sizes)), configured(**settings))
    assert caught.value.exit_code == 2


def test_a_class_that_own_test_images_lack_is_named():
    with pytest.raises(DataError, match="class 'c1' has 0 examples for test"):
        choose_splits(labels_of(9, 9), np.zeros(5, dtype=np.int64), names(2), configured())
