"""Reactor antineutrinos: does the light on the phototubes hold more than time and total energy.

An antineutrino that meets a proton leaves two flashes: the positron's at once, and the neutron's when it is
captured some 28 us later and 0.4 m away. Chance pairs of single flashes and lithium-9 decays look alike, and
cuts on time and total energy are what selects the true ones. An unlabelled network sees the whole pattern on
192 tubes (8 rings x 24 columns, columns periodic) and keeps 16 numbers of it.

Origin: the reactor case of Prabhat 2017, "A look at deep learning for science"; method: Racah et al. 2016,
arXiv:1601.07621. Those data are private: all data made here are simulated, with the truth kept beside them.
Units: charges pe, times ns within a flash, us between the flashes of a pair, ms since the last muon, MeV, m.
"""

from kilonode.cases.contract import Case

CASE = Case(__name__)
