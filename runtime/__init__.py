"""Runtime: the part that runs on the board. Imports neither torch nor onnx.

from runtime import Session

with Session.open("edge") as session:
    parts = session.step(frame)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.backends import BackendOptions
    from runtime.session import Session
    from runtime.session_group import SessionGroup

__all__ = ["BackendOptions", "Session", "SessionGroup"]


def __getattr__(name: str) -> Any:
    # Imported on demand, so that the command line can list its commands without OpenCV.
    if name == "Session":
        from runtime.session import Session

        return Session
    if name == "SessionGroup":
        from runtime.session_group import SessionGroup

        return SessionGroup
    if name == "BackendOptions":
        from runtime.backends import BackendOptions

        return BackendOptions
    raise AttributeError(f"module 'runtime' has no attribute '{name}'")
