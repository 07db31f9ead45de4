# A machine with a real systemd and Python, for the tests of deploy/systemd.
FROM python:3.13.14-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends systemd \
    && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGRTMIN+3
# systemd reads these as its kernel command line; they matter on hosts with cgroups of version 1
CMD ["/lib/systemd/systemd", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
