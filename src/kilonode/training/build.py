"""A case's network, built as its configuration says."""

from __future__ import annotations

from typing import Any

from kilonode.cases import contract
from kilonode.errors import UserError
from kilonode.records import Json


def build(case: str, task: str, settings: Json, shape: tuple[int, ...]) -> Any:
    """The network of a task with random weights, a ``contract.Model``.

    Parameters
    ----------
    case, task : str
        What to build.
    settings : dict
        The task's ``model`` section.
    shape : tuple of int
        (C, H, W) of one input.

    Raises
    ------
    UserError
        The case cannot build it so; its reason.
    """
    try:
        return contract.load(case).models.build(task, settings, shape)
    except ValueError as error:
        raise UserError(f"{error} (model of {case}/{task}); mend it in case.yaml or the mapping") from None
