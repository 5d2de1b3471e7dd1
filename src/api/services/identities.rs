//! What people type for the same thing: mobile numbers, passwords and names in one form each.
//!
//! Owns: the normal form of a login name, of a password and of a shown name, and the other
//! spellings under which an old account may be stored.
//! Never: asks the store, and never loosens a comparison: two texts are one only when a person
//! would say so.
//! Bounds: [`limits::SPELLINGS_MAX`] spellings of a login name, two of a password; every text is
//! cut off by its caller's bound before or after.

use smallvec::SmallVec;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::limits;

/// The normal form of a login name. Full-width and other digits become ASCII digits (NFKC),
/// invisible characters go, and what is a telephone number loses its blanks, dashes, dots and
/// brackets, and the prefix of China before one of its mobile numbers. Other names only lose the
/// blanks around them.
pub(super) fn mobile(text: &str) -> String {
    let plain: String = text.chars().filter(|&c| !is_invisible(c)).nfkc().map(ascii_digit).collect();
    let plain = plain.trim();
    let digits: String = plain.chars().filter(|&c| !is_separator(c)).collect();
    let bare = digits.strip_prefix('+').unwrap_or(&digits);
    let is_number = bare.len() >= SEPARATED_DIGITS_MIN && bare.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return plain.to_owned();
    }
    let national = digits.strip_prefix("+86").or_else(|| digits.strip_prefix("0086"));
    match national.filter(|number| is_chinese_mobile(number)) {
        Some(number) => number.to_owned(),
        None => digits,
    }
}

/// Whether a login name is one of those that only users of another system have.
pub(super) fn is_reserved(mobile: &str) -> bool {
    mobile.starts_with(super::subjects::RESERVED)
}

/// The spellings under which the account of a login name may be stored, the normal one first, then
/// as it was typed: for accounts from before there was a normal form, and for those that were taken
/// over from elsewhere.
pub(super) fn spellings(typed: &str) -> SmallVec<[String; limits::SPELLINGS_MAX]> {
    let normal = mobile(typed);
    let mut all = SmallVec::new();
    let mut add = |spelling: String| {
        let fits = spelling.chars().nth(limits::MOBILE_CHARS_MAX).is_none();
        if all.len() < limits::SPELLINGS_MAX && fits && !spelling.is_empty() && !all.contains(&spelling) {
            all.push(spelling);
        }
    };
    add(normal.clone());
    add(typed.trim().to_owned());
    if is_chinese_mobile(&normal) {
        let (area, middle, end) = (&normal[..3], &normal[3..7], &normal[7..]);
        add(format!("+86{normal}"));
        add(format!("0086{normal}"));
        add(format!("+86 {normal}"));
        add(format!("{area} {middle} {end}"));
        add(format!("{area}-{middle}-{end}"));
    }
    all
}

/// The normal form of a password: every blank is the ASCII one, and NFC (RFC 8265, section 4.2,
/// OpaqueString). Nothing else is changed; what a person can see is part of it.
pub(super) fn password(text: &str) -> String {
    text.chars().map(|c| if is_blank(c) { ' ' } else { c }).nfc().collect()
}

/// The other form that an old hash may have been made of: as it was typed, or else decomposed, as
/// another system types it.
pub(super) fn old_password(typed: &str, normal: &str) -> Option<String> {
    if typed != normal {
        return Some(typed.to_owned());
    }
    if typed.is_ascii() {
        return None;
    }
    let decomposed: String = typed.nfd().collect();
    (decomposed != normal).then_some(decomposed)
}

/// What an old page sends of a password: `encodeURI` leaves `&` and `+` as they are, so that the
/// form ends at the first `&`, a `+` becomes a blank, and so an account that was made on such a
/// page has another password than was typed. `None`: it sends the whole.
pub(super) fn cut_password(typed: &str) -> Option<String> {
    let sent = typed.split('&').next().unwrap_or_default().replace('+', " ");
    (sent != typed && !sent.is_empty()).then(|| password(&sent))
}

/// The normal form of a shown name: NFC, without what can turn the text around it, without control
/// characters and without blanks at its ends. An empty text stays empty. `None`: there is
/// something, and nothing of it can be seen.
pub(super) fn name(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let name: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        // A joiner belongs to the writing of Persian and to some pictures; the others have no
        // business in a name.
        .filter(|&c| !is_invisible(c) || matches!(c, '\u{200c}' | '\u{200d}') || is_combining_mark(c) || is_tag(c))
        .nfc()
        .collect();
    let name = name.trim();
    let visible = |c: char| !c.is_whitespace() && !is_invisible(c) && !is_combining_mark(c) && !is_filler(c);
    name.chars().any(visible).then(|| name.to_owned())
}

/// Digits of a telephone number with separators, at least. Shorter ones may be anything.
const SEPARATED_DIGITS_MIN: usize = 7;

fn is_chinese_mobile(number: &str) -> bool {
    number.len() == 11 && number.starts_with('1') && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// What people and address books put between the digits of a number.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '-' | '.' | '(' | ')' | '/' | '\u{b7}' | '\u{30fb}' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

fn is_blank(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Digits of scripts that NFKC leaves as they are, by the place of their zero: Arabic, Persian,
/// Devanagari, Bengali, Thai.
fn ascii_digit(c: char) -> char {
    let digit = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50].into_iter().find_map(|zero| {
        let offset = u32::from(c).checked_sub(zero)?;
        (offset < 10).then(|| char::from_digit(offset, 10)).flatten()
    });
    digit.unwrap_or(c)
}

/// Characters without a shape of their own: control characters but for blanks, and those that
/// Unicode calls format characters or ignorable by default.
fn is_invisible(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The letters of a flag's region, which follow a picture, and its variation.
fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0020}'..='\u{e007f}')
}

/// Letters by their class, and empty by their looks.
fn is_filler(c: char) -> bool {
    matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}')
}

/// Why a text is no login name for a new account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadMobile {
    /// Digits, but fewer or more than a telephone number has ([`limits::NUMBER_DIGITS_MIN`] to
    /// [`limits::NUMBER_DIGITS_MAX`]).
    Number,
    /// Something else than letters and digits with `.`, `_`, `-` or `@` between them; or one
    /// character.
    Name,
}

/// Why a password does not protect an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weak {
    /// Fewer than [`limits::PASSWORD_CHARS_MIN`] characters.
    Short,
    /// It is the login name.
    LoginName,
    /// It is among the first that anybody tries.
    Common,
}

/// Whether `mobile`, in its normal form, may be the login name of a new account.
pub(super) fn check_mobile(mobile: &str) -> Result<(), BadMobile> {
    let digits = mobile.strip_prefix('+').unwrap_or(mobile);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let fits = (limits::NUMBER_DIGITS_MIN..=limits::NUMBER_DIGITS_MAX).contains(&digits.len());
        return if fits { Ok(()) } else { Err(BadMobile::Number) };
    }
    let ends = [mobile.chars().next(), mobile.chars().next_back()];
    let is_name = mobile.chars().nth(1).is_some()
        && ends.iter().flatten().all(|c| c.is_alphanumeric() || is_combining_mark(*c))
        && mobile.chars().all(|c| c.is_alphanumeric() || is_combining_mark(c) || "._-@".contains(c));
    if is_name { Ok(()) } else { Err(BadMobile::Name) }
}

/// Whether `password`, in its normal form, may be a new one of the account `mobile`.
pub(super) fn check_password(password: &str, mobile: &str) -> Result<(), Weak> {
    if password.chars().nth(limits::PASSWORD_CHARS_MIN - 1).is_none() {
        return Err(Weak::Short);
    }
    let plain = password.trim().to_lowercase();
    if plain == mobile.to_lowercase() {
        return Err(Weak::LoginName);
    }
    let repeats = plain.chars().all(|c| plain.starts_with(c)) && plain.len() <= REPEATED_MAX;
    let counts = RUNS.iter().any(|run| run.contains(&plain));
    if repeats || counts || COMMON.contains(&plain.as_str()) { Err(Weak::Common) } else { Ok(()) }
}

/// Beyond so many bytes even one character again and again is more than a guess.
const REPEATED_MAX: usize = 32;
/// What runs along a keyboard; a part of it is no better.
const RUNS: [&str; 5] = [
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn",
];
/// Those of eight characters and more that stand at the top of every published list.
const COMMON: [&str; 24] = [
    "password",
    "password1",
    "password12",
    "password123",
    "passw0rd",
    "p@ssw0rd",
    "iloveyou",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "superman",
    "trustno1",
    "whatever",
    "computer",
    "starwars",
    "abcd1234",
    "abc12345",
    "a1234567",
    "a12345678",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "woaini1314",
    "q1w2e3r4",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_one_however_it_is_typed_or_pasted() {
        let typed = [
            "13800000001",
            " 13800000001 ",
            "\u{a0}13800000001",
            "\u{3000}１３８００００００01",
            "138 0000 0001",
            "138-0000-0001",
            "138\u{2011}0000\u{2013}0001",
            "138.0000.0001",
            "(138) 0000 0001",
            "（138）0000-0001",
            "+8613800000001",
            "+86 138 0000 0001",
            "＋86－138－0000－0001",
            "(+86) 138 0000 0001",
            "008613800000001",
            "0086 138 0000 0001",
            "\u{202d}13800000001\u{202c}",
            "13800000001\u{200b}",
            "\u{feff}138\u{200e}0000\u{2060}0001",
            "١٣٨٠٠٠٠٠٠٠١",
            "۱۳۸۰۰۰۰۰۰۰۱",
        ];
        for text in typed {
            assert_eq!(mobile(text), "13800000001", "{text:?}");
        }
    }

    #[test]
    fn other_names_stay_what_they_are() {
        for (typed, normal) in [
            ("Anna", "Anna"),
            (" anna-maria ", "anna-maria"),
            ("a.b (c)", "a.b (c)"),
            ("+49 170 1234567", "+491701234567"),
            ("+86 10 1234 5678", "+861012345678"),
            ("00861", "00861"),
            ("1-2", "1-2"),
            ("9000000000000007", "9000000000000007"),
            ("86138", "86138"),
            ("\u{200b}", ""),
        ] {
            assert_eq!(mobile(typed), normal, "{typed:?}");
        }
    }

    #[test]
    fn old_accounts_are_looked_for_under_a_few_spellings() {
        assert_eq!(spellings("anna").as_slice(), ["anna"]);
        let all = spellings("138_0000_0001");
        assert_eq!(all.as_slice(), ["138_0000_0001"], "nothing that people write");
        let all = spellings(" 138 0000-0001");
        assert_eq!(all[..2], ["13800000001", "138 0000-0001"]);
        assert!(all.iter().any(|spelling| spelling == "+8613800000001"));
        assert!(spellings("+8613800000001").iter().any(|spelling| spelling == "138-0000-0001"));
        assert!(spellings("").is_empty() && spellings("\u{200b}").as_slice() == ["\u{200b}"]);
    }

    #[test]
    fn a_password_is_one_on_every_system() {
        let (composed, decomposed) = ("Zo\u{eb}-1", "Zoe\u{308}-1");
        assert_eq!(password(decomposed), composed);
        assert_eq!(password("a\u{3000}b\u{a0} "), "a b  ");
        assert_eq!(password("Ｐａｓｓ"), "Ｐａｓｓ", "what can be seen is kept");
        assert_eq!(old_password("secret", "secret"), None, "one hash for nearly everybody");
        assert_eq!(old_password(decomposed, composed).as_deref(), Some(decomposed));
        assert_eq!(old_password(composed, composed).as_deref(), Some(decomposed));
        assert_eq!(old_password("密码密码", "密码密码"), None);
    }

    #[test]
    fn an_old_page_cuts_some_passwords() {
        assert_eq!(cut_password("pw&x+1").as_deref(), Some("pw"));
        assert_eq!(cut_password("a+b=c#d").as_deref(), Some("a b=c#d"));
        for whole in ["correct horse", "100%", "a=b;c?", ""] {
            assert_eq!(cut_password(whole), None, "{whole}");
        }
        assert_eq!(cut_password("&all"), None, "nothing is no password");
    }

    #[test]
    fn a_name_has_something_to_see() {
        for text in [
            "   ",
            "\u{3000}\t",
            "\u{200b}\u{feff}",
            "\u{301}\u{302}",
            " \u{301}",
            "\u{3164}",
            "\u{2800}\u{2800}",
            "\u{202e}\u{202c}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{ad}\u{34f}",
            "\0\u{7}",
            "\u{e0041}",
        ] {
            assert_eq!(name(text), None, "{text:?}");
        }
        for (given, kept) in [
            ("", ""),
            (" Ann \n", "Ann"),
            ("A\u{202e}nn", "Ann"),
            ("Zoe\u{308}", "Zo\u{eb}"),
            ("a\u{7}b\tc", "ab c"),
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
            ("❤\u{fe0f}", "❤\u{fe0f}"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("\u{5d0}\u{5b0}", "\u{5d0}\u{5b0}"),
        ] {
            assert_eq!(name(given).as_deref(), Some(kept), "{given:?}");
        }
    }

    #[test]
    fn a_new_login_name_is_a_number_or_a_name() {
        for good in ["13800000001", "+491701234567", "10086", "Anna", "anna-maria", "a.b@c", "张三", "u2", "ärzte"] {
            assert_eq!(check_mobile(good), Ok(()), "{good}");
        }
        for bad in ["1", "1381", "+12", "1234567890123456"] {
            assert_eq!(check_mobile(bad), Err(BadMobile::Number), "{bad}");
        }
        for bad in ["a", "+", "a b", "<b>", "-ann", "ann.", "a/b", "👩\u{200d}🚀", "a\u{7}b"] {
            assert_eq!(check_mobile(bad), Err(BadMobile::Name), "{bad}");
        }
    }

    #[test]
    fn a_new_password_is_not_the_first_that_anybody_tries() {
        for good in ["correct horse", "pw-123456", "secret-pw-1", "a password", "密码密码密码密码"] {
            assert_eq!(check_password(good, "13800000001"), Ok(()), "{good}");
        }
        assert_eq!(check_password(&"a".repeat(256), "x"), Ok(()), "long is long");
        assert_eq!(check_password("short-1", "x"), Err(Weak::Short));
        assert_eq!(check_password("13800000001", "13800000001"), Err(Weak::LoginName));
        assert_eq!(check_password("anna-maria", "Anna-Maria"), Err(Weak::LoginName));
        for bad in [
            "password",
            "PASSWORD",
            "12345678",
            "87654321",
            "88888888",
            "qwertyuiop",
            "        8".trim_end_matches('8'),
        ] {
            assert_eq!(check_password(bad, "x"), Err(Weak::Common), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn normal_forms_are_their_own_normal_form(text in any::<String>()) {
            let normal = mobile(&text);
            prop_assert_eq!(mobile(&normal), normal);
            let normal = password(&text);
            prop_assert_eq!(password(&normal), normal);
            if let Some(normal) = name(&text) {
                prop_assert_eq!(name(&normal), Some(normal));
            }
            prop_assert!(spellings(&text).len() <= limits::SPELLINGS_MAX);
        }

        #[test]
        fn digits_and_separators_in_any_mixture_are_the_number(gaps in prop::collection::vec("[ \\-.()\u{a0}\u{200b}]{0,2}", 11)) {
            let typed: String = "13800000001".chars().zip(gaps).flat_map(|(digit, gap)| gap.chars().chain([digit]).collect::<Vec<_>>()).collect();
            prop_assert_eq!(mobile(&typed), "13800000001");
        }
    }
}
