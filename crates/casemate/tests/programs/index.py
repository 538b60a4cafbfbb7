"""Makes an index of Python packages (PEP 503) in a directory: wheels of what is installed here, and one of its own.

index.py DIRECTORY URL PACKAGE...: the last is `greeting`, which needs all the others. `builds` needs what has to be built and
`leads` a wheel, both by their addresses below URL, the directory's; who builds the first one makes the file `ran`.
"""

import base64
import hashlib
import importlib.metadata
import io
import pathlib
import sys
import tarfile
import zipfile


def wheel(place, name, version, tag, files):
    """Writes a wheel with these files, each (name, bytes), its metadata among them."""
    directory = place / name.replace("_", "-")
    directory.mkdir(parents=True)
    record = f"{name}-{version}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(directory / f"{name}-{version}-{tag}.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(content)}")
            archive.writestr(path, content)
        archive.writestr(record, "\n".join([*lines, f"{record},,", ""]))


def installed(place, name):
    """The wheel that an installed package came from."""
    found = importlib.metadata.distribution(name)
    tag = next(line[5:] for line in found.read_text("WHEEL").splitlines() if line.startswith("Tag: "))
    own = [path for path in found.files if not str(path).startswith("..") and "__pycache__" not in path.parts]
    own = [path for path in own if path.name not in ("RECORD", "INSTALLER", "REQUESTED")]
    files = [(str(path), found.locate_file(path).read_bytes()) for path in own]
    wheel(place, found.name.replace("-", "_"), found.version, tag, files)


def plain(place, name, needs, code):
    """A wheel of one module."""
    info = f"{name}-1.0.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = [
        (f"{name}.py", code.encode()),
        (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}".encode()),
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    ]
    wheel(place, name, "1.0", "py3-none-any", files)


def source(path, mark):
    """A source distribution whose build leaves a mark."""
    setup = f"""open({str(mark)!r}, "w").close()
from setuptools import setup
setup(name="hostile", version="1.0", py_modules=["hostile"])
"""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in [("setup.py", setup), ("hostile.py", ""), ("PKG-INFO", "Name: hostile\nVersion: 1.0\n")]:
            entry = tarfile.TarInfo(f"hostile-1.0/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))


place, url, packages = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
for package in packages:
    installed(place, package)
imports = "".join(f"import {name}\n" for name in packages)
plain(place, "greeting", packages, f"{imports}\n\ndef greet(name):\n    return f'hello {{name}}'\n")
# What has no wheel: its code would have to be run to build it.
(place / "sourceonly").mkdir()
(place / "sourceonly" / "sourceonly-1.0.tar.gz").write_bytes(b"not looked into")
source(place / "hostile-1.0.tar.gz", place / "ran")
plain(place, "builds", [f"hostile @ {url}/hostile-1.0.tar.gz"], "")
plain(place, "harmless", [], "")
plain(place, "leads", [f"harmless @ {url}/harmless/harmless-1.0-py3-none-any.whl"], "")
