"""Every error that a user of the fabric can meet, with the sentence that says what to do.

::

    FabricError                    code                    HTTP  requeued
    ├── Refused                                                    the request never became a job
    │   ├── KeyRefused             key-refused              401    no
    │   ├── VersionRefused         version-refused          400    no
    │   ├── PayloadRefused         payload-refused          400    no
    │   ├── PayloadTooLarge        payload-too-large        413    no
    │   ├── RequestTooSlow         request-too-slow         408    no
    │   ├── ModelUnknown           model-unknown            404    no
    │   ├── ModelNotOpen           model-not-open           403    no
    │   ├── SessionUnknown         session-unknown          400    no
    │   ├── JobUnknown             job-unknown              404    no
    │   ├── LimitReached           limit-reached            429    no
    │   ├── KeptUnknown            kept-unknown             404    no
    │   ├── LimitsNotUnderstood    limits-not-understood    400    no
    │   ├── OperatorsOnly          operators-only           403    no
    │   └── NotServing             not-serving              503    no
    ├── JobFailed                                                  the job ended without a result
    │   ├── UserCodeFailed         user-code                -      no
    │   ├── TimeLimitReached       time-limit               -      no
    │   ├── ResultTooLarge         result-too-large         -      no
    │   ├── ExecutorLost           executor-lost            -      yes
    │   ├── ReplicaLost            replica-lost             -      yes
    │   └── WeightsChanged         weights-changed          -      yes
    └── SetupFailed                                                 the operator must mend something
        ├── JailUnavailable        jail-unavailable         -      no
        ├── ModelUnusable          model-unusable           -      no
        ├── CatalogueInvalid       catalogue-invalid        -      no
        └── GpusUnusable           gpus-unusable            -      no
"""

from __future__ import annotations

import math


class FabricError(Exception):
    """``str(error)`` is the public sentence; ``code`` is stable and machine-readable."""

    code = "error"
    http_status = 500
    requeued = False


class Refused(FabricError):
    """The request was refused before it became a job."""

    code = "refused"
    http_status = 400


class KeyRefused(Refused):
    """No key, a wrong one, an ended one, or one without the right to trace."""

    code = "key-refused"
    http_status = 401


class VersionRefused(Refused):
    """The client's nnsight speaks another protocol."""

    code = "version-refused"


class PayloadRefused(Refused):
    """Envelope or payload are not what a client of the right version sends."""

    code = "payload-refused"


class PayloadTooLarge(Refused):
    """Declared or actual size is over the limit."""

    code = "payload-too-large"
    http_status = 413


class RequestTooSlow(Refused):
    """The body of the request does not come, or hardly."""

    code = "request-too-slow"
    http_status = 408


class ModelUnknown(Refused):
    """The model is not in the catalogue."""

    code = "model-unknown"
    http_status = 404


class ModelNotOpen(Refused):
    """The model is for groups that the user is not in."""

    code = "model-not-open"
    http_status = 403


class SessionUnknown(Refused):
    """The websocket session named in the request is not open, or is somebody else's."""

    code = "session-unknown"


class JobUnknown(Refused):
    """No such job, or not one of the asking user's."""

    code = "job-unknown"
    http_status = 404


class KeptUnknown(Refused):
    """The asking user keeps nothing by that name."""

    code = "kept-unknown"
    http_status = 404


class LimitReached(Refused):
    """The user has as much under way, or has used as much, as they may.

    Args:
        retry_after_s: when it is worth trying again.
    """

    code = "limit-reached"
    http_status = 429

    def __init__(self, sentence: str, retry_after_s: float) -> None:
        super().__init__(sentence)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class LimitsNotUnderstood(Refused):
    """What an operator wants to set is no limit."""

    code = "limits-not-understood"


class OperatorsOnly(Refused):
    """The page is for those who run this workbench."""

    code = "operators-only"
    http_status = 403


class NotServing(Refused):
    """The fabric cannot take jobs at present."""

    code = "not-serving"
    http_status = 503


class JobFailed(FabricError):
    """The job ended without a result."""

    code = "job-failed"


class UserCodeFailed(JobFailed):
    """The traced block raised; the message holds the user's own traceback."""

    code = "user-code"


class TimeLimitReached(JobFailed):
    """The job ran longer than it may."""

    code = "time-limit"


class ResultTooLarge(JobFailed):
    """The saved values are larger than one job may return."""

    code = "result-too-large"


class ExecutorLost(JobFailed):
    """The executor died under the job (memory, crash); other executors are not affected."""

    code = "executor-lost"
    requeued = True


class ReplicaLost(JobFailed):
    """The replica died under the job."""

    code = "replica-lost"
    requeued = True


class WeightsChanged(JobFailed):
    """Another job wrote to the weights on the device while this one ran."""

    code = "weights-changed"
    requeued = True

    def __init__(self) -> None:
        super().__init__(
            "Another job changed the model's weights on the device while this one ran, so its result is not to be "
            "trusted. The weights have been put right, and the job runs again."
        )


class SetupFailed(FabricError):
    """The operator must mend something before this can work."""

    code = "setup-failed"


class JailUnavailable(SetupFailed):
    """No way to close user code in: executors are not started."""

    code = "jail-unavailable"


class ModelUnusable(SetupFailed):
    """A catalogued model cannot be loaded."""

    code = "model-unusable"


class GpusUnusable(SetupFailed):
    """GPUs are to be used and cannot be."""

    code = "gpus-unusable"


class CatalogueInvalid(SetupFailed):
    """``models.toml`` is not valid."""

    code = "catalogue-invalid"
