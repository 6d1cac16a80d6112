"""From proton collisions to a search: does a picture of the whole detector find what cuts on jets find, and more.

Pairs of gluinos of 1400 GeV would decay to ten quarks each event, through neutralinos that R-parity does not
protect: many jets of large mass, no missing energy. Ordinary jets (QCD) are a hundred thousand times as frequent,
and the published selection lets one in five thousand of them pass. A network sees the calorimeter and the tracks
as an image in pseudorapidity and azimuth, before any jet is found. A second one is taught ordinary jets alone and
is asked what does not look like them.

Origin: the collider case of Prabhat 2017, "A look at deep learning for science"; method: Kurth et al. 2017,
arXiv:1708.05256 and Bhimji et al. 2017, arXiv:1711.03573. Those data are private: all data made here are simulated
(Pythia 8 and a parametric detector), with the truth kept beside them.
Units: GeV throughout (energy, momentum, mass), radians, events expected at 36 fb-1.
"""

from kilonode.cases.contract import Case

CASE = Case(__name__)
