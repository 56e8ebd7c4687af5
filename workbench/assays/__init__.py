"""One file = one kind of measurement turned into numbers."""
