"""Where an error comes from, without the frames of the library: their locals hold plaintexts."""

from types import TracebackType

from sa_keyvault.errors import KeyVaultError

__all__ = ["frames_of_others"]


def frames_of_others(error: Exception) -> TracebackType | None:
    """Return the traceback from the first frame that is not the library's: a default of the application's, or a driver.

    None for an error of the library's own.
    """
    found = None if isinstance(error, KeyVaultError) else error.__traceback__
    while found is not None and str(found.tb_frame.f_globals.get("__name__")).partition(".")[0] == "sa_keyvault":
        found = found.tb_next
    return found
