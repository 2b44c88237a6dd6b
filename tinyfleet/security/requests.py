"""Certificate requests (PKCS #10): how a key asks to be signed without leaving its machine."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tinyfleet.errors import InvalidInput

MAX_REQUEST_BYTES = 8 * 1024


def make_request(key: ec.EllipticCurvePrivateKey, name: str = "") -> bytes:
    """A request, PEM, for that key; name: who asks, empty leaves it to the one who signs."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder(x509.Name(names))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_request(pem: bytes) -> tuple[str, ec.EllipticCurvePublicKey]:
    """Who asks and for which key; raises InvalidInput unless it is signed with that P-256 key."""
    if len(pem) > MAX_REQUEST_BYTES:
        raise InvalidInput(f"a certificate request has at most {MAX_REQUEST_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key, is_signed = request.public_key(), request.is_signature_valid
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception as error:  # noqa: BLE001 - the library has many ways to dislike a request
        raise InvalidInput(f"no certificate request: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise InvalidInput("a certificate request must be for a P-256 key")
    if not is_signed:
        raise InvalidInput("the certificate request is not signed with its own key")
    return (str(names[0].value) if names else ""), key
