"""The daemon's container of a rendered pod, as a process: files as the kubelet puts them, user, limits."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.deploy.chart import Object, only, pod
from tests.deploy.compose import own
from tests.fakes.kubernetes import TOKEN
from tests.servers.container import Container, Mount, Network

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
NAME = "remediator-0"
PORT = 8080


def certificate(home: Path) -> Path:
    """A file with key and certificate of 127.0.0.1, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    file = home / "cluster.pem"
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)
    )
    return file


def projected(directory: Path, data: Mapping[str, str], *, mode: int = 0o644, group: int = 0) -> None:
    """Write or exchange a ConfigMap or Secret as the kubelet does: by one link that changes."""
    fresh = directory / f"..{len(list(directory.glob('..2*')))}".replace("..", "..2026_11_21_", 1)
    fresh.mkdir(parents=True)
    for name, text in data.items():
        (fresh / name).write_text(text)
        (fresh / name).chmod(mode)
        os.chown(fresh / name, 0, group)
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    (directory / "..data_tmp").symlink_to(fresh.name)
    (directory / "..data_tmp").rename(directory / "..data")
    for link in directory.iterdir():
        if link.name not in data and not link.name.startswith(".."):
            link.unlink()


class Pod:
    """Volumes of the rendered pod below `home`, and its container `remediator`.

    Args:
        objects: what Helm rendered.
        secrets: each Secret's contents, by name.
        cluster: the port of the API server on 127.0.0.1, and its certificate.
    """

    def __init__(
        self,
        network: Network,
        home: Path,
        objects: list[Object],
        secrets: Mapping[str, Mapping[str, str]],
        cluster: tuple[int, Path] | None = None,
    ) -> None:
        self.network = network
        self.home = home
        self.objects = objects
        self.spec: Object = pod(objects)["spec"]
        (self.shape,) = [one for one in objects if one["kind"] in ("StatefulSet", "Deployment")]
        (self.daemon,) = [one for one in self.spec["containers"] if one["name"] == "remediator"]
        self.group: int = self.spec["securityContext"]["fsGroup"]
        claims = self.shape["spec"].get("volumeClaimTemplates", [])
        volumes = [*self.spec["volumes"], *({"name": claim["metadata"]["name"]} for claim in claims)]
        for volume in volumes:
            self._volume(volume, secrets)
        mounts = [self._mount(one) for one in self.daemon["volumeMounts"]]
        found = own()
        env = found.env | {one["name"]: one["value"] for one in self.daemon.get("env", [])}
        if cluster is not None:
            port, authority = cluster
            env |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
            if self.spec["automountServiceAccountToken"]:
                token = {"token": TOKEN, "ca.crt": authority.read_text(), "namespace": "ops"}
                projected(home / "account", token)
                mounts.append(Mount(home / "account", ACCOUNT))
        inside = self.spec["securityContext"] | self.daemon["securityContext"]
        self.container = Container(
            network,
            home / "container",
            [*found.entrypoint, *self.daemon["args"]],
            env=env,
            user=(inside["runAsUser"], inside["runAsGroup"]),
            mounts=mounts,
            read_only=inside["readOnlyRootFilesystem"],
            capable=inside["capabilities"] != {"drop": ["ALL"]} or inside["allowPrivilegeEscalation"],
            workdir=found.workdir,
            ready=lambda: self.probe("startup") == 200 and self.probe("readiness") == 200,
        )

    def volume(self, name: str) -> Path:
        return self.home / "volumes" / name

    def _volume(self, volume: Object, secrets: Mapping[str, Mapping[str, str]]) -> None:
        directory = self.volume(volume["name"])
        directory.mkdir(parents=True)
        if "configMap" in volume:
            data = only(self.objects, "ConfigMap", volume["configMap"]["name"])["data"]
            projected(directory, data)
        elif "projected" in volume:
            data = {}
            for source in volume["projected"]["sources"]:
                content = secrets[source["secret"]["name"]]
                paths = {one["key"]: one["path"] for one in source["secret"].get("items", [])}
                data |= {
                    paths.get(key, key): text for key, text in content.items() if not paths or key in paths
                }
            projected(directory, data, mode=volume["projected"]["defaultMode"], group=self.group)
        elif "secret" not in volume:  # an emptyDir, or a disk: root's, and the pod's group may write
            os.chown(directory, 0, self.group)
            directory.chmod(0o2777 if "emptyDir" in volume else 0o2775)

    def _mount(self, mount: Object) -> Mount:
        source = self.volume(mount["name"])
        if "subPath" in mount:
            source = (source / mount["subPath"]).resolve()
        return Mount(source, mount["mountPath"], not mount.get("readOnly", False))

    def probe(self, kind: str) -> int:
        """The status that a probe gets; 0: nobody answers."""
        probe = self.daemon[f"{kind}Probe"]["httpGet"]
        (named,) = [one["containerPort"] for one in self.daemon["ports"] if one["name"] == probe["port"]]
        assert named == PORT
        try:
            return self._ask("GET", probe["path"]).status_code
        except httpx2.TransportError:
            return 0

    def post(self, path: str, token: str, body: Any) -> int:
        """The status of a request with a bearer token."""
        return self._ask("POST", path, json=body, headers={"authorization": f"Bearer {token}"}).status_code

    def get(self, path: str, token: str) -> Any:
        """What the API answers."""
        return self._ask("GET", path, headers={"authorization": f"Bearer {token}"}).json()

    def _ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        url = f"http://{self.network.addresses[NAME]}:{PORT}{path}"
        return self.network.inside(lambda: httpx2.request(method, url, timeout=120, **more))
