"""Running it: the command line, configuration, the wiring of a node, benchmarks and checks."""
