"""The keys of one store in a running process: what is cached, reserved, created in passing, and refreshed."""

from sa_keyvault.keyring.keys import KeySet, Master
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.private import PrivateConnection, is_in_memory
from sa_keyvault.keyring.ring import Ring
from sa_keyvault.keyring.startup import DeclaredColumn, initialize, load_keys
from sa_keyvault.keyring.transaction import TransactionState, drop_state, find_state, state_of
from sa_keyvault.keyring.usage import reserve

__all__ = [
    "DeclaredColumn",
    "KeySet",
    "Master",
    "Policy",
    "PrivateConnection",
    "Ring",
    "TransactionState",
    "drop_state",
    "find_state",
    "initialize",
    "is_in_memory",
    "load_keys",
    "reserve",
    "state_of",
]
