"""Extreme weather: finding tropical cyclones, lows and atmospheric rivers in fields of the globe.

Climate models write terabytes of fields. Storms are found in them by thresholds that somebody set by hand, and which
disagree with one another. Can a network learn the patterns from labelled fields, find and name them on the globe, and
gain from time steps that nobody labelled? Does it help to see the hours before and after?

Origin: the weather case of Prabhat 2017, "A look at deep learning for science"; patches after Liu et al. 2016
(arXiv:1605.01156), boxes after Racah et al. 2017 (arXiv:1612.02095). All data made here are simulated by a kinematic
model, not a climate model, with the list of true storms beside them.
Units: degrees, hours, and those of the ``ExtremeWeather`` files: Pa, K, m, m/s, kg/m2.
"""

from kilonode.cases.contract import Case

CASE = Case(__name__)
