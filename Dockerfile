# The pub as a container image. Two stages: the first one fetches and builds, the second one holds the result and
# nothing that made it. All it needs to write is /data, so that everything else can be read-only:
#
#   docker build -t ssb-pub:0.1.0 .
#   docker run --init --read-only --cap-drop ALL --security-opt no-new-privileges -p 8008:8008 -v ssb-pub:/data \
#       -e PUB_ADDRESS_HOST=pub.example.org ssb-pub:0.1.0
#
# No step knows the machine's architecture: every dependency comes as a wheel for amd64 and for arm64.

FROM python:3.13.14-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# pip stays behind in a place of its own
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/ssb-pub
COPY requirements.lock requirements-build.lock ./
RUN /build/bin/pip install --require-hashes -r requirements-build.lock \
    && /build/bin/pip --python /opt/ssb-pub install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY pub pub
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /build/bin/pip --python /opt/ssb-pub install --no-deps /dist/*.whl

FROM python:3.13.14-slim-trixie
LABEL org.opencontainers.image.title="ssb-pub" \
      org.opencontainers.image.description="An always-on Secure Scuttlebutt pub server" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="python:3.13.14-slim-trixie"
COPY --from=build /opt/ssb-pub /opt/ssb-pub
# a new volume takes owner and mode of this folder
RUN install -d -m 0700 -o 10008 -g 10008 /data
ENV PATH=/opt/ssb-pub/bin:$PATH PUB_DATA=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
VOLUME /data
EXPOSE 8008
USER 10008:10008
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 CMD ["ssb-pub", "health"]
ENTRYPOINT ["ssb-pub"]
CMD ["run"]
