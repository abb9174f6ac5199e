# Flower with the packages that show jaas jobs. Build it from the repository's root:
#   docker build -f docker/flower.Dockerfile -t jaas-flower:0.1.0 .
# The build arguments, and what each stage is for, are those of docker/worker.Dockerfile.
ARG BASE=python:3.13-slim-trixie
ARG BUILD=${BASE}

FROM ${BUILD} AS packages
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
COPY docker/constraints.txt /src/
RUN ["python3", "-m", "pip", "download", "--no-cache-dir", "--only-binary", ":all:", "--dest", "/packages", \
     "--require-hashes", "--requirement", "/src/constraints.txt"]

FROM ${BUILD} AS build
COPY --from=packages /packages /packages
COPY pyproject.toml README.md LICENSE /src/
COPY jaas_submit /src/jaas_submit
COPY jaas_worker /src/jaas_worker
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-index", "--find-links", "/packages", \
     "--target", "/opt/jaas", "/src[flower]", "tzdata"]
# An empty named volume gets the owner of the folder that it is mounted on.
RUN ["python3", "-c", "import os; os.mkdir('/flower'); os.chown('/flower', 65534, 65534)"]

FROM ${BASE}
LABEL org.opencontainers.image.title="Flower for jaas" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/jaas /opt/jaas
COPY --from=build --chown=65534:65534 /flower /data
ENV PYTHONPATH=/opt/jaas PATH=/opt/jaas/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# It connects to Redis only, so the user nobody is enough.
USER 65534:65534
WORKDIR /data
EXPOSE 5555
ENTRYPOINT ["python3", "-m", "celery", "-A", "jaas_submit.dashboard.flower_app", "flower"]
# This file is mounted and has settings and password; without it Flower does not start.
CMD ["--conf=/etc/jaas/flowerconfig.py"]
