# The jaas worker: one runs on each manager node. Build it from the repository's root:
#   docker build -f docker/worker.Dockerfile -t jaas-worker:0.1.0 .
#
# BASE   any image with Python 3.11 or newer; add its digest if builds must be repeatable
# BUILD  the image in which pip runs: the same Python, and pip
# EXTRAS worker,otel for traces (JAAS_TRACES); worker,store for a store of large values (JAAS_STORE_URL)
# PIP_*  settings of pip: a mirror, or without a network PIP_NO_INDEX=1 and PIP_FIND_LINKS=/folder/in/BUILD
ARG BASE=python:3.13-slim-bookworm
ARG BUILD=${BASE}

FROM ${BUILD} AS build
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ARG EXTRAS=worker
COPY pyproject.toml README.md LICENSE docker/constraints.txt docker/requirements.txt /src/
COPY jaas_submit /src/jaas_submit
COPY jaas_worker /src/jaas_worker
# Exec form, so that BASE needs no shell.
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--target", "/opt/jaas", \
     "--constraint", "/src/constraints.txt", "--requirement", "/src/requirements.txt"]

FROM ${BASE}
LABEL org.opencontainers.image.title="jaas worker" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/jaas /opt/jaas
ENV PYTHONPATH=/opt/jaas PATH=/opt/jaas/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# glibc returns blocks of 128 KiB or more to the system when they are freed, and threads share two heaps. Otherwise the
# megabytes that a long list of the engine needs for a moment stay allocated, on each thread. See mallopt(3).
ENV MALLOC_MMAP_THRESHOLD_=131072 MALLOC_ARENA_MAX=2
# root, because the engine's socket belongs to root and the host's group "docker", whose id differs between hosts. If the
# id is known, run as nobody with that group (JAAS_WORKER_USER in stack.yml). That alone is not more secure: a process
# with access to the engine is root on its host. With deploy/socket-proxy.yml it is.
USER 0:0
ENTRYPOINT ["python3", "-m", "jaas_submit.cli.main"]
CMD ["worker"]
