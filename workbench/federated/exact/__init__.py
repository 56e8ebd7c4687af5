"""What needs no rounds of training: statistics and ridge over the rows of all sites, from sums alone."""
