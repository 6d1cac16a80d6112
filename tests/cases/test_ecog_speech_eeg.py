"""A real P300 recording through the decoders of the case: what is left out is said, and its targets can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kilonode import config
from kilonode.cases.ecog_speech import baseline, eeg
from kilonode.errors import DataError

RECORDING = Path(__file__).parents[3] / "shared/data/real/eeg_p300/subject_01_session_01.npz"


def recording(samples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a wild start, and events every 50 samples once it has settled."""
    data = np.random.default_rng(0).normal(size=(samples, 17)) * 10
    data[:400] *= 1e5
    stim = np.zeros(samples, int)
    stim[1200 : samples - 200 : 50] = 1
    stim[1250 : samples - 200 : 250] = 2
    return data, stim


def test_trials_are_cut_at_every_event_and_scaled_by_what_is_usual() -> None:
    data, stim = recording()
    found = eeg.trials(data, stim)
    assert found["x"].shape == (np.count_nonzero(stim), eeg.SENSORS, 128)
    assert found["kind"].tolist() == (stim[stim > 0] - 1).tolist()
    assert np.abs(found["x"]).max() <= eeg.LARGEST
    assert np.median(np.abs(found["x"])) == pytest.approx(0.67, abs=0.1)


def test_the_start_of_the_amplifier_reaches_no_trial() -> None:
    data, stim = recording()
    wilder = data.copy()
    wilder[:400] *= 100
    assert np.array_equal(eeg.trials(data, stim)["x"], eeg.trials(wilder, stim)["x"])
    stim[300] = 1
    with pytest.raises(DataError, match=r"expected events after 8 s, got one after 2\.3 s"):
        eeg.trials(data, stim)


def test_a_column_that_nobody_describes_is_left_out() -> None:
    data, stim = recording()
    other = data.copy()
    other[:, eeg.SENSORS :] = 0
    assert np.array_equal(eeg.trials(data, stim)["x"], eeg.trials(other, stim)["x"])
    with pytest.raises(DataError, match="expected at least 16 columns"):
        eeg.trials(data[:, :8], stim)


def test_blocks_are_parts_of_the_session_in_time() -> None:
    block = eeg.trials(*recording())["block"]
    assert (np.diff(block) >= 0).all()
    assert np.unique(block).tolist() == list(range(eeg.BLOCKS))


def test_its_mapping_asks_for_two_classes() -> None:
    mapping = Path(eeg.__file__).with_name("p300.yaml")
    task = config.task("ecog_speech", str(mapping), "syllables")
    assert (task["target"], task["model"]["classes"]) == ("kind", 2)
    assert not config.resolve("ecog_speech", str(mapping))["ingest"]["simulated"]


@pytest.mark.skipif(not RECORDING.is_file(), reason="needs the third-party recording beside the checkout")
def test_shrinkage_lda_tells_targets_in_blocks_it_has_not_seen() -> None:
    with np.load(RECORDING) as archive:
        found = eeg.trials(archive["data"], archive["stim"].astype(int))
    assert np.bincount(found["kind"]).tolist() == [640, 128]
    x = baseline.means(found["x"][:, None], 4)
    scores = []
    for block in range(eeg.BLOCKS):
        test = found["block"] == block
        fitted = baseline.shrunk_lda("auto").fit(x[~test], found["kind"][~test])
        scores.append(roc_auc_score(found["kind"][test], fitted.decision_function(x[test])))
    assert 0.82 < np.mean(scores) < 0.90
