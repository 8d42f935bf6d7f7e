"""The read side: the runner that feeds read models, and one module for each of them."""
