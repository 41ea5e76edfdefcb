"""Splits: disjoint, nested, reproducible; near-duplicates against a plain double loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorescope.data import ImageSet, IndexList, disjoint_subsets, find_near_duplicates, splits, train_test_split
from scorescope.foundation import UserError


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 20), st.integers(0, 99), st.data())
def test_subsets_are_disjoint_and_nested(count: int, share: int, rest: int, seed: int, data: st.DataObject) -> None:
    total = count * share + min(rest, count - 1)
    size = data.draw(st.integers(1, share))
    smaller = data.draw(st.integers(1, size))
    large = disjoint_subsets(total, size, count=count, seed=seed)
    small = disjoint_subsets(total, smaller, count=count, seed=seed)
    together = np.concatenate(large)
    assert len(set(together.tolist())) == count * size
    assert together.min() >= 0
    assert together.max() < total
    for one, other in zip(small, large, strict=True):
        np.testing.assert_array_equal(one, other[:smaller])


def test_seeds_choose() -> None:
    one, other = disjoint_subsets(1000, 100, seed=0)[0], disjoint_subsets(1000, 100, seed=1)[0]
    assert not np.array_equal(one, other)


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="2 disjoint subsets of 6 need 12 images, there are 11: at most 5 each"):
        disjoint_subsets(11, 6, seed=0)
    with pytest.raises(UserError, match="size ≥ 1"):
        disjoint_subsets(11, 0, seed=0)


@given(st.integers(2, 60), st.integers(0, 9), st.data())
def test_train_and_test_share_out_everything(total: int, seed: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, total - 1))
    train, test = train_test_split(total, wanted, seed=seed)
    assert len(test) == wanted
    assert sorted([*train, *test]) == list(range(total))


@pytest.mark.parametrize("wanted", [0, 5])
def test_an_empty_part_is_refused(wanted: int) -> None:
    with pytest.raises(UserError, match="between 1 and 4"):
        train_test_split(5, wanted, seed=0)


def plain(vectors: np.ndarray, threshold: float) -> tuple[list[int], list[int]]:
    """Kept and removed by the definition, one pair at a time, in float64."""
    kept: list[int] = []
    removed = []
    for i, vector in enumerate(vectors):
        cosines = [vector @ vectors[j] / np.linalg.norm(vector) / np.linalg.norm(vectors[j]) for j in kept]
        (removed if cosines and max(cosines) > threshold else kept).append(i)
    return kept, removed


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000),
    st.integers(2, 40),
    st.floats(-0.5, 0.99),
    st.sampled_from(["set", "own", "none"]),
    st.integers(1, 17),
)
def test_near_duplicates_are_those_of_the_definition(
    seed: int, count: int, threshold: float, centre: str, block: int
) -> None:
    random = np.random.default_rng(seed)
    originals = random.integers(0, 256, (count, 1, 3, 3))
    copies = originals[random.integers(0, count, count // 2)] + random.integers(-9, 9, (count // 2, 1, 3, 3))
    pixels = random.permutation(np.concatenate([originals, copies])).clip(0, 255).astype(np.uint8)
    vectors = pixels.reshape(len(pixels), -1) / 127.5 - 1
    vectors -= {"set": vectors.mean(0), "own": vectors.mean(1, keepdims=True), "none": 0}[centre]
    kept, removed = plain(vectors, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "_BLOCK", block)
        found = find_near_duplicates(ImageSet(pixels), threshold, centre=centre)
    assert found.kept.tolist() == kept
    assert found.removed.tolist() == removed
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[removed] @ unit[kept].T if removed else np.zeros((0, 1))
    for i, row in enumerate(removed):
        earlier = [j for j, other in enumerate(kept) if other < row]
        assert found.similarity[i] == pytest.approx(max(cosines[i, earlier]), abs=1e-5)
        assert cosines[i, kept.index(found.twin[i])] == pytest.approx(found.similarity[i], abs=1e-5)


def test_images_without_a_direction_are_alike() -> None:
    same = ImageSet(np.full((5, 1, 2, 2), 80, np.uint8))
    found = find_near_duplicates(same, centre="set")
    assert found.kept.tolist() == [0]
    assert found.twin.tolist() == [0] * 4
    assert find_near_duplicates(same, centre="none").kept.tolist() == [0]


def test_near_duplicates_of_a_subset_count_within_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    pixels[5] = pixels[2]
    subset = ImageSet(pixels).subset([5, 0, 2]).with_flips()
    found = find_near_duplicates(subset, centre="none")
    assert found.removed.tolist() == [2]
    assert found.twin.tolist() == [0]
    with pytest.raises(UserError, match="between -1 and 1, found 1.5"):
        find_near_duplicates(subset, 1.5)


def test_index_lists_are_found_again(tmp_path: Path) -> None:
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (8, 1, 4, 4), dtype=np.uint8), name="photos")
    chosen = disjoint_subsets(8, 3, seed=1)[1]
    IndexList.of(images, chosen, "half 1 of 2, size 3, seed 1").save(tmp_path / "half.json")
    read = IndexList.load(tmp_path / "half.json")
    assert read.made_by == "half 1 of 2, size 3, seed 1"
    np.testing.assert_array_equal(read.choose(images).read(0, 3), images.take(chosen))
    with pytest.raises(UserError, match="counts in photos"):
        read.choose(images.subset(range(7)))
    with pytest.raises(UserError, match="holds others"):
        read.choose(images.with_flips())
    with pytest.raises(UserError, match="go from 0 to 7"):
        IndexList.of(images, [8], "wrong")


def test_files_that_are_no_index_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no list of indices at"):
        IndexList.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"indices": [1]}')
    with pytest.raises(UserError, match="is not a list of indices: made_by"):
        IndexList.load(tmp_path / "bad.json")


def test_one_subset_that_is_too_large_is_refused() -> None:
    with pytest.raises(UserError, match="a subset of 12 images was asked for, there are 11"):
        disjoint_subsets(11, 12, count=1, seed=0)
