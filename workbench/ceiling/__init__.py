"""How far two studies agree."""
