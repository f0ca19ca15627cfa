# One image for every process; docker-compose.yml names the command of each container.
# For another base give the build argument PYTHON_IMAGE; docs/security/supply-chain.md says how to renew the digest.
ARG PYTHON_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${PYTHON_IMAGE}

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --home-dir /srv/laneway laneway \
    && mkdir -p /srv/laneway /data \
    && chown laneway:laneway /data \
    && python -m venv /opt/venv

WORKDIR /srv/laneway

# Dependencies come first, because they change less often than the code.
COPY requirements/run.txt requirements/
RUN pip install --quiet --require-hashes -r requirements/run.txt

COPY . .
RUN pip install --quiet --no-deps --no-build-isolation -e . \
    && python -m compileall -q app laneway beat_schedule.py

ENV DATA_DIR=/data \
    API_HOST=0.0.0.0 \
    AUTHENTICATION=on \
    FLOWER_HOST=0.0.0.0
USER laneway
VOLUME /data
EXPOSE 8000 5555
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 CMD ["python", "-m", "laneway.server.health", "api"]
CMD ["sh", "-c", "laneway prepare && exec uvicorn app.main:app --host 0.0.0.0 --port 8000 --http laneway.api.limited_protocol:LimitedProtocol --timeout-graceful-shutdown 10 --no-access-log --no-server-header --no-proxy-headers"]
