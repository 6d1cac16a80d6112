"""What cosmology predicts: distances, growth, matter power, and the power spectrum of the convergence.

Flat universe of matter and a cosmological constant. Power spectra are CAMB's; everything else is closed form or one
integral. All functions are pure and keep their tables: a process pays for CAMB once a cosmology.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.integrate import cumulative_trapezoid, trapezoid
from scipy.interpolate import RectBivariateSpline
from scipy.special import hyp2f1

from kilonode.errors import UserError

HUBBLE_MPC = 2997.92458
"""c / H0, Mpc/h."""
LITTLE_H, OMEGA_B, TILT = 0.72, 0.046, 0.96
"""H0 / (100 km/s/Mpc), baryons, n_s: the tilt is that of the original maps, the others are our choice."""
SOURCE_Z = 2.0
"""Redshift of all lensed galaxies, as in the original maps."""
PAIRS = {
    "sigma8": ((0.26, 0.798), (0.26, 0.850)),
    "degenerate": ((0.26, 0.824), (0.32, 0.743)),
}
"""Pair -> (Omega_m, sigma8) of class 0 and 1; ``degenerate`` keeps sigma8 sqrt(Omega_m) = 0.420."""
K_RANGE = (1e-3, 10.0)  # h/Mpc, what CAMB is asked for; power laws beyond
REDSHIFTS = tuple(np.linspace(0, SOURCE_Z, 9).tolist())


@dataclass(frozen=True)
class Cosmology:
    """Matter density and the rms of linear matter in spheres of 8 Mpc/h today."""

    omega_m: float
    sigma8: float

    def expansion(self, a: np.ndarray) -> np.ndarray:
        """H / H0 at scale factor ``a``."""
        return np.sqrt(self.omega_m / np.asarray(a) ** 3 + 1 - self.omega_m)

    def growth(self, a: Any) -> np.ndarray:
        """Linear growth D(a), 1 today.

        Source
        ------
        Closed form for matter and a constant, e.g. Matsubara 1995, Prog. Theor. Phys. 94, 1151.
        """
        return np.asarray(self._growth(np.asarray(a, float)) / self._growth(np.ones(())))

    def momentum(self, a: Any) -> np.ndarray:
        """a^3 (H/H0) dD/da: canonical momentum of a particle that moves with velocity dx/dD = 1."""
        a = np.asarray(a, float)
        omega = self.omega_m / (a**3 * self.expansion(a) ** 2)
        rate = omega * (2.5 * a / self._growth(a) - 1.5)  # d ln D / d ln a
        return np.asarray(a**2 * self.expansion(a) * rate * self.growth(a))

    def distance(self, z: Any) -> np.ndarray:
        """Comoving distance to redshift ``z``, Mpc/h."""
        a, chi = _distances(self.omega_m)
        return np.asarray(np.interp(1 / (1 + np.asarray(z, float)), a, chi))

    def scale_factor(self, chi: Any) -> np.ndarray:
        """Scale factor seen at comoving distance ``chi``, Mpc/h."""
        a, distance = _distances(self.omega_m)
        return np.asarray(np.interp(chi, distance[::-1], a[::-1]))

    def lensing_weight(self, chi: Any) -> np.ndarray:
        """Weight of overdensity in the convergence, h/Mpc: kappa = integral of weight x delta d chi (Born)."""
        chi = np.asarray(chi, float)
        far = self.distance(SOURCE_Z)
        return np.asarray(1.5 * self.omega_m / HUBBLE_MPC**2 * chi * (1 - chi / far) / self.scale_factor(chi))

    def _growth(self, a: np.ndarray) -> np.ndarray:
        """Growth that equals ``a`` while matter rules."""
        return np.asarray(a * hyp2f1(1 / 3, 1, 11 / 6, -(a**3) * (1 - self.omega_m) / self.omega_m))


@cache
def _distances(omega_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale factors, rising, and their comoving distances, Mpc/h."""
    a = np.linspace(0.2, 1, 8192)
    integrand = 1 / (a**2 * np.sqrt(omega_m / a**3 + 1 - omega_m))
    inward = cumulative_trapezoid(integrand, a, initial=0)
    return a, HUBBLE_MPC * (inward[-1] - inward)


@cache
def linear_power(cosmology: Cosmology) -> tuple[np.ndarray, np.ndarray]:
    """Linear matter power today: wavenumbers k (K,) h/Mpc and P (K,) (Mpc/h)^3."""
    k, _, power = _camb(cosmology.omega_m, (0.0,)).get_matter_power_spectrum(*K_RANGE, npoints=300)
    return k, power[0] * (cosmology.sigma8 / _sigma8(cosmology.omega_m)) ** 2


@cache
def nonlinear_power(cosmology: Cosmology) -> RectBivariateSpline:
    """Give ln P of (z, ln k): halofit of Takahashi et al. 2012 as CAMB has it, power laws beyond ``K_RANGE``."""
    import camb

    results = _camb(cosmology.omega_m, REDSHIFTS)
    settings = results.Params.copy()
    settings.InitPower.set_params(As=_AMPLITUDE * (cosmology.sigma8 / _sigma8(cosmology.omega_m)) ** 2, ns=TILT)
    settings.NonLinear = camb.model.NonLinear_both
    settings.NonLinearModel.set_params(halofit_version="takahashi")
    results.calc_power_spectra(settings)
    k, z, power = results.get_matter_power_spectrum(*K_RANGE, npoints=200)
    log_k, log_p = np.log(k), np.log(power)
    below, above = np.array([-3.0]), np.arange(1, 6.0)
    low = log_p[:, :1] + below * (log_p[:, 1:2] - log_p[:, :1]) / (log_k[1] - log_k[0])
    slope = (log_p[:, -1:] - log_p[:, -9:-8]) / (log_k[-1] - log_k[-9])
    wide_k = np.concatenate([log_k[0] + below, log_k, log_k[-1] + above])
    return RectBivariateSpline(z, wide_k, np.hstack([low, log_p, log_p[:, -1:] + above * slope]), kx=3, ky=1)


@cache
def convergence_power(cosmology: Cosmology) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum of the convergence in the Limber approximation.

    Returns
    -------
    multipoles, power
        (L,) from 10 to 20,000, evenly in the logarithm, and C_l (L,) in steradian.

    Source
    ------
    C_l = integral of weight(chi)^2 / chi^2 P(l / chi, z) d chi; Bartelmann, Schneider 2001, arXiv:astro-ph/9912508.
    """
    multipoles = np.geomspace(10, 2e4, 120)
    chi = np.linspace(10, float(cosmology.distance(SOURCE_Z)) - 1e-6, 600)
    z = 1 / cosmology.scale_factor(chi) - 1
    log_k = np.log(multipoles[:, None] / chi)
    power = np.exp(nonlinear_power(cosmology).ev(np.broadcast_to(z, log_k.shape), log_k))
    weight = (cosmology.lensing_weight(chi) / chi) ** 2
    return multipoles, np.asarray(trapezoid(power * weight, chi, axis=1))


_AMPLITUDE = 2e-9  # any: results are scaled to sigma8


@cache
def _sigma8(omega_m: float) -> float:
    """CAMB's sigma8 for ``_AMPLITUDE``."""
    return float(_camb(omega_m, (0.0,)).get_sigma8_0())


@cache
def _camb(omega_m: float, redshifts: tuple[float, ...]) -> Any:
    """Linear transfer functions of CAMB for one matter density."""
    try:
        import camb
    except ImportError:
        raise UserError(
            "expected the package camb, got none (mass_maps needs its power spectra); pip install camb==2.0.5"
        ) from None
    settings = camb.CAMBparams()
    baryons = OMEGA_B * LITTLE_H**2
    settings.set_cosmology(H0=100 * LITTLE_H, ombh2=baryons, omch2=omega_m * LITTLE_H**2 - baryons, mnu=0, omk=0)
    settings.InitPower.set_params(As=_AMPLITUDE, ns=TILT)
    settings.WantCls = False
    settings.set_matter_power(redshifts=sorted(redshifts, reverse=True), kmax=K_RANGE[1])
    settings.NonLinear = camb.model.NonLinear_none
    return camb.get_results(settings)
