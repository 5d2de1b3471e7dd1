//! The URL of a database server: `mysql://user:password@host:port/database?tls=…&ca=…`.
//!
//! Owns: what may stand in it, and every setting of a connection that the server does not hear of.
//! Never: shows or repeats a password: [`Target`] prints as user, host and database, and no error
//! repeats the URL.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use mysql::{Opts, OptsBuilder, SslOpts};
use url::Url;

use super::statement::STATEMENTS_MAX;
use crate::limits::{MYSQL_ANSWER_MS, MYSQL_CONNECT_MS};

/// The port that MySQL and MariaDB listen on.
const PORT: u16 = 3306;

/// Where connections go, and how.
pub(super) struct Target {
    /// Holds the password: never printed.
    opts: Opts,
    /// `user@host:port/database`.
    shown: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.shown)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// How much a connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tls {
    /// Not at all: loopback and private networks.
    Off,
    /// Encrypted, whatever answers: protects from eavesdroppers only.
    Require,
    /// The server's certificate is of a known authority.
    VerifyCa,
    /// And it names the host of the URL.
    VerifyFull,
}

impl Target {
    /// Reads a URL. The text of an error is for the operator.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The parser's error names what is wrong, not where.
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let user = decoded(url.username())?;
        if user.is_empty() {
            return Err("it names no user".to_owned());
        }
        let password = url.password().map(decoded).transpose()?;
        let database = decoded(url.path().trim_start_matches('/'))?;
        if database.is_empty() || database.contains('/') {
            return Err("it must end with the name of one database".to_owned());
        }
        if url.fragment().is_some() {
            return Err("it has a `#`, which a password must write as %23".to_owned());
        }
        let (tls, ca) = protection(&url)?;
        let port = url.port().unwrap_or(PORT);
        let shown = format!("{user}@{host}:{port}/{database}");
        let answer = Some(Duration::from_millis(MYSQL_ANSWER_MS));
        let opts = OptsBuilder::new()
            // An address of IPv6 stands in brackets in a URL and nowhere else.
            .ip_or_hostname(Some(host.trim_start_matches('[').trim_end_matches(']')))
            .tcp_port(port)
            .user(Some(user))
            .pass(password)
            .db_name(Some(database))
            // The server's own socket could belong to another server than the one that was named.
            .prefer_socket(false)
            .tcp_connect_timeout(Some(Duration::from_millis(MYSQL_CONNECT_MS)))
            .read_timeout(answer)
            .write_timeout(answer)
            .tcp_user_timeout_ms(u32::try_from(MYSQL_ANSWER_MS).ok())
            .tcp_nodelay(true)
            .stmt_cache_size(STATEMENTS_MAX)
            .ssl_opts(ssl(tls, ca));
        Ok(Self { opts: opts.into(), shown })
    }

    /// For the operator.
    pub(super) fn opts(&self) -> Opts {
        self.opts.clone()
    }
}

/// The parameters `tls` and `ca`.
fn protection(url: &Url) -> Result<(Tls, Option<PathBuf>), String> {
    let (mut tls, mut ca) = (Tls::Off, None);
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            ("tls", "off") => tls = Tls::Off,
            ("tls", "require") => tls = Tls::Require,
            ("tls", "verify-ca") => tls = Tls::VerifyCa,
            ("tls", "verify-full") => tls = Tls::VerifyFull,
            ("tls", _) => return Err("`tls` is off, require, verify-ca or verify-full".to_owned()),
            ("ca", path) => ca = Some(PathBuf::from(path)),
            // Not repeated: a password with a `?` in it may stand here.
            _ => return Err("its parameters are `tls` and `ca`".to_owned()),
        }
    }
    if let Some(path) = &ca {
        if !matches!(tls, Tls::VerifyCa | Tls::VerifyFull) {
            return Err("`ca` needs `tls=verify-ca` or `tls=verify-full`".to_owned());
        }
        File::open(path).map_err(|error| format!("the file of `ca` cannot be read: {error}"))?;
    }
    Ok((tls, ca))
}

fn ssl(tls: Tls, ca: Option<PathBuf>) -> Option<SslOpts> {
    let ssl = SslOpts::default().with_root_cert_path(ca);
    match tls {
        Tls::Off => None,
        Tls::Require => Some(ssl.with_danger_accept_invalid_certs(true)),
        Tls::VerifyCa => Some(ssl.with_danger_skip_domain_validation(true)),
        Tls::VerifyFull => Some(ssl),
    }
}

/// A part of a URL without its percent signs. Not as a form: a plus is a plus.
fn decoded(part: &str) -> Result<String, String> {
    let bad = || "it has a % that is not followed by two hexadecimal digits of a text in UTF-8".to_owned();
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_everything() {
        let target = Target::parse("mysql://im:p%40ss%2Fw+rd@db.example:3307/chat").expect("good");
        let opts = target.opts();
        assert_eq!((opts.get_user(), opts.get_pass()), (Some("im"), Some("p@ss/w+rd")));
        assert_eq!((&*opts.get_ip_or_hostname(), opts.get_tcp_port()), ("db.example", 3307));
        assert_eq!((opts.get_db_name(), opts.get_ssl_opts()), (Some("chat"), None));
        assert_eq!(target.to_string(), "im@db.example:3307/chat");
        let short = Target::parse("mariadb://im@[::1]/chat").expect("good").opts();
        assert_eq!((&*short.get_ip_or_hostname(), short.get_tcp_port(), short.get_pass()), ("::1", 3306, None));
    }

    #[test]
    fn every_time_out_is_set() {
        let opts = Target::parse("mysql://im@db/chat").expect("good").opts();
        let answer = Duration::from_millis(MYSQL_ANSWER_MS);
        assert_eq!((opts.get_read_timeout(), opts.get_write_timeout()), (Some(&answer), Some(&answer)));
        assert_eq!(opts.get_tcp_connect_timeout(), Some(Duration::from_millis(MYSQL_CONNECT_MS)));
        assert_eq!(opts.get_tcp_user_timeout_ms().map(u64::from), Some(MYSQL_ANSWER_MS));
        assert!(opts.get_tcp_nodelay() && !opts.get_prefer_socket());
    }

    #[test]
    fn tls_is_what_was_asked_for() {
        let ssl = |tail: &str| {
            let opts = Target::parse(&format!("mysql://im@db/chat{tail}")).expect("good").opts();
            opts.get_ssl_opts().map(|ssl| (ssl.accept_invalid_certs(), ssl.skip_domain_validation()))
        };
        assert_eq!(ssl("?tls=off"), None);
        assert_eq!(ssl("?tls=require"), Some((true, false)));
        assert_eq!(ssl("?tls=verify-ca"), Some((false, true)));
        assert_eq!(ssl("?tls=verify-full"), Some((false, false)));
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().to_str().expect("a path in UTF-8");
        assert_eq!(ssl(&format!("?tls=verify-full&ca={path}")), Some((false, false)));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for url in [
            "mysql://",
            "mysql://im:hunter2@/chat",
            "mysql://:hunter2@db/chat",
            "mysql://im:hunter2@db",
            "mysql://im:hunter2@db/",
            "mysql://im:hunter2@db/a/b",
            "mysql://im:hunter2@db:99999/chat",
            "mysql://im:hunter2%zz@db/chat",
            "mysql://im:hunter2%ff@db/chat",
            "mysql://im@db/chat?hunter2=1",
            "mysql://im:hunter2@db/chat#x",
            "mysql://im:hunter2@db/chat?tls=hunter2",
            "mysql://im:hunter2@db/chat?ca=/x",
            "mysql://im:hunter2@db/chat?tls=verify-ca&ca=/nonexistent/hunter2",
            "mysql://im:hunter2@db/chat?pool_max=7",
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(!error.contains("hunter2"), "{error}");
        }
        let target = Target::parse("mysql://im:hunter2@db/chat").expect("good");
        assert!(!format!("{target} {target:?}").contains("hunter2"));
    }
}
