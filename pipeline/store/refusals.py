"""What a store answers that holds for all that is asked of it: credentials that ended, a quota, a bucket that is gone.

Such an answer is no file's fault. Which file was asked decides nothing, and asking for the next one neither.
"""

from pipeline.store.retries import causes, code_of, status_of

RENEW = "renew the credentials"
REFUSALS = {
    **dict.fromkeys((
        "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId",
        "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure", "MissingSecurityHeader",
        "InvalidSecurity", "CredentialsNotSupported", "AccessKeyDisabled",
    ), RENEW),
    "RequestTimeTooSkewed": "set this machine's clock",
    **dict.fromkeys((
        "AccountProblem", "NotSignedUp", "AllAccessDisabled", "UserProjectAccountProblem", "QuotaExceeded",
        "QuotaExceededException", "ServiceQuotaExceededException", "BandwidthQuotaExceeded", "XAmzQuotaExceeded",
    ), "see to the account or its quota"),
    "NoSuchBucket": "see where the bucket has gone",
}
"""S3's codes, and what is to be done."""
WITHOUT_CREDENTIALS = frozenset({
    "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
    "SSOTokenLoadError", "RefreshError", "DefaultCredentialsError", "ClientAuthenticationError",
})
"""Errors of clients whose credentials are not whole or cannot be renewed."""
WORDLESS = (400, 401, 403)
"""What is answered to HEAD, which has no body, when another request would be told why."""


def refusal(error: BaseException) -> str:
    """What is to be done where a store refuses whatever is asked; empty where this error may be of one file."""
    names = {type(cause).__name__ for cause in causes(error)}
    if "NoCredentialsError" in names:
        return "give credentials, or set FSSPEC_S3_ANON=true for a public bucket"
    if names & WITHOUT_CREDENTIALS:
        return RENEW
    return REFUSALS.get(code_of(error), "")


def is_wordless(error: BaseException) -> bool:
    """Whether the store refused without saying why."""
    return status_of(error) in WORDLESS and code_of(error) in ("", *map(str, WORDLESS))
