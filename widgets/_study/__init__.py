"""Private parts of the page of a study: its tabs, most of which are notebook widgets shown by Panel."""
