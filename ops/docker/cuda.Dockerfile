# syntax=docker/dockerfile:1.7
# NVIDIA image: docker build -f ops/docker/cuda.Dockerfile -t pendra-worker:0.1.0-cuda .
# CUDA 12.6 runs on drivers from 525 on (minor version compatibility).
FROM nvidia/cuda:12.6.3-devel-ubuntu24.04 AS build
# hadolint ignore=DL3008  # Ubuntu takes old versions away: a pinned one would stop building
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/pendra
# Turing to Hopper as machine code, and PTX of the last for what comes after it. The builder has no driver: its stub
# stands in for libcuda.so.1 while linking, and is not taken along.
ARG CUDA_ARCHITECTURES="75-real;80-real;86-real;89-real;90"
ARG CMAKE_ARGS="-DGGML_CUDA=ON -DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
# hadolint ignore=DL4006  # nothing in this pipe can fail
RUN --mount=type=cache,id=pendra-pip-cuda,target=/cache \
    args="$CMAKE_ARGS -DCMAKE_CUDA_ARCHITECTURES=$CUDA_ARCHITECTURES" \
    && cache="/cache/$(printf %s "$args" | sha256sum | cut -c1-16)" \
    && ln -sf libcuda.so /usr/local/cuda/lib64/stubs/libcuda.so.1 \
    && CMAKE_ARGS="$args" LIBRARY_PATH=/usr/local/cuda/lib64/stubs \
       LDFLAGS=-Wl,-rpath-link,/usr/local/cuda/lib64/stubs \
       /opt/pendra/bin/pip install --cache-dir "$cache" "llama-cpp-python>=0.3.36,<0.4"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY tasks tasks
COPY worker worker
COPY ops ops
RUN --mount=type=cache,id=pendra-pip-cuda,target=/cache \
    /opt/pendra/bin/pip install --cache-dir /cache/common ".[otel]"

FROM nvidia/cuda:12.6.3-runtime-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# A number that no host uses for a person; volumes take these folders' owner when they are first mounted.
RUN groupadd --gid 10001 pendra \
    && useradd --no-log-init --no-create-home --uid 10001 --gid pendra --home-dir /var/lib/pendra --shell /usr/sbin/nologin pendra \
    && install -d -o pendra -g pendra -m 0700 /var/lib/pendra /keys \
    && install -d -o pendra -g pendra /models
COPY --from=build /opt/pendra /opt/pendra
ENV PATH=/opt/pendra/bin:$PATH \
    PENDRA_HOME=/var/lib/pendra \
    PENDRA_MODELS_DIR=/models \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/pendra
CMD ["pendra", "worker"]
