"""The official Python SDK, unmodified, with an endpoint of its own: submit, poll, read logs, cancel, errors."""
import os
import time

import ovh

ovh.client.ENDPOINTS["casemate"] = os.environ["ENDPOINT"]
KEYS = {name: os.environ[name.upper()] for name in ("application_key", "application_secret", "consumer_key")}
JOBS = f"/cloud/project/{os.environ['PROJECT']}/dataProcessing/jobs"
ENDED = ("COMPLETED", "FAILED", "TERMINATED")


def body(arguments, **changes):
    parameters = {
        "job_type": "python",
        "main_application_code": os.environ["MAIN"],
        "arguments": arguments,
        "driver_cores": "1",
        "driver_memory": "1024",
        "executor_cores": "1",
        "executor_memory": "1024",
        "executor_num": "1",
    }
    parameters.update(changes.pop("parameters", {}))
    job = {
        "containerName": os.environ["BUCKET"],
        "engine": "spark",
        "engineVersion": os.environ["VERSION"],
        "name": "données du SDK",
        "region": os.environ["REGION"],
        "engineParameters": [{"name": name, "value": value} for name, value in parameters.items()],
    }
    return {**job, **changes}


def wait(client, job_id, statuses):
    for _ in range(360):
        job = client.get(f"{JOBS}/{job_id}")
        if job["status"] in statuses:
            return job
        time.sleep(0.5)
    raise AssertionError(f"the job is still {job['status']}")


def follow(client, job_id):
    """Reads the log as it grows, as the old clients do: from the second of the last line, skipping what was seen."""
    last, lines = 0, []
    while True:
        status = client.get(f"{JOBS}/{job_id}")["status"]
        start = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(last // 10**9))
        for line in client.get(f"{JOBS}/{job_id}/logs", **{"from": start})["logs"]:
            if line["id"] > last:
                last = line["id"]
                lines.append(line["content"])
        if status in ENDED:
            return lines
        time.sleep(1)


def refused(kind, call):
    try:
        call()
    except kind as fault:
        assert fault.query_id, "an answer has a query id"
        return fault
    raise AssertionError(f"no {kind.__name__}")


def main():
    client = ovh.Client(endpoint="casemate", **KEYS)
    assert abs(client.time_delta) < 5, client.time_delta
    assert client.get("/me")["nichandle"]
    assert client.get("/v1/me") == client.get("/me"), "/v1 replaces /1.0"
    assert os.environ["PROJECT"] in client.get("/cloud/project")
    assert client.get("/auth/currentCredential")["status"] == "validated"
    assert client.get(f"/cloud/project/{os.environ['PROJECT']}/dataProcessing/authorization")["authorized"] is True
    capabilities = client.get(f"/cloud/project/{os.environ['PROJECT']}/dataProcessing/capabilities")
    versions = [version["name"] for engine in capabilities for version in engine["availableVersions"]]
    assert os.environ["VERSION"] in versions, versions

    job = client.post(JOBS, **body("8, 1, 0"))
    assert job["status"] in ("PENDING", "SUBMITTED", "RUNNING"), job
    assert job["name"] == "données du SDK", job
    assert job["id"] in client.get(JOBS)
    lines = follow(client, job["id"])
    numbered = [line for line in lines if line.startswith("line ")]
    assert numbered == [f"line {number}" for number in range(8)], lines
    job = wait(client, job["id"], ENDED)
    assert (job["status"], job["returnCode"]) == ("COMPLETED", 0), job
    assert client.get(f"{JOBS}/{job['id']}/logs")["logsAddress"]

    failing = client.post(JOBS, **body("1, 0, 9"))
    sleeper = client.post(JOBS, **body("1000, 1, 0"))
    job = wait(client, failing["id"], ENDED)
    assert (job["status"], job["returnCode"]) == ("FAILED", 9), job
    wait(client, sleeper["id"], ("RUNNING",))
    client.delete(f"{JOBS}/{sleeper['id']}")
    job = wait(client, sleeper["id"], ENDED)
    assert job["status"] == "TERMINATED" and job["returnCode"] != 0, job

    refused(ovh.exceptions.ResourceNotFoundError, lambda: client.get(f"{JOBS}/00000000-0000-7000-8000-000000000000"))
    refused(ovh.exceptions.ResourceNotFoundError, lambda: client.get("/cloud/project/00000000000000000000000000000000"))
    wrong = body("", engineVersion="2.4.3", parameters={"driver_cores": "17", "executor_memory": "99999"})
    fault = refused(ovh.exceptions.APIError, lambda: client.post(JOBS, **wrong))
    assert fault.response.status_code == 422, fault
    assert {"driver_cores", "executor_memory", "engineVersion"} <= set(fault.response.json()["details"]), fault.response.text
    stranger = ovh.Client(endpoint="casemate", **{**KEYS, "application_secret": "x" * 32})
    refused(ovh.exceptions.InvalidCredential, lambda: stranger.get("/me"))
    stranger = ovh.Client(endpoint="casemate", **{**KEYS, "application_key": "x" * 16})
    refused(ovh.exceptions.InvalidKey, lambda: stranger.get("/me"))

    request = client.new_consumer_key_request()
    request.add_recursive_rules(ovh.API_READ_ONLY, "/me")
    pending = request.request()
    assert pending["state"] == "pendingValidation" and pending["validationUrl"].startswith("http"), pending
    print("the Python SDK did everything")


main()
