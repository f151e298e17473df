# The engine, and nothing to build it with. Build: docker build -t remit .
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# What builds comes from one lock, what runs from another: both name every file by its hash.
COPY requirements.lock requirements-run.lock ./
RUN python -m venv /build && /build/bin/pip install --require-hashes -r requirements.lock
RUN python -m venv /opt/remit && /opt/remit/bin/pip install --require-hashes -r requirements-run.lock
COPY . .
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./client \
 && /opt/remit/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/remit/bin/python -m compileall -q /opt/remit/lib \
 && rm -rf /opt/remit/bin/pip* /opt/remit/lib/python*/site-packages/pip*

FROM ${PYTHON}
LABEL org.opencontainers.image.title="remit" \
      org.opencontainers.image.description="GitOps for autonomous agents" \
      org.opencontainers.image.licenses="Apache-2.0"
# Sources in git are read by git itself.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git openssh-client \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/remit /opt/remit
RUN groupadd --gid 65532 remit \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /project --shell /usr/sbin/nologin remit \
 && install --directory --owner 65532 --group 65532 /project /project/.remit
ENV PATH=/opt/remit/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /project
USER 65532:65532
EXPOSE 8420 8421 8443
ENTRYPOINT ["remit"]
CMD ["run"]
