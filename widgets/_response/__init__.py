"""What the drug-response page and its one-file report share: facts from a run's tables, and their drawing."""
