# The jaas worker: one runs on each manager node. Build it from the repository's root:
#   docker build -f docker/worker.Dockerfile -t jaas-worker:0.1.0 .
#
# BASE   any image with Python 3.11 or newer; add its digest if builds must be repeatable
# BUILD  the image in which pip runs: the same Python, and pip
# EXTRAS worker,otel for traces (JAAS_TRACES); worker,store for a store of large values (JAAS_STORE_URL);
#        worker,signing for signed descriptions (JAAS_VERIFY_KEYS)
# PIP_*  settings of pip: a mirror, or without a network PIP_NO_INDEX=1 and PIP_FIND_LINKS=/folder/in/BUILD
#
# pip takes only files that have a hash in docker/constraints.txt, wherever they come from, and runs none of their code.
ARG BASE=python:3.13-slim-trixie
ARG BUILD=${BASE}

FROM ${BUILD} AS packages
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
COPY docker/constraints.txt /src/
# Exec form, so that BASE needs no shell.
RUN ["python3", "-m", "pip", "download", "--no-cache-dir", "--only-binary", ":all:", "--dest", "/packages", \
     "--require-hashes", "--requirement", "/src/constraints.txt"]

# A stage of its own, without pip's settings: what has been verified is all that is within reach.
FROM ${BUILD} AS build
ARG EXTRAS=worker
COPY --from=packages /packages /packages
COPY pyproject.toml README.md LICENSE docker/requirements.txt /src/
COPY jaas_submit /src/jaas_submit
COPY jaas_worker /src/jaas_worker
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-index", "--find-links", "/packages", \
     "--target", "/opt/jaas", "--requirement", "/src/requirements.txt"]

FROM ${BASE}
LABEL org.opencontainers.image.title="jaas worker" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/jaas /opt/jaas
ENV PYTHONPATH=/opt/jaas PATH=/opt/jaas/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# glibc returns blocks of 128 KiB or more to the system when they are freed, and threads share two heaps. Otherwise the
# megabytes that a long list of the engine needs for a moment stay allocated, on each thread. See mallopt(3).
ENV MALLOC_MMAP_THRESHOLD_=131072 MALLOC_ARENA_MAX=2
# root, because the engine's socket belongs to root and the host's group "docker", whose id differs between hosts. Where
# the id is known, the worker needs no root: JAAS_WORKER_USER=65534:ID in stack.yml, --user with docker run
# (docs/operations.md, "A worker without root").
USER 0:0
ENTRYPOINT ["python3", "-m", "jaas_submit.cli.main"]
CMD ["worker"]
