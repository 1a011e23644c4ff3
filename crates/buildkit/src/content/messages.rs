//! The messages of containerd's content service, version 1, as far as they are used (containerd, `api/services/content/v1`).
//! Field numbers are those of the protocol.

use crate::proto::google::protobuf::Timestamp;
use std::collections::HashMap;

/// Asks what is known of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoRequest {
    /// The blob.
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// What is known of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoResponse {
    /// Nothing is no answer.
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

/// A blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Info {
    /// Its name.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Bytes.
    #[prost(int64, tag = "2")]
    pub size: i64,
}

/// Asks for bytes of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadContentRequest {
    /// The blob.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// From there.
    #[prost(int64, tag = "2")]
    pub offset: i64,
    /// So many; all where it is zero.
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// Some of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadContentResponse {
    /// Where they begin.
    #[prost(int64, tag = "1")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// What is done with a blob that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WriteAction {
    /// It is asked how far it is.
    Stat = 0,
    /// Bytes are added.
    Write = 1,
    /// It is whole.
    Commit = 2,
}

/// Writes a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteContentRequest {
    /// What is done.
    #[prost(enumeration = "WriteAction", tag = "1")]
    pub action: i32,
    /// What distinguishes it from others that are being written.
    #[prost(string, tag = "2")]
    pub r#ref: String,
    /// Bytes that it will have.
    #[prost(int64, tag = "3")]
    pub total: i64,
    /// The digest that it will have.
    #[prost(string, tag = "4")]
    pub expected: String,
    /// Where the bytes go.
    #[prost(int64, tag = "5")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub data: Vec<u8>,
    /// Notes that are kept with it.
    #[prost(map = "string, string", tag = "7")]
    pub labels: HashMap<String, String>,
}

/// How far it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteContentResponse {
    /// What was done.
    #[prost(enumeration = "WriteAction", tag = "1")]
    pub action: i32,
    /// When the first byte came.
    #[prost(message, optional, tag = "2")]
    pub started_at: Option<Timestamp>,
    /// When the last did.
    #[prost(message, optional, tag = "3")]
    pub updated_at: Option<Timestamp>,
    /// Bytes that are there.
    #[prost(int64, tag = "4")]
    pub offset: i64,
    /// Bytes that it will have.
    #[prost(int64, tag = "5")]
    pub total: i64,
    /// The digest of what is there.
    #[prost(string, tag = "6")]
    pub digest: String,
}
