"""Every error this project raises on purpose, drawn as one tree.

    StmError
    |-- SourceError      a video, image folder, camera or stream cannot be read
    |-- FrameError       an array given as a frame is not an image we can take
    |-- SinkError        an output cannot be written
    |-- SessionError     an argument of a session that cannot be
    |-- SeedError        a file or array of seed poses does not fit
    |-- SkeletonError    an unknown skeleton, or one that contradicts itself
    |-- BundleError      a bundle is missing, damaged, of another version or inconsistent
    |-- EngineError      a TensorRT engine is missing, damaged, foreign or of another TensorRT, GPU or bundle
    |-- BackendError     a backend or provider is unknown, not installed or refuses the work
    |-- WeightsError     a weights file or checkpoint is missing, damaged or belongs to another network
    |-- DataError        a data set, picture or annotation file is missing, damaged or empty
    |-- RecipeError      a training recipe is missing, malformed or contradicts itself
    |-- TrainingError    training cannot go on
    |-- ExportError      an export cannot be done or did not pass its checks
    |-- ConfigError      a service's configuration is missing, malformed or contradicts itself
    |-- ServiceError     the onboard service cannot start
    |-- LibraryError     a library that the work needs is not installed
    `-- BenchmarkError   a benchmark cannot be done, or its report is missing or damaged

The message is one line: what is wrong, where, and what to do. The command line prints it and exits with 2.
"""


def one_line(text: object, limit: int = 300) -> str:
    """The text of an error, ours or another library's, without line breaks and not longer than ``limit``.

    What cannot be printed, or would do something to a terminal, becomes "?".
    """
    line = " ".join(str(text).split())[:limit]
    return "".join(each if each.isprintable() else "?" for each in line)


class StmError(Exception):
    """Base of all errors of this project; its text is one line meant for the user."""


class SourceError(StmError):
    """A video, image folder, camera or stream cannot be opened or read."""


class FrameError(StmError):
    """An array given as a frame is not a BGR uint8 image."""


class SinkError(StmError):
    """An output file, folder or window cannot be written or opened."""


class SessionError(StmError):
    """An argument of a session is none that it can have."""


class SeedError(StmError):
    """Seed poses are missing, malformed or of other joints."""


class SkeletonError(StmError):
    """A skeleton is unknown or contradicts itself."""


class BundleError(StmError):
    """A bundle is missing, damaged, of another version or inconsistent with its graphs."""


class EngineError(StmError):
    """A TensorRT engine is missing, damaged, foreign, or was built by another TensorRT, for another GPU or bundle."""


class BackendError(StmError):
    """A backend or provider is unknown, not installed or refuses the work."""


class WeightsError(StmError):
    """A weights file or checkpoint is missing, damaged or belongs to another network."""


class DataError(StmError):
    """A data set, picture or annotation file is missing, damaged or empty."""


class RecipeError(StmError):
    """A training recipe is missing, malformed or contradicts itself."""


class TrainingError(StmError):
    """Training cannot go on: the loss is no number, or the devices do not fit."""


class ExportError(StmError):
    """An export cannot be done or did not pass its checks."""


class ConfigError(StmError):
    """A configuration of the onboard service is missing, malformed or contradicts itself."""


class ServiceError(StmError):
    """The onboard service cannot start: a port is taken, a certificate or token is missing."""


class LibraryError(StmError):
    """A library that the work needs is not installed."""


class BenchmarkError(StmError):
    """A benchmark cannot be done, or its report is missing or damaged."""
