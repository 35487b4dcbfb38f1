"""Every error of ours that a user can cause. Whoever catches `LlamaO1Error` has them all.

    LlamaO1Error
    |- ConfigError     a setting is out of range or does not fit another
    |- ProblemError    a problem file, a built-in name or a data set cannot be read
    |- ModelError      a model folder is missing, damaged or lacks our tokens
    |- RecordError     a written tree or OpenLongCoT record does not parse
    |- EngineError     an engine cannot be had, or a request cannot be served
    `- RunError        a run folder is in the way, damaged or not a run

`replay.ReplayError` stands apart, because replay/ knows nothing of this package; the command line
shows both in one line with exit code 2.
"""


class LlamaO1Error(Exception):
    """A user's mistake or a broken input; the message says what was found, expected, and to change."""


class ConfigError(LlamaO1Error):
    """A setting is out of range or does not fit another."""


class ProblemError(LlamaO1Error):
    """Problems cannot be read."""


class ModelError(LlamaO1Error):
    """A model cannot be used."""


class RecordError(LlamaO1Error):
    """A written tree does not parse."""


class EngineError(LlamaO1Error):
    """An engine cannot be had, or a request cannot be served."""


class RunError(LlamaO1Error):
    """A run folder cannot be used."""
