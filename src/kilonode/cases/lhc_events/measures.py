"""What only this case measures: searches in the tail, on test blocks, at thresholds of validation blocks."""

from __future__ import annotations

from kilonode.cases.contract import Measured, Trained
from kilonode.cases.lhc_events import outliers, search

NEEDED = ("weight", "features", "pass_cuts", "process", "truth/unseen_process")


def measure(trained: Trained) -> Measured:
    """Compare the network with cuts and with tuned methods on the same variables.

    Parameters
    ----------
    trained : Trained
        A network of one of the two tasks.

    Returns
    -------
    Measured
        classifier: see ``search.measure``; anomaly: see ``outliers.measure``. Nothing for data of other origin, which
        have no weights and no jets beside their images.
    """
    if any(name not in trained.stores["test"].fields for name in NEEDED):
        return Measured([])
    return search.measure(trained) if trained.task == "classifier" else outliers.measure(trained)
