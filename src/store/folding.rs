//! How names are compared: without case and without trailing blanks.
//!
//! Owns: the one folding, done in Rust, so that every backend agrees whatever its collations are.
//! Never: changes what is shown; the folded text is a key beside the text as it was given.

use crate::ids::UserId;

/// The key of a mobile number or a group's name.
pub(super) fn fold(name: &str) -> String {
    name.trim_end().to_lowercase()
}

/// The mobile number of seeded user number `n`: sixteen digits, one more than any telephone number
/// has (ITU-T E.164 allows 15), all of one length, so that their order as texts is their order as
/// numbers.
pub(super) fn seeded_mobile(n: u64) -> String {
    format!("9{n:0SEEDED_DIGITS$}")
}

/// The login name of a user who was deleted: the number behind a character that nothing shows and
/// no registration keeps, so that no other user has it.
pub(super) fn erased_mobile(user: UserId) -> String {
    format!("{ERASED_MARK}{user}")
}

/// Whether a login name is that of a user who was deleted.
pub(super) fn is_erased(mobile: &str) -> bool {
    mobile.starts_with(ERASED_MARK)
}

/// As a pattern of SQL's LIKE: the login names of users who were deleted.
pub(super) const ERASED_LIKE: &str = "\u{200b}%";
/// A zero-width space.
const ERASED_MARK: char = '\u{200b}';
/// No hash is this.
pub(super) const ERASED_PASSWORD: &str = "!";
/// What the others see in their histories.
pub(super) const ERASED_NICKNAME: &str = "deleted";

/// The number inside a seeded mobile number, or `None` for any other number.
pub(super) fn seeded_number(mobile: &str) -> Option<u64> {
    let digits = mobile.strip_prefix('9')?;
    let all = digits.len() == SEEDED_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

/// Digits after the leading 9.
const SEEDED_DIGITS: usize = 15;
/// The largest number that fits.
pub(super) const SEEDED_MAX: u64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_trailing_blanks_do_not_count() {
        assert_eq!(fold("G3"), fold("g3  "));
        assert_eq!(fold("ÄRZTE"), fold("ärzte"));
        assert_ne!(fold(" g3"), fold("g3"));
        assert_ne!(fold("g 3"), fold("g3"));
    }

    #[test]
    fn seeded_numbers_come_back() {
        assert_eq!(seeded_mobile(7), "9000000000000007");
        assert_eq!(seeded_number(&seeded_mobile(7)), Some(7));
        assert_eq!(seeded_number(&seeded_mobile(SEEDED_MAX)), Some(SEEDED_MAX));
        assert_eq!(seeded_number("13800138000"), None);
        assert_eq!(seeded_number("900000000000000x"), None);
        assert_eq!(seeded_number("9+00000000000007"), None);
    }
}
