"""What only this case measures: labels against truth, average precision, few labels, hours before and after.

``patch_measures`` and ``box_measures`` hold the work.
"""

from __future__ import annotations

from kilonode.cases.contract import Measured, Trained
from kilonode.cases.extreme_weather import box_measures, patch_measures
from kilonode.cases.extreme_weather.reports import Report


def measure(trained: Trained) -> Measured:
    """Measure one trained network on test sequences.

    Parameters
    ----------
    trained : Trained
        Of any task of this case. User data get what needs no truth.

    Returns
    -------
    Measured
        patches: questions ``truth``, ``networks``, ``kinds``, ``strength``. boxes: ``boxes_labels``, ``boxes_truth``,
        ``bounds``, ``strength``, ``reconstruction``, ``few_labels``, ``time``.
    """
    report = Report(trained.stores["test"].read("group"))
    if trained.task.startswith("boxes"):
        box_measures.measure(trained, report)
    else:
        patch_measures.measure(trained, report)
    return Measured(report.rows, report.curves, report.arrays)
