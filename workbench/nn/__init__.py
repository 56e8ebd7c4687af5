"""Blocks without domain words: members trained side by side, fusion, losses, scaling."""
