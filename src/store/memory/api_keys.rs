//! Keys of backends in memory.

use super::Connection;
use crate::limits::API_KEYS_MAX;
use crate::store::{ApiKey, ApiKeys, Error};

impl ApiKeys for Connection {
    fn keys(&mut self) -> Result<Vec<ApiKey>, Error> {
        let mut keys = self.state.lock().api_keys.clone();
        keys.sort_by_key(|key| (key.created_ms, key.id));
        Ok(keys)
    }

    fn add_key(&mut self, key: &ApiKey) -> Result<bool, Error> {
        Ok(add(&mut self.state.lock().api_keys, key))
    }

    fn replace_key(&mut self, old: u32, ends_ms: u64, key: &ApiKey) -> Result<bool, Error> {
        let keys = &mut self.state.lock().api_keys;
        let stands = |kept: &ApiKey| kept.id == old && !kept.is_replaced() && kept.expires_ms >= key.created_ms;
        let made = keys.iter().any(stands) && add(keys, key);
        for kept in keys.iter_mut().filter(|kept| made && kept.id == old) {
            kept.scopes |= ApiKey::REPLACED;
            kept.expires_ms = kept.expires_ms.min(ends_ms);
        }
        Ok(made)
    }

    fn end_key(&mut self, id: u32, at_ms: u64) -> Result<bool, Error> {
        Ok(end(&mut self.state.lock().api_keys, id, at_ms))
    }
}

fn add(keys: &mut Vec<ApiKey>, key: &ApiKey) -> bool {
    keys.retain(|kept| kept.expires_ms >= key.created_ms);
    if keys.len() >= API_KEYS_MAX || keys.iter().any(|kept| kept.id == key.id) {
        return false;
    }
    keys.push(key.clone());
    true
}

fn end(keys: &mut [ApiKey], id: u32, at_ms: u64) -> bool {
    let kept = keys.iter_mut().find(|kept| kept.id == id);
    kept.map(|kept| kept.expires_ms = kept.expires_ms.min(at_ms)).is_some()
}
