# A Jetson with JetPack 6.1 or 6.2 (L4T r36.4): CUDA 12.6, TensorRT 10.3, Python 3.10. NOT YET BUILT OR RUN; see
# docs/gpu-checklist.md. For JetPack 6.0 (TensorRT 8.6) use nvcr.io/nvidia/l4t-jetpack:r36.3.0. Board and image need the
# same minor version of Jetson Linux, and engines run only with the TensorRT that built them. Docker needs NVIDIA's
# runtime: sudo apt-get install nvidia-container
#
#   docker build -f deploy/docker/jetpack6.Dockerfile -t stm-skeletons:jetpack6 .
#   docker run --rm --runtime nvidia --group-add video --group-add "$(getent group render | cut -d: -f3)" \
#     -v stm-models:/models -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro -v /tmp/argus_socket:/tmp/argus_socket \
#     --device /dev/video0 stm-skeletons:jetpack6 run /dev/video0 --backend tensorrt --engines /models --parts -
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PATH=/opt/stm-skeletons/bin:/usr/local/cuda/bin:$PATH

# NVIDIA's repository keeps only the newest build of a release, so package versions cannot be pinned.
# libopencv-python is JetPack's OpenCV 4.8, which has GStreamer; pip's OpenCV has none.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        build-essential python3-dev python3-venv libopencv-python \
        gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/*

# The virtual environment exposes JetPack's TensorRT and OpenCV, both compiled for NumPy 1.
RUN python3 -m venv --system-site-packages /opt/stm-skeletons \
    && /opt/stm-skeletons/bin/pip install numpy==1.26.4 pycuda==2025.1

WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stm_skeletons ./stm_skeletons
COPY runtime ./runtime
COPY export ./export
COPY training ./training
COPY benchmarks ./benchmarks
# The package installs pip's OpenCV, which would hide JetPack's: uninstall it.
RUN /opt/stm-skeletons/bin/pip install numpy==1.26.4 . \
    && /opt/stm-skeletons/bin/pip uninstall -y opencv-python \
    && /opt/stm-skeletons/bin/python -c "import cv2; assert __import__('re').search('GStreamer: +YES', cv2.getBuildInformation())"

COPY examples /examples
RUN useradd --create-home --uid 10001 --groups video stm && install -d -o 10001 -g 10001 /models
USER 10001
WORKDIR /home/stm
ENTRYPOINT ["stm-skeletons"]
CMD ["doctor"]
