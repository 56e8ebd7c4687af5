"""A federation rehearsed on one machine, on Flower's engine or without it."""
