"""The command `sa-keyvault`: what an administrator does with a key store, from a shell."""

from sa_keyvault.cli.main import main

__all__ = ["main"]
