"""An encoder of samples learnt by sites together, without responses; each site then fits its own model on top of it."""
