"""Every error the pack raises on purpose.

::

    MlflowException
    └── PackError                    base; says what happened, what was not changed, what to do
        ├── ConfigurationError       a setting, file or URI is wrong
        │   ├── UnsupportedUriError  a scheme that the pack does not serve
        │   ├── ArtifactKeyError     an encrypted store without its key
        │   └── NotServedYetError    a database without the approvals' tables
        ├── ArtifactError            plugin 1
        │   ├── ArtifactPathError        a path that climbs or is malformed
        │   ├── ArtifactNotFoundError    the artifact does not exist
        │   ├── ArtifactConflictError    a file in the place of a folder
        │   ├── ArtifactLockedError      the artifact is locked, as approved ones are
        │   ├── ArtifactChangedError     a local file changed during the upload
        │   ├── ArtifactCorruptError     stored bytes do not have their hash
        │   ├── StoreFormatError         a store of an unknown format
        │   ├── StoreChangedError        the store was wiped or replaced meanwhile
        │   ├── CollectionRunningError   another process collects garbage
        │   ├── WorkersLostError         the processes of a long job ended
        │   ├── ForbiddenRootError       a root that the server does not own
        │   ├── ForeignDataError         data of stock MLflow, or of another store, in the way
        │   └── StorageError             the storage below the store failed
        │       ├── StorageMissingError      the bucket, container or folder is missing
        │       ├── StorageDeniedError       the storage denies access
        │       ├── StorageCredentialsError  the credentials are missing or wrong
        │       └── StorageUnavailableError  the storage does not answer
        │           └── StorageFullError         the disk, or a quota on it, is full
        ├── LineageError             plugin 2
        │   ├── LineageNotRecordedError  the run has no lineage
        │   ├── LineageSourceError       a recorded content cannot be loaded again
        │   └── LineageTargetError       the target of a query is unknown
        ├── AuthError                plugin 3
        │   ├── AuthConfigError          the profiles file or a setting is wrong
        │   ├── AmbiguousAddressError    an address that two readers take for two
        │   ├── AuthConflictError        two credentials for the same request
        │   ├── CredentialError          a source gives no credential
        │   ├── UnnamedHostError         no profile names the host
        │   ├── RedirectRefusedError     a redirect to a host that is not named
        │   └── SignInPageError          a sign-in page in place of an answer
        ├── ShippingError            a version on its way to another server
        │   ├── NotShippableError        it cannot be taken along
        │   ├── StorageNotNamedError     a server names storage that no person named
        │   └── DigestDiffersError       its files differ at the two ends
        └── ApprovalError            plugin 4
            ├── PolicyInvalidError       the policy file is missing or wrong
            ├── ApprovalRequiredError    protected, and approvals are missing
            ├── ChecksFailedError        approved, and a required check failed
            ├── FrozenError              approved, during a freeze
            ├── SelfApprovalError        the requester or creator votes
            ├── NotAnApproverError       the policy gives this person no vote
            ├── IdentityRequiredError    the caller is not signed in
            ├── StaleApprovalError       the version changed after its approval
            ├── HolderChangedError       the target moved meanwhile
            ├── ProtectedDeleteError     deletes what a protected target serves
            ├── ProtectedRenameError     renames the holder of a protected target
            ├── ReservedTagError         a tag that only the store writes
            ├── ContentLockedError       a tag that is approved content
            ├── NoOpenRequestError       no open request to vote on
            ├── InvalidCommandError      a command tag is malformed
            ├── DigestUnavailableError   the version's files cannot be read
            │   ├── SourceNotAllowedError the policy does not allow the place of the files
            │   └── SourceNotPinnedError the source can lead to other files later
            ├── DigestingError           the version's files are still being read
            ├── AuditBrokenError         the audit chain is broken
            └── RegistryBusyError        the database stayed locked

All derive from `MlflowException`, the only class that MLflow's REST layer passes on with its status
and text. ``INVALID_STATE`` is never used: MLflow answers it with status 500.

The module has more than 400 lines because the tree is read, drawn and tested as one.
"""

# Long: one class a situation, all in one place, since their codes share one namespace.

from __future__ import annotations

from typing import Any, ClassVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)


class PackError(MlflowException):
    """Base of all errors of the pack.

    Attributes:
        status: MLflow error code (a protobuf enum value) that decides the HTTP status.
        code: Stable upper-case code that starts the message, for scripts; empty for most.
        fields: Further data for programs, as JSON can hold it. Clients of a server find it in the
            JSON of the error, together with the code as ``pack_code``.
    """

    status: ClassVar[int] = INTERNAL_ERROR
    code: ClassVar[str] = ""

    def __init__(self, message: str, **fields: Any) -> None:
        text = f"{self.code}: {message}" if self.code else message
        self.fields = fields
        named = {"pack_code": self.code} if self.code else {}
        super().__init__(text, error_code=self.status, **named, **fields)


class ConfigurationError(PackError):
    """A setting, a configuration file or a URI is wrong; nothing was started or changed."""

    status = INVALID_PARAMETER_VALUE


class UnsupportedUriError(ConfigurationError):
    """The URI's scheme is not one the pack serves, or its stock part is malformed."""


class ArtifactKeyError(ConfigurationError):
    """No configured key opens the encrypted store, or the store should be encrypted."""


class NotServedYetError(ConfigurationError):
    """The registry's database has no tables of the approvals: the first server creates them."""


# --- plugin 1: artifacts ------------------------------------------------------------------------


class ArtifactError(PackError):
    """Base of the artifact repository's errors."""


class ArtifactPathError(ArtifactError):
    """An artifact path or name cannot be stored safely; nothing was read or written."""

    status = INVALID_PARAMETER_VALUE


class ArtifactNotFoundError(ArtifactError):
    """The artifact does not exist."""

    status = RESOURCE_DOES_NOT_EXIST


class ArtifactConflictError(ArtifactError):
    """A file is where a folder is needed, or a folder where a file is; nothing was written."""

    status = RESOURCE_CONFLICT


class ArtifactLockedError(ArtifactError):
    """The artifact is locked, mostly because exactly these bytes were approved."""

    status = PERMISSION_DENIED
    code = "CONTENT_LOCKED"


class ArtifactChangedError(ArtifactError):
    """A local file changed while it was being read; nothing was committed."""

    status = RESOURCE_CONFLICT


class ArtifactCorruptError(ArtifactError):
    """Stored bytes are missing or do not have the hash that was recorded for them."""

    # A conflict between manifest and storage; the stock client would repeat a 500 for minutes.
    status = RESOURCE_CONFLICT


class StoreFormatError(ArtifactError):
    """The store, or one of its objects, has a format that this version does not read."""

    status = RESOURCE_CONFLICT


class StoreChangedError(ArtifactError):
    """The store was wiped, replaced or lost its keys while this process was using it."""

    status = RESOURCE_CONFLICT


class CollectionRunningError(ArtifactError):
    """Another process is collecting this store's garbage."""

    status = RESOURCE_CONFLICT


class WorkersLostError(ArtifactError):
    """The processes that did a long job for this one ended, again and again."""

    status = TEMPORARILY_UNAVAILABLE


class ForbiddenRootError(ArtifactError):
    """The artifact root is not on the list of the server that was asked to open it."""

    status = PERMISSION_DENIED


class ForeignDataError(ArtifactError):
    """The place holds artifacts that stock MLflow stored, or another store."""

    status = RESOURCE_CONFLICT


class StorageError(ArtifactError):
    """The disk or cloud storage under the store failed."""


class StorageMissingError(StorageError):
    """The bucket, container or folder does not exist."""

    status = RESOURCE_DOES_NOT_EXIST


class StorageDeniedError(StorageError):
    """The storage refused: the credentials do not allow it, or it is read-only."""

    status = PERMISSION_DENIED


class StorageCredentialsError(StorageError):
    """No credentials were found, or the storage does not accept them."""

    status = UNAUTHENTICATED


class StorageUnavailableError(StorageError):
    """The storage did not answer, or was too slow."""

    status = TEMPORARILY_UNAVAILABLE


class StorageFullError(StorageUnavailableError):
    """The disk, or the user's quota on it, is full."""


# --- plugin 2: lineage --------------------------------------------------------------------------


class LineageError(PackError):
    """Base of the errors of lineage queries; capture itself never raises."""

    status = BAD_REQUEST


class LineageNotRecordedError(LineageError):
    """The run has no lineage to show."""

    status = RESOURCE_DOES_NOT_EXIST


class LineageTargetError(LineageError):
    """The target of a query is not a run, model, file, URI or digest."""


class LineageSourceError(LineageError):
    """The content of a recorded dataset cannot be loaded again."""

    status = RESOURCE_DOES_NOT_EXIST


# --- plugin 3: auth -----------------------------------------------------------------------------


class AuthError(PackError):
    """Base of sign-in errors; the request that raises one is not sent."""

    status = UNAUTHENTICATED


class AuthConfigError(AuthError):
    """The profiles file, or a setting of sign-in, cannot be used."""

    status = INVALID_PARAMETER_VALUE


class CredentialError(AuthError):
    """The source of a profile gives no credential."""


class UnnamedHostError(AuthError):
    """The request goes to a host that no profile names."""


class AmbiguousAddressError(AuthError):
    """The address of a request may be read as one that a profile names, and as another."""


class RedirectRefusedError(AuthError):
    """A server redirects to a host that the profile does not name; nothing was sent there."""


class AuthConflictError(AuthError):
    """Two credentials are configured for the same request."""


class SignInPageError(AuthError):
    """A web page, mostly a proxy's sign-in page, came in place of an answer of the API."""


# --- shipping -----------------------------------------------------------------------------------


class ShippingError(PackError):
    """A version cannot be taken to another server; nothing was registered there."""

    status = BAD_REQUEST


class NotShippableError(ShippingError):
    """The version, or what belongs to it, cannot be taken along."""

    code = "NOT_SHIPPABLE"


class StorageNotNamedError(ShippingError):
    """A server says that files are in a place that no person named; it was not opened."""

    status = PERMISSION_DENIED
    code = "STORAGE_NOT_NAMED"


class DigestDiffersError(ShippingError):
    """The files of the version differ at the two ends; nothing was registered."""

    status = RESOURCE_CONFLICT
    code = "DIGEST_DIFFERS"


# --- plugin 4: approvals ------------------------------------------------------------------------


class ApprovalError(PackError):
    """Base of the registry store's refusals; nothing was changed when one is raised.

    Attributes:
        is_recorded: Whether the audit log shows the refusal, or the request it has filed.
    """

    status = PERMISSION_DENIED
    is_recorded: bool = False


class PolicyInvalidError(ApprovalError, ConfigurationError):
    """The policy file is missing, unreadable or wrong."""

    status = INVALID_PARAMETER_VALUE
    code = "POLICY_INVALID"


class ApprovalRequiredError(ApprovalError):
    """The target is protected and not enough people have approved."""

    code = "APPROVAL_REQUIRED"


class ChecksFailedError(ApprovalError):
    """Enough people approved, but a check that the policy requires failed."""

    code = "CHECKS_FAILED"


class FrozenError(ApprovalError):
    """The policy allows no change of the target at this time."""

    code = "FROZEN"


class SelfApprovalError(ApprovalError):
    """The requester of the change or the creator of the version tried to approve it."""

    code = "SELF_APPROVAL"


class NotAnApproverError(ApprovalError):
    """The policy gives this person no vote on this target, or no right to this act."""

    code = "NOT_AN_APPROVER"


class IdentityRequiredError(ApprovalError):
    """The call needs a caller who is signed in."""

    status = UNAUTHENTICATED
    code = "IDENTITY_REQUIRED"


class StaleApprovalError(ApprovalError):
    """The version, its bytes or the policy changed since the request was made."""

    code = "STALE_APPROVAL"


class HolderChangedError(ApprovalError):
    """The target points elsewhere than when the request was made."""

    status = RESOURCE_CONFLICT
    code = "HOLDER_CHANGED"


class ProtectedDeleteError(ApprovalError):
    """The version or model serves a protected target, so deleting it would be an outage."""

    code = "PROTECTED_DELETE"


class ProtectedRenameError(ApprovalError):
    """The rename would move a holder of a protected target."""

    code = "PROTECTED_RENAME"


class ReservedTagError(ApprovalError):
    """The tag's name belongs to the approvals store."""

    code = "RESERVED_TAG"


class ContentLockedError(ApprovalError):
    """The tag is the content of a prompt that is approved or has an open request."""

    code = "CONTENT_LOCKED"


class NoOpenRequestError(ApprovalError):
    """The version has no open request for this target."""

    status = RESOURCE_DOES_NOT_EXIST
    code = "NO_OPEN_REQUEST"


class InvalidCommandError(ApprovalError):
    """A command tag is malformed, or its command does not apply here."""

    status = INVALID_PARAMETER_VALUE
    code = "INVALID_COMMAND"


class DigestUnavailableError(ApprovalError):
    """The files of the version cannot be read, so no approval can be bound to them."""

    status = RESOURCE_CONFLICT
    code = "DIGEST_UNAVAILABLE"


class SourceNotPinnedError(DigestUnavailableError):
    """The version's source can lead to other files later, or on another host."""

    code = "SOURCE_NOT_PINNED"


class SourceNotAllowedError(DigestUnavailableError):
    """The version's files are at a place that the policy does not allow."""

    code = "SOURCE_NOT_ALLOWED"


class DigestingError(ApprovalError):
    """The files of the version are still being read."""

    status = RESOURCE_CONFLICT
    code = "DIGESTING"


class AuditBrokenError(ApprovalError):
    """The audit chain is broken: an entry was changed, removed or added from outside."""

    status = RESOURCE_CONFLICT
    code = "AUDIT_BROKEN"


class RegistryBusyError(ApprovalError):
    """The database refused the transaction again and again because of other writers."""

    status = TEMPORARILY_UNAVAILABLE
    code = "REGISTRY_BUSY"
