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
        let keys = &mut self.state.lock().api_keys;
        keys.retain(|kept| kept.expires_ms >= key.created_ms);
        if keys.len() >= API_KEYS_MAX || keys.iter().any(|kept| kept.id == key.id) {
            return Ok(false);
        }
        keys.push(key.clone());
        Ok(true)
    }

    fn end_key(&mut self, id: u32, at_ms: u64) -> Result<bool, Error> {
        let keys = &mut self.state.lock().api_keys;
        let kept = keys.iter_mut().find(|kept| kept.id == id);
        Ok(kept.map(|kept| kept.expires_ms = kept.expires_ms.min(at_ms)).is_some())
    }
}
