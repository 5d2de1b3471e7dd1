//! Webhooks, as the configuration says them.
//!
//! Owns: the settings `webhook_…`, typed.

use super::{Error, Layers};
use crate::fair::Networks;
use crate::hooks::{Endpoint, HookKinds, Secrets};
use crate::limits;

/// What is told to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhooks {
    /// URLs that are told; none: nothing is told.
    pub endpoints: Vec<Endpoint>,
    /// What signs.
    pub secrets: Secrets,
    /// What is told.
    pub kinds: HookKinds,
    /// Private networks that may be told something.
    pub networks: Networks,
}

pub(super) fn read(layers: &Layers) -> Result<Webhooks, Error> {
    let mut endpoints = Vec::new();
    if let Some(found) = layers.find("webhook_url") {
        for url in found.values {
            let endpoint = Endpoint::parse(url)
                .ok_or_else(|| found.wrong_unshown("a URL is http or https, without a password"))?;
            // What waits for an endpoint is in a file that is named for its URL.
            if endpoints.contains(&endpoint) {
                return Err(found.wrong_unshown("the same URL stands there twice"));
            }
            endpoints.push(endpoint);
        }
        if endpoints.len() > limits::HOOKS_MAX {
            return Err(found.wrong_unshown(&format!("at most {} URLs", limits::HOOKS_MAX)));
        }
    }
    let secrets = match layers.find("webhook_secret") {
        Some(found) => Secrets::parse(found.one()?).map_err(|bad| found.wrong_unshown(&bad.to_string()))?,
        None => Secrets::default(),
    };
    if let Some(found) = layers.find("webhook_url").filter(|_| !endpoints.is_empty() && secrets.is_empty()) {
        return Err(found.wrong_unshown("it wants a webhook_secret"));
    }
    let kinds = match layers.find("webhook_events") {
        Some(found) => {
            let names = found.values.iter().map(String::as_str);
            HookKinds::parse(names).ok_or_else(|| found.wrong(&found.values.join(", ")))?
        }
        None => HookKinds::default(),
    };
    let networks = match layers.find("webhook_networks") {
        Some(found) => Networks::parse(found.values.iter().map(String::as_str)).map_err(|given| found.wrong(&given))?,
        None => Networks::default(),
    };
    Ok(Webhooks { endpoints, secrets, kinds, networks })
}
