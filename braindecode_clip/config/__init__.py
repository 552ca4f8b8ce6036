"""Typed configuration: one module for each stage, assembled in ``config.study``.

Each stage imports its own module alone, so that a new option of one stage leaves the
code digest of the others, and so their results, as they are.
"""
