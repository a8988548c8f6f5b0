"""docker-compose.spark.yml, Dockerfile.spark and docs/kubernetes_spark.yml, as far as they can be checked without containers."""

import re

import yaml

from northstar.base.settings import ROOT, Operations
from tests.orchestration.test_container import STACK

COMPOSE = (ROOT / "docker-compose.spark.yml").read_text()
SPARK = yaml.safe_load(COMPOSE)
MANIFEST = (ROOT / "docs" / "kubernetes_spark.yml").read_text()
PINNED = re.search(r"^pyspark==(\S+)", (ROOT / "requirements-spark.txt").read_text(), re.MULTILINE)


def operations(text: str) -> Operations:
    """The settings that the comment at the top of a file gives."""
    found = re.search(r"^#   (?=lake:)(?:.*\n#   )*.*$", text, re.MULTILINE)
    assert found
    lines = re.sub(r"^#   ", "", found[0], flags=re.MULTILINE)
    return Operations(**yaml.safe_load(lines))


def test_master_and_workers_are_started_with_the_profile_alone_and_beside_them_only_the_scheduler_changes():
    cluster = {name for name, service in SPARK["services"].items() if service.get("profiles") == ["spark"]}
    assert cluster == {"spark-master", "spark-worker-1", "spark-worker-2"}
    assert set(SPARK["services"]) - cluster == {"scheduler"} and "scheduler" in STACK["services"]
    assert set(SPARK["services"]["scheduler"]) == {"build", "image", "networks"}
    assert operations(COMPOSE).spark_master == "spark://spark-master:7077"
    assert operations(COMPOSE).spark_options["spark.driver.host"] == "scheduler"


def test_they_have_no_secret_and_no_rights_and_nobody_else_reaches_the_master():
    for name, service in SPARK["services"].items():
        assert "northstar-spark:" in service["image"] and service["build"]["dockerfile"] == "Dockerfile.spark"
        if name == "scheduler":
            assert service["networks"] == ["default", "spark"]
            continue
        assert service["networks"] == ["spark"] and "ports" not in service and "healthcheck" in service
        assert (
            service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"] and service["pids_limit"]
        )
        assert not re.search("PASSWORD|KEY|SECRET", str(service))
    assert SPARK["networks"] == {"spark": {"internal": True}}
    header = COMPOSE[: COMPOSE.index("x-spark")]
    assert set(re.findall(r"\$\{(\w+:-[^}]+)", COMPOSE)) == {
        f"{name}:-{value}" for name, value in re.findall(r"(NORTHSTAR_SPARK\w+)=(\w+)", header)
    }


def test_workers_see_the_home_where_the_driver_has_it_and_have_a_disk_of_their_own():
    [home] = [v for v in STACK["services"]["scheduler"]["volumes"] if v.startswith("home:")]
    for number in (1, 2):
        service = SPARK["services"][f"spark-worker-{number}"]
        assert service["volumes"] == [home, f"scratch-{number}:{service['environment']['SPARK_LOCAL_DIRS']}"]
        assert service["environment"]["SPARK_LOCAL_DIRS"] in (ROOT / "Dockerfile.spark").read_text()
    dockerfile = (ROOT / "Dockerfile.spark").read_text()
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE) == ["root", "northstar"]
    assert "--require-hashes -r requirements-spark.txt" in dockerfile


def test_the_manifest_of_kubernetes_fits_together():
    assert PINNED
    documents = {d["kind"]: d for d in yaml.safe_load_all(MANIFEST)}
    settings = operations(MANIFEST)
    assert settings.spark_master.startswith("k8s://") and settings.wide_engine == "spark"
    assert settings.spark_options["spark.kubernetes.container.image"] == f"apache/spark:{PINNED[1]}"
    template = settings.spark_options["spark.kubernetes.executor.podTemplateFile"].rpartition("/")[2]
    pod = yaml.safe_load(documents["ConfigMap"]["data"][template])["spec"]
    claim = documents["PersistentVolumeClaim"]["metadata"]["name"]
    assert [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]] == [claim]
    assert not pod["automountServiceAccountToken"] and pod["securityContext"]["runAsUser"] == 10001
    paths = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert paths == {"/var/lib/northstar/wide", f"/var/lib/northstar/{settings.lake}"}
    driver = documents["ServiceAccount"]["metadata"]["name"]
    assert [s["name"] for s in documents["RoleBinding"]["subjects"]] == [driver]
    assert all(path in MANIFEST.partition("apiVersion")[0] for path in (*paths, driver, claim))
