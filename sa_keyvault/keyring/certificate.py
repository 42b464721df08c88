"""The certificate that a key ring may require of its installation key before it starts."""

import datetime

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation import InstallationCertificate, InstallationKey, days_left, verify_certificate

__all__ = ["certificate_days"]


def certificate_days(connection: Connection, key: InstallationKey, trusted: bytes) -> int:
    """Verify the certificate that is bound to the key store; return for how many days it is good.

    Args:
        connection: Where the key store is.
        key: The installation key.
        trusted: PEM with the certificates in one of which its chain must end.

    Raises:
        sa_keyvault.InstallationKeyError: There is none, it has expired, or it does not end in a trusted one.
    """
    stored = store.installations(connection)[key.fingerprint].certificate
    if not stored:
        msg = (
            f"installation key {key.fingerprint} has no certificate, and one is required; "
            "bind it with `sa-keyvault installation certificate`"
        )
        raise InstallationKeyError(msg)
    now = datetime.datetime.now(datetime.UTC)
    return days_left(verify_certificate(InstallationCertificate.from_bytes(stored), key, trusted, now), now)
