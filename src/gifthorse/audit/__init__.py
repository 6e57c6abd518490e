"""A network that nobody planted anything in on purpose: every class scanned for trojans, without a key."""
