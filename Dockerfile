# docs/containers.md tells how to build and run it.

# An image with Python 3.13 or 3.14 and its venv module.
ARG BASE=python:3.13.16-slim-trixie

FROM ${BASE} AS packages
# It has strip, which takes 26 MB of symbols for debuggers out of the packages.
RUN apt-get update && apt-get install -y --no-install-recommends binutils
WORKDIR /app
COPY requirements/production.txt .
# The secret `pip` is a pip.conf for another index than PyPI; it stays out of the image. Translations are turned off in
# the settings, and only debuggers in a browser read maps.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes -r production.txt \
    && .venv/bin/pip uninstall --yes pip \
    && find .venv \( -name '*.[mp]o' -o -name '*.map' -o -name tests \) -prune -exec rm -r {} + \
    && find .venv -name '*.so' -exec strip --strip-unneeded {} + \
    && .venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .venv

FROM ${BASE}
LABEL org.opencontainers.image.title="Todo API" \
      org.opencontainers.image.description="The tasks of many users, on Django Ninja, SQLModel and PostgreSQL" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH
COPY --from=packages /app/.venv .venv
COPY . .
# The root file system may be read-only, so Python cannot keep what it compiles. It also need not look if a source is
# newer, as all files are of this build.
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-x", "/.venv/", "."]
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 8000
# live, not health: a server must not be replaced because the database is away. Unlike urllib, http.client takes no
# proxy from the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
connection = HTTPConnection('127.0.0.1', 8000, timeout=4); \
connection.request('GET', '/api/v1/live'); \
raise SystemExit(connection.getresponse().status != 200)"]
# Workers tell the master by a file that they are alive; on a disk that could make one wait.
CMD ["gunicorn", "-c", "python:config.gunicorn", "--bind", "0.0.0.0:8000", "--worker-tmp-dir", "/dev/shm"]
