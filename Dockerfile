# The worker alone: no embedded broker, no tools. Written and linted where no container engine runs: build it before you rely on it.
#   docker build -t sla-worker .
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/ requirements/
# Two environments: what runs, and what only builds. Every package is checked against its hash.
RUN python -m venv /opt/sla-worker \
 && /opt/sla-worker/bin/pip install --require-hashes -r requirements/worker.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY worker/ worker/
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels . \
 && /opt/sla-worker/bin/pip install --no-deps --no-index --find-links /build/wheels sla-worker

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="sla-worker" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /var/lib/sla-worker --create-home sla
COPY --from=build /opt/sla-worker /opt/sla-worker
# Inside a container loopback is nobody's: here the endpoint binds to all, and whoever runs it publishes it or not.
ENV PATH=/opt/sla-worker/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SLA_DATA_DIR=/var/lib/sla-worker \
    SLA_HTTP_BIND=0.0.0.0:8080
USER 10001
WORKDIR /var/lib/sla-worker
EXPOSE 8080
# Alive, not ready: a worker without partitions is alive, and restarting it would not help.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sla-worker"]
CMD ["run"]
