"""The hot plane's methods: id, message classes, operation. One table for server and client."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any

from google.protobuf.message import Message

from proto import meta_pb2, scrub_pb2


class Method(IntEnum):
    """Ids on the wire; never change or reuse one."""

    CREATE_BUCKET = 1
    GET_BUCKET = 2
    DELETE_BUCKET = 3
    LIST_BUCKETS = 4
    UPDATE_BUCKET = 5
    COMMIT_VERSION = 10
    GET_VERSION = 11
    DELETE_VERSION = 12
    DELETE_VERSIONS = 13
    SET_TAGS = 14
    LIST_KEYS = 20
    LIST_VERSIONS = 21
    CREATE_UPLOAD = 30
    GET_UPLOAD = 31
    COMMIT_PART = 32
    LIST_PARTS = 33
    GET_PARTS = 34
    LIST_UPLOADS = 35
    COMPLETE_UPLOAD = 36
    ABORT_UPLOAD = 37
    OPEN_SESSION = 50
    RENEW_SESSION = 51
    CLOSE_SESSION = 52
    HEARTBEAT = 60
    GET_TOPOLOGY = 61
    GET_ACCESS_KEY = 62
    ACQUIRE_LEASE = 70
    LIST_GARBAGE = 71
    EXPAND_GARBAGE = 72
    FINISH_GARBAGE = 73
    LIST_ENDED_SESSIONS = 74
    CHECK_BLOBS = 75
    MARK_WALKED = 76
    READ_CHANGES = 77
    TRIM_CHANGES = 78
    REPORT_BAD = 79
    LIST_REPAIRS = 80
    USAGE = 81
    WALK_BLOBS = 82
    LOCATE_BLOBS = 83
    REPORT_FRAGMENTS = 84
    LOAD_SCRUB = 85
    SAVE_SCRUB = 86
    QUARANTINE = 87
    RELEASE = 88
    QUEUE_REPAIRS = 100
    CLAIM_REPAIRS = 101
    COMMIT_PLACEMENT = 102
    SCAN_PLACEMENTS = 103
    LIST_STRAYS = 104
    TAKE_STRAYS = 105
    FINISH_STRAYS = 106
    JUDGE_FRAGMENTS = 107
    MARK_DISK_WALKED = 108
    REWRAP_KEYS = 109


class Kind(IntEnum):
    """How an operation is run."""

    READ = auto()
    WRITE = auto()
    MANY = auto()  # independent writes in one message


@dataclass(frozen=True, slots=True)
class Entry:
    """One method of the server's table."""

    request: type[Message]
    reply: type[Message]
    kind: Kind
    operation: Callable[..., Awaitable[Any]]
    takes_data: bool = False
    returns_data: bool = False


REPLIES: dict[Method, tuple[type[Message], type[Message]]] = {
    Method.CREATE_BUCKET: (meta_pb2.CreateBucket, meta_pb2.BucketReply),
    Method.GET_BUCKET: (meta_pb2.GetBucket, meta_pb2.BucketReply),
    Method.DELETE_BUCKET: (meta_pb2.DeleteBucket, meta_pb2.BucketReply),
    Method.LIST_BUCKETS: (meta_pb2.ListBuckets, meta_pb2.ListBucketsReply),
    Method.UPDATE_BUCKET: (meta_pb2.UpdateBucket, meta_pb2.BucketReply),
    Method.COMMIT_VERSION: (meta_pb2.CommitVersion, meta_pb2.CommitReply),
    Method.GET_VERSION: (meta_pb2.GetVersion, meta_pb2.GetVersionReply),
    Method.DELETE_VERSION: (meta_pb2.DeleteVersion, meta_pb2.CommitReply),
    Method.DELETE_VERSIONS: (meta_pb2.DeleteVersions, meta_pb2.DeleteVersionsReply),
    Method.SET_TAGS: (meta_pb2.SetTags, meta_pb2.CommitReply),
    Method.LIST_KEYS: (meta_pb2.ListKeys, meta_pb2.ListKeysReply),
    Method.LIST_VERSIONS: (meta_pb2.ListVersions, meta_pb2.ListVersionsReply),
    Method.CREATE_UPLOAD: (meta_pb2.CreateUpload, meta_pb2.UploadReply),
    Method.GET_UPLOAD: (meta_pb2.GetUpload, meta_pb2.UploadReply),
    Method.COMMIT_PART: (meta_pb2.CommitPart, meta_pb2.CommitReply),
    Method.LIST_PARTS: (meta_pb2.ListParts, meta_pb2.ListPartsReply),
    Method.GET_PARTS: (meta_pb2.GetParts, meta_pb2.GetPartsReply),
    Method.LIST_UPLOADS: (meta_pb2.ListUploads, meta_pb2.ListUploadsReply),
    Method.COMPLETE_UPLOAD: (meta_pb2.CompleteUpload, meta_pb2.CompleteReply),
    Method.ABORT_UPLOAD: (meta_pb2.AbortUpload, meta_pb2.CommitReply),
    Method.OPEN_SESSION: (meta_pb2.OpenSession, meta_pb2.SessionReply),
    Method.RENEW_SESSION: (meta_pb2.RenewSession, meta_pb2.SessionReply),
    Method.CLOSE_SESSION: (meta_pb2.CloseSession, meta_pb2.SessionReply),
    Method.HEARTBEAT: (meta_pb2.Heartbeat, meta_pb2.HeartbeatReply),
    Method.GET_TOPOLOGY: (meta_pb2.GetTopology, meta_pb2.GetTopologyReply),
    Method.GET_ACCESS_KEY: (meta_pb2.GetAccessKey, meta_pb2.AccessKeyReply),
    Method.ACQUIRE_LEASE: (meta_pb2.AcquireLease, meta_pb2.LeaseReply),
    Method.LIST_GARBAGE: (meta_pb2.ListGarbage, meta_pb2.ListGarbageReply),
    Method.EXPAND_GARBAGE: (meta_pb2.ExpandGarbage, meta_pb2.ExpandGarbageReply),
    Method.FINISH_GARBAGE: (meta_pb2.FinishGarbage, meta_pb2.FinishGarbageReply),
    Method.LIST_ENDED_SESSIONS: (meta_pb2.ListEndedSessions, meta_pb2.ListEndedSessionsReply),
    Method.CHECK_BLOBS: (meta_pb2.CheckBlobs, meta_pb2.CheckBlobsReply),
    Method.MARK_WALKED: (meta_pb2.MarkWalked, meta_pb2.MarkWalkedReply),
    Method.READ_CHANGES: (meta_pb2.ReadChanges, meta_pb2.ReadChangesReply),
    Method.TRIM_CHANGES: (meta_pb2.TrimChanges, meta_pb2.TrimChangesReply),
    Method.REPORT_BAD: (meta_pb2.ReportBad, meta_pb2.ReportBadReply),
    Method.LIST_REPAIRS: (meta_pb2.ListRepairs, meta_pb2.ListRepairsReply),
    Method.USAGE: (meta_pb2.Usage, meta_pb2.UsageReply),
    Method.WALK_BLOBS: (scrub_pb2.WalkBlobs, scrub_pb2.WalkBlobsReply),
    Method.LOCATE_BLOBS: (scrub_pb2.LocateBlobs, scrub_pb2.LocateBlobsReply),
    Method.LOAD_SCRUB: (scrub_pb2.LoadScrub, scrub_pb2.ScrubState),
    Method.SAVE_SCRUB: (scrub_pb2.SaveScrub, scrub_pb2.ScrubState),
    Method.QUARANTINE: (scrub_pb2.Quarantine, scrub_pb2.QuarantineReply),
    Method.RELEASE: (scrub_pb2.Release, scrub_pb2.ReleaseReply),
    Method.REPORT_FRAGMENTS: (scrub_pb2.ReportFragments, scrub_pb2.ReportFragmentsReply),
    Method.QUEUE_REPAIRS: (meta_pb2.QueueRepairs, meta_pb2.QueueRepairsReply),
    Method.CLAIM_REPAIRS: (meta_pb2.ClaimRepairs, meta_pb2.ClaimRepairsReply),
    Method.COMMIT_PLACEMENT: (meta_pb2.CommitPlacement, meta_pb2.CommitPlacementReply),
    Method.SCAN_PLACEMENTS: (meta_pb2.ScanPlacements, meta_pb2.ScanPlacementsReply),
    Method.LIST_STRAYS: (meta_pb2.ListStrays, meta_pb2.ListStraysReply),
    Method.TAKE_STRAYS: (meta_pb2.TakeStrays, meta_pb2.TakeStraysReply),
    Method.FINISH_STRAYS: (meta_pb2.FinishStrays, meta_pb2.FinishStraysReply),
    Method.JUDGE_FRAGMENTS: (meta_pb2.JudgeFragments, meta_pb2.JudgeFragmentsReply),
    Method.MARK_DISK_WALKED: (meta_pb2.MarkDiskWalked, meta_pb2.MarkDiskWalkedReply),
    Method.REWRAP_KEYS: (meta_pb2.RewrapKeys, meta_pb2.RewrapKeysReply),
}
