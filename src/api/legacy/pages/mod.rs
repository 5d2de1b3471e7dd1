//! The pages of an original, from a checkout of it (`--legacy-pages DIR`): fastIM's and IMChat's
//! run unmodified.
//!
//! Owns: the pages, made once at the start ([`templates`]), and the way to files below `asset`,
//! `resource`, `mnt`.
//! Never: lists a directory, leaves its own, or shows what the checkout holds besides (sources,
//! passwords in them).
//! Bounds: [`limits::PAGES_MAX`] template files, each and each page of at most
//! [`limits::PAGE_BYTES_MAX`].

mod templates;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use rustix::io::Errno;

use crate::api::app::{Answering, App, SitePages};
use crate::api::blocking::BlockingJobs;
use crate::api::delivery::{self, Content, FileSource, Object};
use crate::api::files::guard;
use crate::api::uploads::kind::{HEAD_BYTES, Kind};
use crate::api::{caller, services::accounts};
use crate::clock::{self, Clock};
use crate::limits;
use crate::log::outage::Outage;
use templates::Templates;

/// The pages and files of an original.
pub(in crate::api) struct Pages {
    /// Without symbolic links.
    root: PathBuf,
    /// By path.
    pages: BTreeMap<String, Bytes>,
    /// Where `/` leads.
    entry: Option<&'static str>,
    jobs: BlockingJobs,
    clock: Clock,
    /// Files cannot be read.
    outage: Outage,
}

/// Where the originals have their templates.
const VIEWS: [&str; 2] = ["app/view", "view"];
/// The login pages of fastIM and IMChat.
const ENTRIES: [&str; 2] = ["/login.shtml", IMCHAT_ENTRY];
const IMCHAT_ENTRY: &str = "/user/login.shtml";
/// Directories that the originals serve, and whether users have uploaded what is in them.
const FOLDERS: [(&str, bool); 3] = [("asset", false), ("resource", true), ("mnt", true)];

impl Pages {
    /// The checkout at `root`.
    ///
    /// # Errors
    /// It cannot be read, or its pages cannot be made.
    pub(in crate::api) fn open(root: &Path, jobs: BlockingJobs) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("legacy_pages, {}: {error}", root.display()));
        let root = root.canonicalize().map_err(named)?;
        let mut templates = Templates::default();
        let mut left = limits::PAGES_MAX;
        for view in VIEWS.iter().map(|view| root.join(view)).filter(|view| view.is_dir()) {
            gather(&view, &mut templates, &mut left, 0)?;
        }
        let mut pages = BTreeMap::new();
        for name in templates.names().filter(|name| name.starts_with('/')) {
            match templates.page(name) {
                Ok(page) => drop(pages.insert(name.to_owned(), Bytes::from(page))),
                // A page less; the originals have some that nobody opens.
                Err(error) => tracing::warn!(%error, page = name, "a page of --legacy-pages cannot be made"),
            }
        }
        let entry = ENTRIES.into_iter().find(|entry| pages.contains_key(*entry));
        tracing::info!(pages = pages.len(), root = %root.display(), "legacy pages");
        Ok(Self { root, pages, entry, jobs, clock: Clock::start(), outage: Outage::default() })
    }

    /// As [`SitePages::front`]: to the login page, if there is one.
    fn entrance(&self) -> Option<Response> {
        let entry = HeaderValue::from_static(self.entry?);
        Some((StatusCode::FOUND, [(header::LOCATION, entry)]).into_response())
    }

    /// The page or file that a request is for; `None`: there is none.
    async fn found(&self, asked: &Parts) -> Option<Response> {
        let path = plain(asked.uri.path())?;
        if let Some(page) = self.pages.get(&path) {
            return Some(self.page(asked, page));
        }
        if self.entry == Some(IMCHAT_ENTRY) && path.ends_with(".shtml") {
            // Its menu has entries for pages that it does not have, and it sends whoever opens them
            // to the login.
            return self.entrance();
        }
        let (folder, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (_, uploaded) = FOLDERS.into_iter().find(|(name, _)| *name == folder)?;
        let (root, wanted) = (self.root.clone(), self.root.join(folder).join(rest));
        let found = self.jobs.run(move || open(&root, &wanted)).await;
        let (file, head) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return None,
            Err(error) => {
                if self.outage.failed(self.clock.now().mono_ms).is_some() {
                    tracing::warn!(%error, path, "files of --legacy-pages cannot be read");
                }
                return Some(delivery::broken());
            }
        };
        let kind = Kind::of(&head.start);
        let mime = if uploaded { kind.mime() } else { mime(&path) };
        let content = Content {
            source: self.source(Box::new(file)),
            len: head.len,
            mime,
            tag: format!("\"{:x}-{:x}\"", head.modified_ms, head.len),
            modified_ms: Some(head.modified_ms),
        };
        let mut response = delivery::answer(&asked.method, &asked.headers, content);
        if uploaded {
            guard(&mut response, kind);
        }
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }

    fn source(&self, object: Box<dyn Object>) -> Box<FileSource> {
        Box::new(FileSource { object, jobs: self.jobs.clone() })
    }

    fn page(&self, asked: &Parts, page: &Bytes) -> Response {
        let len = page.len() as u64;
        // Pages are made anew at each start, so they are asked for each time.
        let content = Content {
            source: self.source(Box::new(Cursor::new(page.clone()))),
            len,
            mime: "text/html; charset=utf-8",
            tag: format!("\"{:x}\"", hash(page)),
            modified_ms: None,
        };
        let mut response = delivery::answer(&asked.method, &asked.headers, content);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Their addresses hold the token: other sites neither frame them nor are told of them.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        let policy = if caller::place(&asked.extensions).https {
            // The pages say `ws:`, which a browser refuses on a page over TLS.
            "frame-ancestors 'self'; upgrade-insecure-requests"
        } else {
            "frame-ancestors 'self'"
        };
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response
    }
}

impl SitePages for Pages {
    fn front(&self) -> Option<Response> {
        self.entrance()
    }

    fn answer<'a>(&'a self, app: &'a App, asked: &'a Parts) -> Answering<'a> {
        Box::pin(async move {
            let mut response = self.found(asked).await?;
            log_in_by_link(app, asked, &mut response).await;
            Some(response)
        })
    }
}

/// A page that is opened by its link alone (`?id=&token=`: copied, or in a WebView) has no login
/// cookie, and its lists would stay empty although its socket works: in the originals the two
/// parameters are enough. It gets the cookie, unless another site's page leads there.
async fn log_in_by_link(app: &App, parts: &Parts, response: &mut Response) {
    let is_page = parts.uri.path().ends_with(".shtml") && response.status() == StatusCode::OK;
    let Some(query) = parts.uri.query().filter(|_| is_page) else { return };
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let (Some(id), Some(token)) = (value("id"), value("token")) else { return };
    let Ok(identity) = app.services.key.verify(&token, clock::wall_ms()) else { return };
    if id != identity.user().to_string() {
        return;
    }
    if let Ok(Some(user)) = accounts::acting(&app.services, identity).await {
        app.log_in(response, (&parts.headers, caller::place(&parts.extensions)), (user, &token));
    }
}

/// FNV-1a: tells versions of a page apart, no more.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Takes in the template files below `folder`.
fn gather(folder: &Path, templates: &mut Templates, left: &mut usize, depth: usize) -> io::Result<()> {
    if depth > limits::PAGE_INCLUDES_MAX {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            gather(&path, templates, left, depth + 1)?;
        }
        let ends = path.extension().is_some_and(|ext| ext == "html" || ext == "shtml");
        if !meta.is_file() || !ends || meta.len() > limits::PAGE_BYTES_MAX as u64 {
            continue;
        }
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("too many template files"))?;
        let source = fs::read(&path)?;
        if let Err(error) = templates.add(&String::from_utf8_lossy(&source)) {
            tracing::warn!(%error, path = %path.display(), "a template of --legacy-pages cannot be read");
        }
    }
    Ok(())
}

/// A path of a URL, decoded, with single slashes; `None` for one that is not written without bad
/// intentions.
fn plain(path: &str) -> Option<String> {
    let mut path = percent_decode_str(path).decode_utf8().ok()?.into_owned();
    let mut last = None;
    path.retain(|c| last.replace(c) != Some('/') || c != '/');
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    let odd = path.contains(|c: char| c.is_control() || c == '\\');
    (!hidden && !odd && path.starts_with('/')).then_some(path)
}

/// What is known of a file before it is served.
struct Head {
    len: u64,
    modified_ms: u64,
    start: Vec<u8>,
}

/// Whether there cannot be a file of that name, whatever the disk holds: whoever asks for it makes
/// no error of ours.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG))
}

/// Opens a file below `root`; `None` when there is none, or it is a directory, or a link leads
/// away.
fn open(root: &Path, wanted: &Path) -> io::Result<Option<(File, Head)>> {
    let wanted = match wanted.canonicalize() {
        Ok(wanted) => wanted,
        Err(error) if leads_nowhere(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let inside = wanted.strip_prefix(root).is_ok_and(|inside| FOLDERS.iter().any(|(name, _)| inside.starts_with(name)));
    if !inside || !wanted.is_file() {
        return Ok(None);
    }
    let mut file = File::open(wanted)?;
    let meta = file.metadata()?;
    let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut start = Vec::new();
    (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let modified_ms = u64::try_from(modified.as_millis()).unwrap_or(0);
    Ok(Some((file, Head { len: meta.len(), modified_ms, start })))
}

/// As what a file of the checkout is served, by its name: it is as trusted as the pages. A table of
/// the few that the originals have: `mime_guess` brings a thousand, of which some are no help here
/// (`.ts` is a film).
fn mime(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "ico" => "image/x-icon",
        "ttf" => "font/ttf",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "jpeg" => Kind::Jpeg.mime(),
        ext => Kind::ALL.into_iter().find(|kind| kind.ext() == ext).unwrap_or(Kind::Other).mime(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain() {
        assert_eq!(
            plain("//asset/plugins/doutu//emoj/info.json").as_deref(),
            Some("/asset/plugins/doutu/emoj/info.json")
        );
        assert_eq!(plain("/asset/a%20b.png").as_deref(), Some("/asset/a b.png"));
        for wrong in ["/asset/../app/x", "/asset/%2e%2e/x", "/asset/%2e%2e%2fx", "/asset/.git", "/a%00", "/a%5cb"] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
        assert_eq!(plain("/asset/%ff"), None, "not text");
        assert_eq!(plain("/asset/%f").as_deref(), Some("/asset/%f"), "no file is called so");
    }
}
