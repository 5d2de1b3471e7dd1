//! The templates of the originals' pages: what of Go's `html/template` they use.
//!
//! Owns: `{{define "name"}}…{{end}}` and `{{template "name"}}`, with Go's trimming hyphens and
//! comments. The originals use no variables; any other action stays in the page as it is.
//! Never: goes round in circles: includes are bounded in depth, pages in size.
//! Bounds: [`limits::PAGE_INCLUDES_MAX`], [`limits::PAGE_BYTES_MAX`].

use std::collections::BTreeMap;

use crate::limits;

/// Every template by its name.
#[derive(Default)]
pub(super) struct Templates(BTreeMap<String, Vec<Piece>>);

/// What a template is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Include(String),
}

/// Why a page cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Unmade {
    /// An `{{end}}` is missing, or there is one too many.
    #[error("`{{{{define}}}}` and `{{{{end}}}}` do not fit together")]
    Unbalanced,
    /// No file defines it.
    #[error("there is no template `{0}`")]
    Missing(String),
    /// It includes itself, or is too large.
    #[error("`{0}` includes itself, or becomes too large")]
    TooLarge(String),
}

/// A part of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Text(&'a str),
    /// What stands between the braces, and all of it.
    Action(&'a str, &'a str),
}

impl Templates {
    /// Takes in the templates that a file defines.
    ///
    /// # Errors
    /// [`Unmade::Unbalanced`]; nothing was taken in.
    pub(super) fn add(&mut self, source: &str) -> Result<(), Unmade> {
        let mut found = BTreeMap::new();
        let mut open: Option<(String, Vec<Piece>)> = None;
        for token in tokens(source) {
            let (text, action) = match token {
                Token::Text(text) => (text, ""),
                Token::Action(action, whole) => (whole, action),
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match (word, quoted(rest), &mut open) {
                ("define", Some(name), None) => open = Some((name.to_owned(), Vec::new())),
                ("define", Some(_), Some(_)) | ("end", _, None) => return Err(Unmade::Unbalanced),
                ("end", _, Some(_)) => found.extend(open.take()),
                ("template", Some(name), Some((_, pieces))) => pieces.push(Piece::Include(name.to_owned())),
                (comment, _, _) if comment.starts_with("/*") => {}
                (_, _, Some((_, pieces))) => pieces.push(Piece::Text(text.to_owned())),
                // What stands outside is no part of any page.
                (_, _, None) => {}
            }
        }
        if open.is_some() {
            return Err(Unmade::Unbalanced);
        }
        self.0.extend(found);
        Ok(())
    }

    /// The names of all templates.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The text of a template, with everything that it includes.
    ///
    /// # Errors
    /// [`Unmade::Missing`], [`Unmade::TooLarge`].
    pub(super) fn page(&self, name: &str) -> Result<String, Unmade> {
        let mut out = String::new();
        self.write(name, 0, &mut out)?;
        Ok(out)
    }

    fn write(&self, name: &str, depth: usize, out: &mut String) -> Result<(), Unmade> {
        let pieces = self.0.get(name).ok_or_else(|| Unmade::Missing(name.to_owned()))?;
        if depth > limits::PAGE_INCLUDES_MAX {
            return Err(Unmade::TooLarge(name.to_owned()));
        }
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Include(other) => self.write(other, depth + 1, out)?,
            }
            if out.len() > limits::PAGE_BYTES_MAX {
                return Err(Unmade::TooLarge(name.to_owned()));
            }
        }
        Ok(())
    }
}

/// The name in quotes that an action begins with.
fn quoted(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '`'))?;
    text[1..].split_once(quote).map(|(name, _)| name)
}

/// Cuts a source at its actions, and trims the text beside `{{-` and `-}}` as Go does.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest, mut trim) = (Vec::new(), source, false);
    while let Some((text, (action, behind))) =
        rest.split_once("{{").and_then(|(text, behind)| Some((text, behind.split_once("}}")?)))
    {
        let whole = &rest[text.len()..rest.len() - behind.len()];
        let text = if trim { text.trim_start() } else { text };
        let cut = action.strip_prefix("- ");
        tokens.push(Token::Text(if cut.is_some() { text.trim_end() } else { text }));
        let action = cut.unwrap_or(action);
        let cut = action.strip_suffix(" -");
        trim = cut.is_some();
        tokens.push(Token::Action(cut.unwrap_or(action).trim(), whole));
        rest = behind;
    }
    tokens.push(Token::Text(if trim { rest.trim_start() } else { rest }));
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(sources: &[&str]) -> Templates {
        let mut templates = Templates::default();
        for source in sources {
            templates.add(source).expect("balanced");
        }
        templates
    }

    #[test]
    fn includes_are_resolved_where_they_stand() {
        let templates = templates(&[
            "{{define \"/login.shtml\"}}<html>{{template \"/chat/head.shtml\"}}<p v-text=\"x\">{{ vue }}</p></html>\n<script></script>{{end}} ignored",
            "{{ define \"/chat/head.shtml\" }}<meta>{{/* a note */}}{{template \"/chat/foot.shtml\" .}}{{end}}{{define `/chat/foot.shtml`}}foot{{end}}",
        ]);
        let page = "<html><meta>foot<p v-text=\"x\">{{ vue }}</p></html>\n<script></script>";
        assert_eq!(templates.page("/login.shtml").as_deref(), Ok(page));
        assert_eq!(templates.names().count(), 3);
    }

    #[test]
    fn hyphens_trim() {
        let templates =
            templates(&["{{- define \"a\" -}}  x  {{- template \"b\" -}}  y{{end}}{{define \"b\"}} b {{end}}"]);
        assert_eq!(templates.page("a").as_deref(), Ok("x b y"));
    }

    #[test]
    fn what_cannot_be_resolved_is_said() {
        let templates =
            templates(&["{{define \"a\"}}{{template \"b\"}}{{end}}{{define \"c\"}}xx{{template \"c\"}}{{end}}"]);
        assert_eq!(templates.page("a"), Err(Unmade::Missing("b".to_owned())));
        assert_eq!(templates.page("c"), Err(Unmade::TooLarge("c".to_owned())));
        for wrong in ["{{define \"a\"}}", "{{end}}", "{{define \"a\"}}{{define \"b\"}}{{end}}{{end}}"] {
            assert_eq!(Templates::default().add(wrong), Err(Unmade::Unbalanced), "{wrong}");
        }
        assert_eq!(Templates::default().add("{{define \"a\"}}{{ open {{end}}").err(), Some(Unmade::Unbalanced));
    }

    #[test]
    fn pages_that_double_at_each_step_are_bounded() {
        let mut source = "{{define \"0\"}}0123456789abcdef0123456789abcdef{{end}}".to_owned();
        for step in 1..40 {
            let below = step - 1;
            source += &format!(
                "{{{{define \"{step}\"}}}}{{{{template \"{below}\"}}}}{{{{template \"{below}\"}}}}{{{{end}}}}"
            );
        }
        assert!(matches!(templates(&[&source]).page("16"), Err(Unmade::TooLarge(_))));
        assert!(matches!(templates(&[&source]).page("39"), Err(Unmade::TooLarge(_))));
        assert!(matches!(templates(&[&source]).page("14"), Ok(page) if page.len() == 32 << 14));
    }
}
