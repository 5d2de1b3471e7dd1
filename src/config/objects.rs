//! An object store for files, as the configuration says it.
//!
//! Owns: the settings `files` and `s3_…`, typed.
//! Never: shows a key.

use super::reading::parse;
use super::{Error, Layers, text};
use crate::object_store::{BadTarget, ObjectTarget};

/// Characters of a key, and of its secret.
const KEY_CHARS_MAX: usize = 256;
/// Characters of a region's name.
const REGION_CHARS_MAX: usize = 64;

pub(super) fn read(layers: &Layers) -> Result<Option<ObjectTarget>, Error> {
    let endpoint = parse(layers, "s3_endpoint", None, |text| Some((!text.is_empty()).then(|| text.to_owned())))?;
    let region = text(layers, "s3_region", "us-east-1")?;
    let path_style = parse(layers, "s3_path_style", true, |text| text.parse().ok())?;
    let (access, secret) = (key(layers, "s3_access_key")?, key(layers, "s3_secret_key")?);
    let Some(files) = layers.find("files").filter(|found| found.values.iter().any(|url| !url.is_empty())) else {
        return Ok(None);
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if let Some(found) = layers.find("s3_region")
        && !((1..=REGION_CHARS_MAX).contains(&region.len()) && region.chars().all(is_name))
    {
        return Err(found.wrong(&region));
    }
    let (Some(access), Some(secret)) = (access, secret) else {
        return Err(files.wrong_unshown("it wants an s3_access_key and an s3_secret_key"));
    };
    let target = ObjectTarget::new(files.one()?, endpoint.as_deref(), &region, path_style, (&access, &secret));
    target.map(Some).map_err(|bad| {
        let blamed = match bad {
            BadTarget::Endpoint => layers.find("s3_endpoint"),
            BadTarget::Url | BadTarget::Prefix | BadTarget::Style => None,
        };
        blamed.unwrap_or(files).wrong_unshown(&bad.to_string())
    })
}

/// A key or a secret, if it is set.
fn key(layers: &Layers, key: &'static str) -> Result<Option<String>, Error> {
    let Some(found) = layers.find(key) else { return Ok(None) };
    let given = found.one()?;
    if given.is_empty() {
        return Ok(None);
    }
    let fits = given.len() <= KEY_CHARS_MAX && given.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Some(given.to_owned())) } else { Err(found.wrong_unshown("1 to 256 characters of ASCII are wanted")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read_text(text: &str) -> Result<Option<ObjectTarget>, Error> {
        let mut layers = Layers::default();
        layers.file_text(Path::new("x.toml"), text)?;
        read(&layers)
    }

    const KEYS: &str = "s3_access_key = \"imgate\"\ns3_secret_key = \"open-sesame\"\n";

    #[test]
    fn nothing_set_is_a_folder_and_what_is_set_is_a_bucket() {
        assert_eq!(read_text("").expect("defaults"), None);
        assert_eq!(read_text(KEYS).expect("keys alone"), None);
        assert_eq!(read_text("files = \"\"").expect("as good as none"), None);
        let target = read_text(&format!("{KEYS}files = \"s3://chat/x\"\ns3_endpoint = \"http://127.0.0.1:9000\""));
        assert_eq!(target.expect("a target").expect("a bucket").shown(), "s3://chat/x at http://127.0.0.1:9000");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_with_it() {
        for (text, names) in [
            ("files = \"s3://chat\"", "s3_access_key"),
            ("files = \"s3://chat\"\ns3_access_key = \"imgate\"", "s3_secret_key"),
            (&format!("{KEYS}files = \"/data\""), "s3://BUCKET"),
            (&format!("{KEYS}files = \"s3://chat/../x\""), "prefix"),
            (&format!("{KEYS}files = \"s3://chat\"\ns3_endpoint = \"127.0.0.1:9000\""), "`s3_endpoint`"),
            (&format!("{KEYS}files = \"s3://chat\"\ns3_region = \"a b\""), "`a b` is not allowed"),
            (
                &format!("{KEYS}files = \"s3://chat\"\ns3_endpoint = \"http://[::1]:1\"\ns3_path_style = false"),
                "s3_path_style",
            ),
            ("s3_secret_key = \"open sesame\"", "ASCII"),
        ] {
            let error = read_text(text).expect_err(text).to_string();
            assert!(error.contains(names) && !error.contains("sesame"), "{text}: {error}");
        }
    }
}
