from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.errors import CheckpointError, InputError, StoreError
from quickdraw_core.labels import (
    LabelMap,
    challenge_words,
    read_classes_file,
    require_same_labels,
    spaced,
    underscored,
)


def test_the_challenge_has_340_words_in_code_point_order() -> None:
    words = challenge_words()
    assert len(words) == 340
    assert words == sorted(set(words))
    assert not any("_" in word for word in words)


def test_labels_come_from_words_not_from_file_names() -> None:
    # With `.csv`, `baseball bat.csv` sorts before `baseball.csv`.
    label_map = LabelMap.of(["baseball bat", "baseball"])
    assert label_map.words == ("baseball", "baseball bat")
    assert label_map.index == {"baseball": 0, "baseball bat": 1}


def test_real_words_are_the_challenge_words(shared_data: Path) -> None:
    assert sorted(p.stem for p in (shared_data / "train_simplified").glob("*.csv")) == (
        challenge_words()
    )


@given(st.sets(st.sampled_from(challenge_words()), min_size=1))
def test_json_and_underscores_give_the_same_map(words: set[str]) -> None:
    label_map = LabelMap.of(words)
    assert LabelMap.from_json(label_map.to_json()) == label_map
    assert LabelMap.of(underscored(word) for word in words) == label_map
    assert all(spaced(underscored(word)) == word for word in words)


def test_an_edited_map_is_refused() -> None:
    value = LabelMap.of(["cat", "dog"]).to_json()
    with pytest.raises(StoreError, match="does not match its own digest"):
        LabelMap.from_json(value | {"words": ["cat", "eye"]})


def test_two_maps_that_disagree_are_named_with_their_difference() -> None:
    left, right = LabelMap.of(["cat", "dog"]), LabelMap.of(["cat", "eye"])
    require_same_labels(left, "A", left, "B", CheckpointError)
    with pytest.raises(CheckpointError, match=r"A has 2 classes .*only in A: dog; only in B: eye"):
        require_same_labels(left, "A", right, "B", CheckpointError)


def test_a_class_list_may_hold_comments_and_underscores(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("# mine\nhot_dog\n\n cat \n")
    assert read_classes_file(path) == ["hot dog", "cat"]


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_an_empty_class_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no word"):
        read_classes_file(path)
