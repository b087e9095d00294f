"""A certificate authority of one test, by the program openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """Two PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Signs certificates; its own is `certificate`."""

    directory: Path
    certificate: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        """A new authority whose files stand in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        _openssl(directory, "req", "-x509", *_NEW_KEY, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
        return cls(directory, directory / "ca.pem")

    def issue(self, name: str) -> Certificate:
        """A certificate for this host's loopback, good for a server and for a client."""
        extensions = self.directory / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl(
            self.directory, "req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", extensions.name)
        _openssl(self.directory, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
        return Certificate(self.directory / f"{name}.pem", self.directory / f"{name}.key")


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
