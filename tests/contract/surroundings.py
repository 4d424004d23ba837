"""What libraries look at once, when they are imported: so this is imported before them."""

import os
import tempfile
from pathlib import Path

# OpenCV says nothing of its own, as in ``stm-skeletons``.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
if "PYTEST_XDIST_WORKER" in os.environ:  # beside others like it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Models that OpenVINO compiled in tests do not fill the user's own cache.
os.environ.setdefault("XDG_CACHE_HOME", str(Path(tempfile.gettempdir()) / f"stm-skeletons-tests-{os.getuid()}"))
