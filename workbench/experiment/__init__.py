"""An experiment: a small TOML file, read strictly, run, recorded as one MLflow run; a stopped one goes on.

name = "response_gdsc2_unseen-subject"
study = "gdsc2"
endpoint = "ln_ic50"
split = "unseen subject"
folds = 5
seed = 0
predictors = ["drug_mean", "ridge", "trees", "drug_response"]
permute = ["expression"]                # randomisation test
sizes = [0.25, 0.5]                     # learning curve over training size
elsewhere = ["gdsc1"]                   # the same unseen lines, in another study
[parameters.drug_response]
members = 8
[tuning.trees]                          # inside the training rows of each fold
trials = 20
"""

from workbench.experiment.running import Say, attributions, run, standing
from workbench.experiment.spec import Experiment, ExperimentError, of, read

__all__ = ["Experiment", "ExperimentError", "Say", "attributions", "of", "read", "run", "standing"]
