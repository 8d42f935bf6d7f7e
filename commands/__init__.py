"""The write side: command messages, the writer with its group commit, sealing, and the store adapters."""
