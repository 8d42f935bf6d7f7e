"""What all who keep something in PostgreSQL share: what a URL names, what an error means, how one begins."""
