# Northstar's code with its locked environment; the same image runs every service of docker-compose.yml.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 northstar && useradd --uid 10001 --gid northstar --home-dir /var/lib/northstar --create-home northstar
WORKDIR /opt/northstar
# the packages are a layer of their own, which a change of the code does not make again; what installs them is gone with it, pip too
COPY requirements-uv.txt requirements.txt pyproject.toml setup.py ./
RUN python -m venv --without-pip .venv && python -m venv /tmp/uv && /tmp/uv/bin/pip install --no-cache-dir --require-hashes -r requirements-uv.txt \
    && export VIRTUAL_ENV=/opt/northstar/.venv && mkdir plugins \
    && /tmp/uv/bin/uv pip install --no-cache --compile-bytecode --require-hashes -r requirements.txt \
    && /tmp/uv/bin/uv pip install --no-cache --no-deps --no-build-isolation -e . \
    && rm -r /tmp/uv
COPY plugins plugins
COPY dags dags
COPY dbt_project dbt_project
COPY expectations expectations
COPY mappings mappings
COPY docs docs
ENV PATH=/opt/northstar/.venv/bin:$PATH NORTHSTAR_HOME=/var/lib/northstar AIRFLOW_HOME=/var/lib/northstar/airflow \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 SCARF_NO_ANALYTICS=true SCARF_ANALYTICS=false DBT_SEND_ANONYMOUS_USAGE_STATS=false GX_ANALYTICS_ENABLED=false \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False VIZRO_TELEMETRY=false
RUN python -m compileall -q plugins dags
USER northstar
VOLUME /var/lib/northstar
ENTRYPOINT ["python", "-m", "northstar.orchestration.container"]
