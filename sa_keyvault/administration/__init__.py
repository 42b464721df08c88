"""What an administrator does with keys; each operation runs on a connection, as part of its transaction."""

from sa_keyvault.administration.provision import Provisioned, provision

__all__ = ["Provisioned", "provision"]
