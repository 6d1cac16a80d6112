"""The search: how much signal a method keeps where hardly any background is left.

Every method answers with one score. Thresholds come from validation blocks, rates from test blocks. Network and tuned
methods answer with probabilities of the slices of QCD and of the signal; as each slice has one weight, the score
of the weighted mixture follows from them exactly (``mixed``).

Shape legend: N events, K classes, F features, U unseen events.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

from kilonode import intervals
from kilonode.cases.contract import Answering, Arrays, Estimator, Measured, Trained
from kilonode.cases.lhc_events import baseline, jets, models, rates
from kilonode.cases.lhc_events.samples import SIGNAL_NUMBER, Sample, Unseen, names, sample, unseen
from kilonode.records import figure

Json = dict[str, Any]
Scores = dict[str, dict[str, np.ndarray]]
"""Method -> split (or "unseen") -> score (N,)."""
Score = Callable[[np.ndarray], np.ndarray]
RATES = (1e-2, 1e-3, 2e-4)
"""Shares of preselected background at which signal is counted; the last is the published one."""
SPLITS = ("train", "validation", "test")
TRACKS = 2
TINY = 1e-12


def measure(trained: Trained) -> Measured:
    """Compare the network with the published cuts, with tuned methods on their variables and with single variables.

    Parameters
    ----------
    trained : Trained
        The classifier.

    Returns
    -------
    Measured
        Question ``search``: weighted AUC, share of signal and background at each of ``RATES`` and at the cuts' own,
        expected significance. Questions ``unseen ...``: AUC for processes that no training saw. Curves of ``search``.
    """
    splits = {split: sample(trained.stores[split]) for split in SPLITS}
    others = unseen(trained.stores)
    scores, tried = _scores(trained, splits, others)
    rows = [row for method in scores for row in _rows(method, scores[method], splits, tried.get(method, {}))]
    rows += _gains(scores, splits)
    rows += [
        row
        for method in scores
        if "unseen" in scores[method]
        for row in _unseen(method, scores, splits, others, trained)
    ]
    test = splits["test"]
    curves: dict[str, dict[str, tuple[np.ndarray, ...]]] = {
        "search": {method: (test.label, score["test"], test.weight) for method, score in scores.items()}
    }
    return Measured(rows, curves, _arrays(trained, test))


def mixed(log_probability: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Turn probabilities of classes into the score of signal against weighted background.

    A method trained on ``counts`` events of each class estimates p(k|x) ~ counts_k f_k(x). The best score against the
    mixture of the weighted slices is f_signal(x) / sum_k share_k f_k(x), with share_k of the weight.

    Parameters
    ----------
    log_probability : float (N, K)
        Signal is column ``SIGNAL_NUMBER``.
    counts : (K,)
        Training events of each class, times the weight of the class in the loss.
    weights : (K,)
        Sum of the physical weights of each class in training.

    Returns
    -------
    float64 (N,)
        Logarithm of the ratio.
    """
    density = log_probability - np.log(np.maximum(counts, 1))
    background = np.arange(len(counts)) != SIGNAL_NUMBER
    share = weights[background] / weights[background].sum()
    return density[:, SIGNAL_NUMBER] - logsumexp(density[:, background] + np.log(np.maximum(share, TINY)), axis=1)


def likelihood_ratio(network: Answering, train: Sample, loss: Sequence[float] | None) -> Score:
    """Give the network's score of raw images (N, 3, n, n): see ``mixed``.

    Parameters
    ----------
    network : Answering
        The classifier.
    train : Sample
        What it was trained on.
    loss : sequence of float, optional
        Weight of each class in the loss.
    """
    counts, weights = _classes(train)
    trained = counts * (1.0 if loss is None else np.asarray(loss, np.float64))

    def score(raw: np.ndarray) -> np.ndarray:
        logits = network.outputs(raw).astype(np.float64)
        return mixed(logits - logsumexp(logits, axis=1, keepdims=True), trained, weights)

    return score


def _classes(train: Sample) -> tuple[np.ndarray, np.ndarray]:
    """How many training events each class has, and the sum of their weights, both (K,)."""
    classes = SIGNAL_NUMBER + 1
    return np.bincount(train.process, minlength=classes), np.bincount(train.process, train.weight, classes)


def _scores(trained: Trained, splits: Mapping[str, Sample], others: Unseen) -> tuple[Scores, dict[str, Json]]:
    """Scores of all methods on all splits and on unseen events, and what was tried for each."""
    train = splits["train"]
    network = likelihood_ratio(trained.network, train, trained.settings["model"].get("weights"))
    counts, weights = _classes(train)
    seen = {name: trained.raw[name] for name in ("validation", "test")}
    seen |= {"unseen": others.image} if len(others.process) else {}
    scores: Scores = {"network": {name: network(raw) for name, raw in seen.items()}}
    tried: dict[str, Json] = {}
    blocks = {name: part.features for name, part in splits.items()}
    if len(others.process):
        blocks["unseen"] = others.features
    for name, estimator in baseline.rivals().items():
        scores[name], tried[name] = _tuned(estimator, blocks, splits, counts, weights)
    columns = {"sum_of_jet_masses": jets.MASS_SUM, "HT": jets.HT, "fat_jets": jets.COUNT}
    for name, column in columns.items():
        scores[name] = {split: block[:, column] for split, block in blocks.items()}
    scores["tracks"] = {name: raw[:, TRACKS].sum((1, 2)).astype(np.float64) for name, raw in seen.items()}
    scores["cuts"] = {name: part.cuts.astype(np.float64) for name, part in splits.items()}
    truth = {name: part.truth[:, [0, 3, 4]] for name, part in splits.items()}
    reference = baseline.rivals()["boosted_trees"]
    scores["truth_level"], tried["truth_level"] = _tuned(reference, truth, splits, counts, weights)
    return scores, tried


def _tuned(
    estimator: Estimator,
    blocks: Mapping[str, np.ndarray],
    splits: Mapping[str, Sample],
    counts: np.ndarray,
    weights: np.ndarray,
) -> tuple[dict[str, np.ndarray], Json]:
    """Scores of the setting with the best weighted AUC on validation blocks, and what was tried."""
    check, trials = splits["validation"], []
    for values in itertools.product(*estimator.space.values()):
        choice = dict(zip(estimator.space, values, strict=True))
        fitted = estimator.make(**choice).fit(blocks["train"], splits["train"].process)
        score = _asked(fitted, blocks["validation"], counts, weights)
        trials.append((intervals.auc(check.label, score)(check.weight), choice, fitted))
    best, choice, fitted = max(trials, key=lambda trial: np.nan_to_num(trial[0], nan=-1.0))
    scores = {name: _asked(fitted, block, counts, weights) for name, block in blocks.items() if name != "train"}
    return scores, {"trials": len(trials), "chosen": choice, "validation_auc": best}


def _asked(fitted: Any, block: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    given = np.full((len(block), len(counts)), TINY)
    given[:, fitted.classes_] = np.maximum(fitted.predict_proba(block), TINY)
    return mixed(np.log(given), counts, weights)


def _rows(method: str, score: dict[str, np.ndarray], splits: Mapping[str, Sample], tried: Json) -> list[Json]:
    """All numbers of one method."""
    test, check = splits["test"], splits["validation"]
    labels = _labels(
        "search", method, "signal against QCD weighted by cross section, after preselection", len(test.label)
    )
    found: list[Json] = []
    if method != "cuts":
        auc = _auc(test, score["test"])
        found.append(figure("", auc.value, "1", auc.interval, metric="weighted_auc", **labels, **tried))
    own = rates.passing(check.cuts[check.label == 0], check.weight[check.label == 0], check.group[check.label == 0])
    wanted = {f"at_{rate:g}": rate for rate in RATES} | {"at_the_rate_of_the_cuts": own.value}
    for name, rate in wanted.items():
        if method != "cuts":
            found += _at(name, rate, score, splits, labels)
    if method == "cuts":
        found += _passed("at_the_rate_of_the_cuts", test.cuts, test, labels)
    return found


def _at(
    name: str, rate: float | None, score: dict[str, np.ndarray], splits: Mapping[str, Sample], labels: Json
) -> list[Json]:
    """Rates at the threshold where this share of validation background passes; nothing measurable if too few do."""
    test, check = splits["test"], splits["validation"]
    background = check.label == 0
    cut = rates.threshold(score["validation"][background], check.weight[background], rate or 0.0)
    above = check.weight[background & (score["validation"] >= cut)]
    if rate is None or intervals.effective(above) < rates.MEASURABLE:
        return _passed(name, None, test, labels)
    return _passed(name, score["test"] >= cut, test, labels)


def _passed(name: str, passed: np.ndarray | None, test: Sample, labels: Json) -> list[Json]:
    """Share of signal (of preselected and of all), of background, and the significance; None where not measurable."""
    signal, background = test.label == 1, test.label == 0
    none = rates.Rate(None, None, 0.0)
    true, false, of_all, sigma = none, none, none, none
    if passed is not None:
        chosen = int(passed[signal].sum())
        true = rates.counted(passed[signal])
        if test.generated:
            of_all = rates.Rate(chosen / test.generated, rates.clopper_pearson(chosen, test.generated), chosen)
        false = rates.passing(passed[background], test.weight[background], test.group[background])
        if false.value is not None:
            sigma = _expected(passed, test, false.effective)
    parts = {"signal_kept": true, "signal_kept_of_all": of_all, "background_kept": false, "significance": sigma}
    return [
        figure("", part.value, "1", part.interval, metric=f"{what}_{name}", n_effective=part.effective, **labels)
        for what, part in parts.items()
    ]


def _expected(passed: np.ndarray, test: Sample, effective: float) -> rates.Rate:
    """Expected significance at 36 fb-1 with a bootstrap over blocks."""
    sums = [rates.by_group(test.weight * (passed & (test.label == value)), test.group) for value in (1, 0)]
    drawn = intervals.resamples(np.arange(len(sums[0])))
    spread = [rates.significance(s, b) for s, b in zip(drawn @ sums[0], drawn @ sums[1], strict=True)]
    low, high = np.percentile(spread, [2.5, 97.5])
    return rates.Rate(rates.significance(sums[0].sum(), sums[1].sum()), (float(low), float(high)), effective)


def _auc(test: Sample, score: np.ndarray) -> intervals.Estimate:
    return intervals.bootstrap(intervals.auc(test.label, score), intervals.resamples(test.group), test.weight)


def _gains(scores: Scores, splits: Mapping[str, Sample]) -> list[Json]:
    """Paired differences of the weighted AUC: network minus each rival on the same resamples."""
    test = splits["test"]
    network = _auc(test, scores["network"]["test"])
    found = []
    for method in (*baseline.rivals(), "sum_of_jet_masses", "HT"):
        gain = intervals.difference(network, _auc(test, scores[method]["test"]))
        labels = _labels("search", "network", "", len(test.label)) | {"against": method}
        found.append(figure("", gain.value, "1", gain.interval, metric=f"weighted_auc_gain_on_{method}", **labels))
    return found


def _unseen(method: str, scores: Scores, splits: Mapping[str, Sample], others: Unseen, trained: Trained) -> list[Json]:
    """AUC of each process that no training saw, against test background."""
    test, found = splits["test"], []
    background = test.label == 0
    for number in np.unique(others.process):
        chosen = others.process == number
        label = np.repeat([0, 1], [background.sum(), chosen.sum()])
        score = np.concatenate([scores[method]["test"][background], scores[method]["unseen"][chosen]])
        weight = np.concatenate([test.weight[background], np.ones(chosen.sum())])
        group = np.concatenate([test.group[background], others.group[chosen]])
        auc = intervals.bootstrap(intervals.auc(label, score), intervals.resamples(group), weight)
        name = names(trained.stores["test"])[int(number)]
        labels = _labels(f"unseen {name}", method, "a process that no training saw, against QCD", len(label))
        found.append(figure("", auc.value, "1", auc.interval, metric="weighted_auc", **labels))
    return found


def _labels(question: str, method: str, about: str, n: int) -> Json:
    role = {"network": "network", "truth_level": "oracle"}.get(method, "baseline")
    return {"question": question, "about": about, "method": method, "role": role, "n": n}


def _arrays(trained: Trained, test: Sample) -> Arrays:
    """What the figures draw: features of test events, mean images, the busiest signal and the heaviest QCD event."""
    images, signal = trained.raw["test"], test.label == 1
    mass = test.features[:, jets.MASS_SUM]
    shown = [int(np.argmax(np.where(signal == side, mass, -1))) for side in (True, False)]
    means = [images[signal == side].mean(axis=0) for side in (True, False)]
    return {
        "features": test.features,
        "group": test.group,
        "display_image": images[shown],
        "display_features": test.features[shown],
        "mean_image": np.stack(means),
        "layers": models.layers(trained.network.model, trained.network.scaler(images[:1])),
    }
