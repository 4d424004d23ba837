"""Environment variables that libraries read when they are imported: import this module first."""

import os
import tempfile
from pathlib import Path

# OpenCV prints nothing, as in ``stm-skeletons``.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Keep models that OpenVINO compiles in tests out of the user's cache.
os.environ.setdefault("XDG_CACHE_HOME", str(Path(tempfile.gettempdir()) / f"stm-skeletons-tests-{os.getuid()}"))
