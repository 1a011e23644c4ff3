use crate::error::Result;
use crate::{events::Bus, index::Index};
use coracle_store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;
pub struct Volumes;
pub struct Volume {
    pub name: String,
    pub mountpoint: std::path::PathBuf,
}
pub struct Creation {
    pub name: Option<String>,
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}
impl Volumes {
    pub(crate) async fn open(_: &std::path::Path, _: Arc<Store>, _: Arc<Index>, _: Arc<Bus>) -> Result<Self> {
        todo!()
    }
    pub async fn create(&self, _: Creation) -> Result<Volume> {
        todo!()
    }
    pub async fn copy_up(&self, _: &str, _: &[coracle_spec::Digest], _: &str) -> Result<()> {
        todo!()
    }
    pub async fn remove(&self, _: &str, _: bool, _: &[String]) -> Result<()> {
        todo!()
    }
}
