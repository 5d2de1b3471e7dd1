//! Keys of backends.

use imgate::limits::API_KEYS_MAX;
use imgate::store::ApiKey;

use super::*;

fn key(id: u32, created_ms: u64, expires_ms: u64) -> ApiKey {
    let byte = u8::try_from(id & 0xff).expect("a byte");
    ApiKey { id, name: format!("key {id} \u{1f511}"), scopes: 5, rate: 500, hash: [byte; 32], created_ms, expires_ms }
}

pub(super) fn a_key_is_kept_until_it_ends(site: &Site) {
    let db = &mut *site.connect();
    let (one, two) = (key(u32::MAX, 10, ApiKey::NEVER), key(7, 5, 1_000));
    assert_eq!(db.api_keys().add_key(&one), Ok(true));
    assert_eq!(db.api_keys().add_key(&two), Ok(true));
    assert_eq!(db.api_keys().add_key(&key(7, 11, 1_000)), Ok(false), "the number is taken");
    assert_eq!(db.api_keys().keys(), Ok(vec![two.clone(), one.clone()]), "by age");
    assert_eq!(db.api_keys().end_key(7, 500), Ok(true));
    assert_eq!(db.api_keys().end_key(7, 900), Ok(true), "never later");
    assert_eq!(db.api_keys().end_key(8, 900), Ok(false));
    assert_eq!(db.api_keys().keys(), Ok(vec![ApiKey { expires_ms: 500, ..two }, one]));
}

pub(super) fn a_key_is_replaced_altogether_or_not_at_all(site: &Site) {
    let db = &mut *site.connect();
    let (old, new) = (key(1, 10, ApiKey::NEVER), key(2, 20, ApiKey::NEVER));
    assert_eq!(db.api_keys().add_key(&old), Ok(true));
    assert_eq!(db.api_keys().replace_key(1, 50, &key(1, 20, ApiKey::NEVER)), Ok(false), "the number is taken");
    assert_eq!(db.api_keys().replace_key(9, 50, &new), Ok(false), "there is none");
    assert_eq!(db.api_keys().keys(), Ok(vec![old.clone()]));
    assert_eq!(db.api_keys().replace_key(1, 50, &new), Ok(true));
    let ending = ApiKey { expires_ms: 50, scopes: old.scopes | ApiKey::REPLACED, ..old };
    assert_eq!(db.api_keys().keys(), Ok(vec![ending, new.clone()]));
    // What two ask for at once, the first one gets; and what has ended has no heir.
    assert_eq!(db.api_keys().replace_key(1, 40, &key(3, 20, ApiKey::NEVER)), Ok(false));
    assert_eq!(db.api_keys().end_key(2, 29), Ok(true));
    assert_eq!(db.api_keys().replace_key(2, 40, &key(3, 30, ApiKey::NEVER)), Ok(false));
}

pub(super) fn there_are_so_many_keys_and_ended_ones_make_room(site: &Site) {
    let db = &mut *site.connect();
    let most = u32::try_from(API_KEYS_MAX).expect("few");
    for id in 0..most {
        assert_eq!(db.api_keys().add_key(&key(id, 10, ApiKey::NEVER)), Ok(true));
    }
    assert_eq!(db.api_keys().add_key(&key(most, 20, ApiKey::NEVER)), Ok(false));
    assert_eq!(db.api_keys().end_key(3, 19), Ok(true));
    assert_eq!(db.api_keys().add_key(&key(most, 20, ApiKey::NEVER)), Ok(true), "in the place of one that has ended");
    assert_eq!(db.api_keys().keys().expect("works").len(), API_KEYS_MAX);
}
