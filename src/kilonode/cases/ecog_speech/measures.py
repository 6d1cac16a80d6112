"""What only this case measures: chance and information, groups of sounds, time, blocks, the tree, nested folds, bounds.

Shape legend: N trials, E electrodes, T moments, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kilonode import intervals
from kilonode.cases.contract import Measured, Trained
from kilonode.cases.ecog_speech import baseline, nested, scores, signals, speech
from kilonode.cases.ecog_speech.cortex import BEFORE_S, RATE_HZ
from kilonode.records import Json, figure

SYLLABLES, CONSONANTS, VOWELS = len(speech.SYLLABLES), len(speech.CONSONANTS), len(speech.VOWELS)
LINEAR = "pca_lda_16"
"""What follows time and blocks: fitted in a third of a second."""
STEP_S = 0.125
"""Of the windows in which decoding is followed through time."""
SHOWN = tuple(f"{consonant}aa" for consonant in "bdg")


def measure(trained: Trained) -> Measured:
    """Measure one trained decoder on test blocks.

    Parameters
    ----------
    trained : Trained
        Of any task of this case. Data of a user get what needs no truth and no knowledge of syllables.

    Returns
    -------
    Measured
        Questions ``decoding``, ``groups``, ``time``, ``blocks``, ``tree``, ``nested``, ``bound``, ``electrodes``.
    """
    target = str(trained.settings["target"])
    y = {split: store.read(target).astype(np.int64) for split, store in trained.stores.items()}
    outputs = trained.network.outputs(trained.raw["test"]).astype(np.float64)
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    resampled = intervals.resamples(trained.stores["test"].read("group"))
    guess = scores.chance(np.concatenate([y["train"], y["validation"]]), y["test"], np.random.default_rng(0))
    found = _decoding(y["test"], probabilities.argmax(1), guess, resampled)
    found += _blocks(trained, y)
    if probabilities.shape[1] == 2:
        found += _two_classes(trained, y, probabilities[:, 1], resampled)
    arrays: dict[str, np.ndarray] = {}
    said = {"y": y["test"], "probabilities": probabilities}
    outer = nested.answers(trained.tuned)
    if outer:
        rows, arrays = nested.rows(outer, guess, len(y["train"]))
        found += rows
        if "network" in outer:
            said = nested.pooled(outer["network"])  # the tree is made of all outer test blocks, and of nothing else
    if trained.simulated:
        found += _time(trained, y, arrays)
        found += _known(trained, y, target, resampled)
        if target == "syllable":
            found += _groups(y["test"], probabilities.argmax(1), resampled)
            _traces(trained, y["test"], arrays)
        if target != "vowel":
            found += _tree(said, arrays, speech.targets if target == "syllable" else _consonants)
    return Measured(found, arrays=arrays)


def _row(question: str, metric: str, value: float | None, n: int, unit: str = "1", **more: object) -> Json:
    labels: Json = {"about": "", "method": "network", "role": "network", **more}
    interval = labels.pop("interval", None)
    return figure("", value, unit, interval, question=question, metric=metric, n=n, **labels)


def _decoding(y: np.ndarray, said: np.ndarray, guess: float, resampled: np.ndarray) -> list[Json]:
    """Chance, accuracy in multiples of it, the exact interval of trials, information."""
    right = int((y == said).sum())
    whole = intervals.bootstrap(intervals.accuracy(y, said), resampled)
    low, high = whole.interval
    bits = scores.information(y, said, np.random.default_rng(1))
    rows = [
        _row("decoding", "chance", guess, len(y), method="guessing", role="baseline"),
        _row("decoding", "times_chance", whole.value / guess, len(y), interval=(low / guess, high / guess)),
        _row("decoding", "accuracy_of_trials", right / len(y), len(y), interval=scores.clopper_pearson(right, len(y))),
        _row("decoding", "information", bits, len(y), "bit"),
    ]
    return rows


def _two_classes(trained: Trained, y: dict[str, np.ndarray], score: np.ndarray, resampled: np.ndarray) -> list[Json]:
    """AUC of network and of shrinkage LDA, for data of a user with two classes."""
    fitted = baseline.shrunk_lda("auto")
    fitted.fit(baseline.means(trained.raw["train"][:, None], 4), y["train"])
    linear = fitted.predict_proba(baseline.means(trained.raw["test"][:, None], 4))[:, 1]
    rows = []
    for method, role, scored in (("network", "network", score), ("lda_4", "baseline", linear)):
        estimate = intervals.bootstrap(intervals.auc(y["test"] == 1, scored), resampled)
        rows.append(
            _row("two_classes", "auc", estimate.value, len(score), method=method, role=role, interval=estimate.interval)
        )
    return rows


def _groups(y: np.ndarray, said: np.ndarray, resampled: np.ndarray) -> list[Json]:
    """Syllables answered right in their consonant, vowel or place alone."""
    parts: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "consonant": speech.consonant_of, "vowel": speech.vowel_of, "place": speech.place_of,
    }  # fmt: skip
    rows = []
    for name, part in parts.items():
        estimate = intervals.bootstrap(intervals.accuracy(part(y), part(said)), resampled)
        rows.append(_row("groups", f"accuracy_{name}", estimate.value, len(y), interval=estimate.interval))
    return rows


def _linear(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Test accuracy of the quickest linear decoder with its usual settings."""
    block = baseline.means(x, baseline.POOLS[-1])
    components = min(60, len(train), block.shape[1])
    fitted = baseline.estimators("")[LINEAR].make(components=components, shrinkage=0.1).fit(block[train], y[train])
    return float((fitted.predict(block[test]) == y[test]).mean())


def _blocks(trained: Trained, y: dict[str, np.ndarray]) -> list[Json]:
    """The linear decoder with folds of trials beside folds of blocks: what sharing a block would have given."""
    order = ("train", "validation", "test")
    x = np.concatenate([trained.raw[split] for split in order])[:, None]
    labels = np.concatenate([y[split] for split in order])
    groups = np.concatenate([trained.stores[split].read("group") for split in order])
    ids = np.random.default_rng(0).permutation(np.unique(groups))
    of_blocks = np.isin(groups, ids[: max(1, len(ids) // 4)])
    of_trials = np.random.default_rng(0).permutation(of_blocks)
    rows = []
    for metric, test in (("accuracy_other_blocks", of_blocks), ("accuracy_same_blocks", of_trials)):
        value = _linear(x, labels, np.flatnonzero(~test), np.flatnonzero(test))
        rows.append(_row("blocks", metric, value, int(test.sum()), method=LINEAR, role="baseline"))
    return rows


def _time(trained: Trained, y: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> list[Json]:
    """The linear decoder on parts of the window; before 0 nothing can be heard of oneself."""
    x = np.concatenate([trained.raw[split] for split in ("train", "test")])[:, None]
    labels = np.concatenate([y["train"], y["test"]])
    train = np.arange(len(y["train"]))
    test = np.arange(len(y["train"]), len(labels))
    step, zero = round(STEP_S * RATE_HZ), round(BEFORE_S * RATE_HZ)
    starts = np.arange(0, x.shape[-1] - step + 1, step)
    arrays["time_s"] = (starts + step / 2) / RATE_HZ - BEFORE_S
    arrays["time_accuracy"] = np.array([_linear(x[..., k : k + step], labels, train, test) for k in starts])
    labels_of = {"method": LINEAR, "role": "baseline"}
    parts = {"before_0": x[..., :zero], "after_0": x[..., zero:], "whole": x}
    return [
        _row("time", f"accuracy_{name}", _linear(part, labels, train, test), len(test), **labels_of)
        for name, part in parts.items()
    ]


def _known(trained: Trained, y: dict[str, np.ndarray], target: str, resampled: np.ndarray) -> list[Json]:
    """What only the truth allows: the bound on any decoder, and whether bad electrodes were recognised."""
    stores = trained.stores
    answer_of = {"syllable": lambda s: s, "consonant": speech.consonant_of, "vowel": speech.vowel_of}[target]
    seen = stores["train"].read("syllable").astype(np.int64)
    said = baseline.bound(stores["test"].read("truth/articulators"), answer_of, seen)
    estimate = intervals.bootstrap(intervals.accuracy(y["test"], said), resampled)
    bound = _row("bound", "accuracy", estimate.value, len(said), interval=estimate.interval, method="articulators",
                 role="oracle")  # fmt: skip
    found = signals.bad_electrodes(trained.raw["train"])
    true = np.flatnonzero(stores["train"].read("truth/bad")[0])
    same = len(np.intersect1d(found, true)) / max(1, len(np.union1d(found, true)))
    about = "overlap of electrodes called bad on training blocks with those without contact"
    return [bound, _row("electrodes", "bad_found", same, len(true), method="memory", role="baseline", about=about)]


def _tree(
    said: dict[str, np.ndarray], arrays: dict[str, np.ndarray], of: Callable[[np.ndarray], np.ndarray]
) -> list[Json]:
    """The tree of soft confusions beside that of the articulators."""
    classes, rows = scores.soft_confusion(said["y"], said["probabilities"])
    true = of(classes).reshape(len(classes), -1)
    correlation, p = scores.agreement(rows, true, np.random.default_rng(2))
    arrays |= {"confusion": rows, "confusion_classes": classes}
    about = "tree of soft confusions of test blocks against the tree of true articulators"
    return [
        _row("tree", "cophenetic_correlation", correlation, len(classes), about=about),
        _row("tree", "permutation_p", p, len(classes), about=about),
        _row("tree", "distance_correlation", scores.distances_agree(rows, true), len(classes), about=about),
    ]


def _consonants(numbers: np.ndarray) -> np.ndarray:
    return speech.CONSONANT_TARGETS[numbers]


def _traces(trained: Trained, y: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Mean amplitude of three syllables on all electrodes, as far as test blocks have them."""
    for name in SHOWN:
        rows = np.flatnonzero(y == speech.SYLLABLES.index(name))
        if len(rows):
            arrays[f"trace_{name}"] = trained.raw["test"][rows].mean(axis=0)
