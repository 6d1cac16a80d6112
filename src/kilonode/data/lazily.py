"""Arrays that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np


class Lazily(Mapping[str, np.ndarray]):
    """Named arrays of which only the one asked for last is kept: all of them may be larger than memory.

    Parameters
    ----------
    names : iterable of str
        What may be asked for.
    read : callable
        ``read(name)``: the array.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], np.ndarray]) -> None:
        self._names = tuple(names)
        self._read = read
        self._kept: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._kept:
            self._kept.clear()  # before the next one is read, not after
            self._kept[name] = self._read(name)
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
