"""Following a DAG run: its tasks are read to the last page, whatever their names."""

from northstar.orchestration.up import PAGE, Api


def test_a_mapped_task_has_several_instances_under_one_name_and_the_pages_end(monkeypatch):
    instances = [{"task_id": "land_source", "state": "success"}] * (PAGE + 1) + [{"task_id": "settle", "state": None}]
    asked = []

    def answer(_, path):
        asked.append(path)
        assert len(asked) < 4, "the same page again and again"
        start = int(path.rpartition("=")[2])
        return {"task_instances": instances[start : start + PAGE], "total_entries": len(instances)}

    monkeypatch.setattr(Api, "_call", answer)
    assert Api.tasks(object.__new__(Api), "dag", "run") == {"land_source": "success", "settle": None}
