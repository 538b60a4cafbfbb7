"""Gives a service a secret of each kind in each place where one can be given, right or wrong, and in places where none
belongs. Prints what was planted, a JSON object a line: name and secret; and for answers of errors, which are not to hold
what was planted, their texts."""

import base64
import hashlib
import hmac
import html
import http.server
import json
import os
import re
import secrets
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, S3, REGION, PROJECT = (os.environ[name] for name in ("ENDPOINT", "S3", "REGION", "PROJECT"))
SETUP = os.environ["SETUP"]
OWN = {name: os.environ[name.upper()] for name in ("application_key", "application_secret", "consumer_key")}


def planted(name, secret):
    print(json.dumps({"name": name, "secret": secret}), flush=True)
    return secret


def new(name):
    """One of our own, which a person might have chosen."""
    return planted(name, f"Zq{secrets.token_hex(3)}-correct horse {secrets.token_hex(4)}".replace(" ", "_"))


class Here(urllib.request.HTTPRedirectHandler):
    """Follows nobody: what an answer sets would be lost."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(Here)


def send(method, url, body=None, headers=None, expected=None):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"user-agent": "planted-control-agent", **(headers or {})})
    if data is not None and "Content-type" not in request.headers:
        request.add_header("content-type", "application/json")
    try:
        with OPENER.open(request) as answer:
            status, text, headers = answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as fault:
        status, text, headers = fault.code, fault.read().decode(), fault.headers
        print(json.dumps({"error": f"{method} {url.split('?')[0]}", "answer": text}), flush=True)
    # 501: what this service says of a part of Swift that it has not.
    assert status < 500 or status == 501, (method, url, status, text)
    assert expected is None or status == expected, (method, url, status, text)
    try:
        return json.loads(text), headers
    except ValueError:
        return text, headers


def call(method, path, body=None, keys=None, expected=200, headers=None):
    keys = keys or OWN
    base = ENDPOINT.removesuffix("/1.0") if path.startswith("/v2/") else ENDPOINT
    url, now = base + path, str(int(time.time()))
    text = "" if body is None else json.dumps(body)
    signed = "+".join([keys["application_secret"], keys["consumer_key"], method, url, text, now])
    sent = {
        "x-ovh-application": keys["application_key"],
        "x-ovh-consumer": keys["consumer_key"],
        "x-ovh-timestamp": now,
        "x-ovh-signature": "$1$" + hashlib.sha1(signed.encode()).hexdigest(),
        **(headers or {}),
    }
    return send(method, url, text.encode() or None, sent, expected)[0]


def form(path, expected=None, **fields):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return send("POST", path, urllib.parse.urlencode(fields).encode(), headers, expected)[0]


def code(secret, steps=0):
    """RFC 6238."""
    counter = struct.pack(">Q", int(time.time()) // 30 + steps)
    digest = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at:at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


def client(access, secret, token=None, service="s3"):
    return boto3.client(
        service, endpoint_url=S3, region_name=REGION, aws_access_key_id=access, aws_secret_access_key=secret,
        aws_session_token=token, config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def fails(function, **arguments):
    try:
        function(**arguments)
    except ClientError as fault:
        print(json.dumps({"error": function.__name__, "answer": str(fault)}), flush=True)
        return
    raise AssertionError(f"{function.__name__} was not refused")


def people():
    password, account = new("password of a person"), call("GET", "/me")["nichandle"]
    planted("set-up token", SETUP.rsplit("/", 1)[1])
    send("GET", SETUP, expected=200)
    form(SETUP, expected=400, password=new("password that was typed twice"), again=new("password that was typed otherwise"))
    form(SETUP, expected=200, password=password, again=password)
    form(SETUP, expected=404, password=new("password for a link that was used"), again="x")
    body = {"login": "bob", "group": "DEFAULT", "email": "", "description": "", "password": new("password that an administrator chose")}
    call("POST", "/me/identity/user", body)
    for wrong in [{"password": planted("too weak a password", secrets.token_hex(5))}, {"password": {"x": new("password in an object")}}, {"password": [new("password in a list")]}]:
        call("POST", "/me/identity/user", {**body, "login": "carol", **wrong}, expected=400)
    call("POST", "/me/identity/user", {**body, "login": new("password as a login with spaces") + " "}, expected=400)
    call("POST", "/me/identity/user", {**body, "login": "dave", "group": new("password as a group")}, expected=None)
    call("POST", "/me/identity/user", {**body, "login": {"password": new("password in the place of a login")}}, expected=400)
    call("PUT", "/me/identity/user/bob", {new("password as a field"): 1}, expected=None)

    asked = {"accessRules": [{"method": method, "path": "/*"} for method in ("GET", "POST", "PUT", "DELETE")]}
    headers = {"x-ovh-application": OWN["application_key"]}
    granted, _ = send("POST", f"{ENDPOINT}/auth/credential", asked, headers, 200)
    token = planted("validation token", granted["validationUrl"].rsplit("/", 1)[1])
    consumer = planted("consumer key", granted["consumerKey"])
    page = f"{granted['validationUrl']}/login"
    send("GET", granted["validationUrl"], expected=200)
    login = f"{account}/alice"
    form(page, login=login, password=new("wrong password"), days="30", decision="grant")
    form(page, login=new("password in the place of a login on the page"), password="alice", days="30", decision="grant")
    form(page, login=f"{account}/{new('password in a login behind the account')}", password="alice", days="30", decision="grant")
    form(page, login=login, password=password, days=new("password in the place of days"), decision="grant")
    form(page, login=login, password=password, code=new("password in the place of a code"), days="30", decision="grant", expected=200)
    send("GET", f"{ENDPOINT}/auth/validate/{token}/{new('password in a path behind a token')}")
    keys = {**OWN, "consumer_key": consumer}
    return keys, login, password, token


def factors(keys, login, password):
    made = call("POST", "/me/accessRestriction/totp", {}, keys)
    secret = planted("TOTP secret", made["secret"])
    planted("TOTP key", base64.b32decode(secret).decode("latin-1"))
    path = f"/me/accessRestriction/totp/{made['id']}"
    call("POST", f"{path}/validate", {"code": new("password as a code")}, keys, None)
    call("POST", f"{path}/validate", {"code": code(secret)}, keys)
    codes = call("POST", "/me/accessRestriction/backupCode", {}, keys)["codes"]
    for number, backup in enumerate(codes):
        planted(f"backup code {number}", backup)
    call("POST", "/me/accessRestriction/backupCode/validate", {"code": codes[0]}, keys)
    granted, _ = send("POST", f"{ENDPOINT}/auth/credential", {"accessRules": []}, {"x-ovh-application": OWN["application_key"]})
    if "validationUrl" in granted:
        page = f"{granted['validationUrl']}/login"
        form(page, login=login, password=password, code=codes[1], days="30", decision="grant")
    return codes[2]


def page_form(path, cookie="", expected=None, **fields):
    """Sends a form of a page as a browser does."""
    base = ENDPOINT.removesuffix("/1.0")
    headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin", "origin": base, "cookie": cookie}
    return send("POST", base + path, urllib.parse.urlencode(fields).encode(), headers, expected)


def console(login, password, backup):
    """A session of the console, and a security key that is begun in it."""
    base = ENDPOINT.removesuffix("/1.0")
    page_form("/console/login", login=login, password=new("wrong password of a session"), expected=403)
    page_form("/console/login", login=login, password=password, code=new("password in the place of a code of a session"), expected=403)
    _, headers = page_form("/console/login", login=login, password=password, code=backup, next=new("password as a next page"), expected=303)
    cookie = headers["set-cookie"].split(";")[0]
    planted("session of the console", cookie.split("=", 1)[1])
    page, _ = send("GET", f"{base}/console/security", headers={"cookie": cookie}, expected=200)
    token = re.search('name="token" value="([0-9a-f]{64})"', page)[1]
    page, _ = page_form("/console/security", cookie, token=token, do="key-create", expected=200)
    options = json.loads(html.unescape(re.search('data-options="([^"]+)"', page)[1]))
    challenge = planted("challenge of a security key", options["challenge"])
    made = {"type": "webauthn.create", "challenge": challenge, "origin": base}
    made = base64.urlsafe_b64encode(json.dumps(made).encode()).decode().rstrip("=")
    assertion = {"rawId": "AAAA", "response": {"clientDataJSON": made, "attestationObject": "oA"}}
    number = re.search('name="id" value="([0-9]+)"', page)[1]
    for answer in (json.dumps(assertion), json.dumps({"rawId": new("password as a key")}), new("password as an assertion")):
        page_form("/console/security", cookie, token=token, do="key-validate", id=number, assertion=answer)
    page_form("/console/security", cookie, token=token, do=new("password as what to do"))
    page, _ = send("GET", f"{base}/console/login", expected=200)
    options = json.loads(html.unescape(re.search('data-options="([^"]+)"', page)[1]))
    challenge = planted("challenge of a passkey", options["challenge"])
    made = base64.urlsafe_b64encode(json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": base}).encode()).decode().rstrip("=")
    response = {"clientDataJSON": made, "authenticatorData": "AAAA", "signature": base64.urlsafe_b64encode(new("wrong signature of a passkey").encode()).decode().rstrip("=")}
    page_form("/console/login", login="", password="", passkey_used="yes", assertion=json.dumps({"rawId": "AAAA", "response": response}))
    send("GET", f"{base}/console", headers={"cookie": f"{cookie.split('=')[0]}={new('wrong session of the console')}"}, expected=303)
    send("GET", f"{base}/console/{new('password in a path of the console')}", headers={"cookie": cookie}, expected=404)


class Provider(http.server.BaseHTTPRequestHandler):
    """A provider of OpenID Connect that takes no code."""

    given = []

    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        issuer = f"http://127.0.0.1:{self.server.server_port}"
        places = {"authorization_endpoint": f"{issuer}/auth", "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/keys"}
        self.answer(200, {"issuer": issuer, **places})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        Provider.given.append((self.headers["authorization"], dict(urllib.parse.parse_qsl(body))))
        self.answer(400, {"error": "invalid_grant", "error_description": new("secret in an answer of a provider")})


def single_sign_on(account):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = "/me/identity/provider/oidc"
    secret = new("client secret at a provider")
    body = {"issuer": f"http://127.0.0.1:{server.server_port}", "clientId": "casemate", "clientSecret": secret}
    for wrong in [{"clientSecret": {"x": new("password in an object as a client secret")}}, {"clientSecret": [new("password in a list as a client secret")]}, {"issuer": new("secret as an issuer")}, {"scopes": new("secret as scopes")}]:
        call("POST", path, {**body, **wrong}, expected=400)
    call("POST", path, body)
    call("GET", path)
    call("POST", path, body, expected=409)
    call("PUT", path, {"clientSecret": new("client secret that was replaced")})
    call("PUT", path, {"clientSecret": secret})

    base = ENDPOINT.removesuffix("/1.0")
    page_form("/console/sso", account=new("password as an account"), expected=404)
    _, headers = page_form("/console/sso", account=account, expected=200)
    cookie = headers["set-cookie"].split(";")[0]
    planted("cookie of a log-in at a provider", cookie.split("=", 1)[1])
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(headers["refresh"].split("url=", 1)[1]).query))
    state = planted("state of a log-in", query["state"])
    planted("nonce of a log-in", query["nonce"])
    callback = f"{base}/console/sso/oidc/callback"
    answer = {"state": state, "code": new("code of a provider")}
    wrong = {"cookie": f"{cookie.split('=')[0]}={new('wrong cookie of a log-in')}"}
    send("GET", f"{callback}?{urllib.parse.urlencode(answer)}", headers=wrong, expected=403)
    send("GET", f"{callback}?{urllib.parse.urlencode({'state': new('wrong state'), 'code': new('code of nobody')})}", headers={"cookie": cookie}, expected=403)
    send("GET", f"{callback}?{urllib.parse.urlencode(answer)}", headers={"cookie": cookie}, expected=403)
    authorization, given = Provider.given[0]
    assert given["code"] == answer["code"] and base64.b64decode(authorization.split()[1]).decode().endswith(urllib.parse.quote_plus(secret))
    planted("verifier of a code", given["code_verifier"])
    body = urllib.parse.urlencode({"RelayState": state, "SAMLResponse": base64.b64encode(new("password in an answer of SAML").encode())}).encode()
    send("POST", f"{base}/console/sso/saml/acs", body, {"content-type": "application/x-www-form-urlencoded", "cookie": cookie}, 403)


def applications():
    planted("application secret", OWN["application_secret"])
    planted("consumer key of the first application", OWN["consumer_key"])
    wrong = {"application_key": OWN["application_key"], "application_secret": new("wrong application secret"), "consumer_key": OWN["consumer_key"]}
    call("GET", "/me", keys=wrong, expected=403)
    for place in ("x-ovh-application", "x-ovh-consumer", "x-ovh-signature", "x-ovh-timestamp"):
        call("GET", "/me", headers={place: new(f"password as {place}")}, expected=None)
        call("GET", "/me", headers={place: OWN["application_secret"]}, expected=None)
    body = {"name": "one", "description": "", "flow": "CLIENT_CREDENTIALS", "callbackUrls": []}
    made = call("POST", "/me/api/oauth2/client", body)
    secret = planted("OAuth2 client secret", made["clientSecret"])
    address = f"{ENDPOINT}/auth/oauth2/token"
    fields = {"grant_type": "client_credentials", "client_id": made["clientId"], "scope": "all"}
    token = form(address, expected=200, client_secret=secret, **fields)["access_token"]
    planted("bearer token", token)
    basic = base64.b64encode(f"{made['clientId']}:{secret}".encode()).decode()
    headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {basic}"}
    send("POST", address, b"grant_type=client_credentials&scope=all", headers, 200)
    form(address, client_secret=new("wrong OAuth2 secret"), **fields)
    form(address, client_secret="x", **{**fields, "client_id": new("secret as an OAuth2 client")})
    form(address, client_secret="x", **{**fields, "grant_type": new("secret as a grant type")})
    form(address, client_secret="x", **{**fields, "scope": new("secret as a scope")})
    send("GET", f"{ENDPOINT}/me", headers={"authorization": f"Bearer {token}"})
    for scheme in ("Bearer", "Basic", "Digest", "AWS"):
        send("GET", f"{ENDPOINT}/me", headers={"authorization": f"{scheme} {new(f'password by {scheme}')}"})


def wrong_places(token):
    stray = new("password in a path")
    for path in ("/me", "/nothing", "/me/identity/user", "/me/api/credential", "/cloud/project", f"/cloud/project/{PROJECT}/user",
                 f"/cloud/project/{PROJECT}/dataProcessing/jobs", "/auth/setup", "/me/api/logs/self", "/v2/iam/policy"):
        call("GET", f"{path}/{stray}", expected=None)
        base = ENDPOINT.removesuffix("/1.0") if path.startswith("/v2/") else ENDPOINT
        send("GET", f"{base}{path}/{stray}")
        send("POST", f"{base}{path}/{stray}/{token}")
    stray = new("password in a query")
    for path in ("/me", "/nothing", "/me/api/logs/self", f"/cloud/project/{PROJECT}/dataProcessing/jobs"):
        for query in (f"password={stray}", stray, f"from={stray}", f"status={stray}", f"{stray}={stray}&{stray}=x"):
            call("GET", f"{path}?{query}", expected=None)
            send("GET", f"{ENDPOINT}{path}?{query}")
    send(planted("password as a method", f"ZQ{secrets.token_hex(8).upper()}"), f"{ENDPOINT}/me")
    # A project is named by 32 hexadecimal digits, as some secrets look.
    stray = planted("secret in the place of a project", secrets.token_hex(16))
    for path in ("", "/user", "/dataProcessing/jobs"):
        call("GET", f"/cloud/project/{stray}{path}", expected=404)
    for body in (new("password as a body"), {"x": new("password in an unknown field")}, [new("password in a list as a body")], 4711, None):
        for path in ("/me/identity/user", "/me/api/oauth2/client", "/v2/iam/policy", f"/cloud/project/{PROJECT}/user", f"/cloud/project/{PROJECT}/dataProcessing/jobs"):
            call("POST", path, body, expected=None)
    send("POST", f"{ENDPOINT}/auth/credential", b"{\"accessRules\": \"" + new("password in a body of a wrong type").encode() + b"\"}", {"x-ovh-application": OWN["application_key"]})
    send("GET", f"{ENDPOINT}/me", headers={"x-password": new("password in a header"), "cookie": f"session={new('password in a cookie')}"})


def object_store(root):
    planted("S3 secret key", os.environ["SECRET_KEY"])
    root.create_bucket(Bucket="planted")
    root.put_object(Bucket="planted", Key="planted-control-key", Body=b"x")
    user = call("POST", f"/cloud/project/{PROJECT}/user", {"description": "one"})
    planted("password of a user of the project", user["password"])
    users = f"/cloud/project/{PROJECT}/user/{user['id']}"
    key = call("POST", f"{users}/s3Credentials")
    planted("secret key of a user", key["secret"])
    rotated = call("POST", f"{users}/s3Credentials/{key['access']}/rotate")
    planted("rotated secret key", rotated["secret"])
    call("POST", f"{users}/s3Credentials/{key['access']}/secret")
    again = call("POST", f"{users}/regeneratePassword")
    password = planted("new password of a user of the project", again["password"])
    fails(client(key["access"], new("wrong secret key")).list_buckets)
    fails(client(new("secret as an access key"), "x").list_buckets)
    session = client(key["access"], key["secret"], service="sts").get_session_token(DurationSeconds=900)["Credentials"]
    planted("temporary secret key", session["SecretAccessKey"])
    planted("session token", session["SessionToken"])
    temporary = client(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    temporary.list_buckets()
    fails(client(session["AccessKeyId"], session["SecretAccessKey"], new("wrong session token")).list_buckets)

    url = root.generate_presigned_url("get_object", Params={"Bucket": "planted", "Key": "planted-control-key"}, ExpiresIn=600)
    signature = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query)).get("X-Amz-Signature") or dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))["Signature"]
    planted("signature of a presigned URL", signature)
    assert send("GET", url, expected=200)[0] == "x"
    send("GET", url.replace("planted-control-key", "another"))
    presign = {"expire": 600, "method": "GET", "object": "planted-control-key"}
    made = call("POST", f"/cloud/project/{PROJECT}/region/{REGION}/storage/planted/presign", presign, expected=None)
    if isinstance(made, dict) and "url" in made:
        planted("signature of a presigned URL of the API", urllib.parse.urlsplit(made["url"]).query.rsplit("Signature=", 1)[1].split("&")[0])
        send("GET", made["url"])
    customer = planted("customer's key", secrets.token_hex(16))
    encoded = base64.b64encode(customer.encode()).decode()
    sse = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": customer}
    try:
        root.put_object(Bucket="planted", Key="sealed", Body=b"y", **sse)
        root.get_object(Bucket="planted", Key="sealed", **sse)
    except ClientError as fault:
        print(json.dumps({"error": "SSE-C", "answer": str(fault)}), flush=True)
    send("GET", f"{S3}/planted/sealed", headers={"x-amz-server-side-encryption-customer-key": encoded})
    send("GET", f"{S3}/planted/sealed?X-Amz-Signature={new('wrong signature')}&X-Amz-Security-Token={new('wrong token in a query')}")
    send("GET", f"{S3}/planted/sealed", headers={"authorization": f"AWS {new('secret in an old signature')}:x"})
    return user["username"], password


def keystone(username, password):
    def ask(name, secret, **more):
        who = {"name": name, "domain": {"id": "default"}, "password": secret, **more}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": {"project": {"id": PROJECT}}}}
        return send("POST", f"{S3}/v3/auth/tokens", body)[1]

    token = ask(username, password).get("x-subject-token")
    assert token, "a token of Keystone"
    planted("token of Keystone", token)
    ask(username, new("wrong password at Keystone"))
    ask(new("password as a name at Keystone"), "x")
    ask(username, {"x": new("password in an object at Keystone")})
    headers = {"x-auth-token": token}
    send("GET", f"{S3}/v3/auth/tokens", headers={**headers, "x-subject-token": token})
    send("GET", f"{S3}/v3/auth/tokens", headers={**headers, "x-subject-token": new("wrong token of Keystone")})
    send("GET", f"{S3}/v1/AUTH_{PROJECT}", headers=headers)
    send("GET", f"{S3}/v1/AUTH_{PROJECT}", headers={"x-auth-token": new("wrong token of Swift")})
    # A key of temporary URLs is a secret that a container keeps.
    send("PUT", f"{S3}/v1/AUTH_{PROJECT}/planted-swift", headers={**headers, "x-container-meta-temp-url-key": new("key of temporary URLs")})
    send("GET", f"{S3}/v1/AUTH_{PROJECT}/planted-swift/a?temp_url_sig={new('wrong signature of a temporary URL')}&temp_url_expires=1")


ROOT = client(os.environ["ACCESS_KEY"], os.environ["SECRET_KEY"])
PERSON, LOGIN, PASSWORD, TOKEN = people()
BACKUP = factors(PERSON, LOGIN, PASSWORD)
console(LOGIN, PASSWORD, BACKUP)
applications()
wrong_places(TOKEN)
NAME, GIVEN = object_store(ROOT)
keystone(NAME, GIVEN)
single_sign_on(LOGIN.split("/")[0])
print(json.dumps({"done": True}), flush=True)
