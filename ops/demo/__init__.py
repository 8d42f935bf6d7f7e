"""`signet up --demo`: people who have talked already, and links by which a browser becomes one of two of them."""
