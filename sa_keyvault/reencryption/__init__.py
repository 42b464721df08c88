"""Jobs that rewrite the values of a table: under active keys, bound anew, encrypted in place or decrypted out."""

from sa_keyvault.reencryption.batches import Pace, Unreadable
from sa_keyvault.reencryption.changes import (
    ColumnChange,
    TableChange,
    Tie,
    current_tie,
    decrypting,
    encrypting,
    reencrypting,
)
from sa_keyvault.reencryption.jobs import decrypt, encrypt, examine, reencrypt, run
from sa_keyvault.reencryption.parallel import run_in_parallel
from sa_keyvault.reencryption.watch import Progress, Report

__all__ = [
    "ColumnChange",
    "Pace",
    "Progress",
    "Report",
    "TableChange",
    "Tie",
    "Unreadable",
    "current_tie",
    "decrypt",
    "decrypting",
    "encrypt",
    "encrypting",
    "examine",
    "reencrypt",
    "reencrypting",
    "run",
    "run_in_parallel",
]
