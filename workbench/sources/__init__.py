"""Places real data comes from, one file each: ``fetch`` brings the bytes, ``build`` makes a study."""
