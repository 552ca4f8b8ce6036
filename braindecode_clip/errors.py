"""Exceptions whose messages are written for the user of the tool.

The command line prints the message of a :class:`BraindecodeError` and exits with
its ``exit_code``; anything else is a bug and shows its traceback.
"""

from __future__ import annotations


class BraindecodeError(Exception):
    """Base class: a problem that the user can understand and cure.

    The message says what is wrong, where, what was found, what was expected and
    what to do next.
    """

    exit_code = 1


class DataError(BraindecodeError):
    """A file or an array is not what the stage needs."""


class ConfigError(BraindecodeError):
    """The configuration holds an unknown key or an impossible value."""


class ArtifactError(DataError):
    """An artefact on disk is damaged, of another kind or of another schema version."""


class LeakageError(DataError):
    """A stimulus of the test set was seen by something that was fitted."""
