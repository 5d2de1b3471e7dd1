//! Users of another system, as the configuration says them.
//!
//! Owns: the settings `jwt_…`, typed.

use std::path::PathBuf;

use super::layers::Layers;
use super::reading::parse;
use super::{Error, parse_duration_ms, text};

/// What is asked of tokens that another system signs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignUsers {
    /// Files with keys; none: no such token is taken.
    pub keys: Vec<PathBuf>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// How far the clocks may be apart, in milliseconds.
    pub leeway_ms: u64,
    /// The claim with the user's name for the other system.
    pub user_claim: String,
    /// That with the shown name.
    pub name_claim: String,
    /// That with the picture's URL.
    pub avatar_claim: String,
}

/// Beyond it a token would not end when it says.
const LEEWAY_MS_MAX: u64 = 300_000;

pub(super) fn read(layers: &Layers) -> Result<ForeignUsers, Error> {
    let list = |key| layers.find(key).map(|found| found.values.to_vec()).unwrap_or_default();
    Ok(ForeignUsers {
        keys: list("jwt_keys").into_iter().map(PathBuf::from).collect(),
        issuer: parse(layers, "jwt_issuer", None, |text| Some((!text.is_empty()).then(|| text.to_owned())))?,
        audiences: list("jwt_audience"),
        leeway_ms: parse(layers, "jwt_leeway", 30_000, |text| {
            parse_duration_ms(text).filter(|ms| *ms <= LEEWAY_MS_MAX)
        })?,
        user_claim: text(layers, "jwt_user_claim", "sub")?,
        name_claim: text(layers, "jwt_name_claim", "name")?,
        avatar_claim: text(layers, "jwt_avatar_claim", "picture")?,
    })
}
