"""What to measure next: pilots (a few responses of a new sample say much about all its others), and assays.

residuals.py   what a predictor gets wrong about lines it has not seen
factors.py     how those errors go together from drug to drug
posterior.py   exact conditioning on what was measured
choice.py      which treatments to measure next, and what is expected of it
calibration.py intervals and expectations held to what happened on training lines
plan.py        a fitted plan: answers, panels
kept.py        a plan saved and loaded
pilots.py      a plan fitted for a fold or a whole study
judging.py     random against chosen pilots, on the same held-out rows
one_dose.py    a viability at one dose as a response
command.py     ``workbench pilot``
assays.py      what a missing modality is worth
"""
