# The CPC partition as a container: two stages, so that no compiler, no source and no package cache gets into the image.
# Certificates, keys and passwords never do: they are mounted (see docs/how-to/run-in-docker.md).

FROM python:3.11-slim AS build
# A compiler only for processors that a dependency has no ready wheel for.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/cpc \
    && /opt/cpc/bin/pip install --no-cache-dir -c constraints.txt setuptools wheel
COPY setup.cfg pyproject.toml LICENSE README.md ./
COPY cpc cpc
COPY libs libs
COPY config config
RUN /opt/cpc/bin/pip install --no-cache-dir -c constraints.txt --no-build-isolation '.[all]' \
    && /opt/cpc/bin/pip uninstall --yes setuptools wheel

FROM python:3.11-slim
# tini is process 1: it passes signals on and buries what the supervisor's children leave.
# The numbers are fixed, because a consumer in another container joins group 10500 by number to read the segments.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10500 cpc \
    && useradd --system --uid 10500 --gid 10500 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cpc \
    && install -d -o 10500 -g 10500 -m 0700 /var/lib/cpc
COPY --from=build /opt/cpc /opt/cpc
# No byte code is written at run time, so that the root file system may be read-only.
ENV PATH=/opt/cpc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# What consumers and the command gate keep; a volume goes there, which gets the owner from here.
ENV STATE_DIRECTORY=/var/lib/cpc
USER 10500:10500
WORKDIR /etc/cpc
# By the age of the segments' heartbeats, so that a process which lives but no longer publishes counts as ill.
HEALTHCHECK --interval=15s --timeout=10s --start-period=15s --retries=3 \
    CMD ["cpc", "health", "--config", "/etc/cpc/partition.xml"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "cpc"]
CMD ["run", "--config", "/etc/cpc/partition.xml"]
