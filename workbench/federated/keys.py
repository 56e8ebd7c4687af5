"""Certificates and keys of a federation: who the server is, and which sites may speak to it.

    ca.crt, ca.key         a certificate authority of the federation's own (EC P-384, X.509 v3, RFC 5280)
    server.crt, server.key signed by it, for the names and addresses the sites call the server by
    sites/NAME/site.key    the site's key pair (EC P-384, OpenSSH form); the private half should be made at the site
    allowed.txt            public halves the server lets in, one a line as OpenSSH writes them: type, key, name

Private keys have mode 0600 and are never overwritten unless asked for by name (``force``).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.federated.needed import need

CA_DAYS, SERVER_DAYS = 1825, 365
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")


class KeysError(ValueError):
    """A key or certificate is missing, stands already, or is not what it should be; says which and what to do."""


@dataclass(frozen=True)
class Allowed:
    """A site the server lets in: its ``name``, the public key in PEM (what Flower compares) and the fingerprint."""

    name: str
    pem: bytes
    fingerprint: str


def make(
    folder: Path | str, sites: Sequence[str], hosts: Sequence[str] = (), days: int = SERVER_DAYS, force: bool = False
) -> list[Path]:
    """Make authority, server certificate, a key pair a site and the list of allowed keys; returns what was written.

    Parameters
    ----------
    hosts : names and addresses in the server's certificate; "127.0.0.1" and "localhost" are always among them
    days : how long the server's certificate holds; the authority's holds CA_DAYS

    Raises
    ------
    KeysError
        A file stands already (and ``force`` is false: then nothing is written), or a name cannot be one.
    """
    folder, names = Path(folder), list(sites)
    _names(names)
    keys = {name: folder / "sites" / name / "site.key" for name in names}
    there = [folder / f for f in ("ca.crt", "ca.key", "server.crt", "server.key", "allowed.txt")]
    _absent([*there, *keys.values()], force)
    _hosts_and_days(hosts, days)
    authority, signer = _authority(folder)
    _server(folder, authority, signer, hosts, days)
    lines = []
    for name, path in keys.items():
        lines.append(_pair(path, name))
        _public(path.parent / "ca.crt", (folder / "ca.crt").read_bytes())
    _public(folder / "allowed.txt", ("\n".join(lines) + "\n").encode())
    return [*there, *keys.values()]


def renew(folder: Path | str, hosts: Sequence[str] = (), days: int = SERVER_DAYS) -> list[Path]:
    """A new server certificate and key by the authority that stands; without ``hosts``, for the old one's."""
    need("federated deployment", "cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    folder = Path(folder)
    _hosts_and_days(hosts, days)
    authority, signer = (_read(folder / f"ca.{end}", "workbench federate keys") for end in ("crt", "key"))
    old = folder / "server.crt"
    if not hosts and old.is_file():
        hosts = _hosts(x509.load_pem_x509_certificate(old.read_bytes()))
    _server(folder, x509.load_pem_x509_certificate(authority), load_pem_private_key(signer, None), hosts, days)
    return [old, folder / "server.key"]


def own(path: Path | str, name: str, force: bool = False) -> str:
    """A key pair made at the site: writes the private half, returns the line of the public one for the server."""
    _names([name])
    _absent([Path(path)], force)
    return _pair(Path(path), name)


def allowed(path: Path | str) -> list[Allowed]:
    """Sites that ``allowed.txt`` lets in, in its order; empty lines and lines that start with # say nothing."""
    need("federated deployment", "cryptography")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path, found = Path(path), list[Allowed]()
    for number, line in enumerate(_read(path, "workbench federate keys").decode().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, key, name = (*line.split(maxsplit=2), "", "", "")[:3]
        try:
            public = serialization.load_ssh_public_key(f"{kind} {key}".encode())
        except (ValueError, UnsupportedAlgorithm):
            raise KeysError(f"{path}, line {number}: not a public key as OpenSSH writes it: type, key, name.") from None
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise KeysError(f"{path}, line {number}: {kind} is not an elliptic-curve key (ecdsa-sha2-nistp384).")
        if not NAME.fullmatch(name):
            raise KeysError(f"{path}, line {number}: after type and key there should be the site's name.")
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(serialization.Encoding.PEM, spki)
        if twice := [a for a in found if a.name == name or a.pem == pem]:
            raise KeysError(f"{path}, line {number}: name or key stands above already, as {twice[0].name!r}.")
        found.append(Allowed(name, pem, fingerprint(pem)))
    if not found:
        raise KeysError(f"{path} names no site; the server would let nobody in.")
    return found


def private(path: Path | str) -> Any:
    """The site's private key.

    Raises
    ------
    KeysError
        No such file, not an unencrypted elliptic-curve key, or others than its owner may read it.
    """
    need("federated deployment", "cryptography")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = Path(path)
    data = _read(path, "workbench federate keys --own")
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        raise KeysError(f"{path}: others may read it (mode {mode:o}). A private key has mode 600: chmod 600 {path}")
    for load in (serialization.load_ssh_private_key, serialization.load_pem_private_key):
        try:
            key = load(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    raise KeysError(f"{path} is not a private elliptic-curve key without a passphrase, in OpenSSH or PEM form.")


def fingerprint(pem: bytes) -> str:
    """SHA-256 of a public key, short enough to read out on the telephone: what both ends compare."""
    import hashlib

    digest = hashlib.sha256(pem).hexdigest()[:32]
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


def public_pem(key: Any) -> bytes:
    """Public half of a private key, as Flower sends it."""
    from cryptography.hazmat.primitives import serialization

    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, spki)


def check_certificate(path: Path | str, host: str | None = None) -> datetime.datetime:
    """Until when a certificate holds (UTC); with ``host``, that it is one of its names.

    Raises
    ------
    KeysError
        Missing, not a certificate, not valid today, or for other names.
    """
    need("federated deployment", "cryptography")
    from cryptography import x509

    path = Path(path)
    data = _read(path, "workbench federate keys")
    try:
        found = x509.load_pem_x509_certificate(data)
    except ValueError:
        raise KeysError(f"{path} is not a certificate in PEM form.") from None
    now, ends = _now(), found.not_valid_after_utc
    if now > ends:
        raise KeysError(f"{path} was valid until {ends:%Y-%m-%d}. Make a new one: workbench federate keys DIR --renew")
    if now < found.not_valid_before_utc:
        raise KeysError(f"{path} is valid from {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; is the clock right?")
    if host is not None and host not in (names := _hosts(found)):
        raise KeysError(
            f"{path} is for {', '.join(names)}, not for {host!r}. "
            f"workbench federate keys DIR --renew --host {host}, or use one of those names."
        )
    return ends


def _authority(folder: Path) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP384R1()), _now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"federation {now:%Y-%m-%d %H:%M:%S}")])
    made = (
        _certificate(name, name, key.public_key(), key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, hashes.SHA384())
    )
    _secret(folder / "ca.key", _pem(key))
    _public(folder / "ca.crt", _encoded(made))
    return made, key


def _server(folder: Path, authority: Any, signer: Any, hosts: Sequence[str], days: int) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key, names = ec.generate_private_key(ec.SECP384R1()), list(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federation server")])
    made = (
        _certificate(subject, authority.subject, key.public_key(), signer.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
        .sign(signer, hashes.SHA384())
    )
    _secret(folder / "server.key", _pem(key))
    _public(folder / "server.crt", _encoded(made))


def _certificate(subject: Any, issuer: Any, public: Any, signer: Any, days: int) -> Any:
    from cryptography import x509

    now = _now()
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks of two houses differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*wanted: str) -> Any:
    from cryptography import x509

    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: name in wanted for name in every})


def _hosts_and_days(hosts: Sequence[str], days: int) -> None:
    if days < 1:
        raise KeysError(f"a certificate should hold at least 1 day; found {days}.")
    for host in hosts:
        _alternative(host)


def _alternative(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not re.fullmatch(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", host):
            raise KeysError(f"{host!r} is neither a host name nor an address.") from None
        return x509.DNSName(host)


def _hosts(certificate: Any) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _pair(path: Path, name: str) -> str:
    need("federated deployment", "cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    form = serialization.PrivateFormat.OpenSSH  # what flower-supernode reads too
    _secret(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    line = f"{public.decode()} {name}"
    _public(path.with_suffix(".pub"), f"{line}\n".encode())
    return line


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _encoded(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all; never readable by others, not for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)


def _public(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _absent(paths: Sequence[Path], force: bool) -> None:
    if not force and (there := [p for p in paths if p.exists()]):
        raise KeysError(f"{there[0]} exists and would be lost. Another folder, or --force where that is meant.")


def _names(names: Sequence[str]) -> None:
    if not names:
        raise KeysError("a federation has sites; name them or say how many.")
    for name in names:
        if not NAME.fullmatch(name):
            raise KeysError(f"{name!r} cannot be a site's name: letters, digits, space, . _ -, at most 63.")
        if names.count(name) > 1:
            raise KeysError(f"site {name!r} is named twice; each has a key of its own.")


def _read(path: Path, maker: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeysError(f"{path}: there is no such file. {maker} makes it.") from None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
