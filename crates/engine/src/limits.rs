//! The bounds of this crate, each with what it protects against.

use std::time::Duration;

/// Largest record of a container, volume or image beside it, in bytes. Only read when the index is rebuilt; a
/// container's holds all that its client sent, of which the daemon accepts less.
pub(crate) const RECORD: u64 = 16 << 20;

/// How long nothing must be asked of the index before it does what costs an fsync and nobody waits for.
pub(crate) const INDEX_IDLE: Duration = Duration::from_millis(250);

/// Commits after which the index moves its log into the database even if it is never idle: the log stays below some
/// tens of megabytes.
pub(crate) const INDEX_COMMITS: u32 = 2000;

/// Room on the disk that the index keeps for itself, in bytes: many commits fit in.
pub(crate) const INDEX_RESERVE: u64 = 1 << 20;

/// Depth of a tree in a volume that is measured or copied. Each level holds two descriptors at most.
pub(crate) const VOLUME_DEPTH: usize = 2048;

/// Chunks of a streamed body that wait between a connection and a thread.
pub(crate) const BODY_CHUNKS: usize = 8;

/// Longest time that the client of a copy may neither send nor take anything while the container waits to start.
pub(crate) const COPY_STALL: Duration = Duration::from_secs(5);

/// Bytes that are gathered into one chunk where a thread writes small pieces.
pub(crate) const BODY_CHUNK: usize = 64 << 10;

/// Specifications of devices in one directory.
pub(crate) const DEVICE_FILES: usize = 1024;

/// Bytes of all specifications of devices together.
pub(crate) const DEVICE_DOCUMENTS: usize = 8 << 20;

/// Reasons why specifications are not used that one message tells.
pub(crate) const DEVICE_PROBLEMS: usize = 8;

/// Characters of one of them.
pub(crate) const DEVICE_PROBLEM: usize = 500;

/// Most that is read of a file of procfs or of a cgroup, in bytes.
pub(crate) const KERNEL_FILE: u64 = 1 << 20;

/// Steps of a pull or push that wait for a client to read them.
pub(crate) const STEPS: usize = 64;

/// Findings of a check that wait for a client to read them.
pub(crate) const FINDINGS: usize = 64;

/// Most of a file of a result that a client is given at once, in bytes: BuildKit's messages have 16 MiB.
pub(crate) const READ: u64 = (16 << 20) - (64 << 10);

/// Files of one directory of a result that a client is told of at once.
pub(crate) const LISTED: usize = 50_000;

/// How often is told how far a layer is.
pub(crate) const TOLD_EVERY: Duration = Duration::from_millis(100);

/// Repositories of the same registry that are asked for a layer before it is uploaded.
pub(crate) const MOUNT_SOURCES: usize = 3;

/// Bytes read at once of a blob that is uploaded.
pub(crate) const UPLOAD_CHUNK: usize = 256 << 10;

/// How long content of a pull that failed is kept for the next attempt.
pub(crate) const LEASE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Manifests of one index that are shown. An index may name more than fifty thousand.
pub(crate) const MANIFESTS: usize = 1000;

/// Manifests of one index that a registry is asked for before the index is pushed.
pub(crate) const MANIFESTS_ASKED: usize = 200;

/// Largest description of an image that another engine offers, in bytes: room for [`coracle_spec::limits::LAYERS`] layers
/// and [`OFFERED_NAMES`] names.
pub(crate) const OFFER: usize = 512 << 10;

/// Names of one image that another engine offers.
pub(crate) const OFFERED_NAMES: usize = 64;

/// Documents of one image that another engine offers: the configuration, manifests and indexes.
pub(crate) const OFFERED_DOCUMENTS: usize = 16;

/// Blobs besides layers of one image, or all of one artifact, that another engine offers.
pub(crate) const OFFERED_BLOBS: usize = 1024;

/// Bytes of all that is offered beside the layers of one image: statements about it, and their manifests.
pub(crate) const OFFERED_BESIDE: u64 = coracle_spec::limits::ATTESTED
    + (coracle_spec::limits::ATTESTATIONS * coracle_spec::limits::MANIFEST) as u64;

/// Bytes of a layer that go from engine to engine in one frame.
pub(crate) const MOVED_CHUNK: usize = 256 << 10;

/// Bytes of another engine's complaint.
pub(crate) const SAID: usize = 4 << 10;

/// How long the engine on the other side may do nothing before what it says next: it may have to pack a layer, or its disk
/// may take that long to write one.
pub(crate) const MOVING_STALL: Duration = Duration::from_secs(600);

/// How long another engine may give nothing of a layer that it has at hand.
pub(crate) const PIECE_STALL: Duration = Duration::from_secs(60);

/// How long is waited for another engine's reason to take no more.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// Layers from another engine that are unpacked at once while the next ones come.
pub(crate) const MOVED_AT_ONCE: usize = 3;

/// How often another engine may say what it lacks of one image: once, once more for what it had wrong, and that nothing is.
pub(crate) const WANTED_ROUNDS: usize = 3;

/// Steps of builds that are done at once at least, where nothing else is said.
pub(crate) const STEPS_AT_ONCE: usize = 16;

/// How long git may take for one of its steps.
pub(crate) const GIT_TIME: Duration = Duration::from_secs(3600);

/// Most that is kept of what git says, in bytes.
pub(crate) const GIT_OUTPUT: usize = 16 << 10;

/// Largest file that `ADD` fetches, in bytes.
pub(crate) const FETCHED: u64 = 64 << 30;

/// Steps that a cache of others offers.
pub(crate) const CACHE_STEPS: usize = 100_000;

/// Caches that one build may be given.
pub(crate) const CACHES: usize = 64;

/// Records of builds that have ended and are not pinned, and how long they are kept.
pub(crate) const BUILD_RECORDS: usize = 200;
/// See above.
pub(crate) const BUILD_RECORD_AGE: time::Duration = time::Duration::days(30);

/// Records of builds that are pinned.
pub(crate) const BUILD_PINS: usize = 1000;

/// Bytes of options, and of what a client is told, in the record of a build.
pub(crate) const BUILD_RECORD: usize = 32 << 10;

/// Bytes of the reason why a build failed, in its record.
pub(crate) const BUILD_FAILURE: usize = 8 << 10;

/// Events of the history of builds that wait for a listener.
pub(crate) const BUILD_EVENTS: usize = 256;

/// Bytes of an event on disk; a longer one is told and not kept.
pub(crate) const EVENT_LINE: usize = 64 << 10;
/// Most events that wait to be written; more are told but not kept.
pub(crate) const EVENTS_TO_WRITE: usize = 4096;

/// Bytes of a file that says which users the machine has, or which ids they may give others.
pub(crate) const SUBORDINATE_FILE: u64 = 4 << 20;

/// Bytes of the file of events that are read: more than an engine writes.
pub(crate) const EVENT_FILE: u64 = 256 << 20;
