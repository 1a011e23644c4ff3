use crate::error::Result;
use crate::{events::Bus, index::Index};
use coracle_store::Store;
use std::sync::Arc;
pub struct Images;
pub struct Image {
    pub id: coracle_spec::Digest,
    pub config: Arc<coracle_spec::image::ImageConfig>,
    pub layers: Vec<coracle_spec::Digest>,
}
impl Images {
    pub(crate) async fn new(_: Arc<Store>, _: Arc<Index>, _: Arc<Bus>) -> Result<Self> {
        todo!()
    }
    pub async fn resolve(&self, _: &str) -> Result<Image> {
        todo!()
    }
}
