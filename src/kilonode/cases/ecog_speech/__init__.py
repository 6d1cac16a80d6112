"""Spoken syllables from the surface of the brain: can a network decode them, and do its errors show the vocal tract.

A grid of 85 electrodes lies on the part of the cortex that moves lips, jaw, tongue, larynx and velum. A subject reads
consonant-vowel syllables (19 x 3 = 57); the amplitude of 70-150 Hz activity, from 500 ms before to 750 ms after the
passage from consonant to vowel, is what a decoder sees. Some 2,000 trials a subject are few for 57 classes, so
hundreds of configurations are searched, inside a cross-validation by recording block, and linear methods get the same.

Origin: the speech case of Prabhat 2017, "A look at deep learning for science"; Livezey, Bouchard, Chang 2019,
PLOS Comput. Biol. 15(9), arXiv:1803.09807. Those recordings are not part of this project: all data made here are
simulated, with the articulators kept as truth. Units: amplitude z-score within a block; times ms, positions mm.
"""

from kilonode.cases.contract import Case

CASE = Case(__name__)
