"""The keys of one store in a running process: what is cached, reserved, created in passing, and refreshed."""

from sa_keyvault.keyring.private import PrivateConnection, is_in_memory
from sa_keyvault.keyring.ring import Ring
from sa_keyvault.keyring.startup import DeclaredColumn, initialize
from sa_keyvault.keyring.transaction import TransactionState, drop_state, find_state, state_of

__all__ = [
    "DeclaredColumn",
    "PrivateConnection",
    "Ring",
    "TransactionState",
    "drop_state",
    "find_state",
    "initialize",
    "is_in_memory",
    "state_of",
]
