"""DrugResponse trained by sites together, in rounds, and made one site's own."""
