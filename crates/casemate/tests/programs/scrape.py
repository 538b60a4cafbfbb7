"""Reads the endpoint for operators as Prometheus does, in both formats, and prints the samples that it found."""

import json
import os
import sys
import urllib.error
import urllib.request

import ovh
from prometheus_client import parser
from prometheus_client.openmetrics import parser as open_parser

url, token = sys.argv[1:]


def scrape(accept, authorization):
    headers = {"Accept": accept, **({"Authorization": authorization} if authorization else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


for wrong in [None, "Bearer ", "Bearer " + token[:-1], "Basic " + token, token]:
    assert scrape("*/*", wrong)[0] == 401, wrong

# A platform user's log-in.
ovh.client.ENDPOINTS["casemate"] = os.environ["ENDPOINT"]
names = ["APPLICATION_KEY", "APPLICATION_SECRET", "CONSUMER_KEY"]
client = ovh.Client(endpoint="casemate", **{name.lower(): os.environ[name] for name in names})
users = f"/cloud/project/{os.environ['PROJECT']}/user"
user = client.post(users, description="who logs in")
client.post(f"{users}/{user['id']}/token", password=user["password"])

status, kind, text = scrape("text/plain", "Bearer " + token)
assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8"), (status, kind)
status, kind, open_text = scrape("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", "Bearer " + token)
assert status == 200 and kind.startswith("application/openmetrics-text; version=1.0.0"), (status, kind)


def names(families):
    found = {}
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            name = sample.name
            if family.type == "histogram":
                for suffix in ("_bucket", "_sum", "_count"):
                    name = name.removesuffix(suffix)
            labels = set(sample.labels) - {"le"}
            found.setdefault(name, [sorted(labels), 0.0, family.type])
            assert found[name][0] == sorted(labels), name
            found[name][1] += sample.value if not sample.name.endswith(("_bucket", "_sum")) else 0
            for value in sample.labels.values():
                assert len(value) <= 120 and "casemate-test" not in value, value
    return found


found = names(parser.text_string_to_metric_families(text))
assert set(found) == set(names(open_parser.text_string_to_metric_families(open_text))), "both formats have the same"
for secret in [token, os.environ["PROJECT"], os.environ["ACCESS_KEY"], os.environ["APPLICATION_KEY"]]:
    assert secret not in text, secret
print(json.dumps(found))
