"""One file = one family of checks on a study, or on a study with a split."""
