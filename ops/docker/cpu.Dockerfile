# syntax=docker/dockerfile:1.7
# CPU image: docker build -f ops/docker/cpu.Dockerfile -t pendra-worker:0.1.0 .
FROM python:3.11.13-slim-bookworm AS build
# hadolint ignore=DL3008  # Debian's point releases take old versions away: a pinned one would stop building
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/pendra
# llama.cpp is the slow part: compiled in a layer of its own, for any x86-64-v3 machine rather than this one (arm64
# ignores these flags). pip's cache knows nothing of them, so there is one cache for each choice.
ARG CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
# hadolint ignore=DL4006  # nothing in this pipe can fail
RUN --mount=type=cache,id=pendra-pip-cpu,target=/cache \
    cache="/cache/$(printf %s "$CMAKE_ARGS" | sha256sum | cut -c1-16)" \
    && CMAKE_ARGS="$CMAKE_ARGS" /opt/pendra/bin/pip install --cache-dir "$cache" "llama-cpp-python>=0.3.36,<0.4"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY tasks tasks
COPY worker worker
COPY ops ops
RUN --mount=type=cache,id=pendra-pip-cpu,target=/cache \
    /opt/pendra/bin/pip install --cache-dir /cache/common ".[otel]"

FROM python:3.11.13-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
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
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/pendra
CMD ["pendra", "worker"]
