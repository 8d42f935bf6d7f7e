"""Media: what is too big for a message lies in an object store (any S3), and clients reach it there by themselves."""
