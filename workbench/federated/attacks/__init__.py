"""Attacks run against what a federation gives away: who was trained on, what their values were, who was treated."""
