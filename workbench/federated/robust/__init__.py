"""Sites that fail or lie: what comes in is checked, and what is averaged cannot be steered by a few."""
