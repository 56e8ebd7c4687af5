"""One file = one kind of folder that becomes a study."""
