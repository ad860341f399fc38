# CPU image: docker build -f ops/docker/cpu.Dockerfile -t pendra-worker:0.1.0 .
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
# llama.cpp is the slow part: compiled in a layer of its own, for any x86-64-v3 machine rather than this one.
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
RUN python -m venv /opt/pendra && /opt/pendra/bin/pip install --no-cache-dir "llama-cpp-python>=0.3.36,<0.4"
COPY bridge bridge
COPY tasks tasks
COPY worker worker
COPY ops ops
RUN /opt/pendra/bin/pip install --no-cache-dir .

FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/pendra pendra \
    && install -d -o pendra -g pendra /models && install -d -o pendra -g pendra -m 700 /keys
COPY --from=build /opt/pendra /opt/pendra
ENV PATH=/opt/pendra/bin:$PATH PENDRA_HOME=/var/lib/pendra PENDRA_MODELS_DIR=/models
USER pendra
CMD ["pendra", "worker"]
