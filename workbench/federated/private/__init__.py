"""Differential privacy of what leaves a site: accounting, noise, and sums under them (unit: a person, or a site)."""
