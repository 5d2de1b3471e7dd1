//! Which pages of other origins may read what the API answers (CORS, in the Fetch standard).
//!
//! Owns: [`Readers`] (the setting), the judgement of one request.
//! Never: makes a cookie count; that is for the pages of `origins` alone, whose answers say so.
//! Bounds: [`crate::limits::ORIGINS_MAX`] listed origins.

use super::{Headers, Judge, Origins, headers};

/// Pages of other origins that may read answers. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Readers {
    all: bool,
    listed: Origins,
}

/// What a page of another origin may have of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share<'a> {
    /// No page asks, or one that may not read it.
    None,
    /// Every page may read it; it brings its token itself.
    All,
    /// A page of this origin may read it; it brings its token itself.
    Bearer(&'a str),
    /// A page of this origin may read it, and its visitor's cookies count.
    Cookies(&'a str),
}

impl Readers {
    /// Reads origins as [`Origins::parse`], or `*` alone for every page.
    ///
    /// # Errors
    /// The first text that is neither, or the last one if there are too many.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let texts: Vec<&str> = texts.into_iter().collect();
        if texts == ["*"] {
            return Ok(Self { all: true, listed: Origins::default() });
        }
        Ok(Self { all: false, listed: Origins::parse(texts)? })
    }
}

impl Judge {
    /// With pages of other origins that may read the answers of the API, besides those whose
    /// cookies count.
    #[must_use]
    pub fn with_readers(self, readers: Readers) -> Self {
        Self { readers, ..self }
    }

    /// Whether any answer depends on the page that asks: a cache must be told.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.readers != Readers::default() || !self.origins.is_empty()
    }

    /// What the page that asks may have of the answer.
    #[must_use]
    pub fn share<'a>(&self, head: &'a impl Headers) -> Share<'a> {
        let Some(origin) = headers::only(head, "origin") else { return Share::None };
        if self.origins.has(origin) {
            Share::Cookies(origin)
        } else if self.readers.listed.has(origin) {
            Share::Bearer(origin)
        } else if self.readers.all {
            Share::All
        } else {
            Share::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Key;
    use crate::fair::Networks;

    struct Lines<'a>(Vec<&'a str>);

    impl Headers for Lines<'_> {
        fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
            self.0.iter().filter(move |_| name == "origin").map(|line| line.as_bytes())
        }
    }

    fn judge(readers: &[&str]) -> Judge {
        let origins = Origins::parse(["https://app.example"]).expect("an origin");
        let readers = Readers::parse(readers.iter().copied()).expect("readers");
        Judge::new(Key::new([1; 32]), Networks::loopback(), origins).with_readers(readers)
    }

    #[test]
    fn what_a_page_may_have_is_what_its_origin_is_listed_for() {
        let listed = judge(&["https://Page.example", "http://localhost:3000"]);
        let share = |judge: &Judge, lines: &[&'static str]| match judge.share(&Lines(lines.to_vec())) {
            Share::None => "none",
            Share::All => "all",
            Share::Bearer(_) => "bearer",
            Share::Cookies(_) => "cookies",
        };
        for (origin, wanted) in [
            ("https://page.example", "bearer"),
            ("http://localhost:3000", "bearer"),
            ("https://app.example", "cookies"),
            ("http://page.example", "none"),
            ("https://page.example.evil.example", "none"),
            ("null", "none"),
            ("", "none"),
        ] {
            assert_eq!(share(&listed, &[origin]), wanted, "{origin}");
        }
        assert_eq!(share(&listed, &[]), "none", "no page asks");
        assert_eq!(share(&listed, &["https://page.example", "https://page.example"]), "none", "one page asks");
        let all = judge(&["*"]);
        assert_eq!(share(&all, &["null"]), "all");
        assert_eq!(share(&all, &["https://app.example"]), "cookies");
        assert!(all.shares() && listed.shares());
    }

    #[test]
    fn a_star_stands_alone() {
        assert!(Readers::parse(["*"]).is_ok());
        assert_eq!(Readers::parse(["*", "https://a.example"]), Err("*".to_owned()));
        assert_eq!(Readers::parse(["null"]), Err("null".to_owned()));
        assert_eq!(Readers::parse([]), Ok(Readers::default()));
    }
}
