# An x86-64 PC with an NVIDIA RTX GPU (Turing or newer): TensorRT-RTX 1.7.1, CUDA 13. NOT YET BUILT OR RUN; see
# docs/gpu-checklist.md. The host needs a driver for CUDA 13 (580 or newer) and NVIDIA's container toolkit. Building
# engines in it needs no GPU:
#   docker run --rm -v stm-models:/models stm-skeletons:rtx build edge --target sm89 --engines /models
#
#   docker build -f deploy/docker/rtx.Dockerfile -t stm-skeletons:rtx .
#   docker run --rm --gpus all -v stm-models:/models stm-skeletons:rtx \
#     run rtsp://camera/stream --backend tensorrt --engines /models --parts -
FROM nvcr.io/nvidia/cuda:13.0.1-devel-ubuntu24.04 AS wheels

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential python3-dev python3-pip \
    && rm -rf /var/lib/apt/lists/*
# pycuda is source-only; its compiler stays in this stage.
RUN pip3 wheel --no-cache-dir --wheel-dir /wheels pycuda==2026.1

FROM nvcr.io/nvidia/cuda:13.0.1-runtime-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PATH=/opt/stm-skeletons/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0t64 \
    && rm -rf /var/lib/apt/lists/*

COPY --from=wheels /wheels /wheels
RUN python3 -m venv /opt/stm-skeletons \
    && /opt/stm-skeletons/bin/pip install --find-links /wheels pycuda==2026.1 tensorrt-rtx==1.7.1.116

WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stm_skeletons ./stm_skeletons
COPY runtime ./runtime
COPY export ./export
COPY training ./training
COPY benchmarks ./benchmarks
RUN /opt/stm-skeletons/bin/pip install .

COPY examples /examples
RUN useradd --create-home --uid 10001 --groups video stm && install -d -o 10001 -g 10001 /models
USER 10001
WORKDIR /home/stm
ENTRYPOINT ["stm-skeletons"]
CMD ["doctor"]
