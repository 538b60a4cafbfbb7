"""Calls the object gate by Swift, Keystone and STS, with the clients that people have. Each public function is one test."""

import datetime
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from keystoneauth1 import session as keystone_session
from keystoneauth1.exceptions import catalog as keystone_catalog
from keystoneauth1.exceptions import http as keystone_errors
from keystoneauth1.identity import v3
from swiftclient import Connection
from swiftclient.exceptions import ClientException
from swiftclient.service import SwiftService

PUBLIC, SANDBOX = int(sys.argv[2]), int(sys.argv[3])
URL = f"http://127.0.0.1:{PUBLIC}"
AUTH = f"{URL}/v3"
MIB = 1 << 20
A, B = "a" * 32, "b" * 32


def s3(key="project-a", service="s3", port=PUBLIC, token=None, secret=None, region="GRA"):
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret or f"secret of {key}",
        aws_session_token=token,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def swift(user="user-a", password=None, region="GRA", **more):
    return Connection(
        authurl=AUTH,
        user=user,
        key=password or f"password of {user}",
        auth_version="3",
        os_options={"user_domain_name": "Default", "region_name": region, "project_id": user[-1] * 32, **more},
        retries=0,
    )


def command(*arguments, fails=False, cwd=None, **environment):
    environment = {
        **os.environ,
        "OS_AUTH_URL": AUTH,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_USERNAME": "user-a",
        "OS_PASSWORD": "password of user-a",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "GRA",
        "OS_PROJECT_ID": A,
        **environment,
    }
    result = subprocess.run(["swift", *arguments], env=environment, cwd=cwd, capture_output=True, text=True)
    said = f"{arguments}\n{result.stdout}\n{result.stderr}"
    assert (result.returncode != 0) == fails, said
    return result.stdout + result.stderr if fails else result.stdout


def http(method, path, body=None, headers=None, token="token-of-user-a", port=PUBLIC):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method=method)
    for name, value in {**({"X-Auth-Token": token} if token else {}), **(headers or {})}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, dict(answer.headers.items()), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers.items()), error.read()


def account(path="", project=A):
    return f"/v1/AUTH_{project}{path}"


def fails(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ClientException as error:
        assert error.http_status == status, error
        return error
    raise AssertionError(f"did not fail with {status}")


def refused(code, call, *arguments, status=None, **named):
    try:
        call(*arguments, **named)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        if status:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error.response
        return
    raise AssertionError(f"did not fail with {code}")


def data(size, seed=0):
    return random.Random(seed).randbytes(size)


def md5(content):
    return hashlib.md5(content).hexdigest()


def password(user="user-a", secret=None, domain=None, scope=None):
    who = {"name": user, "domain": domain or {"name": "Default"}, "password": secret or f"password of {user}"}
    auth = {"identity": {"methods": ["password"], "password": {"user": who}}}
    if scope is not None:
        auth["scope"] = scope
    return json.dumps({"auth": auth}).encode()


def issue(body):
    return http("POST", "/v3/auth/tokens", body, {"Content-Type": "application/json"}, token=None)


def a_password_gets_a_token_and_a_catalogue():
    for wanted in [{}, {"project_id": A}, {"project_name": A, "project_domain_name": "Default"}]:
        auth = v3.Password(auth_url=AUTH, username="user-a", password="password of user-a", user_domain_name="Default", **wanted)
        session = keystone_session.Session(auth=auth)
        access = auth.get_access(session)
        assert (access.project_id, access.username, access.user_domain_id) == (A, "user-a", "default"), access._data
        assert access.role_names == ["objectstore_operator"] and not access.will_expire_soon()
        assert access.issued and access.expires
        for region in ["GRA"]:
            for interface in ["public", "internal", "admin"]:
                endpoint = session.get_endpoint(service_type="object-store", region_name=region, interface=interface)
                assert endpoint == f"{URL}/v1/AUTH_{A}", endpoint
        assert session.get_endpoint(service_type="identity", region_name="GRA") == AUTH
        try:
            session.get_endpoint(service_type="object-store", region_name="BHS")
            raise AssertionError("a region that is not there has an endpoint")
        except keystone_catalog.EndpointNotFound:
            pass
        # By the token that it has, another can be had.
        again = v3.Token(auth_url=AUTH, token=session.get_token(), project_id=A)
        assert again.get_access(keystone_session.Session(auth=again)).project_id == A
    status, headers, body = http("GET", "/v3", token=None)
    assert status == 200 and json.loads(body)["version"]["status"] == "stable", body
    assert json.loads(body)["version"]["links"][0]["href"] == f"{AUTH}/"
    by_id = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "user-a", "password": "password of user-a"}}}}}
    status, headers, body = issue(json.dumps(by_id).encode())
    assert status == 201 and headers["x-subject-token"] == "token-of-user-a", body
    storage, token = swift().get_auth()
    assert (storage, token) == (f"{URL}/v1/AUTH_{A}", "token-of-user-a")


def a_wrong_password_is_refused_like_an_unknown_user():
    answers = []
    for body in [
        password(secret="wrong"),
        password("nobody", "wrong"),
        password("", "wrong"),
        password(domain={"name": "Other"}),
        password(domain={"id": "other"}),
        password(scope={"project": {"id": B}}),
        password(scope={"project": {"name": B, "domain": {"id": "default"}}}),
        password(scope={"system": {"all": True}}),
        json.dumps({"auth": {"identity": {"methods": ["totp"]}}}).encode(),
        json.dumps({"auth": {"identity": {"methods": ["token"], "token": {"id": "of nobody"}}}}).encode(),
    ]:
        status, headers, answer = issue(body)
        assert "x-subject-token" not in headers
        assert headers["www-authenticate"] == f'Keystone uri="{AUTH}"', headers
        answers.append((status, answer))
    assert len(set(answers)) == 1, answers
    status, answer = answers[0]
    assert status == 401 and json.loads(answer)["error"]["title"] == "Unauthorized", answer
    for body in [b"", b"{", b"[]", b"null", b'{"auth": 7}', password().replace(b'"password":', b'"word":', 1), b"\xff" * 100]:
        status, _, answer = issue(body)
        assert status == 400 and json.loads(answer)["error"]["code"] == 400, (body, answer)
        assert b"password of" not in answer
    assert issue(b" " * (17 << 10))[0] == 413
    no_domain = {"identity": {"methods": ["password"], "password": {"user": {"name": "user-a", "password": "x"}}}}
    assert issue(json.dumps({"auth": no_domain}).encode())[0] == 400
    wrong = v3.Password(auth_url=AUTH, username="user-a", password="wrong", user_domain_name="Default")
    try:
        keystone_session.Session(auth=wrong).get_token()
        raise AssertionError("a wrong password was right")
    except keystone_errors.Unauthorized:
        pass
    fails(None, swift(password="wrong").get_account)
    assert "Unauthorized" in command("list", fails=True, OS_PASSWORD="wrong")
    # A job reaches neither.
    for method, path in [("POST", "/v3/auth/tokens"), ("GET", account())]:
        status, _, answer = http(method, path, password() if method == "POST" else None, port=SANDBOX)
        assert status in (400, 403) and b"<Error>" in answer, answer


def a_token_is_described_to_its_user_and_ends_when_asked():
    subject = {"X-Subject-Token": "token-of-user-a"}
    status, headers, body = http("GET", "/v3/auth/tokens", headers=subject)
    token = json.loads(body)["token"]
    assert status == 200 and token["project"]["id"] == A and token["user"]["name"] == "user-a"
    assert [entry["type"] for entry in token["catalog"]] == ["object-store", "identity"]
    assert "catalog" not in json.loads(http("GET", "/v3/auth/tokens?nocatalog", headers=subject)[2])["token"]
    assert http("HEAD", "/v3/auth/tokens", headers=subject)[0] == 200
    assert http("GET", "/v3/auth/tokens", headers=subject, token=None)[0] == 401
    assert http("GET", "/v3/auth/tokens", headers=subject, token="wrong")[0] == 401
    assert http("GET", "/v3/auth/tokens", headers=subject, token="token-of-user-b")[0] == 404
    assert http("DELETE", "/v3/auth/tokens", headers=subject, token="token-of-user-b")[0] == 404
    assert http("GET", "/v3/auth/tokens")[0] == 400
    assert json.loads(http("GET", "/v3/auth/projects")[2])["projects"][0]["id"] == A
    assert json.loads(http("GET", "/v3/auth/catalog")[2])["catalog"] == token["catalog"]
    assert http("GET", "/v3/auth/catalog", token=None)[0] == 401
    assert http("GET", "/v3/users")[0] == 404
    assert http("PUT", "/v3/auth/tokens")[0] == 405
    assert http("GET", account())[0] in (200, 204)
    assert http("DELETE", "/v3/auth/tokens", headers=subject)[0] == 204
    assert http("GET", account())[0] == 401
    assert http("GET", "/v3/auth/tokens", headers=subject)[0] == 401


def a_token_is_good_for_the_account_of_its_project_only():
    swift().put_container("data")
    swift().put_object("data", "key", b"of a")
    for path in [account(project=A), account("/data", A), account("/data/key", A)]:
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"]:
            assert http(method, path, token="token-of-user-b")[0] == 403, (method, path)
            assert http(method, path, token=None)[0] == 401, (method, path)
            assert http(method, path, token="token-of-user-x")[0] == 401, (method, path)
            assert http(method, path, token="")[0] == 401, (method, path)
    status, headers, body = http("GET", account("/data", A), token=None)
    assert headers["www-authenticate"] == f'Swift realm="AUTH_{A}"' and b"<h1>Unauthorized</h1>" in body
    assert http("GET", f"/v1/{A}")[0] == 403
    assert http("GET", "/v1/AUTH_")[0] == 403
    assert http("GET", "/v1")[0] == 404
    copy = {"X-Copy-From": "/data/key", "X-Copy-From-Account": f"AUTH_{A}", "Content-Length": "0"}
    swift("user-b").put_container("data")
    assert http("PUT", account("/data/stolen", B), b"", copy, token="token-of-user-b")[0] == 403
    assert swift("user-b").get_container("data")[1] == []
    assert swift().get_object("data", "key")[1] == b"of a"


def containers_are_the_buckets_of_s3():
    c, b = swift(), s3()
    assert c.get_account()[1] == []
    c.put_container("by-swift")
    b.create_bucket(Bucket="by-s3")
    assert [bucket["Name"] for bucket in b.list_buckets()["Buckets"]] == ["by-s3", "by-swift"]
    c.put_object("by-s3", "one", b"12345")
    b.put_object(Bucket="by-s3", Key="two", Body=b"123")
    headers, listed = c.get_account()
    assert [(entry["name"], entry["count"], entry["bytes"]) for entry in listed] == [("by-s3", 2, 8), ("by-swift", 0, 0)]
    assert datetime.datetime.fromisoformat(listed[0]["last_modified"])
    counts = [headers[f"x-account-{name}"] for name in ("container-count", "object-count", "bytes-used")]
    assert counts == ["2", "2", "8"], headers
    assert c.head_account()["x-account-bytes-used"] == "8"
    assert [entry["name"] for entry in c.get_account(marker="by-s3")[1]] == ["by-swift"]
    assert [entry["name"] for entry in c.get_account(limit=1)[1]] == ["by-s3"]
    assert [entry["name"] for entry in c.get_account(prefix="by-sw")[1]] == ["by-swift"]
    assert [entry["name"] for entry in c.get_account(end_marker="by-swift")[1]] == ["by-s3"]
    assert http("GET", account())[2] == b"by-s3\nby-swift\n"
    head = c.head_container("by-s3")
    assert (head["x-container-object-count"], head["x-container-bytes-used"]) == ("2", "8"), head
    assert head["x-trans-id"].startswith("tx")
    # Again is no error, and its metadata is kept, changed and removed.
    assert http("PUT", account("/by-s3"), b"", {"X-Container-Meta-Colour": "blue", "X-Container-Meta-Size": "1"})[0] == 202
    assert http("PUT", account("/new"), b"")[0] == 201
    c.post_container("by-s3", {"X-Container-Meta-Size": "2", "X-Remove-Container-Meta-Colour": "x"})
    head = c.head_container("by-s3")
    assert head["x-container-meta-size"] == "2" and "x-container-meta-colour" not in head, head
    fails(409, c.delete_container, "by-s3")
    c.delete_object("by-s3", "one")
    b.delete_object(Bucket="by-s3", Key="two")
    c.delete_container("by-s3")
    c.delete_container("new")
    b.delete_bucket(Bucket="by-swift")
    assert c.get_account()[1] == []
    for call in [c.head_container, c.get_container, c.delete_container]:
        fails(404, call, "by-s3")
    fails(404, c.post_container, "by-s3", {"X-Container-Meta-A": "b"})
    fails(404, c.put_object, "by-s3", "key", b"")
    for name in ["UPPER", "a_b", "ab", "x" * 64, "a..b", "127.0.0.1"]:
        fails(400, c.put_container, name)


def objects_are_those_of_s3():
    c, b = swift(), s3()
    c.put_container("data")
    for size in [0, 1, 65536, 65537, 3 * MIB + 5]:
        content = data(size, size)
        assert c.put_object("data", f"by-swift/{size}", content) == md5(content)
        read = b.get_object(Bucket="data", Key=f"by-swift/{size}")
        assert read["Body"].read() == content and read["ETag"] == f'"{md5(content)}"'
        b.put_object(Bucket="data", Key=f"by-s3/{size}", Body=content, ContentType="text/x-test")
        headers, found = c.get_object("data", f"by-s3/{size}")
        assert found == content and headers["content-type"] == "text/x-test"
        assert headers["etag"] == md5(content) and headers["content-length"] == str(size)
        head = c.head_object("data", f"by-s3/{size}")
        assert head["content-length"] == str(size) and head["etag"] == md5(content)
        assert head["last-modified"] == headers["last-modified"] and head["x-timestamp"]
    # Of unknown length, in pieces.
    content = data(700_000)
    assert c.put_object("data", "chunked", io.BytesIO(content), chunk_size=10_000) == md5(content)
    assert c.get_object("data", "chunked")[1] == content
    # With the digest that it must have.
    c.put_object("data", "checked", b"content", etag=md5(b"content"))
    fails(422, c.put_object, "data", "wrong", b"content", etag=md5(b"other"))
    fails(422, c.put_object, "data", "wrong", b"content", etag="no digest")
    fails(404, c.head_object, "data", "wrong")
    # Once.
    c.put_object("data", "once", b"1", headers={"If-None-Match": "*"})
    fails(412, c.put_object, "data", "once", b"2", headers={"If-None-Match": "*"})
    fails(400, c.put_object, "data", "once", b"2", headers={"If-None-Match": '"x"'})
    assert c.get_object("data", "once")[1] == b"1"
    c.delete_object("data", "once")
    fails(404, c.delete_object, "data", "once")
    fails(404, c.get_object, "data", "once")
    # What S3 uploads in parts has no digest of its bytes, and clients are told so.
    upload = b.create_multipart_upload(Bucket="data", Key="parts")["UploadId"]
    parts = []
    for number in [1, 2]:
        part = b.upload_part(Bucket="data", Key="parts", UploadId=upload, PartNumber=number, Body=data(5 * MIB, number))
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    b.complete_multipart_upload(Bucket="data", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    headers, found = c.get_object("data", "parts")
    assert headers["x-static-large-object"] == "True" and found == data(5 * MIB, 1) + data(5 * MIB, 2)
    assert json.loads(c.get_object("data", "parts", query_string="multipart-manifest=get")[1]) == []
    c.delete_object("data", "parts", query_string="multipart-manifest=delete")
    fails(404, c.head_object, "data", "parts")


def metadata_is_kept_replaced_and_seen_by_s3():
    c, b = swift(), s3()
    c.put_container("data")
    given = {
        "X-Object-Meta-Colour": "blue",
        "X-Object-Meta-Name": "Zoë",
        "Content-Type": "text/plain",
        "Content-Encoding": "x-none",
        "Content-Disposition": "attachment; filename=x",
        "Cache-Control": "no-cache",
    }
    c.put_object("data", "key", b"content", content_type="text/plain", headers=given)
    head = c.head_object("data", "key")
    assert (head["x-object-meta-colour"], head["x-object-meta-name"]) == ("blue", "Zoë"), head
    for name in ["Content-Type", "Content-Encoding", "Content-Disposition", "Cache-Control"]:
        assert head[name.lower()] == given[name], head
    seen = b.head_object(Bucket="data", Key="key")
    assert seen["Metadata"]["colour"] == "blue" and seen["CacheControl"] == "no-cache", seen
    b.put_object(Bucket="data", Key="by-s3", Body=b"", Metadata={"Shape": "round"})
    assert c.head_object("data", "by-s3")["x-object-meta-shape"] == "round"
    c.post_object("data", "key", {"X-Object-Meta-Size": "7"})
    head = c.head_object("data", "key")
    assert head["x-object-meta-size"] == "7" and "x-object-meta-colour" not in head, head
    assert head["content-type"] == "text/plain" and "content-disposition" not in head, head
    assert c.get_object("data", "key")[1] == b"content" and head["etag"] == md5(b"content")
    c.post_object("data", "key", {"Content-Type": "text/html"})
    assert c.head_object("data", "key")["content-type"] == "text/html"
    fails(404, c.post_object, "data", "nothing", {"X-Object-Meta-Size": "7"})
    for wrong in [{"X-Object-Meta-" + "n" * 129: "v"}, {"X-Object-Meta-N": "v" * 257}, {f"X-Object-Meta-{n}": "v" for n in range(91)}]:
        fails(400, c.put_object, "data", "key", b"", headers=wrong)


def conditions_and_ranges_are_those_of_http():
    c = swift()
    c.put_container("data")
    content = data(200_000)
    etag = c.put_object("data", "key", content)
    modified = c.head_object("data", "key")["last-modified"]
    old = "Mon, 01 Jan 2001 00:00:00 GMT"
    for headers, status in [
        ({"If-Match": etag}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-None-Match": f'"{etag}"'}, 304),
        ({"If-None-Match": "x"}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": old}, 200),
        ({"If-Unmodified-Since": old}, 412),
        ({"If-Unmodified-Since": modified}, 200),
    ]:
        for method in ["GET", "HEAD"]:
            assert http(method, account("/data/key"), headers=headers)[0] == status, (method, headers)
    for value, expected in [("0-0", slice(0, 1)), ("65530-131080", slice(65530, 131081)), ("-7", slice(199_993, None)), ("199999-", slice(199_999, None))]:
        status, headers, body = http("GET", account("/data/key"), headers={"Range": f"bytes={value}"})
        assert status == 206 and body == content[expected], value
        assert headers["content-range"].endswith("/200000") and headers["content-length"] == str(len(body))
    status, headers, _ = http("GET", account("/data/key"), headers={"Range": "bytes=200000-"})
    assert status == 416 and headers["content-range"] == "bytes */200000", headers
    assert c.get_object("data", "key", resp_chunk_size=1000)[1].read() == content


def lists_are_paged_and_rolled_up_in_three_forms():
    c = swift()
    c.put_container("data")
    assert http("GET", account("/data"))[0] == 204
    names = sorted(["a", "b/1", "b/2", "b/c/3", "d", "é", "x y&<>"], key=str.encode)
    for name in names:
        c.put_object("data", name, b"12", content_type="text/plain")
    headers, listed = c.get_container("data")
    assert [entry["name"] for entry in listed] == names and headers["x-container-object-count"] == "7"
    first = listed[0]
    assert (first["bytes"], first["hash"], first["content_type"]) == (2, md5(b"12"), "text/plain"), first
    assert "." in first["last_modified"] and datetime.datetime.fromisoformat(first["last_modified"])
    paged = []
    for limit in [1, 2, 3]:
        paged, marker = [], None
        while page := c.get_container("data", limit=limit, marker=marker)[1]:
            paged += page
            marker = page[-1]["name"]
        assert paged == listed, limit
    assert c.get_container("data", full_listing=True)[1] == listed
    rolled = c.get_container("data", delimiter="/")[1]
    assert [entry.get("name") or entry["subdir"] for entry in rolled] == ["a", "b/", "d", "x y&<>", "é"], rolled
    assert [entry.get("name") or entry["subdir"] for entry in c.get_container("data", delimiter="/", prefix="b/")[1]] == ["b/1", "b/2", "b/c/"]
    assert [entry.get("name") or entry["subdir"] for entry in c.get_container("data", delimiter="/", marker="b/")[1]][0] == "d"
    assert [entry["name"] for entry in c.get_container("data", marker="a", end_marker="b/2")[1]] == ["b/1"]
    assert [entry["name"] for entry in c.get_container("data", path="b")[1]] == ["b/1", "b/2"]
    assert http("GET", account("/data?path=&limit=2"))[2] == b"a\nd\n"
    assert http("GET", account("/data?limit=0"))[0] == 204
    fails(412, c.get_container, "data", limit=10_001)
    assert http("GET", account("/data?limit=x"))[0] == 400
    plain = http("GET", account("/data?prefix=b/"))
    assert plain[2] == b"b/1\nb/2\nb/c/3\n" and plain[1]["content-type"].startswith("text/plain")
    import xml.etree.ElementTree as xml

    for path, headers in [("?format=xml", {}), ("", {"Accept": "application/xml"})]:
        tree = xml.fromstring(http("GET", account(f"/data{path}"), headers=headers)[2])
        assert [entry.find("name").text for entry in tree] == names
    tree = xml.fromstring(http("GET", account("?format=xml"))[2])
    assert tree.attrib["name"] == f"AUTH_{A}" and tree[0].find("count").text == "7"
    assert json.loads(http("GET", account("/data"), headers={"Accept": "application/json"})[2]) == listed
    for number in range(1100):
        http("PUT", account(f"/data/many/{number:04}"), b"")
    assert len(c.get_container("data", prefix="many/")[1]) == 1100


def copies_are_of_the_same_bytes():
    c = swift()
    c.put_container("data")
    c.put_container("other")
    content = data(300_000)
    c.put_object("data", "from é/ä", content, content_type="text/x-one", headers={"X-Object-Meta-A": "1", "X-Object-Meta-B": "2"})
    c.copy_object("data", "from é/ä", "/other/to", headers={"X-Object-Meta-B": "3"})
    headers, found = c.get_object("other", "to")
    assert found == content and headers["content-type"] == "text/x-one"
    assert (headers["x-object-meta-a"], headers["x-object-meta-b"]) == ("1", "3")
    c.copy_object("data", "from é/ä", "/other/fresh", headers={"X-Object-Meta-C": "4"}, fresh_metadata=True)
    head = c.head_object("other", "fresh")
    assert head["x-object-meta-c"] == "4" and "x-object-meta-a" not in head, head
    source = urllib.parse.quote("/data/from é/ä")
    status, headers, _ = http("PUT", account("/other/put"), b"", {"X-Copy-From": source, "Content-Type": "text/x-two"})
    assert status == 201 and headers["etag"] == md5(content) and headers["x-copied-from-account"] == f"AUTH_{A}"
    assert c.get_object("other", "put")[1] == content
    assert c.head_object("other", "put")["content-type"] == "text/x-two"
    c.copy_object("data", "from é/ä", None, headers={"X-Object-Meta-Self": "yes"})
    assert c.head_object("data", "from é/ä")["x-object-meta-self"] == "yes"
    fails(404, c.copy_object, "data", "nothing", "/other/to")
    fails(404, c.copy_object, "data", "from é/ä", "/nowhere/to")
    assert http("PUT", account("/other/put"), b"", {"X-Copy-From": "data"})[0] == 412
    assert http("PUT", account("/other/put"), b"body", {"X-Copy-From": source})[0] == 400
    assert http("COPY", account("/data/x"))[0] == 412
    assert http("COPY", account("/data/" + urllib.parse.quote("from é/ä")), headers={"Destination": "other/x", "If-Match": "x"})[0] == 412


def a_copy_of_tags_needs_the_right_to_set_them():
    c, owner = swift(), s3()
    c.put_container("data")
    c.put_container("other")
    owner.put_object(Bucket="data", Key="tagged", Body=b"x", Tagging="class=open")
    owner.put_object(Bucket="data", Key="plain", Body=b"x")
    denied = {"Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{A}:user/user-a"}, "Action": "s3:PutObjectTagging", "Resource": "arn:aws:s3:::other/*"}
    owner.put_bucket_policy(Bucket="other", Policy=json.dumps({"Statement": [denied]}))
    fails(403, c.copy_object, "data", "tagged", "/other/tagged")
    c.copy_object("data", "plain", "/other/plain")
    owner.put_bucket_policy(Bucket="other", Policy=json.dumps({"Statement": [{**denied, "Condition": {"StringEquals": {"s3:RequestObjectTag/class": "closed"}}}]}))
    c.copy_object("data", "tagged", "/other/tagged")
    assert owner.get_object_tagging(Bucket="other", Key="tagged")["TagSet"] == [{"Key": "class", "Value": "open"}]
    owner.put_object_tagging(Bucket="data", Key="tagged", Tagging={"TagSet": [{"Key": "class", "Value": "closed"}]})
    fails(403, c.copy_object, "data", "tagged", "/other/tagged")


def segments_make_one_object():
    c = swift()
    c.put_container("data")
    c.put_container("data_segments")
    assert "data-segments" in [entry["name"] for entry in c.get_account()[1]]
    pieces = [data(size, size) for size in (100_000, 1, 70_000)]
    etags = [c.put_object("data_segments", f"big/{number}", piece) for number, piece in enumerate(pieces)]

    def entries(**changes):
        found = [
            {"path": f"/data_segments/big/{number}", "etag": etag, "size_bytes": len(piece)}
            for number, (etag, piece) in enumerate(zip(etags, pieces))
        ]
        found[1].update(changes)
        return json.dumps(found)

    put = {"query_string": "multipart-manifest=put"}
    whole = b"".join(pieces)
    assert c.put_object("data", "big", entries(), headers={"X-Object-Meta-A": "1"}, **put) == md5(whole)
    headers, found = c.get_object("data", "big")
    assert found == whole and headers["x-static-large-object"] == "True" and headers["x-object-meta-a"] == "1"
    assert s3().get_object(Bucket="data", Key="big")["Body"].read() == whole
    assert c.get_container("data")[1][0]["bytes"] == len(whole)
    status, _, part = http("GET", account("/data/big"), headers={"Range": "bytes=99999-100001"})
    assert part == whole[99_999:100_002]
    manifest = json.loads(c.get_object("data", "big", query_string="multipart-manifest=get")[1])
    assert [(entry["name"], entry["hash"], entry["bytes"]) for entry in manifest] == [
        (f"/data_segments/big/{number}", etag, len(piece)) for number, (etag, piece) in enumerate(zip(etags, pieces))
    ]
    # The tag of a manifest is made of those of its segments.
    c.put_object("data", "tagged", entries(), etag=md5("".join(etags).encode()), **put)
    fails(422, c.put_object, "data", "wrong", entries(), etag=md5(whole), **put)
    ranged = json.dumps([{"path": "data_segments/big/0", "range": "10-19"}, {"path": "/data_segments/big/2", "range": "-5"}])
    c.put_object("data", "ranged", ranged, **put)
    assert c.get_object("data", "ranged")[1] == pieces[0][10:20] + pieces[2][-5:]
    manifest = json.loads(c.get_object("data", "ranged", query_string="multipart-manifest=get")[1])
    assert [(entry["name"], entry["bytes"]) for entry in manifest] == [("/data_segments/big/0", 10), ("/data_segments/big/2", 5)]
    for wrong, words in [
        (entries(etag=md5(b"")), "Etag Mismatch"),
        (entries(size_bytes=2), "Size Mismatch"),
        (entries(path="/data_segments/none"), "404 Not Found"),
        (entries(path="/nowhere/none"), "404 Not Found"),
        (entries(range="7-9"), "Unsatisfiable Range"),
        (entries(path="none"), "named by"),
        (entries(data="inline"), "not valid"),
        ("[]", "1 to 1000"),
        (json.dumps([{"path": "/data_segments/big/1"}] * 1001), "1 to 1000"),
        ("{", "not valid"),
    ]:
        error = fails(400, c.put_object, "data", "wrong", wrong, **put)
        assert words in error.http_response_content.decode(), error.http_response_content
    fails(413, c.put_object, "data", "wrong", " " * (2 * MIB + 1), **put)
    fails(404, c.head_object, "data", "wrong")
    fails(400, c.put_object, "data", "wrong", "", query_string="multipart-manifest=other")
    # It is whole whatever becomes of its segments; they go with it if that is asked for.
    c.delete_object("data_segments", "big/1")
    assert c.get_object("data", "big")[1] == whole
    c.copy_object("data", "big", "/data/copy")
    assert "x-static-large-object" not in c.head_object("data", "copy")
    c.delete_object("data", "big", query_string="multipart-manifest=delete")
    fails(404, c.head_object, "data", "big")
    assert c.get_container("data_segments")[1] == []
    assert c.get_object("data", "copy")[1] == whole


def what_is_not_supported_says_so():
    c = swift()
    c.put_container("data")
    c.put_object("data", "key", b"kept")
    for headers in [{"X-Delete-After": "60"}, {"X-Delete-At": "1"}, {"X-Object-Manifest": "data/k"}, {"X-Symlink-Target": "data/key"}]:
        fails(501, c.put_object, "data", "key", b"", headers=headers)
        fails(501, c.post_object, "data", "key", headers)
    for headers in [{"X-Container-Read": ".r:*"}, {"X-Container-Write": "*:*"}, {"X-Versions-Location": "v"}, {"X-Container-Meta-Quota-Bytes": "5"}, {"X-Container-Meta-Temp-URL-Key": "k"}]:
        fails(501, c.post_container, "data", headers)
        fails(501, c.put_container, "new", headers)
    fails(400, c.put_container, "new", {"X-Storage-Policy": "gold"})
    fails(404, c.head_container, "new")
    fails(501, c.post_account, {"X-Account-Meta-A": "b"})
    assert http("GET", account("/data?reverse=true"))[0] == 501
    assert http("PATCH", account("/data/key"))[0] == 405
    assert http("PATCH", account("/data"))[0] == 405
    assert c.get_object("data", "key")[1] == b"kept"
    capabilities = c.get_capabilities()
    assert capabilities["slo"]["max_manifest_segments"] == 1000 and "bulk_delete" not in capabilities, capabilities
    # The bucket `info` is there for those who sign.
    s3().create_bucket(Bucket="info")
    s3().put_object(Bucket="info", Key="key", Body=b"")
    assert [entry["Key"] for entry in s3().list_objects_v2(Bucket="info")["Contents"]] == ["key"]


def hostile_input_is_refused_with_the_right_status():
    c = swift()
    c.put_container("data")
    assert http("PUT", account("/data/" + "k" * 1025), b"")[0] == 400
    assert http("PUT", account("/data/" + "k" * 1024), b"")[0] == 201
    assert http("GET", account("/data/%ff"))[0] == 412
    assert http("GET", account("//key"))[0] == 404
    assert http("GET", account("/data"), token="t" * 5000)[0] == 401

    def raw(request):
        with socket.create_connection(("127.0.0.1", PUBLIC), timeout=10) as line:
            line.sendall(request.encode())
            answer = b""
            while b"\r\n" not in answer and (more := line.recv(4096)):
                answer += more
            return int(answer.split()[1]) if answer else None

    head = f"Host: x\r\nX-Auth-Token: token-of-user-a\r\n"
    assert raw(f"PUT {account('/data/key')} HTTP/1.1\r\n{head}\r\n") == 411
    assert raw(f"PUT {account('/data/key')} HTTP/1.1\r\n{head}Content-Length: 6000000000\r\n\r\n") == 413
    assert raw(f"PUT {account('/data/key')} HTTP/1.1\r\n{head}Content-Length: x\r\n\r\n") == 400
    # A body that is cut leaves nothing.
    with socket.create_connection(("127.0.0.1", PUBLIC), timeout=10) as line:
        line.sendall(f"PUT {account('/data/cut')} HTTP/1.1\r\n{head}Content-Length: 1000\r\n\r\nhalf".encode())
    fails(404, c.head_object, "data", "cut")


def names_of_every_form_are_kept_apart():
    c, b = swift(), s3()
    c.put_container("data")
    # This client takes dots out of a path.
    dotted = ["a/../b", "./a", "a/.", ".."]
    for name in dotted:
        assert http("PUT", account("/data/" + name), name.encode())[0] == 201, name
        assert http("GET", account("/data/" + name))[2] == name.encode(), name
    names = ["a//b", "a b", "a+b", "a%20b", "a?b", "a#b", "é", "日本", "a\tb", "a=b&c;d", "~", "a/"]
    for name in names:
        c.put_object("data", name, name.encode())
    listed = [entry["name"] for entry in c.get_container("data")[1]]
    assert listed == sorted(names + dotted, key=str.encode), listed
    for name in names:
        assert c.get_object("data", name)[1] == name.encode(), name
        assert b.get_object(Bucket="data", Key=name)["Body"].read() == name.encode(), name


def the_command_line_moves_files_and_directories():
    home = os.environ["HOME"]
    tree = os.path.join(home, "tree")
    files = {"one.txt": b"1", "sub/two.bin": data(200_000), "sub/deep/é.py": b"print()", "empty": b""}
    for name, content in files.items():
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        with open(os.path.join(tree, name), "wb") as file:
            file.write(content)
    command("upload", "data", "tree", cwd=home)
    command("upload", "data", "tree/one.txt", "--object-name", "renamed", cwd=home)
    listed = command("list", "data").splitlines()
    assert listed == sorted(["renamed", *(f"tree/{name}" for name in files)]), listed
    assert command("list").splitlines() == ["data"]
    assert "data" in command("list", "--lh")
    stat = command("stat", "data", "tree/sub/two.bin")
    assert "Content Length: 200000" in stat and md5(files["sub/two.bin"]) in stat, stat
    assert "Objects: 5" in command("stat", "data") and "Containers: 1" in command("stat")
    # What did not change is not sent again.
    assert "skip" not in command("upload", "--changed", "data", "tree", cwd=home)
    command("post", "data", "renamed", "-m", "Colour:blue")
    assert "Meta Colour: blue" in command("stat", "data", "renamed")
    command("post", "data", "-m", "Owner:me")
    assert "Meta Owner: me" in command("stat", "data")
    command("copy", "data", "renamed", "-d", "/other/copied")
    assert command("list", "other").splitlines() == ["copied"]
    out = os.path.join(home, "out")
    os.makedirs(out)
    command("download", "data", "--output-dir", out)
    for name, content in files.items():
        with open(os.path.join(out, "tree", name), "rb") as file:
            assert file.read() == content, name
    assert command("download", "data", "renamed", "-o", "-") == "1"
    assert "not found" in (said := command("download", "data", "nothing", fails=True)), said
    assert s3().get_object(Bucket="data", Key="tree/sub/two.bin")["Body"].read() == files["sub/two.bin"]
    command("delete", "data", "renamed", "tree/one.txt")
    assert command("list", "data").splitlines() == sorted(f"tree/{name}" for name in files if name != "one.txt")
    command("delete", "data")
    command("delete", "other")
    assert command("list") == ""
    assert "slo" in command("capabilities")


def the_command_line_moves_large_files_in_segments():
    home = os.environ["HOME"]
    content = data(20 * MIB + 3)
    with open(os.path.join(home, "large"), "wb") as file:
        file.write(content)
    command("upload", "-S", str(6 * MIB), "data", "large", cwd=home)
    assert sorted(command("list").split()) == ["data", "data-segments"]
    assert len(command("list", "data-segments").splitlines()) == 4
    assert s3().get_object(Bucket="data", Key="large")["Body"].read() == content
    command("download", "data", "large", "-o", os.path.join(home, "back"), cwd=home)
    with open(os.path.join(home, "back"), "rb") as file:
        assert file.read() == content
    # Uploaded anew: the segments of before go.
    with open(os.path.join(home, "large"), "wb") as file:
        file.write(content[: 7 * MIB])
    command("upload", "-S", str(6 * MIB), "data", "large", cwd=home)
    assert len(command("list", "data-segments").splitlines()) == 2
    assert s3().get_object(Bucket="data", Key="large")["Body"].read() == content[: 7 * MIB]
    command("delete", "data", "large")
    assert command("list", "data-segments") == "" and command("list", "data") == ""
    # From a pipe, by the library.
    with SwiftService({"auth_version": "3", "os_auth_url": AUTH, "os_username": "user-a", "os_password": "password of user-a", "os_user_domain_name": "Default", "os_project_id": A}) as service:
        from swiftclient.service import SwiftUploadObject

        source = SwiftUploadObject(io.BytesIO(content), object_name="piped")
        for result in service.upload("data", [source], {"segment_size": 6 * MIB, "use_slo": True}):
            assert result["success"], result
    assert s3().get_object(Bucket="data", Key="piped")["Body"].read() == content


def temporary_keys_are_had_by_sts():
    s3().create_bucket(Bucket="data")
    for region in ["GRA", "us-east-1"]:
        sts = s3(service="sts", region=region)
        who = sts.get_caller_identity()
        assert (who["Account"], who["UserId"], who["Arn"]) == (A, "s3-key/project-a", f"arn:aws:iam::{A}:user/project-a"), who
        role = sts.assume_role(
            RoleArn=f"arn:aws:iam::{A}:role/project",
            RoleSessionName="test",
            DurationSeconds=900,
            Policy=json.dumps({"Version": "2012-10-17", "Statement": [], "Id": "é+&= %" * 300}),
        )
        assert role["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{A}:assumed-role/project/test"
        assert role["AssumedRoleUser"]["AssumedRoleId"] == "temporary-a:test"
        for keys in [role["Credentials"], sts.get_session_token()["Credentials"]]:
            left = keys["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
            assert datetime.timedelta(0) < left <= datetime.timedelta(hours=1), left
            temporary = {"key": keys["AccessKeyId"], "secret": keys["SecretAccessKey"]}
            client = s3(token=keys["SessionToken"], **temporary)
            client.put_object(Bucket="data", Key="key", Body=b"temporary")
            assert client.get_object(Bucket="data", Key="key")["Body"].read() == b"temporary"
            assert s3(service="sts", token=keys["SessionToken"], **temporary).get_caller_identity()["Account"] == A
            for wrong in [None, "wrong", keys["SessionToken"] + "x"]:
                refused("InvalidToken", s3(token=wrong, **temporary).get_object, Bucket="data", Key="key")
                refused("InvalidClientTokenId", s3(service="sts", token=wrong, **temporary).get_caller_identity, status=403)
    # The AWS command line.
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "project-a", "AWS_SECRET_ACCESS_KEY": "secret of project-a", "AWS_DEFAULT_REGION": "gra"}
    arguments = ["sts", "assume-role", "--role-arn", f"arn:aws:iam::{A}:role/project", "--role-session-name", "test"]
    result = subprocess.run(["aws", "--endpoint-url", URL, *arguments], env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and json.loads(result.stdout)["Credentials"]["AccessKeyId"] == "temporary-a", result


def sts_refuses_what_it_must():
    sts = s3(service="sts")
    role = {"RoleArn": f"arn:aws:iam::{A}:role/project", "RoleSessionName": "test"}
    refused("AccessDenied", sts.assume_role, **{**role, "RoleArn": f"arn:aws:iam::{A}:role/other"}, status=403)
    refused("ValidationError", sts.assume_role, **{**role, "RoleArn": "arn:aws:iam:role:someone"}, status=400)
    refused("MalformedPolicyDocument", sts.assume_role, **role, Policy="{", status=400)
    # What would narrow the key and is not known must not be passed over.
    refused("ValidationError", sts.assume_role, **role, PolicyArns=[{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}], status=400)
    refused("ValidationError", sts.get_session_token, SerialNumber="arn:aws:iam::1:mfa/x", TokenCode="123456", status=400)
    refused("InvalidAction", sts.get_access_key_info, AccessKeyId="project-a-key-id", status=400)
    refused("InvalidClientTokenId", s3("nobody", "sts").get_caller_identity, status=403)
    refused("SignatureDoesNotMatch", s3("project-a", "sts", secret="wrong").get_caller_identity, status=403)
    # A key is good where it belongs.
    assert s3("job-1", "sts", port=SANDBOX).get_caller_identity()["Account"] == A
    refused("InvalidClientTokenId", s3("job-1", "sts").get_caller_identity, status=403)
    refused("InvalidClientTokenId", s3("project-a", "sts", port=SANDBOX).get_caller_identity, status=403)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, body = http("POST", "/", b"Action=AssumeRole&Version=2011-06-15", form, token=None)
    assert status == 403 and b"<Code>AccessDenied</Code>" in body and b"ErrorResponse" in body, body
    assert http("POST", "/", b"x" * (17 << 10), form, token=None)[0] == 413
    # Signed for S3, or with another body than was sent.
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    def signed(service, content, sent, **headers):
        request = AWSRequest("POST", URL + "/", data=content, headers={**form, **headers})
        SigV4Auth(Credentials("project-a", "secret of project-a"), service, "gra").add_auth(request)
        return http("POST", "/", sent, dict(request.headers.items()), token=None)

    call, other = b"Action=GetCallerIdentity&Version=2011-06-15", b"Action=GetSessionToken&Version=2011-06-15"
    assert signed("sts", call, call)[0] == 200
    assert signed("sts", call, other)[0] == 403
    digest = {"X-Amz-Content-SHA256": hashlib.sha256(call).hexdigest()}
    assert signed("sts", call, call, **digest)[0] == 200
    assert signed("sts", call, other, **digest)[0] == 403
    assert signed("sts", call, other, **{"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})[0] == 403
    status, _, body = signed("s3", call, call)
    assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in body, body
    status, _, body = signed("sts", call + b"&Action=GetSessionToken", call + b"&Action=GetSessionToken")
    assert status == 400 and b"sent twice" in body, body
    assert signed("sts", b"Action=GetCallerIdentity&Version=2010-01-01", b"Action=GetCallerIdentity&Version=2010-01-01")[0] == 400


def calls_of_each_kind():
    assert http("GET", "/info", token=None)[0] == 200
    assert issue(password(secret="wrong"))[0] == 401
    assert issue(password())[0] == 201
    assert http("PUT", account("/data"), b"")[0] == 201
    assert http("PUT", account("/data/a%20b"), b"1")[0] == 201
    assert http("PUT", account("/data/a%20b"), b"2", token="token-of-user-b")[0] == 403
    assert http("GET", account("/data/a%20b"))[2] == b"1"
    assert http("DELETE", account("/data/a%20b"))[0] == 204
    sts = s3(service="sts")
    sts.get_session_token()
    refused("AccessDenied", sts.assume_role, RoleArn=f"arn:aws:iam::{A}:role/other", RoleSessionName="test")


globals()[sys.argv[1]]()
