"""Parts of the page that compares runs."""
