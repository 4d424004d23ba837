"""All errors that this project raises on purpose.

    StmError
    |-- SourceError      a video, image folder, camera or stream cannot be read
    |-- FrameError       an array given as a frame is not a BGR uint8 image
    |-- SinkError        an output cannot be written
    |-- SessionError     an argument of a session is invalid
    |-- SeedError        a file or array of seed poses does not fit
    |-- SkeletonError    a skeleton is unknown or inconsistent
    |-- BundleError      a bundle is missing, damaged, of another version or inconsistent
    |-- EngineError      a TensorRT engine is missing, damaged, or built for another TensorRT, GPU or bundle
    |-- BackendError     a backend or provider is unknown, not installed, or fails
    |-- WeightsError     a weights file or checkpoint is missing, damaged or belongs to another network
    |-- DataError        a data set, image or annotation file is missing, damaged or empty
    |-- RecipeError      a training recipe is missing, malformed or inconsistent
    |-- TrainingError    training cannot continue
    |-- ExportError      an export is not possible or failed its checks
    |-- ConfigError      the service's configuration is missing, malformed or inconsistent
    |-- ServiceError     the onboard service cannot start or continue
    |-- LibraryError     a required library is not installed
    `-- BenchmarkError   a benchmark cannot run, or its report is missing or damaged

The message is one line: what is wrong, where, and what to do. The command line prints it and exits with code 2.
"""


def one_line(text: object, limit: int = 300) -> str:
    """Return an error's text on one line of at most ``limit`` characters.

    Unprintable characters and terminal control codes become "?".
    """
    line = " ".join(str(text).split())[:limit]
    return "".join(each if each.isprintable() else "?" for each in line)


class StmError(Exception):
    """Base of all errors of this project; the text is one line for the user."""


class SourceError(StmError):
    """A video, image folder, camera or stream cannot be opened or read."""


class FrameError(StmError):
    """An array given as a frame is not a BGR uint8 image."""


class SinkError(StmError):
    """An output file, folder or window cannot be written or opened."""


class SessionError(StmError):
    """An argument of a session is invalid."""


class SeedError(StmError):
    """Seed poses are missing, malformed or have other joints."""


class SkeletonError(StmError):
    """A skeleton is unknown or inconsistent."""


class BundleError(StmError):
    """A bundle is missing, damaged, of another version or inconsistent with its graphs."""


class EngineError(StmError):
    """A TensorRT engine is missing, damaged, or was built by another TensorRT or for another GPU or bundle."""


class BackendError(StmError):
    """A backend or provider is unknown, not installed, or fails."""


class WeightsError(StmError):
    """A weights file or checkpoint is missing, damaged or belongs to another network."""


class DataError(StmError):
    """A data set, image or annotation file is missing, damaged or empty."""


class RecipeError(StmError):
    """A training recipe is missing, malformed or inconsistent."""


class TrainingError(StmError):
    """Training cannot continue: the loss became NaN or infinite, or the devices do not match."""


class ExportError(StmError):
    """An export is not possible or failed its checks."""


class ConfigError(StmError):
    """The onboard service's configuration is missing, malformed or inconsistent."""


class ServiceError(StmError):
    """The onboard service cannot start or continue, for example because its port is taken or its token is missing."""


class LibraryError(StmError):
    """A required library is not installed."""


class BenchmarkError(StmError):
    """A benchmark cannot run, or its report is missing or damaged."""
