//! A file that comes as a part of a form.
//!
//! Owns: what lies around the file in the body.
//! Never: holds more than a chunk, and a part's head ([`Multipart`]).
//! Bounds: [`limits::HTTP_BODY_BYTES_MAX`] before the file begins.

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;

use super::multipart::{Found, Multipart};
use crate::api::uploads::intake::{Cut, Incoming, Intake};
use crate::limits;

/// See the module.
pub(super) struct FormFile {
    body: Intake,
    form: Multipart,
    /// The file has ended.
    ended: bool,
}

impl FormFile {
    /// In a body of that form; see [`Self::find`].
    pub(super) fn new(headers: &HeaderMap, body: Body, form: Multipart) -> Self {
        Self { body: Intake::new(headers, body), form, ended: false }
    }

    /// Goes to the first part that is called `wanted`. Answers whether there is one.
    ///
    /// # Errors
    /// [`Cut`], also when what stands before it is too long or no form.
    pub(super) async fn find(&mut self, wanted: &str) -> Result<bool, Cut> {
        let mut passed = 0;
        loop {
            match self.form.next().map_err(|_| Cut)? {
                Found::Part(name) if name == wanted => return Ok(true),
                Found::End => return Ok(false),
                Found::Content(bytes) => passed += bytes.len(),
                Found::Hungry => self.feed().await?,
                Found::Part(_) | Found::PartEnd => {}
            }
            if passed > limits::HTTP_BODY_BYTES_MAX {
                return Err(Cut);
            }
        }
    }

    /// The rest of the body.
    pub(super) fn into_body(self) -> Intake {
        self.body
    }

    async fn feed(&mut self) -> Result<(), Cut> {
        let bytes = self.body.more().await?.ok_or(Cut)?;
        self.form.feed(&bytes);
        Ok(())
    }
}

impl Incoming for FormFile {
    /// A form is more than its file.
    fn declared(&self) -> Option<u64> {
        self.body.declared().map(|length| length.saturating_sub(limits::HTTP_BODY_BYTES_MAX as u64))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Cut> {
        while !self.ended {
            match self.form.next().map_err(|_| Cut)? {
                Found::Content(bytes) => return Ok(Some(bytes)),
                Found::PartEnd | Found::End => self.ended = true,
                // A form without a file in between is none.
                Found::Part(_) => return Err(Cut),
                Found::Hungry => self.feed().await?,
            }
        }
        Ok(None)
    }
}
