"""Makes an index of Python packages (PEP 503) in a directory: wheels of what is installed here, and one of its own.

index.py DIRECTORY PACKAGE...: the last is `greeting`, which needs all the others.
"""

import base64
import hashlib
import importlib.metadata
import pathlib
import sys
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


def greeting(place, needs):
    info = "greeting-1.0.dist-info"
    requires = "".join(f"Requires-Dist: {name}\n" for name in needs)
    imports = "".join(f"import {name}\n" for name in needs)
    metadata = f"Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n{requires}"
    files = [
        ("greeting.py", f"{imports}\n\ndef greet(name):\n    return f'hello {{name}}'\n".encode()),
        (f"{info}/METADATA", metadata.encode()),
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    ]
    wheel(place, "greeting", "1.0", "py3-none-any", files)


place = pathlib.Path(sys.argv[1])
for package in sys.argv[2:]:
    installed(place, package)
greeting(place, sys.argv[2:])
# What has no wheel: its code would have to be run to build it.
(place / "sourceonly").mkdir()
(place / "sourceonly" / "sourceonly-1.0.tar.gz").write_bytes(b"not looked into")
