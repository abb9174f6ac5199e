# The jaas worker: one runs on each manager node. Build it from the repository's root:
#   docker build -f docker/worker.Dockerfile -t jaas-worker:0.1.0 .
#
# BASE   any image with Python 3.11 or newer; name it with its digest where builds must be repeatable
# BUILD  where pip installs; an image with the same Python, and pip
# EXTRAS worker,otel for traces (JAAS_TRACES); worker,store for a store of large values (JAAS_STORE_URL)
# PIP_*  reach pip as its settings: a mirror, or PIP_NO_INDEX=1 and PIP_FIND_LINKS=/folder/of/BUILD without a network
ARG BASE=python:3.11-slim-bookworm
ARG BUILD=${BASE}

FROM ${BUILD} AS build
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ARG EXTRAS=worker
COPY pyproject.toml README.md LICENSE docker/constraints.txt docker/requirements.txt /src/
COPY jaas_submit /src/jaas_submit
COPY jaas_worker /src/jaas_worker
# Without a shell, so that a BASE needs none.
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--target", "/opt/jaas", \
     "--constraint", "/src/constraints.txt", "--requirement", "/src/requirements.txt"]

FROM ${BASE}
LABEL org.opencontainers.image.title="jaas worker" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/jaas /opt/jaas
ENV PYTHONPATH=/opt/jaas PATH=/opt/jaas/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# glibc: a block of 128 KiB or more goes back to the system when it is freed, and threads share two heaps. Reading a long
# list of the engine takes some megabytes for a moment, on any of the worker's threads. See mallopt(3).
ENV MALLOC_MMAP_THRESHOLD_=131072 MALLOC_ARENA_MAX=2
# root, because of the engine's socket: it belongs to root and the host's group "docker", whose number differs from host
# to host. Where it is known, run as nobody with that group (JAAS_WORKER_USER in stack.yml). It is no wall either way:
# whoever may talk to the engine is root on its host.
USER 0:0
ENTRYPOINT ["python3", "-m", "jaas_submit.cli.main"]
CMD ["worker"]
