# remediator in a container: no root, no shell needed, nothing written but /var/lib/remediator and /tmp.
#
#   docker build --tag remediator .
#
# Settings are read from /etc/remediator/remediator.yaml; docs/deploying.md has the whole story.

FROM python:3.13-slim-trixie AS build

WORKDIR /src
COPY requirements/build.txt requirements/requirements.txt requirements/
# What builds, and what runs, come from the lock files alone. The environment that runs has no pip of its own.
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && python -m venv --without-pip /opt/remediator \
 && pip --python /opt/remediator/bin/python install --no-cache-dir --require-hashes -r requirements/requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY remediator remediator
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir /wheel . \
 && pip --python /opt/remediator/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl \
 && install -d /data


FROM python:3.13-slim-trixie

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="remediator" \
      org.opencontainers.image.description="Auto-remediation that on-call teams trust while they sleep" \
      org.opencontainers.image.source="https://github.com/remediator/remediator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/remediator /opt/remediator
COPY --from=build --chown=10001:10001 /data /var/lib/remediator

# Python keeps its compiled files from the build and writes none: the root file system may be read-only.
ENV PATH=/opt/remediator/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    REMEDIATOR_CONFIG=/etc/remediator/remediator.yaml

# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/remediator
EXPOSE 8080

# Kubernetes uses its own probes; this one is for Docker and Compose. Another port: REMEDIATOR_SERVER__PORT.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["/opt/remediator/bin/python", "-I", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('REMEDIATOR_SERVER__PORT', '8080') + '/healthz', timeout=4)"]

ENTRYPOINT ["/opt/remediator/bin/remediator"]
CMD ["serve"]
