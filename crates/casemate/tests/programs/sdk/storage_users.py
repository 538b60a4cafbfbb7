"""The official Python SDK makes users of a project with policies, roles and keys; boto3 then may do with each key exactly
what was granted, by S3 and by STS."""
import datetime
import json
import os
import time
import urllib.error
import urllib.request

import boto3
import ovh
from botocore.config import Config
from botocore.exceptions import ClientError

ovh.client.ENDPOINTS["casemate"] = os.environ["ENDPOINT"]
KEYS = {name: os.environ[name.upper()] for name in ("application_key", "application_secret", "consumer_key")}
API = ovh.Client(endpoint="casemate", **KEYS)
PROJECT = f"/cloud/project/{os.environ['PROJECT']}"
USERS, CONTAINERS = f"{PROJECT}/user", f"{PROJECT}/storage"
BUCKETS = f"{PROJECT}/region/{os.environ['REGION']}/storage"
POLICY = """{
    "Version": "2012-10-17",
    "Statement": [
        {"Sid": "In", "Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": "arn:aws:s3:::sdk-data/in/*"},
        {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::sdk-data",
         "Condition": {"StringLike": {"s3:prefix": "in/*"}}}
    ]
}"""


def client(key, service="s3"):
    """By an access key as the API gives it, or as STS does."""
    return boto3.client(
        service,
        endpoint_url=os.environ["S3"],
        region_name=os.environ["REGION"],
        aws_access_key_id=key.get("access") or key["AccessKeyId"],
        aws_secret_access_key=key.get("secret") or key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def refused(call, code="AccessDenied", **arguments):
    try:
        call(**arguments)
    except ClientError as fault:
        assert fault.response["Error"]["Code"] in (code, "403"), fault.response
        return
    raise AssertionError(f"{call.__name__} {arguments} was not refused")


def refused_by_api(kind, field, call, *path, **body):
    try:
        call(*path, **body)
    except kind as fault:
        assert field in fault.response.json()["details"], fault.response.text
        return fault
    raise AssertionError(f"{path} {body} was not refused")


def status(method, url, data=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read()


def put(s3, key, bucket="sdk-data", body=b"x"):
    return s3.put_object(Bucket=bucket, Key=key, Body=body)


def new_user(**body):
    """A user and a key of it."""
    user = API.post(USERS, **body)
    return user, API.post(f"{USERS}/{user['id']}/s3Credentials")


def a_policy_allows_what_it_says_and_no_more(root):
    user, key = new_user(description="by policy")
    path = f"{USERS}/{user['id']}/policy"
    assert API.post(path, policy=POLICY) is None
    assert API.get(path)["policy"] == POLICY, "it is read as it was set"
    s3 = client(key)
    put(s3, "in/a", body=b"1")
    assert s3.get_object(Bucket="sdk-data", Key="in/a")["Body"].read() == b"1"
    assert s3.list_objects_v2(Bucket="sdk-data", Prefix="in/")["KeyCount"] == 1
    put(root, "out/b")
    for call, arguments in [
        (s3.put_object, {"Key": "out/a", "Body": b"x"}),
        (s3.get_object, {"Key": "out/b"}),
        (s3.delete_object, {"Key": "in/a"}),
        (s3.list_objects_v2, {"Prefix": "out/"}),
        (s3.list_objects_v2, {}),
        (s3.put_object, {"Bucket": "sdk-other", "Key": "in/a", "Body": b"x"}),
        (s3.delete_bucket, {}),
        (s3.put_bucket_policy, {"Policy": "{}"}),
        (s3.create_bucket, {"Bucket": "sdk-mine"}),
    ]:
        refused(call, **{"Bucket": "sdk-data", **arguments})
    refused(s3.list_buckets)
    wrong = POLICY.replace("s3:PutObject", "s3:PutObjcet")
    fault = refused_by_api(ovh.exceptions.BadParametersError, "policy", API.post, path, policy=wrong)
    assert "statement 1 (In), Action" in str(fault), fault
    put(s3, "in/a", body=b"1")
    # What clients set that take a policy away: it allows nothing.
    API.post(path, policy='{"Statement":[]}')
    refused(s3.put_object, Bucket="sdk-data", Key="in/a", Body=b"x")
    API.post(path, policy=POLICY)
    return key


def sts_narrows_the_key_of_a_user(key):
    sts = client(key, "sts")
    whole = client(sts.get_session_token(DurationSeconds=900)["Credentials"])
    put(whole, "in/by-session", body=b"2")
    refused(whole.put_object, Bucket="sdk-data", Key="out/by-session", Body=b"x")
    return whole


def a_disabled_key_is_refused_at_once(key, session):
    path = f"{USERS}/{key['userId']}/s3Credentials/{key['access']}"
    s3 = client(key)
    put(s3, "in/a")
    assert API.post(f"{path}/disable") is None
    refused(s3.get_object, "InvalidAccessKeyId", Bucket="sdk-data", Key="in/a")
    refused(session.get_object, "InvalidAccessKeyId", Bucket="sdk-data", Key="in/a")
    assert API.post(f"{path}/secret") == {"secret": key["secret"]}
    assert API.get(path)["enabled"] is False
    rotated = client(API.post(f"{path}/rotate"))
    put(rotated, "in/a")
    refused(rotated.put_object, Bucket="sdk-data", Key="out/a", Body=b"x")
    refused(s3.get_object, "InvalidAccessKeyId", Bucket="sdk-data", Key="in/a")
    assert API.post(f"{path}/enable") is None
    s3.get_object(Bucket="sdk-data", Key="in/a")
    API.delete(path)
    refused(s3.get_object, "InvalidAccessKeyId", Bucket="sdk-data", Key="in/a")


def roles_on_a_bucket(root):
    user, key = new_user(description="by role")
    s3 = client(key)
    put(s3, "free", "sdk-other")
    grant = f"{BUCKETS}/sdk-data/policy/{user['id']}"
    API.post(grant, roleName="readOnly", objectKey="")
    put(root, "roles/a", body=b"3")
    assert s3.get_object(Bucket="sdk-data", Key="roles/a")["Body"].read() == b"3"
    assert s3.list_objects_v2(Bucket="sdk-data", Prefix="roles/")["KeyCount"] == 1
    for call, arguments in [
        (s3.put_object, {"Key": "roles/b", "Body": b"x"}),
        (s3.delete_object, {"Key": "roles/a"}),
        # Its first policy narrows it to what that says.
        (s3.get_object, {"Bucket": "sdk-other", "Key": "free"}),
    ]:
        refused(call, **{"Bucket": "sdk-data", **arguments})
    API.post(grant, roleName="readWrite", objectKey="")
    put(s3, "roles/b")
    s3.delete_object(Bucket="sdk-data", Key="roles/b")
    refused(s3.get_bucket_policy, Bucket="sdk-data")
    API.post(grant, roleName="deny", objectKey="roles/secret/*")
    put(root, "roles/secret/a")
    refused(s3.get_object, Bucket="sdk-data", Key="roles/secret/a")
    API.post(grant, roleName="admin", objectKey="")
    s3.put_bucket_tagging(Bucket="sdk-data", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    refused(s3.get_object, Bucket="sdk-data", Key="roles/secret/a")
    # Without a role of the object store, no policy in the AWS language helps.
    role = next(role["id"] for role in API.get(f"{USERS}/{user['id']}/role") if role["name"] == "objectstore_operator")
    API.delete(f"{USERS}/{user['id']}/role/{role}")
    refused(s3.get_object, Bucket="sdk-data", Key="roles/a")
    API.post(f"{USERS}/{user['id']}/role", roleId=role)
    s3.get_object(Bucket="sdk-data", Key="roles/a")
    API.delete(f"{USERS}/{user['id']}")
    refused(s3.get_object, "InvalidAccessKeyId", Bucket="sdk-data", Key="roles/a")


def a_user_of_a_container_writes_it_blindly():
    user = API.post(f"{CONTAINERS}/sdk-data/user", description="writes", right="write")
    s3 = client(API.post(f"{USERS}/{user['id']}/s3Credentials"))
    put(s3, "blind/a")
    refused(s3.get_object, Bucket="sdk-data", Key="blind/a")
    refused(s3.list_objects_v2, Bucket="sdk-data")
    refused(s3.put_object, Bucket="sdk-other", Key="a", Body=b"x")
    s3.delete_object(Bucket="sdk-data", Key="blind/a")


def buckets_and_containers_are_what_the_store_has(root):
    owner, key = new_user(description="owns")
    bucket = API.post(BUCKETS, name="sdk-kept", ownerId=owner["id"], versioning={"status": "enabled"})
    assert bucket["ownerId"] == owner["id"] and bucket["versioning"] == {"status": "enabled"}, bucket
    assert root.get_bucket_versioning(Bucket="sdk-kept")["Status"] == "Enabled"
    first = put(root, "a/b", "sdk-kept", b"first")["VersionId"]
    put(root, "a/b", "sdk-kept", b"second!")
    put(root, "c", "sdk-kept", b"")
    shown = API.get(f"{BUCKETS}/sdk-kept", prefix="a/")
    assert (shown["objectsCount"], shown["objectsSize"]) == (2, 7), shown
    assert [item["key"] for item in shown["objects"]] == ["a/b"], shown
    shown = API.get(f"{CONTAINERS}/sdk-kept")
    assert (shown["storedObjects"], shown["storedBytes"]) == (2, 7), shown
    assert [(item["name"], item["size"], item["retrievalState"]) for item in shown["objects"]] == [("a/b", 7, "unsealed"), ("c", 0, "unsealed")], shown
    assert API.get(f"{CONTAINERS}/sdk-kept", noObjects="true")["objects"] == []
    API.delete(f"{BUCKETS}/sdk-kept/object/a%2Fb")
    refused(root.get_object, "NoSuchKey", Bucket="sdk-kept", Key="a/b")
    assert root.get_object(Bucket="sdk-kept", Key="a/b", VersionId=first)["Body"].read() == b"first", "what was removed is kept"
    assert API.put(f"{BUCKETS}/sdk-kept", versioning={"status": "suspended"})["versioning"] == {"status": "suspended"}
    assert root.get_bucket_versioning(Bucket="sdk-kept")["Status"] == "Suspended"
    by_owner = client(key)
    by_owner.create_bucket(Bucket="sdk-by-owner")
    assert API.get(f"{BUCKETS}/sdk-by-owner")["ownerId"] == owner["id"]
    assert API.get(f"{CONTAINERS}/quota")["buckets"] == len(root.list_buckets()["Buckets"])
    try:
        API.delete(f"{CONTAINERS}/sdk-kept")
    except ovh.exceptions.ResourceConflictError:
        pass
    else:
        raise AssertionError("a container with versions was removed")
    API.delete(f"{CONTAINERS}/sdk-kept?recursive=true")
    refused(root.head_bucket, "404", Bucket="sdk-kept")
    root.create_bucket(Bucket="sdk-held", ObjectLockEnabledForBucket=True)
    version = put(root, "held", "sdk-held")["VersionId"]
    root.put_object_legal_hold(Bucket="sdk-held", Key="held", LegalHold={"Status": "ON"})
    try:
        API.delete(f"{CONTAINERS}/sdk-held?recursive=true")
    except ovh.exceptions.ResourceConflictError as fault:
        assert "locked" in str(fault), fault
    else:
        raise AssertionError("a container with a locked object was removed")
    assert root.get_object(Bucket="sdk-held", Key="held", VersionId=version)["Body"].read() == b"x"


def urls_open_one_object_each(root):
    presign = f"{BUCKETS}/sdk-data/presign"
    url = API.post(presign, expire=60, method="PUT", object="urls/a b")["url"]
    assert status("PUT", url, b"by a URL")[0] == 200
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    public = API.post(f"{CONTAINERS}/sdk-data/publicUrl", expirationDate=end, objectName="urls/a b")
    assert status("GET", public["getURL"]) == (200, b"by a URL"), public
    gone = API.post(presign, expire=60, method="DELETE", object="urls/a b")["url"]
    assert status("GET", gone)[0] == 403, "a URL is for one method"
    assert status("DELETE", gone)[0] == 204
    refused(root.get_object, "NoSuchKey", Bucket="sdk-data", Key="urls/a b")


def a_public_container_is_read_by_everybody(root):
    API.post(CONTAINERS, archive=False, containerName="sdk-public", region=os.environ["REGION"])
    put(root, "page", "sdk-public", b"hello")
    place = API.get(f"{CONTAINERS}/sdk-public")["staticUrl"]
    assert status("GET", f"{place}page")[0] == 403
    API.put(f"{CONTAINERS}/sdk-public", containerType="public")
    assert status("GET", f"{place}page") == (200, b"hello")
    assert status("GET", place)[0] == 403, "its objects, and no list of them"
    assert status("PUT", f"{place}page", b"x")[0] == 403
    assert API.get(f"{CONTAINERS}/sdk-public")["containerType"] == "public"
    API.post(f"{CONTAINERS}/sdk-public/cors", origin="https://app.example.org")
    rules = root.get_bucket_cors(Bucket="sdk-public")["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == [["https://app.example.org"]], rules
    API.delete(f"{CONTAINERS}/sdk-public/cors?origin=https%3A%2F%2Fapp.example.org")
    refused(root.get_bucket_cors, "NoSuchCORSConfiguration", Bucket="sdk-public")
    API.put(f"{CONTAINERS}/sdk-public", containerType="private")
    assert status("GET", f"{place}page")[0] == 403
    assert root.get_object(Bucket="sdk-public", Key="page")["Body"].read() == b"hello"


def a_token_opens_the_containers():
    access = API.post(f"{CONTAINERS}/access")
    url = access["endpoints"][0]["url"]
    request = urllib.request.Request(f"{url}?format=json", headers={"X-Auth-Token": access["token"]})
    with urllib.request.urlopen(request) as answer:
        assert b'"sdk-data"' in answer.read()
    user = API.post(USERS, description="by password")
    token = API.post(f"{USERS}/{user['id']}/token", password=user["password"])
    place = token["token"]["catalog"][0]["endpoints"][0]["url"]
    request = urllib.request.Request(f"{place}/sdk-data", headers={"X-Auth-Token": token["X-Auth-Token"]})
    with urllib.request.urlopen(request) as answer:
        assert answer.status in (200, 204)


def policies_of_the_account_count_too(root):
    user, key = new_user(description="by IAM", role="authentication")
    s3 = client(key)
    name = os.environ["PROJECT"]
    urn, stored = f"urn:v1:eu:identity:publicCloudUser:{name}/{user['username']}", f"urn:v1:eu:resource:storageS3:{name}"
    token = API.post(f"{USERS}/{user['id']}/token", password=user["password"])
    place = token["token"]["catalog"][0]["endpoints"][0]["url"]

    def swift(method, path, data=None):
        request = urllib.request.Request(f"{place}/{path}", data, {"X-Auth-Token": token["X-Auth-Token"]}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status
        except urllib.error.HTTPError as fault:
            return fault.code

    def form(key):
        made = s3.generate_presigned_post("sdk-data", key)
        parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n' for field, value in made["fields"].items())
        body = f'{parts}--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nby a form\r\n--x--\r\n'
        request = urllib.request.Request(made["url"], body.encode(), {"Content-Type": "multipart/form-data; boundary=x"})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status
        except urllib.error.HTTPError as fault:
            return fault.code

    def by_url(key):
        return status("GET", s3.generate_presigned_url("get_object", {"Bucket": "sdk-data", "Key": key}))[0]

    def ways(key):
        """Each way to write and to read a key, and whether it is open."""
        codes = [form(key), swift("PUT", f"sdk-data/{key}", b"by Swift"), by_url(key), swift("GET", f"sdk-data/{key}")]
        for call, arguments in [(s3.put_object, {"Body": b"x"}), (s3.get_object, {})]:
            try:
                call(Bucket="sdk-data", Key=key, **arguments)
                codes.append(200)
            except ClientError as fault:
                codes.append(fault.response["ResponseMetadata"]["HTTPStatusCode"])
        return codes

    refusals = [403] * 6
    put(root, "iam/a")
    put(root, "iam/no/a")
    put(root, "other")
    assert ways("iam/a") == refusals, "no role includes the object store, and no policy speaks"
    policy = {
        "name": "iam of storage",
        "identities": [urn],
        "resources": [{"urn": f"{stored}/sdk-data/iam/*"}],
        "permissions": {"allow": [{"action": "storageS3:s3:GetObject"}, {"action": "storageS3:s3:PutObject"}]},
    }
    made = API.post("/v2/iam/policy", **policy)
    assert ways("iam/a") == [204, 201, 200, 200, 200, 200], ways("iam/a")
    assert ways("other") == refusals
    refused(s3.list_objects_v2, Bucket="sdk-data")
    refused(s3.delete_object, Bucket="sdk-data", Key="iam/a")
    deny = {**policy, "name": "not there", "resources": [{"urn": f"{stored}/sdk-data/iam/no/*"}], "permissions": {"deny": [{"action": "storageS3:*"}]}}
    denied = API.post("/v2/iam/policy", **deny)
    API.post(f"{USERS}/{user['id']}/policy", policy=POLICY.replace("sdk-data/in/*", "sdk-data/iam/*"))
    assert ways("iam/no/a") == refusals, "what is denied is denied whatever allows it"

    def told(key, action="storageS3:s3:GetObject"):
        return API.post("/v2/iam/explain", identity=urn, action=action, resource=f"{stored}/sdk-data/{key}")

    answer = told("iam/a")
    assert answer["allowed"] and answer["reason"] == "IAM: allowed by policy 'iam of storage'", answer
    answer = told("iam/no/a")
    assert not answer["allowed"] and answer["deciding"][0]["policy"] == denied["id"], answer
    assert not told("other")["allowed"]
    wanted = {"resourceURNs": [f"{stored}/sdk-data/iam/a", f"{stored}/sdk-data/other"], "actions": ["storageS3:s3:GetObject"], "identity": urn}
    check = API.call("POST", "/v2/iam/authorization/check", [wanted])
    assert [len(one["authorizedActions"]) for one in check] == [1, 0], check
    before = datetime.datetime.now(datetime.timezone.utc).isoformat()
    for one in (made, denied):
        API.delete(f"/v2/iam/policy/{one['id']}")
    assert ways("iam/a") == refusals, "a change is seen at once"
    return {"identity": urn, "stored": f"{stored}/sdk-data", "at": before}


def main():
    root = client({"access": os.environ["ACCESS_KEY"], "secret": os.environ["SECRET_KEY"]})
    for name in ("sdk-data", "sdk-other"):
        assert API.post(BUCKETS, name=name)["name"] == name
    key = a_policy_allows_what_it_says_and_no_more(root)
    session = sts_narrows_the_key_of_a_user(key)
    a_disabled_key_is_refused_at_once(key, session)
    roles_on_a_bucket(root)
    a_user_of_a_container_writes_it_blindly()
    buckets_and_containers_are_what_the_store_has(root)
    urls_open_one_object_each(root)
    a_public_container_is_read_by_everybody(root)
    a_token_opens_the_containers()
    left = policies_of_the_account_count_too(root)
    print("users may do what was granted")
    print(json.dumps(left))


main()
