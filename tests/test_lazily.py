"""Arrays read when asked for: one is kept, the others are let go."""

import numpy as np
import pytest

from kilonode.data.lazily import Lazily


def test_nothing_is_read_before_it_is_asked_for_and_one_is_kept() -> None:
    asked: list[str] = []

    def read(name: str) -> np.ndarray:
        asked.append(name)
        return np.full(2, len(asked))

    arrays = Lazily(("train", "test"), read)
    assert list(arrays) == ["train", "test"]
    assert asked == []
    assert arrays["train"] is arrays["train"]
    assert [arrays[name][0] for name in ("test", "train")] == [2, 3]
    assert asked == ["train", "test", "train"]


def test_an_unknown_name_is_an_error_and_not_read() -> None:
    with pytest.raises(KeyError, match="truth/x"):
        Lazily((), np.zeros)["truth/x"]  # type: ignore[arg-type]
