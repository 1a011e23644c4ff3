//! BuildKit's protocol, the wire only: what `docker buildx` and an engine say to each other. Knows no engine.
//!
//! ```text
//! POST /grpc     channel.rs   gRPC over an upgraded connection, served
//! POST /session  session.rs   the same with the roles reversed: the client serves, we ask
//! Session        tunnel.rs    that connection within a call
//!                  filesync/  its directories, as archives       filesend/  results, to files and directories of it
//!                  secrets.rs ssh.rs auth.rs upload.rs           what else it lends
//!                  content/   blobs by digest, of the client's stores, both ways
//! Status         progress.rs  what a build tells, for any number of readers that come at any time
//! Solve          definition.rs  results as definitions that only we can read
//!                failure.rs     failures with the lines of the file that caused them
//! ```
//!
//! The messages are those of the library [`proto`].
#![forbid(unsafe_code)]

mod auth;
mod channel;
pub mod content;
mod definition;
mod error;
mod failure;
mod filesend;
mod filesync;
pub mod limits;
mod progress;
mod secrets;
mod session;
mod ssh;
mod tunnel;
mod upload;

pub use auth::{Login, credentials};
/// The messages and services, as they were generated.
pub use bollard_buildkit_proto as proto;
pub use channel::{Channel, Io, serve};
pub use definition::{definition_of, result_of};
pub use error::{Error, Result, Violation};
pub use failure::{Failure, Position, status_of};
pub use filesend::{Target, send_file, send_tree};
pub use filesync::{Archive, Selection, directory, file_of};
pub use progress::{Event, Progress, Reader, now, timestamp};
pub use secrets::secret;
pub use session::{HEADER_ID, HEADER_METHOD, Offer, Session, Sessions};
pub use ssh::{check_agent, forward_agent};
pub use tunnel::tunnel;
pub use upload::pull;
