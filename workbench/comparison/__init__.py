"""Many runs compared: who is better than whom, by how much, how surely, and at what cost.

>>> found = compare(study="gdsc2", split="unseen subject")                       # doctest: +SKIP
>>> found.pairs.filter(a="drug_response").select("b", "difference", "low", "high", "verdict")  # doctest: +SKIP
>>> log(found)  # a figure and tables that the team sees in MLflow                # doctest: +SKIP
"""

from workbench.comparison._chosen import ComparisonError
from workbench.comparison._compared import compare
from workbench.comparison._logged import log
from workbench.comparison.frames import Comparison

__all__ = ["Comparison", "ComparisonError", "compare", "log"]
