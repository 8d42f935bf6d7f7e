"""Small wheels, and locks that name them, for installers that have no network."""

import base64
import hashlib
import zipfile
from pathlib import Path


def put_wheel(folder: Path, name: str, release: str, **files: bytes) -> str:
    """Write a wheel whose modules are the files. Returns its line for a lock."""
    info = f"{name}-{release}.dist-info"
    contents = {f"{module}.py": content for module, content in (files or {name: b""}).items()}
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n".encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in contents.items()]
    contents[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    wheel = folder / f"{name}-{release}-py3-none-any.whl"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return f"{name}=={release} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


BACKEND = r"""
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "signet_client" if __file__.endswith("client/backend.py") else "signet"
    info = f"{name}-1.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts[f"{info}/RECORD"] = "".join(f"{path},,{len(text)}\n" for path, text in texts.items())
    with zipfile.ZipFile(f"{folder}/{name}-1-py3-none-any.whl", "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return f"{name}-1-py3-none-any.whl"
"""
"""What builds a checkout for an installation, without hatchling."""
