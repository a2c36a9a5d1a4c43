"""Errors that the user can fix."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do."""

    exit_code = 2


class ArgumentError(UserError, ValueError):
    """A wrong argument, possibly from a config; Python code may catch it as a ValueError."""


class LibraryMissing(UserError):
    """A library that is needed is not installed, or lacks its compiled operators."""


class RunFailed(UserError):
    """A run that began well but cannot go on (diverged, out of memory); not the exit code of bad input."""

    exit_code = 1


class Interrupted(UserError):
    """Stopped by Ctrl-C; the message says how to go on."""

    exit_code = 130


class Terminated(Interrupted):
    """Stopped by SIGTERM, which schedulers and ``kill`` send."""

    exit_code = 143
