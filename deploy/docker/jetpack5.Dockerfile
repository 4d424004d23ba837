# A Jetson with JetPack 5 (L4T r35), CPU only. NOT YET BUILT OR RUN; see docs/gpu-checklist.md.
# JetPack 5 has Python 3.8 and TensorRT 8.5; we need Python 3.10 and TensorRT 8.6. Frames run on the CPU, in a Python
# that uv installs. For the GPU, flash JetPack 6. USB and RTSP cameras work; CSI cameras do not: pip's OpenCV has no
# GStreamer.
#
#   docker build -f deploy/docker/jetpack5.Dockerfile -t stm-skeletons:jetpack5 .
#   docker run --rm --group-add video --device /dev/video0 stm-skeletons:jetpack5 run /dev/video0 --parts -
FROM ghcr.io/astral-sh/uv:0.9.26 AS uv

FROM nvcr.io/nvidia/l4t-base:r35.4.1

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive \
    UV_NO_CACHE=1 UV_PYTHON_INSTALL_DIR=/opt/python PATH=/opt/stm-skeletons/bin:$PATH

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

COPY --from=uv /uv /usr/local/bin/uv
RUN uv venv --managed-python --python 3.12 /opt/stm-skeletons

WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stm_skeletons ./stm_skeletons
COPY runtime ./runtime
COPY export ./export
COPY training ./training
COPY benchmarks ./benchmarks
RUN uv pip install --python /opt/stm-skeletons/bin/python .

COPY examples /examples
RUN useradd --create-home --uid 10001 --groups video stm
USER 10001
WORKDIR /home/stm
ENTRYPOINT ["stm-skeletons"]
CMD ["doctor"]
