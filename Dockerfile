# The service in a container: no torch, no compiler, no shell needed at run time; not root, on a read-only root.
# docs/deployment.md says how to build and run it. The model is mounted, not built in.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements.lock requirements-test.lock deploy/container/select_packages.py deploy/container/packages.txt ./
# Only what the service imports, at the locks' versions and with their hashes; wheels alone, so nothing is compiled.
RUN python select_packages.py packages.txt requirements.lock requirements-test.lock > service.lock \
    && python -m venv --without-pip /opt/minigpt/venv \
    && python -m pip --python /opt/minigpt/venv/bin/python install \
        --no-deps --require-hashes --only-binary :all: --requirement service.lock
WORKDIR /opt/minigpt/app
COPY assistant assistant
COPY model model
COPY pipeline pipeline
COPY service service
# The root is read-only later: Python can't write its byte code then.
RUN /opt/minigpt/venv/bin/python -m compileall -q -j 0 /opt/minigpt

FROM ${BASE}
RUN groupadd --system --gid 10001 minigpt \
    && useradd --system --uid 10001 --gid minigpt --no-create-home --home-dir /var/lib/minigpt minigpt \
    && install --directory --owner minigpt --group minigpt --mode 0700 /var/lib/minigpt /var/cache/minigpt
COPY --from=packages /opt/minigpt /opt/minigpt
WORKDIR /opt/minigpt/app
# NUMBA_CACHE_DIR: where kernels are stored that were compiled at the first start; keep it in a volume.
ENV PATH=/opt/minigpt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/minigpt
USER 10001:10001
VOLUME ["/var/lib/minigpt", "/var/cache/minigpt"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--state", "/var/lib/minigpt", "--model", "/models/champion/model"]
