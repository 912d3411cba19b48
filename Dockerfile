# The service as an image: `docker build -t payments-service .`
#
# Python 3.12 is the newest for which Bytewax has wheels. The digest is that of the tag on
# 2026-11-22 for all platforms; an image with another content is refused by the engine.
ARG PYTHON=python:3.12.14-slim-bookworm@sha256:392307d22300de8b5986851a12d9176dfc0fc073e65bf6523ebd7dcbeb23564e

# checkov:skip=CKV_DOCKER_7: the version is in the argument
# ---- build: dependencies exactly as locked, in a virtual environment that has no pip ----
FROM ${PYTHON} AS build
WORKDIR /build
RUN ["python", "-m", "venv", "--without-pip", "/opt/venv"]
# requirements-msk.txt has what a login to Amazon MSK by IAM needs as well, requirements-otel.txt what
# traces need.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    ["python", "-m", "pip", "--python", "/opt/venv/bin/python", "--disable-pip-version-check", \
     "install", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", \
     "-r", "requirements.txt"]
COPY dataflow /opt/venv/app/dataflow
COPY schemas /opt/venv/app/schemas
# The file system will be read-only: what is not compiled now would be compiled at every start.
RUN ["python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/opt/venv"]
# An empty directory: what the recovery directory is before its first volume.
WORKDIR /build/recovery

# ---- runtime: Python, the environment, the code; nothing is run here ----
FROM ${PYTHON} AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="payments-service" \
      org.opencontainers.image.description="Exactly-once payments stream processor: a Bytewax dataflow on Kafka" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12.14-slim-bookworm"
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=1001:1001 --chmod=0750 /build/recovery /var/lib/payments
COPY LICENSE /licenses/LICENSE
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/venv/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BYTEWAX_RECOVERY_DIRECTORY=/var/lib/payments \
    BYTEWAX_SNAPSHOT_INTERVAL=0 \
    BYTEWAX_RECOVERY_BACKUP_INTERVAL=0
WORKDIR /opt/venv/app
USER 1001:1001
# Probes and status; metrics; the other processes of a cluster.
EXPOSE 3000 9090 9999
VOLUME ["/var/lib/payments"]
STOPSIGNAL SIGTERM
# Alive, not ready: an engine that restarts what is unhealthy must not do so for a Kafka that is away.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-m", "dataflow", "healthcheck"]

# ---- waxctl: what Bytewax's Helm chart expects of an image (see k8s/waxctl/) ----
FROM runtime AS waxctl
COPY k8s/waxctl/entrypoint.sh k8s/waxctl/entrypoint-recovery.sh ./
ENTRYPOINT []
CMD ["sh", "./entrypoint.sh"]

# ---- service: the default. No shell starts it, so it is PID 1 and gets the signals itself ----
FROM runtime AS service
ENTRYPOINT ["python", "-m", "bytewax.run", "dataflow.flow"]
