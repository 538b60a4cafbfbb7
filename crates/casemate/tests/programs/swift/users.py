"""Users of a project on a whole service, made by its API: their passwords at Keystone and Swift, their policies, their
temporary keys by STS. Each public function is one test."""

import datetime
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import boto3
import ovh
from botocore.config import Config
from botocore.exceptions import ClientError
from keystoneauth1 import session as keystone_session
from keystoneauth1.exceptions import http as keystone_errors
from keystoneauth1.identity import v3
from swiftclient import Connection
from swiftclient.exceptions import ClientException

S3, REGION, PROJECT = os.environ["S3"], os.environ["REGION"], os.environ["PROJECT"]
AUTH = f"{S3}/v3"
ovh.client.ENDPOINTS["casemate"] = os.environ["ENDPOINT"]
API = ovh.Client(endpoint="casemate", **{name: os.environ[name.upper()] for name in ("application_key", "application_secret", "consumer_key")})
USERS = f"/cloud/project/{PROJECT}/user"


def make_user(role="objectstore_operator"):
    user = API.post(USERS, description="test", role=role)
    assert user["username"].startswith("user-") and len(user["password"]) == 32, user["username"]
    return user


def set_policy(user, *statements):
    API.post(f"{USERS}/{user['id']}/policy", policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))


def allow(actions, *resources, **conditions):
    resources = [f"arn:aws:s3:::{resource}" for resource in resources]
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **({"Condition": conditions} if conditions else {})}


def client(service="s3", access=None, secret=None, token=None):
    return boto3.client(
        service,
        endpoint_url=S3,
        region_name=REGION,
        aws_access_key_id=access or os.environ["ACCESS_KEY"],
        aws_secret_access_key=secret or os.environ["SECRET_KEY"],
        aws_session_token=token,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, parameter_validation=False),
    )


def of(keys, service="s3"):
    return client(service, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def swift(user, password=None):
    options = {"user_domain_name": "Default", "region_name": REGION, "project_id": PROJECT}
    return Connection(authurl=AUTH, user=user["username"], key=password or user["password"], auth_version="3", os_options=options, retries=0)


def password_of(user, **more):
    return v3.Password(auth_url=AUTH, username=user["username"], password=user["password"], user_domain_name="Default", **more)


def fails(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ClientException as error:
        assert error.http_status == status, error
        return
    raise AssertionError(f"did not fail with {status}")


def unauthorized(auth):
    try:
        keystone_session.Session(auth=auth).get_token()
    except keystone_errors.Unauthorized:
        return
    raise AssertionError("somebody got a token who must not")


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return
    raise AssertionError(f"did not fail with {code}")


def status_of(path, token, method="GET"):
    request = urllib.request.Request(S3 + path, method=method, headers={"X-Auth-Token": token})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def a_users_password_opens_the_projects_containers():
    user = make_user()
    access = password_of(user).get_access(keystone_session.Session())
    assert (access.project_id, access.username, access.role_names) == (PROJECT, user["username"], ["objectstore_operator"])
    session = keystone_session.Session(auth=password_of(user))
    endpoint = session.get_endpoint(service_type="object-store", region_name=REGION)
    assert endpoint == f"{S3}/v1/AUTH_{PROJECT}", endpoint
    connection = swift(user)
    connection.put_container("data")
    connection.put_object("data", "by-swift", b"swift", content_type="text/plain")
    s3 = client()
    assert s3.get_object(Bucket="data", Key="by-swift")["Body"].read() == b"swift"
    s3.put_object(Bucket="data", Key="by-s3", Body=b"s3")
    assert connection.get_object("data", "by-s3")[1] == b"s3"
    assert [entry["name"] for entry in connection.get_container("data")[1]] == ["by-s3", "by-swift"]
    # The account of another project, if there is one or not.
    token = session.get_token()
    assert status_of(f"/v1/AUTH_{PROJECT}/data", token) == 200
    for other in ["0" * 32, "nonsense"]:
        assert status_of(f"/v1/AUTH_{other}/data", token) == 403
    unauthorized(password_of(user, project_id="0" * 32))
    unauthorized(password_of({**user, "password": "wrong"}))
    unauthorized(password_of({**user, "username": "user-000000000000"}))
    # The command line.
    environment = {
        **os.environ,
        "OS_AUTH_URL": AUTH,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_USERNAME": user["username"],
        "OS_PASSWORD": user["password"],
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_ID": PROJECT,
        "OS_REGION_NAME": REGION,
    }
    swift_command = os.path.join(os.path.dirname(sys.executable), "swift")
    listed = subprocess.run([swift_command, "list", "data"], env=environment, capture_output=True, text=True)
    assert listed.stdout.split() == ["by-s3", "by-swift"], listed
    # A token can be ended; a new password ends the old one and all tokens; so does the end of the user.
    assert status_of("/v3/auth/catalog", token) == 200
    request = urllib.request.Request(f"{AUTH}/auth/tokens", method="DELETE", headers={"X-Auth-Token": token, "X-Subject-Token": token})
    assert urllib.request.urlopen(request).status == 204
    assert status_of(f"/v1/AUTH_{PROJECT}/data", token) == 401
    second = keystone_session.Session(auth=password_of(user)).get_token()
    changed = API.post(f"{USERS}/{user['id']}/regeneratePassword")
    assert status_of(f"/v1/AUTH_{PROJECT}/data", second) == 401
    unauthorized(password_of(user))
    third = keystone_session.Session(auth=password_of({**user, "password": changed["password"]})).get_token()
    assert status_of(f"/v1/AUTH_{PROJECT}/data", third) == 200
    API.delete(f"{USERS}/{user['id']}")
    assert status_of(f"/v1/AUTH_{PROJECT}/data", third) == 401
    unauthorized(password_of({**user, "password": changed["password"]}))


def a_user_may_by_swift_what_it_may_by_s3():
    user = make_user()
    s3 = client()
    s3.create_bucket(Bucket="data")
    for key in ["open/key", "closed/key"]:
        s3.put_object(Bucket="data", Key=key, Body=key.encode())
    connection = swift(user)
    assert connection.get_object("data", "closed/key")[1] == b"closed/key"
    set_policy(
        user,
        allow("s3:GetObject", "data/open/*"),
        allow(["s3:PutObject", "s3:DeleteObject"], "data/own/*"),
        allow("s3:ListBucket", "data", StringEquals={"s3:prefix": "open/"}),
    )
    assert connection.get_object("data", "open/key")[1] == b"open/key"
    assert connection.head_object("data", "open/key")["content-length"] == "8"
    for call in [connection.get_object, connection.head_object]:
        fails(403, call, "data", "closed/key")
        # One who may not list is not told what is not there.
        fails(403, call, "data", "open/nothing")
    connection.put_object("data", "own/key", b"own")
    fails(403, connection.get_object, "data", "own/key")
    fails(403, connection.put_object, "data", "open/key", b"other")
    fails(403, connection.post_object, "data", "own/key", {"X-Object-Meta-A": "b"})
    fails(403, connection.copy_object, "data", "closed/key", "/data/own/copy")
    connection.copy_object("data", "open/key", "/data/own/copy")
    fails(403, connection.delete_object, "data", "open/key")
    connection.delete_object("data", "own/key")
    assert [entry["name"] for entry in connection.get_container("data", prefix="open/")[1]] == ["open/key"]
    fails(403, connection.get_container, "data")
    fails(403, connection.get_container, "data", prefix="closed/")
    fails(403, connection.head_container, "data")
    fails(403, connection.post_container, "data", {"X-Container-Meta-A": "b"})
    fails(403, connection.delete_container, "data")
    fails(403, connection.put_container, "new")
    fails(403, connection.get_account)
    # A manifest reads what it names.
    manifest = json.dumps([{"path": "/data/closed/key"}])
    fails(403, connection.put_object, "data", "own/large", manifest, query_string="multipart-manifest=put")
    manifest = json.dumps([{"path": "/data/open/key"}])
    connection.put_object("data", "own/large", manifest, query_string="multipart-manifest=put")
    fails(403, connection.delete_object, "data", "own/large", query_string="multipart-manifest=delete")
    assert s3.get_object(Bucket="data", Key="own/large")["Body"].read() == b"open/key"
    # A bucket's policy takes away from everybody.
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/open/*"}
    s3.put_bucket_policy(Bucket="data", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    fails(403, connection.get_object, "data", "open/key")
    # A user whose role is another's work has none of this.
    fails(403, swift(make_user("compute_operator")).get_account)


def temporary_keys_are_narrowed_and_end():
    user = make_user()
    keys = API.post(f"{USERS}/{user['id']}/s3Credentials")
    s3 = client()
    s3.create_bucket(Bucket="data")
    for key in ["in/key", "out/key"]:
        s3.put_object(Bucket="data", Key=key, Body=key.encode())
    sts = client("sts", keys["access"], keys["secret"])
    arn = f"arn:aws:iam::{PROJECT}:role/{user['username']}"
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{PROJECT}:user/{user['username']}"
    policy = {"Version": "2012-10-17", "Statement": [allow("s3:GetObject", "data/in/*")]}
    role = sts.assume_role(RoleArn=arn, RoleSessionName="narrow", Policy=json.dumps(policy), DurationSeconds=900)
    left = role["Credentials"]["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=14) < left <= datetime.timedelta(minutes=15), left
    assert role["AssumedRoleUser"]["Arn"].endswith(f":assumed-role/{user['username']}/narrow"), role["AssumedRoleUser"]
    narrow = of(role["Credentials"])
    assert narrow.get_object(Bucket="data", Key="in/key")["Body"].read() == b"in/key"
    refused("AccessDenied", narrow.get_object, Bucket="data", Key="out/key")
    refused("AccessDenied", narrow.put_object, Bucket="data", Key="in/key", Body=b"")
    refused("AccessDenied", narrow.list_objects_v2, Bucket="data")
    refused("AccessDenied", narrow.list_buckets)
    assert of(role["Credentials"], "sts").get_caller_identity()["Account"] == PROJECT
    refused("InvalidToken", client("s3", role["Credentials"]["AccessKeyId"], role["Credentials"]["SecretAccessKey"]).list_buckets)
    # It cannot widen itself again.
    refused("AccessDenied", of(role["Credentials"], "sts").get_session_token)
    again = of(of(role["Credentials"], "sts").assume_role(RoleArn=arn, RoleSessionName="again")["Credentials"])
    assert again.get_object(Bucket="data", Key="in/key")["Body"].read() == b"in/key"
    refused("AccessDenied", again.get_object, Bucket="data", Key="out/key")
    # Without a policy it may what its user may.
    session = sts.get_session_token()["Credentials"]
    assert of(session).get_object(Bucket="data", Key="out/key")["Body"].read() == b"out/key"
    set_policy(user, allow("s3:GetObject", "data/out/*"))
    refused("AccessDenied", narrow.get_object, Bucket="data", Key="in/key")
    assert of(session).get_object(Bucket="data", Key="out/key")["Body"].read() == b"out/key"
    for wrong in [f"arn:aws:iam::{PROJECT}:role/project", f"arn:aws:iam::{'0' * 32}:role/{user['username']}"]:
        refused("AccessDenied", sts.assume_role, RoleArn=wrong, RoleSessionName="test")
    refused("MalformedPolicyDocument", sts.assume_role, RoleArn=arn, RoleSessionName="test", Policy='{"Statement": 7}')
    for seconds in [899, 43_201]:
        refused("ValidationError", sts.assume_role, RoleArn=arn, RoleSessionName="test", DurationSeconds=seconds)
    # Each holder has a role of its own; that of a key of nobody is the project's.
    holder = client("sts").get_caller_identity()["Arn"]
    own = holder.replace(":user/", ":role/") if ":user/" in holder else f"arn:aws:iam::{PROJECT}:role/project"
    role = client("sts").assume_role(RoleArn=own, RoleSessionName="test")
    assert of(role["Credentials"]).get_object(Bucket="data", Key="out/key")["Body"].read() == b"out/key"
    # They end with the key that they come from.
    API.delete(f"{USERS}/{user['id']}/s3Credentials/{keys['access']}")
    refused("InvalidAccessKeyId", of(session).get_object, Bucket="data", Key="out/key")
    refused("InvalidClientTokenId", of(session, "sts").get_caller_identity)
    assert of(role["Credentials"]).list_buckets()["Buckets"][0]["Name"] == "data"


globals()[sys.argv[1]]()
print("all of it holds")
