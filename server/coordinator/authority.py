"""The federation's certificate authority: the coordinator's certificate, and those of its holders."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model.inputs import InputError
from privacy.enrolment import EnrolmentError
from server.coordinator.folder import Coordinator, private_file

AUTHORITY_DAYS, DAYS = 3650, 397
_PEM = serialization.Encoding.PEM


def found(coordinator: Coordinator) -> None:
    """Makes the authority's key and certificate; there must be none yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{coordinator.name} authority")
    builder = _builder(name, name, key.public_key(), key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    certs = coordinator.path / "certs"
    private_file(certs / "ca.key", _private(key))
    private_file(certs / "ca.crt", builder.sign(key, hashes.SHA256()).public_bytes(_PEM))


def certify_server(coordinator: Coordinator, days: int = DAYS) -> None:
    """A new key and certificate for the coordinator's own host, localhost and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = dict.fromkeys((coordinator.host, "localhost", "127.0.0.1"))
    names = x509.SubjectAlternativeName([_general(host) for host in hosts])
    certs = coordinator.path / "certs"
    certificate = _issued(certs, _name(coordinator.name), key.public_key(), days, names)
    private_file(certs / "server.key", _private(key))
    private_file(certs / "server.crt", certificate)


def certify_holder(coordinator: Coordinator, name: str, csr: str, days: int = DAYS) -> str:
    """A holder's certificate (PEM), made out to the name it is enrolled under, whatever its request says."""
    public = x509.load_pem_x509_csr(csr.encode()).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise EnrolmentError("has a signing request of another kind of key than EC")
    return _issued(coordinator.path / "certs", _name(name), public, days, None).decode()


def check_possession(csr: str, node_key: str) -> None:
    """Raises `EnrolmentError` unless the holder of `node_key`'s private part (EC P-384) made this signing request."""
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = serialization.load_ssh_public_key(node_key.encode())
    except (ValueError, TypeError):
        raise EnrolmentError("has a node key or a signing request that cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EnrolmentError("has a node key of another kind than EC P-384")
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if request.public_key().public_bytes(*form) != key.public_bytes(*form):
        raise EnrolmentError("has a signing request for another key than its node key")
    if not request.is_signature_valid:
        raise EnrolmentError("has a signing request that its key did not sign")


def days_left(path: Path) -> float:
    """Days until a certificate expires; negative once it has.

    Raises:
        InputError: where it is none, or is not valid yet by this machine's clock.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise InputError(path, "", "is no certificate", remedy="restore it from a backup") from None
    now = datetime.now(UTC)
    if now < certificate.not_valid_before_utc:
        rule = f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise InputError(path, "", rule, remedy="check this machine's clock")
    return (certificate.not_valid_after_utc - now).total_seconds() / 86400


def check_certificates(coordinator: Coordinator) -> None:
    """Raises `InputError` where the authority's or the coordinator's certificate has expired."""
    renew = f"run `fedscore coordinator renew {coordinator.path}`"
    again = "make a new federation folder, and have every partner join it: no old certificate can be trusted any more"
    for name, remedy in (("ca.crt", again), ("server.crt", renew)):
        path = coordinator.path / "certs" / name
        left = days_left(path)
        if left <= 0:
            raise InputError(path, "", f"expired {-left:.1f} days ago", remedy=remedy)


def _issued(
    certs: Path, subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int, names: x509.ExtensionType | None
) -> bytes:
    """A certificate for a server where it has names, else for a holder, signed by the authority of the folder."""
    try:
        authority = x509.load_pem_x509_certificate((certs / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((certs / "ca.key").read_bytes(), None)
    except (OSError, ValueError):
        raise InputError(certs / "ca.key", "", "cannot be read", remedy="restore it from a backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(certs / "ca.key", "", "is no EC key", remedy="restore it from a backup")
    builder = _builder(subject, authority.subject, public, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    use = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    builder = builder.add_extension(names, critical=False) if names else builder
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
