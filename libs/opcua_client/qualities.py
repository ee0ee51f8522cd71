"""StatusCodes that this service sets beside those of `process_image.quality` (OPC UA Part 4, clause 7.39)."""

from __future__ import annotations

from typing import Final

BAD_DATA_TYPE_ID_UNKNOWN: Final = 0x80110000
BAD_INDEX_RANGE_NO_DATA: Final = 0x80370000
BAD_NO_DATA: Final = 0x809B0000
BAD_NOT_FOUND: Final = 0x803E0000
BAD_OUT_OF_RANGE: Final = 0x803C0000
BAD_NOT_WRITABLE: Final = 0x803B0000
BAD_TYPE_MISMATCH: Final = 0x80740000
BAD_CONFIGURATION_ERROR: Final = 0x80890000
BAD_SECURITY_CHECKS_FAILED: Final = 0x80130000
BAD_CERTIFICATE_INVALID: Final = 0x80120000
BAD_CERTIFICATE_TIME_INVALID: Final = 0x80140000
BAD_CERTIFICATE_ISSUER_TIME_INVALID: Final = 0x80150000
BAD_CERTIFICATE_HOST_NAME_INVALID: Final = 0x80160000
BAD_CERTIFICATE_URI_INVALID: Final = 0x80170000
BAD_CERTIFICATE_USE_NOT_ALLOWED: Final = 0x80180000
BAD_CERTIFICATE_ISSUER_USE_NOT_ALLOWED: Final = 0x80190000
BAD_CERTIFICATE_UNTRUSTED: Final = 0x801A0000
BAD_CERTIFICATE_REVOCATION_UNKNOWN: Final = 0x801B0000
BAD_CERTIFICATE_ISSUER_REVOCATION_UNKNOWN: Final = 0x801C0000
BAD_CERTIFICATE_REVOKED: Final = 0x801D0000
BAD_CERTIFICATE_ISSUER_REVOKED: Final = 0x801E0000
BAD_CERTIFICATE_CHAIN_INCOMPLETE: Final = 0x810D0000
BAD_CERTIFICATE_POLICY_CHECK_FAILED: Final = 0x81140000

SESSION_GONE: Final = frozenset([
    0x80250000,  # BadSessionIdInvalid
    0x80260000,  # BadSessionClosed
    0x80270000,  # BadSessionNotActivated
    0x80220000,  # BadSecureChannelIdInvalid
    0x80860000,  # BadSecureChannelClosed
    0x80870000,  # BadSecureChannelTokenUnknown
    0x80550000,  # BadSecurityPolicyRejected
    0x80130000,  # BadSecurityChecksFailed
    0x80200000,  # BadIdentityTokenInvalid
])
"""Answers after which only a new session helps."""

TOO_MUCH: Final = frozenset([
    0x80100000,  # BadTooManyOperations
    0x80080000,  # BadEncodingLimitsExceeded
    0x80B80000,  # BadRequestTooLarge
    0x80B90000,  # BadResponseTooLarge
    0x80800000,  # BadTcpMessageTooLarge
    0x80030000,  # BadOutOfMemory
])
"""Answers after which half as much is asked for."""
