"""A real registry (Debian's docker-registry) of a test's own, on the loopback interface, where engines need no TLS."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import docker

from tests.support.real import unavailable
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE

__all__ = ["Registry"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """A registry, and images made for it.

    Args:
        folder: for its configuration, its data and its log.
        user: who may use it; empty lets everybody.
        password: that user's.
        password_hash: bcrypt's hash of the password, as in an htpasswd file.
    """

    def __init__(self, folder: Path, user: str = "", password: str = "", password_hash: str = "") -> None:
        self.folder = folder
        self.user, self.password, self._hash = user, password, password_hash
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def host(self) -> str:
        """First part of its images' names."""
        return f"127.0.0.1:{self.port}"

    @property
    def auth(self) -> str:
        """User and password as a config.json of Docker has them."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def start(self) -> Registry:
        """Start it (again, with the data that it had) and wait until it answers."""
        program = shutil.which("docker-registry") or unavailable("there is no program docker-registry")
        self.folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, object] = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": self.host},
        }
        if self.user:
            passwords = self.folder / "htpasswd"
            passwords.write_text(f"{self.user}:{self._hash}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
        (self.folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "serve", str(self.folder / "config.yml")], stdout=log, stderr=subprocess.STDOUT
            )
        eventually(self._answers, 20, (self.folder / "log").read_text)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            self._ask("")
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    def _ask(self, path: str) -> str:
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers={"Accept": _MANIFEST})
        if self.user:
            request.add_header("Authorization", f"Basic {self.auth}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers.get("Docker-Content-Digest", ""))

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def image(self, api: docker.APIClient, name: str, says: str) -> str:
        """Make an image in the engine; $SAYS is set in it.

        Args:
            api: the engine.
            name: with a tag.
            says: the variable's value.

        Returns:
            The whole name.
        """
        full = f"{self.host}/{name}"
        recipe = self.folder / "recipe"
        recipe.mkdir(parents=True, exist_ok=True)
        (recipe / "Dockerfile").write_text(f"FROM {TEST_IMAGE}\nENV SAYS={says}\n")
        for line in api.build(path=str(recipe), tag=full, decode=True, rm=True):
            assert "error" not in line, line
        return full

    def push(self, api: docker.APIClient, name: str, says: str) -> str:
        """Make an image and push it; return its digest, as the registry tells it."""
        full = self.image(api, name, says)
        login = {"username": self.user, "password": self.password} if self.user else None
        for line in api.push(full, stream=True, decode=True, auth_config=login):
            assert "error" not in line, line
        return self.digest(name)

    def digest(self, name: str) -> str:
        """Return what a tag stands for now."""
        repository, _, tag = name.partition(":")
        return self._ask(f"{repository}/manifests/{tag}")

    def forget(self, api: docker.APIClient) -> None:
        """Remove this registry's images from an engine."""
        for item in api.images():
            names = [*(item.get("RepoTags") or ()), *(item.get("RepoDigests") or ())]
            for name in names:
                if name.startswith(f"{self.host}/"):
                    try:
                        api.remove_image(name, force=True)
                    except docker.errors.ImageNotFound:  # it went with another of its names
                        continue
