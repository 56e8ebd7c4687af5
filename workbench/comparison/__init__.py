"""Many runs compared: who is better than whom, by how much, how surely, and at what cost."""

from workbench.comparison.frames import Comparison

__all__ = ["Comparison"]
