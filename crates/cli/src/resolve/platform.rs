//! Platforms, as the API wants them.

use coracle_spec::Platform;

/// The document that stands for a platform.
pub(crate) fn document(platform: &Platform) -> String {
    serde_json::to_string(platform).expect("plain data has a document")
}

/// The documents of several.
pub(crate) fn documents(platforms: &[Platform]) -> Vec<String> {
    platforms.iter().map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_sent_as_a_document_of_oci() {
        let document = document(&"linux/arm/v5".parse().unwrap());
        assert_eq!(document, r#"{"architecture":"arm","os":"linux","variant":"v5"}"#);
    }
}
