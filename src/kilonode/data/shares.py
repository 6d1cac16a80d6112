"""Who takes what of work that ranks share: pure functions of (rank, size), the only ones of their kind.

Nothing is imported here, so that a thousand nodes can be asked for their shares in a moment (``kilonode muster``).
"""

from __future__ import annotations


def dealt(items: int, rank: int, size: int) -> range:
    """The items of one rank, dealt round robin: raw shards and store shards to write, and to verify."""
    return range(rank, items, size)


def owner(item: int, size: int) -> int:
    """Whose item it is in ``dealt``: the node that reads a file for all when a store is staged."""
    return item % size


def part(length: int, rank: int, size: int) -> tuple[int, int]:
    """First and last + 1 of one rank's part of a global batch; parts are equal or differ by one."""
    return length * rank // size, length * (rank + 1) // size
