"""Runtime: what runs on the board. Imports neither torch nor onnx.

from runtime import Session

with Session.open("edge") as session:
    parts = session.step(frame)
"""

from runtime.session import Session

__all__ = ["Session"]
