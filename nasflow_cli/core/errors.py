"""The one tree of errors that a user can cause. Each carries the exit code that the command line promises.

A message says what is wrong, where, and what to do. Anything that is not a `NasflowError` is a bug of ours.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_NO_VALID_TRIAL = 3
EXIT_ENVIRONMENT = 4
EXIT_RUN_DIRECTORY = 5
EXIT_STOPPED_EARLY = 75
EXIT_SIGHUP = 129
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class NasflowError(Exception):
    """Something that the user can understand and mend."""

    exit_code = EXIT_UNEXPECTED


class ConfigError(NasflowError):
    """The experiment file or the command line is wrong."""

    exit_code = EXIT_USAGE


class DataError(NasflowError):
    """A data set was found, but what it holds cannot be used."""

    exit_code = EXIT_USAGE


class NoValidTrialError(NasflowError):
    """A search ended without a single trial that has a score."""

    exit_code = EXIT_NO_VALID_TRIAL


class MissingError(NasflowError):
    """A file, package or device that the work needs is not there."""

    exit_code = EXIT_ENVIRONMENT


class RunDirectoryError(NasflowError):
    """A run directory is locked by another process or damaged."""

    exit_code = EXIT_RUN_DIRECTORY
