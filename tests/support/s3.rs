//! A private object store for tests: moto's S3 behind `s3_server.py`, on a port of its own, gone with the process that asked
//! for it: it ends when its input does.
//!
//! moto comes from the package registry by `pip`, once for each version, into the folder of the build. Without `python3` and
//! `pip`, or where the registry cannot be reached, a test says so and is skipped, and with `CI` set it fails.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// What is installed, each with its version.
const PACKAGES: &str = include_str!("s3_server.txt");
const SERVER: &str = include_str!("s3_server.py");
/// The key that the server knows.
pub(crate) const ACCESS_KEY: &str = "imgate-of-a-test";
/// Its secret, with what a URL cannot hold as it stands.
pub(crate) const SECRET_KEY: &str = "open/sesame+1=";

/// A running server with the bucket `chat`.
pub(crate) struct S3 {
    child: Child,
    port: u16,
    is_tls: bool,
    ways: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl S3 {
    /// A server of this test's own, or `None` where there is no moto.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same over TLS, with the files of a certificate for `localhost` and of its key.
    pub(crate) fn start_tls(certificate: &Path, key: &Path) -> Option<Self> {
        Self::start_with(&[certificate, key])
    }

    fn start_with(files: &[&Path]) -> Option<Self> {
        static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let packages = match INSTALLED.get_or_init(install) {
            Ok(packages) => packages,
            Err(why) => {
                let text = format!("moto is missing, which python3 and pip bring: {why}");
                assert!(std::env::var_os("CI").is_none(), "{text}");
                eprintln!("SKIPPED: {text}");
                return None;
            }
        };
        let mut command = Command::new("python3");
        command.args(["-c", SERVER, ACCESS_KEY, SECRET_KEY]).args(files).env("PYTHONPATH", packages);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let input = child.stdin.take().expect("a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let port = line(&mut output).parse().expect("a port");
        Some(Self { child, port, is_tls: !files.is_empty(), ways: Mutex::new((input, output)) })
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> String {
        if self.is_tls { format!("https://localhost:{}", self.port) } else { format!("http://127.0.0.1:{}", self.port) }
    }

    /// Nothing listens any more; what is kept stays.
    pub(crate) fn close(&self) {
        self.tell("close");
    }

    /// It listens again, at the same port.
    pub(crate) fn open(&self) {
        self.tell("open");
    }

    /// It takes requests and answers none.
    pub(crate) fn hang(&self) {
        self.tell("hang");
    }

    /// It answers again.
    pub(crate) fn work(&self) {
        self.tell("work");
    }

    /// How many objects there are.
    pub(crate) fn objects(&self) -> usize {
        self.tell("count").parse().expect("a number")
    }

    fn tell(&self, word: &str) -> String {
        let mut ways = self.ways.lock().expect("no test has panicked with it");
        writeln!(ways.0, "{word}").expect("it runs");
        line(&mut ways.1)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // By its own id.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("it speaks");
    assert!(!line.is_empty(), "the server has ended");
    line.trim_end().to_owned()
}

/// Where the packages are, after they were installed.
fn install() -> Result<PathBuf, String> {
    let version = PACKAGES.lines().find_map(|line| line.strip_prefix("moto[s3]==")).expect("moto is in the list");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("moto-{version}"));
    if place.is_dir() {
        return Ok(place);
    }
    let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--only-binary",
        ":all:",
    ]);
    pip.args(["--root-user-action", "ignore", "--target"]).arg(fresh.path()).args(PACKAGES.lines());
    let done = pip.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    }
    // Another process may have been faster.
    match fs::rename(fresh.path(), &place) {
        Err(error) if !place.is_dir() => Err(error.to_string()),
        _ => Ok(place),
    }
}
