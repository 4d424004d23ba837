"""What libraries look at once, when they are imported: so this is imported before them."""

import os

# OpenCV says nothing of its own, as in ``stm-skeletons``.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
if "PYTEST_XDIST_WORKER" in os.environ:  # beside others like it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
