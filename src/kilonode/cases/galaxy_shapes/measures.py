"""What this case alone measures: who gives held-out galaxies the higher probability, and by how many nats an image.

Everything is of test fields. The oracle is the density under the true noiseless image; the closed share is how much of
the way from the fitted Gaussian to it a method goes.

Shape legend: N images, n = H W pixels, L latent numbers, R resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kilonode import intervals
from kilonode.cases.contract import Arrays, Measured, Trained
from kilonode.cases.galaxy_shapes import halves, scores
from kilonode.cases.galaxy_shapes.baseline import FactorAnalysis
from kilonode.cases.galaxy_shapes.likelihood import Fitted, log_normal
from kilonode.errors import UserError
from kilonode.records import Json, figure

ACTIVE = 0.01
"""A latent number is in use if its posterior mean varies more than this over the data (Burda et al. 2016)."""
FEWEST_ACTIVE = 4
Z_95 = 1.959964
QUANTILES = {"median": 0.5, "quantile_05": 0.05, "quantile_95": 0.95}
SCORED = 2000
"""Test images scored, at most, the first of the store, which is shuffled: a share of 97 % is known to 0.7 % then."""
ABLATED_OF, ABLATED = 4, 500
"""Ablations take the first of these: one in so many, and no more than this."""
SHOWN, PRIOR, WALK = 16, 16, 7
FIELDS = ("group", "sky_var", "psf_fwhm", "truth/noiseless", "truth/params", "truth/kind")


def measure(trained: Trained) -> Measured:
    """Score the test images under every method and compare.

    Parameters
    ----------
    trained : Trained
        The network, its stores and raw images.

    Raises
    ------
    UserError
        Data that are not simulated: pixels must be in units of a known noise (``cosmos`` scores real galaxies).
    """
    if not trained.simulated:
        raise UserError(
            "expected simulated galaxies, got data of yours (measures of galaxy_shapes); "
            "for real stamps see docs/notes/galaxy_shapes.md"
        )
    rows = np.arange(min(SCORED, trained.stores["test"].rows))
    test = {name: trained.stores["test"].take(name, rows) for name in FIELDS}
    x = trained.raw["test"][: len(rows)].reshape(len(rows), -1)
    groups, snr, kind = test["group"], test["truth/params"][:, 15], test["truth/kind"]
    photon = 1 / np.sqrt(test["sky_var"])
    noiseless = test["truth/noiseless"].reshape(len(x), -1)
    # Many draws go through the decoder: with this layout they take two thirds of the time.
    model = trained.network.model.to(memory_format=torch.channels_last)
    gauss = scores.gaussian(x, photon)
    bounds = scores.of_network(model, x)
    oracle, variance = scores.oracle(x, noiseless, photon)
    linear = FactorAnalysis.of(trained.raw["train"].reshape(len(trained.raw["train"]), -1), model.latent)
    log_p = {
        "code": bounds.usual, "code_elbo": bounds.one, "code_given_code": bounds.given_code,
        "gaussian": gauss.log_likelihood,
        "gaussian_bic": gauss.log_likelihood - scores.penalty(gauss.params.shape[1], x.shape[1]),
        "factor_analysis": linear.log_likelihood(x), "oracle": oracle,
    }  # fmt: skip
    log_p |= _fitted_sersic(x, photon, test["psf_fwhm"], gauss)
    found = comparison(log_p, groups, snr)
    found += _one_variance(model, x, noiseless, variance, gauss, groups)
    found += _bound_by_draws(model, x) + _residuals(model, x, noiseless, variance, gauss)
    code = trained.network.features(trained.raw["test"][: len(rows)])
    found += _activity(code) + _memory(trained, x)
    arrays = {f"log_p_{name}": values for name, values in log_p.items()} | {"snr": snr, "kind": kind}
    return Measured(found, {}, arrays | _pictures(model, x, kind, snr, code))


def comparison(log_p: dict[str, np.ndarray], groups: np.ndarray, snr: np.ndarray | None) -> list[Json]:
    """Log-likelihoods, win rates, differences in nats and the closed share of the way to the oracle.

    ``log_p`` of a method may cover the first images alone; a pair is compared on those that both have.
    """
    rows = [_mean_row(name, values, groups) for name, values in log_p.items()]
    pairs = [("code", rival) for rival in log_p if not rival.startswith("code") and rival != "oracle"]
    pairs += [("code_given_code", "gaussian")]
    pairs += [(name, "gaussian") for name in ("oracle", "sersic", "factor_analysis") if name in log_p]
    for one, other in pairs:
        count = min(len(log_p[one]), len(log_p[other]))
        rows += duel(one, other, log_p[one][:count] - log_p[other][:count], groups[:count])
    if snr is not None:
        third = np.searchsorted(np.quantile(snr, [1 / 3, 2 / 3]), snr)
        for part, name in enumerate(("faint", "middle", "bright")):
            for one in [method for method in ("code", "oracle") if method in log_p]:
                here = third == part
                rows.append(_rate(one, "gaussian", (log_p[one] - log_p["gaussian"])[here], groups[here], f"_{name}"))
    if "oracle" in log_p:
        rows += [_closed(log_p, name, groups) for name in ("code", "factor_analysis") if name in log_p]
    return rows


def duel(one: str, other: str, gain: np.ndarray, groups: np.ndarray) -> list[Json]:
    """Win rate of one method over another and the differences (N,) in nats per image."""
    resampled = intervals.resamples(groups)
    rows = [_rate(one, other, gain, groups)]
    by_field = intervals.bootstrap(intervals.mean((gain > 0).astype(float)), resampled)
    rows.append(
        _row("win_rate", "win_rate_by_field", one, by_field.value, by_field.interval, against=other, n=len(gain))
    )
    mean = intervals.bootstrap(intervals.mean(gain), resampled)
    rows.append(_row("nats", "mean", one, mean.value, mean.interval, "nat", against=other, n=len(gain)))
    for name, share in QUANTILES.items():
        found = intervals.bootstrap(_quantile(gain, share), resampled)
        rows.append(_row("nats", name, one, found.value, found.interval, "nat", against=other, n=len(gain)))
    return rows


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    share, z2 = successes / trials, Z_95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 / (1 + z2 / trials) * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return float(middle - half), float(middle + half)


def _quantile(values: np.ndarray, share: float) -> intervals.Metric:
    order = np.argsort(values)

    def metric(weights: np.ndarray) -> float:
        rising = np.cumsum(weights[order])
        return float(values[order][np.searchsorted(rising, share * rising[-1])])

    return metric


def _row(
    question: str, metric: str, method: str, value: float, interval: tuple[float, float] | None = None,
    unit: str = "1", **more: Any,
) -> Json:  # fmt: skip
    role = "network" if method.startswith("code") else "oracle" if method == "oracle" else "baseline"
    if "against" in more:  # names of rows must differ
        metric = f"{metric}_over_{more['against']}"
    labels: Json = {"question": question, "metric": metric, "method": method, "role": role, "about": ""}
    return figure("", value, unit, interval, **labels, **more)


def _rate(one: str, other: str, gain: np.ndarray, groups: np.ndarray, part: str = "") -> Json:
    wins = int((gain > 0).sum())
    more: Json = {"against": other, "n": len(gain), "groups": len(np.unique(groups))}
    return _row("win_rate", f"win_rate{part}", one, wins / len(gain), wilson(wins, len(gain)), **more)


def _mean_row(name: str, values: np.ndarray, groups: np.ndarray) -> Json:
    found = intervals.bootstrap(intervals.mean(values), intervals.resamples(groups[: len(values)]))
    return _row("log_likelihood", "mean", name, found.value, found.interval, "nat", n=len(values))


def _closed(log_p: dict[str, np.ndarray], name: str, groups: np.ndarray) -> Json:
    """(method - Gaussian) / (oracle - Gaussian), of sums over images; 0 at the Gaussian, 1 at the oracle."""
    gain, most = log_p[name] - log_p["gaussian"], log_p["oracle"] - log_p["gaussian"]
    found = intervals.bootstrap(
        lambda weights: float((weights * gain).sum() / (weights * most).sum()), intervals.resamples(groups)
    )
    return _row("oracle_gap", "closed_share", name, found.value, found.interval, n=len(gain))


def _fitted_sersic(x: np.ndarray, photon: np.ndarray, psf: np.ndarray, gauss: Fitted) -> dict[str, np.ndarray]:
    found = scores.sersic(x, photon, psf, gauss)
    less = scores.penalty(found.params.shape[1], x.shape[1])
    return {"sersic": found.log_likelihood, "sersic_bic": found.log_likelihood - less}


def _one_variance(
    model: Any, x: np.ndarray, noiseless: np.ndarray, variance: np.ndarray, gauss: Fitted, groups: np.ndarray
) -> list[Json]:
    """The ablation: both mean images under the true variance, so that no learned variance can win."""
    count = min(-(-len(x) // ABLATED_OF), ABLATED)
    x, noiseless, variance, groups = (array[:count] for array in (x, noiseless, variance, groups))
    rival = log_normal(x, gauss.mean[: len(x)], variance)
    gain = scores.with_variance(model, x, variance) - rival
    rows = duel("code_one_variance", "gaussian_one_variance", gain, groups)
    blank = (x - noiseless) / np.sqrt(variance)  # the same stamps with nothing on them
    flat = log_normal(blank, np.zeros_like(blank), np.ones_like(blank))
    noise = scores.of_network(model, blank).usual - flat
    return [*rows, _row("empty_sky", "median", "code", float(np.median(noise)), None, "nat", against="sky", n=len(x))]


def _bound_by_draws(model: Any, x: np.ndarray) -> list[Json]:
    found = scores.by_draws(model, x)
    return [
        _row("draws", f"log_likelihood_{draws}", "code", float(values.mean()), None, "nat", n=len(values))
        for draws, values in found.items()
    ]


def _residuals(model: Any, x: np.ndarray, noiseless: np.ndarray, variance: np.ndarray, gauss: Fitted) -> list[Json]:
    """Mean square residual in units of the true variance; 1 is the noise, less has fitted it."""
    guesses = {"code": _decoded(model, x)[0], "gaussian": gauss.mean, "oracle": noiseless}
    return [
        _row("residual", "chi_square", name, float(((x - mean) ** 2 / variance).mean()), n=len(x))
        for name, mean in guesses.items()
    ]


def _activity(code: np.ndarray) -> list[Json]:
    """Latent numbers in use; fewer than four is a failed run, and the row says so."""
    active = int((code.var(axis=0) > ACTIVE).sum())
    labels = {"question": "latent", "metric": "active_units", "method": "code", "role": "network", "about": ""}
    return [figure("", active, "1", None, float(FEWEST_ACTIVE), active >= FEWEST_ACTIVE, n=code.shape[1], **labels)]


def _memory(trained: Trained, x: np.ndarray) -> list[Json]:
    train = trained.stores["train"]
    found = halves.compare(
        trained.settings["model"], trained.raw["train"].reshape(train.rows, -1), train.read("group"), x
    )
    near, unseen = int(found.nearer_own.sum()), len(found.nearer_own)
    return [
        _row("memory", "own_half_gain", "code", float(found.own.mean()), None, "nat", n=len(found.own)),
        _row("memory", "unseen_difference", "code", float(np.abs(found.unseen).mean()), None, "nat", n=unseen),
        _row("memory", "nearer_own_half", "code", near / unseen, wilson(near, unseen), n=unseen),
        _row("memory", "distance_own_half", "code", found.distance[0], n=unseen),
        _row("memory", "distance_other_half", "code", found.distance[1], n=unseen),
    ]


def _decoded(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every pixel at the posterior mean, (N, n) each."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(x), 256):
            parts.append(model.decoder(model.features(scores.tensor(x[start : start + 256]))))
    mean, variance = (torch.cat(some).flatten(1).numpy() for some in zip(*parts, strict=True))
    return mean, variance


def _pictures(model: Any, x: np.ndarray, kind: np.ndarray, snr: np.ndarray, code: np.ndarray) -> Arrays:
    """Images for the figures: the brightest of each kind, prior samples, and a walk along the two busiest numbers."""
    side = round(x.shape[1] ** 0.5)
    by_kind = [np.flatnonzero(kind == which)[np.argsort(-snr[kind == which])][: SHOWN // 4] for which in range(4)]
    chosen = np.concatenate(by_kind)
    mean, variance = _decoded(model, x[chosen])
    busiest = np.argsort(-code.var(axis=0))[:4]
    steps = torch.linspace(-2, 2, WALK)
    walk = torch.zeros(len(busiest), WALK, model.latent)
    for row, unit in enumerate(busiest):
        walk[row, :, int(unit)] = steps * float(code[:, unit].std())
    walk += torch.from_numpy(np.median(code, axis=0))
    with torch.no_grad():
        prior = model.decoder(torch.randn(PRIOR, model.latent, generator=torch.Generator().manual_seed(0)))[0]
        walked = model.decoder(walk.flatten(0, 1))[0]
    return {
        "shown_image": x[chosen].reshape(-1, side, side),
        "shown_mean": mean.reshape(-1, side, side),
        "shown_variance": variance.reshape(-1, side, side),
        "shown_kind": kind[chosen],
        "shown_snr": snr[chosen],
        "prior": prior[:, 0].numpy(),
        "walk": walked[:, 0].reshape(len(busiest), WALK, side, side).numpy(),
        "walk_unit": busiest,
    }
