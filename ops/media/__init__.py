"""`signet media`: how much of pictures and other files there is, and whether it is all there."""
