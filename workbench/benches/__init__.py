"""One file = one benchmark: ``run() -> rows`` of name, ours, peer, unit, ratio (above 1: ours is better), note."""
