"""What an installation key must be like; the checks are the same for a key that is made and one that is read."""

from math import isqrt

from cryptography.hazmat.primitives.asymmetric import rsa

from sa_keyvault.errors import InstallationKeyError

__all__ = ["KEY_SIZE", "PUBLIC_EXPONENT", "refuse_weak", "refuse_weak_public"]

KEY_SIZE = 4096  # bits
_MIN_KEY_SIZE = 3072  # bits; NIST SP 800-57 part 1 table 2: 128 bits of strength
PUBLIC_EXPONENT = 65537  # FIPS 186-5 appendix A.1.1 asks for more than 2^16
_FERMAT_STEPS = 100


def refuse_weak(key: rsa.RSAPrivateKey) -> None:
    """Refuse a key that is short, has another exponent, or can be factored.

    Raises:
        sa_keyvault.InstallationKeyError: The key is weak.
    """
    primes = key.private_numbers()
    are_close = abs(primes.p - primes.q) >> (key.key_size // 2 - 100) == 0
    _refuse(key.public_key(), "InstallationKey.generate()", are_close=are_close)


def refuse_weak_public(key: rsa.RSAPublicKey, maker: str) -> None:
    """Refuse what its public half alone shows to be weak: of a key in a token nothing else can be seen.

    Args:
        key: The public half.
        maker: The call that makes a better one.

    Raises:
        sa_keyvault.InstallationKeyError: The key is weak.
    """
    _refuse(key, maker, are_close=False)


def _refuse(key: rsa.RSAPublicKey, maker: str, *, are_close: bool) -> None:
    public, bits = key.public_numbers(), key.key_size
    problem = None
    if bits < _MIN_KEY_SIZE:
        problem = f"has {bits} bits; at least {_MIN_KEY_SIZE} are needed"
    elif public.e != PUBLIC_EXPONENT:
        problem = f"has the public exponent {public.e}; {PUBLIC_EXPONENT} is needed"
    elif are_close or _fermat_factors(public.n):
        problem = "has primes that are too close to each other"
    elif _has_roca_fingerprint(public.n):
        problem = "was made by a generator whose keys can be factored (ROCA, CVE-2017-15361)"
    if problem:
        msg = f"the RSA key {problem}; make one with {maker}"
        raise InstallationKeyError(msg)


def _fermat_factors(modulus: int) -> bool:
    """Whether Fermat's method factors *modulus* in a few steps (OWASP ASVS 5.0, 11.6.1)."""
    start = isqrt(modulus) + 1
    squares = ((start + step) ** 2 - modulus for step in range(_FERMAT_STEPS))
    return any(isqrt(square) ** 2 == square for square in squares)


_ROCA_PRIMES = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83),
    *(89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)


def _has_roca_fingerprint(modulus: int) -> bool:
    """Whether *modulus* is a power of 65537 modulo every one of the first odd primes.

    Source:
        Nemec et al., "The Return of Coppersmith's Attack", ACM CCS 2017, section 2.3.
    """
    return all(modulus % prime in {pow(PUBLIC_EXPONENT, n, prime) for n in range(prime)} for prime in _ROCA_PRIMES)
