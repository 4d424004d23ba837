"""Imported before OpenCV, which looks once: it says nothing of its own, as in ``stm-skeletons``."""

import os

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
