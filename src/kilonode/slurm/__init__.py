"""From a site's facts to a running allocation, and back: submit it, see how far it is, find out what is wrong.

``sites`` reads ``slurm/sites/<site>.env``; ``batch`` turns (site, request) into the text for the scheduler, ``limits``
says what the site would refuse, ``queue`` asks for jobs. ``submit``, ``status`` (with ``workflow`` and ``trainings``)
and ``doctor`` (with ``probe`` and ``diagnosis``) are verbs.
"""
