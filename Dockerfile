# Northstar's code with its locked environment; the same image runs every service of docker-compose.yml.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/northstar/.venv && /opt/northstar/.venv/bin/pip install uv
WORKDIR /opt/northstar
COPY requirements.txt ./
RUN VIRTUAL_ENV=/opt/northstar/.venv .venv/bin/uv pip install --compile-bytecode --require-hashes -r requirements.txt
COPY pyproject.toml README.md ./
COPY plugins plugins
COPY dags dags
COPY dbt_project dbt_project
COPY expectations expectations
RUN VIRTUAL_ENV=/opt/northstar/.venv .venv/bin/uv pip install --no-deps -e .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 northstar && useradd --uid 10001 --gid northstar --home-dir /var/lib/northstar --create-home northstar
COPY --from=build --chown=root:root /opt/northstar /opt/northstar
ENV PATH=/opt/northstar/.venv/bin:$PATH NORTHSTAR_HOME=/var/lib/northstar AIRFLOW_HOME=/var/lib/northstar/airflow \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 SCARF_NO_ANALYTICS=true SCARF_ANALYTICS=false DBT_SEND_ANONYMOUS_USAGE_STATS=false GX_ANALYTICS_ENABLED=false \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False VIZRO_TELEMETRY=false
WORKDIR /opt/northstar
USER northstar
VOLUME /var/lib/northstar
ENTRYPOINT ["python", "-m", "northstar.orchestration.container"]
