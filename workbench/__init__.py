"""Translational Workbench: checked studies, honest predictors, tracked runs.

Importing this package is cheap: heavy libraries (torch, Lightning, MLflow, scanpy) are
imported by the module that needs them, when it needs them.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("translational-workbench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
