"""The command line: each command parses, reads, calls one stage and writes."""
