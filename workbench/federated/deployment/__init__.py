"""A federation across machines: TLS, keys, and processes that run nothing they are sent."""
