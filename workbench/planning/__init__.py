"""What to measure next. Pilots: a few responses of a new sample say much about all its others.

residuals.py   what a predictor gets wrong about lines it has not seen
factors.py     how those errors go together from drug to drug
posterior.py   exact conditioning on what was measured
choice.py      which treatments to measure next, and what is expected of it
calibration.py intervals and expectations held to what happened on training lines
pilots.py      all of it for one study, fitted once, saved and loaded
judging.py     random against chosen pilots, on the same held-out rows
one_dose.py    a viability at one dose as a response
command.py     ``workbench pilot``
"""
