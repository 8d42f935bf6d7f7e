"""`signet chat`: two people on one machine, each in a terminal."""
