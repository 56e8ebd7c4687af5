"""What every answer of a site passes on its way out: persons, content, door, book."""
