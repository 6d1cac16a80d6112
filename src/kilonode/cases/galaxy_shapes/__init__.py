"""Galaxy shapes: does a network describe undistorted galaxies better than the elliptical Gaussian profile.

Weak lensing distorts the images of distant galaxies by a few per cent. To measure it one needs to know which images
galaxies have without it: p(image), a normalised density and not a label. A variational autoencoder gives each pixel a
mean and a variance; the rival is the bivariate Gaussian profile, fitted to every image by maximum likelihood. Both are
judged in nats per image on galaxies the network has not seen, beside the true noiseless image.

Origin: the galaxy case of Prabhat 2017, "A look at deep learning for science"; Regier et al. 2015, "A deep generative
model for astronomical images of galaxies", NIPS workshop. Those data are real; all data made here are simulated with
GalSim (Rowe et al. 2015, arXiv:1407.7676), with the truth kept beside them.
Units: pixels in standard deviations of the sky's noise, 0.396 arcsec wide; flux in electrons; sizes in arcsec.
"""

from kilonode.cases.contract import Case

CASE = Case(__name__)
