"""Every error the pack raises on purpose.

::

    MlflowException
    └── PackError                    anything below; what happened, what was not changed, what next
        ├── ConfigurationError       a setting, file or URI is wrong
        │   ├── UnsupportedUriError  the scheme or its stock part is not one we serve
        │   ├── ArtifactKeyError     an encrypted store, and no key or a wrong one
        │   └── NotServedYetError    a database that no server with our registry has opened yet
        ├── ArtifactError            plugin 1
        │   ├── ArtifactPathError        a path climbs, is absolute, encoded or malformed
        │   ├── ArtifactNotFoundError    there is no such artifact
        │   ├── ArtifactConflictError    a file is in the way of a folder, or the reverse
        │   ├── ArtifactLockedError      it is locked, mostly because somebody approved it
        │   ├── ArtifactChangedError     a local file changed while it was being read
        │   ├── ArtifactCorruptError     stored bytes do not have the hash they should have
        │   ├── StoreFormatError         a store was written in a format this version cannot read
        │   ├── CollectionRunningError   another garbage collection holds the store's lease
        │   ├── ForbiddenRootError       a server was asked for a root that is not its own
        │   └── StorageError             the disk, bucket or container refused or failed
        │       ├── StorageMissingError      no such bucket, container or folder
        │       ├── StorageDeniedError       the credentials do not allow it, or it is read-only
        │       ├── StorageCredentialsError  there are no credentials, or wrong ones
        │       └── StorageUnavailableError  no answer, too slow, full
        ├── LineageError             plugin 2
        │   ├── LineageNotRecordedError  the run has no lineage
        │   └── LineageTargetError       what was asked about names nothing
        ├── AuthError                plugin 3
        │   ├── AuthConfigError          the profiles file, or a setting beside it
        │   ├── AuthConflictError        two things want to sign the same request in
        │   ├── CredentialError          a source has nothing to give
        │   ├── UnnamedHostError         no profile names the host
        │   ├── RedirectRefusedError     a redirect leads to a host not named
        │   └── SignInPageError          a web page came where the API should have answered
        └── ApprovalError            plugin 4
            ├── PolicyInvalidError       the policy file is missing or wrong
            ├── ApprovalRequiredError    protected, and not enough people approved
            ├── ChecksFailedError        approved, but something that is required is lacking
            ├── FrozenError              approved, and at this time nothing is changed
            ├── SelfApprovalError        the requester or creator tried to approve
            ├── NotAnApproverError       the policy does not count this person
            ├── IdentityRequiredError    nobody is signed in
            ├── StaleApprovalError       the version is no longer what was approved
            ├── HolderChangedError       somebody else moved the target meanwhile
            ├── ProtectedDeleteError     it would take away what production serves
            ├── ProtectedRenameError     it would move a protected holder
            ├── ReservedTagError         the tag is written by the store alone
            ├── ContentLockedError       the tag is content somebody approves
            ├── NoOpenRequestError       there is nothing to vote on
            ├── InvalidCommandError      a command tag is malformed or pointless
            ├── DigestUnavailableError   the version's bytes cannot be read
            ├── DigestingError           the version's bytes are still being read
            ├── AuditBrokenError         the audit chain does not hold
            └── RegistryBusyError        the database stayed locked; try again

All derive from `MlflowException` because that alone survives MLflow's REST layer with its status
and text. ``INVALID_STATE`` is never used: MLflow answers it with a 500.
"""

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
        code: Stable upper-case code that starts the message; empty if there is none.
        fields: What programs need to know besides; JSON. A client of a server finds it, with the
            code as ``pack_code``, in the JSON of the error.
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
    """An artifact store is encrypted and no key that is given opens it, or it ought to be."""


class NotServedYetError(ConfigurationError):
    """The registry's database has no tables of ours yet: the first server makes them."""


# --- plugin 1: artifacts ------------------------------------------------------------------------


class ArtifactError(PackError):
    """Base of the artifact repository's errors."""


class ArtifactPathError(ArtifactError):
    """An artifact path or name cannot be stored safely; nothing was read or written."""

    status = INVALID_PARAMETER_VALUE


class ArtifactNotFoundError(ArtifactError):
    """There is no artifact at the path."""

    status = RESOURCE_DOES_NOT_EXIST


class ArtifactConflictError(ArtifactError):
    """A file is where a folder is needed, or a folder where a file is; nothing was written."""

    status = RESOURCE_CONFLICT


class ArtifactLockedError(ArtifactError):
    """The artifact is locked, mostly because somebody approved exactly these bytes."""

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


class CollectionRunningError(ArtifactError):
    """Another process is collecting this store's garbage."""

    status = RESOURCE_CONFLICT


class ForbiddenRootError(ArtifactError):
    """A server was asked to open an artifact root that is not on its own list."""

    status = PERMISSION_DENIED


class StorageError(ArtifactError):
    """The disk or cloud storage under the store failed."""


class StorageMissingError(StorageError):
    """The bucket, container or folder is not there."""

    status = RESOURCE_DOES_NOT_EXIST


class StorageDeniedError(StorageError):
    """The storage refused: the credentials do not allow it, or it is read-only."""

    status = PERMISSION_DENIED


class StorageCredentialsError(StorageError):
    """No credentials were found, or the storage does not know them."""

    status = UNAUTHENTICATED


class StorageUnavailableError(StorageError):
    """The storage did not answer, was too slow, or is full."""

    status = TEMPORARILY_UNAVAILABLE


# --- plugin 2: lineage --------------------------------------------------------------------------


class LineageError(PackError):
    """Base of the errors of lineage's asking side; capture itself never raises."""

    status = BAD_REQUEST


class LineageNotRecordedError(LineageError):
    """The run has no lineage to show."""

    status = RESOURCE_DOES_NOT_EXIST


class LineageTargetError(LineageError):
    """What was asked about is no run, model, file, URI or digest."""


# --- plugin 3: auth -----------------------------------------------------------------------------


class AuthError(PackError):
    """Base of sign-in errors; whenever one is raised, no request left the process."""

    status = UNAUTHENTICATED


class AuthConfigError(AuthError):
    """The profiles file, or a setting beside it, cannot be used."""

    status = INVALID_PARAMETER_VALUE


class CredentialError(AuthError):
    """A source has no credential to give."""


class UnnamedHostError(AuthError):
    """The request goes to a host that no profile names."""


class RedirectRefusedError(AuthError):
    """A server redirects to a host that the profile does not name; nothing was sent there."""


class AuthConflictError(AuthError):
    """Two things want to sign the same request in."""


class SignInPageError(AuthError):
    """A web page came where the API should have answered, mostly a proxy's sign-in page."""


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
    """The people agree, but something else that the policy requires is lacking."""

    code = "CHECKS_FAILED"


class FrozenError(ApprovalError):
    """The policy lets nobody change the target at this time."""

    code = "FROZEN"


class SelfApprovalError(ApprovalError):
    """The requester, or whoever made the version, tried to approve it."""

    code = "SELF_APPROVAL"


class NotAnApproverError(ApprovalError):
    """The policy gives this person no vote on this target, or no right to this act."""

    code = "NOT_AN_APPROVER"


class IdentityRequiredError(ApprovalError):
    """The act needs a signed-in person and there is none."""

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
    """The version or model holds a protected target, so deleting it would be an outage."""

    code = "PROTECTED_DELETE"


class ProtectedRenameError(ApprovalError):
    """The rename would move a holder of a protected target."""

    code = "PROTECTED_RENAME"


class ReservedTagError(ApprovalError):
    """The tag's name belongs to the approvals store."""

    code = "RESERVED_TAG"


class ContentLockedError(ApprovalError):
    """The tag is what a prompt says, and somebody approves or approved exactly that."""

    code = "CONTENT_LOCKED"


class NoOpenRequestError(ApprovalError):
    """There is no open request for this version and target."""

    status = RESOURCE_DOES_NOT_EXIST
    code = "NO_OPEN_REQUEST"


class InvalidCommandError(ApprovalError):
    """A command tag is malformed, or asks for something that makes no sense here."""

    status = INVALID_PARAMETER_VALUE
    code = "INVALID_COMMAND"


class DigestUnavailableError(ApprovalError):
    """The bytes of the version cannot be read, so nothing can be bound to them."""

    status = RESOURCE_CONFLICT
    code = "DIGEST_UNAVAILABLE"


class DigestingError(ApprovalError):
    """The bytes of the version are still being read."""

    status = RESOURCE_CONFLICT
    code = "DIGESTING"


class AuditBrokenError(ApprovalError):
    """The audit chain does not hold: an entry was changed, removed or added from outside."""

    status = RESOURCE_CONFLICT
    code = "AUDIT_BROKEN"


class RegistryBusyError(ApprovalError):
    """The database refused the transaction again and again because of other writers."""

    status = TEMPORARILY_UNAVAILABLE
    code = "REGISTRY_BUSY"
