"""Errors a user can act on, and the exit codes they end with.

Message form: ``<what was expected>, got <what came> (<where>); <what to do>``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER = 2
"""Something the user can mend: printed without a traceback; no retry helps."""
EXIT_AGAIN = 75
"""Stopped before the end with everything saved (BSD's EX_TEMPFAIL): the same command continues."""


class UserError(Exception):
    """Bad input, missing tool, unusable machine: one line each, exit code 2.

    Parameters
    ----------
    *problems : str
        All problems found, not just the first. Line breaks in them (HDF5 writes some) become spaces.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(" ".join(problem.splitlines()) for problem in problems)
        super().__init__("\n".join(self.problems))


class DataError(UserError):
    """A data file breaks its contract."""


def near(word: str, allowed: Iterable[str]) -> str:
    """``did you mean X?`` for the closest allowed word, else the list of allowed words."""
    allowed = sorted(allowed)
    match = difflib.get_close_matches(word, allowed, n=1)
    return f"did you mean {match[0]!r}?" if match else f"allowed: {', '.join(allowed)}"
