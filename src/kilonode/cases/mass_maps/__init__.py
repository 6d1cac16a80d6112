"""Mass maps: does a convergence map of weak lensing hold more than its power spectrum.

The light of far galaxies is bent by the matter it passes; their shapes give a map of the convergence kappa, the matter
along the line of sight weighted by how well it bends. Two cosmologies give maps that look alike. Classical methods
compare their power spectra and count their peaks; a network sees the whole map.

Origin: the cosmology case of Prabhat 2017, "A look at deep learning for science", which trained a denoising
autoencoder on 10,000 maps and a classifier on 5,000. Those maps are not public: all data made here are simulated,
with the noise-free map and its peaks kept beside them.
Units: kappa has none; lengths comoving Mpc/h, angles arcmin, masses Msun/h, multipoles l = 2 pi / angle in rad.
"""

from kilonode.cases.contract import Case

CASE = Case(__name__)
