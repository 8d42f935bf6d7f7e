"""`signet bench`: what a message costs, measured from outside, by load from another process."""
