# One daemon, one migration. Build once, and run with a configuration and a volume for the state:
#   docker build -t vector-replicator .
#   docker run -v ./replicator.toml:/etc/replicator/replicator.toml:ro \
#     -v replicator-state:/var/lib/replicator vector-replicator

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/replicator
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY replicator ./replicator
RUN /opt/replicator/bin/pip install --constraint constraints.txt '.[all]'

FROM python:3.12-slim
# The state must outlive the container, and belong to whom the daemon runs as.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/replicator replicator \
    && install -d -o replicator -g replicator /var/lib/replicator
COPY --from=build /opt/replicator /opt/replicator
ENV PATH=/opt/replicator/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REPLICATOR_CONFIG=/etc/replicator/replicator.toml
USER 10001:10001
WORKDIR /var/lib/replicator
VOLUME /var/lib/replicator
EXPOSE 8080

# SIGTERM drains what is in flight within stream.drain_timeout; give the engine longer than that.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["replicator"]
CMD ["run"]
