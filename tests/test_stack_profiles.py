"""The profiles of docker-compose.yml: an object store, and Prefect's server in several processes.

The images of both are stand-ins: Debian's Redis, and moto for the object store. Of that one this
shows how it is reached and used, and nothing of RustFS itself.
"""

import json
import secrets
from collections.abc import Iterator

import pytest
from stack import (
    SOURCE,
    Stack,
    build_stand_in,
    mlflow_runs,
    running_engine,
    running_stack,
    runs_of,
    wait_for,
)

pytestmark = [pytest.mark.stack, pytest.mark.soak, pytest.mark.timeout(1800)]

REDIS = """
FROM debian:bookworm-slim
RUN apt-get update -qq \\
    && apt-get install -y -qq --no-install-recommends redis-server redis-tools \\
    && mkdir -p /data && chown redis:redis /data
"""
# Its health check asks for /health: here a bucket of that name.
OBJECT_STORE = """
FROM python:3.11-slim-bookworm
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends curl \\
    && pip install -q moto[s3,server]
USER nobody
CMD moto_server --host 0.0.0.0 --port 9000 & \\
    until curl -sX PUT 127.0.0.1:9000/health; do :; done; wait
"""
LIST = (
    "import boto3, json; found = boto3.client('s3').list_objects_v2(Bucket='mlflow')\n"
    "print(json.dumps([entry['Key'] for entry in found.get('Contents', [])]))"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "COMPOSE_PROFILES": "s3,redis",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://s3:9000",
        "MLFLOW_ARTIFACTS": "s3://mlflow/artifacts",
        "REDIS_PASSWORD": secrets.token_hex(20),
        "QUICKDRAW_SOURCE": SOURCE,
        "QUICKDRAW_CRON": "* * * * *",
    }
    with running_engine() as engine:
        build_stand_in(engine, "redis:7.2", REDIS)
        build_stand_in(engine, "rustfs/rustfs:1.0.0", OBJECT_STORE)
        with running_stack(engine, tmp_path_factory.mktemp("stack"), **settings) as running:
            yield running


def test_a_scheduled_run_keeps_its_files_in_the_object_store(stack: Stack) -> None:
    generate = ["quickdraw", "generate", SOURCE, "--classes", "4", "--rows", "150"]
    stack.execute("prefect-worker", *generate)

    def completed() -> bool:
        """Made by the services, which are processes of their own here."""
        runs = runs_of(stack, "pipeline/nightly")
        return any(r["state_type"] == "COMPLETED" and r["auto_scheduled"] for r in runs)

    wait_for("a scheduled run that completes", completed)
    (tracked,) = mlflow_runs(stack, "FINISHED")
    listed = stack.mlflow(f"artifacts/list?run_id={tracked['info']['run_id']}")["files"]
    assert listed
    kept = json.loads(stack.execute("mlflow", "python", "-c", LIST))
    assert all(any(file["path"] in key for key in kept) for file in listed)


def test_the_services_are_where_redis_says(stack: Stack) -> None:
    told = stack.compose("top", "prefect-server")
    assert "--no-services" in told
    states = [c["State"]["Health"]["Status"] for c in stack.containers("prefect-services")]
    assert states == ["healthy"]
