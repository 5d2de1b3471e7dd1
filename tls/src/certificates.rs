//! Certificates: several, chosen by the name that a client asks for, replaced while they are in
//! use.
//!
//! Owns: the pairs of files, what was read of them, and when they must be read again.
//! Never: takes a key that does not fit its certificate, or leaves a client without any: a pair
//! that cannot be read again stays as it was.
//! Bounds: [`CERTIFICATES_MAX`] pairs, files of [`CERTIFICATE_FILE_BYTES_MAX`].

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::limits::{CERTIFICATE_FILE_BYTES_MAX, CERTIFICATES_MAX};

/// Where a certificate and its key lie, both as PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Which certificate a client gets. Shared by all threads; a client that is served never notices a
/// reload.
#[derive(Debug)]
pub struct Certificates {
    served: ArcSwap<Vec<Served>>,
    /// Held while files are read: of two that read them, the later one is served.
    reading: Mutex<()>,
}

/// One pair as it was read last.
#[derive(Clone, Debug)]
struct Served {
    pair: Pair,
    certified: Arc<CertifiedKey>,
    /// Lower case; a first label of `*` stands for any.
    names: Vec<String>,
    not_after_s: u64,
    /// What the files looked like when they were read last, with or without success.
    stamps: [Stamp; 2],
    /// The last time without.
    refused: bool,
}

/// What tells a file from what it was: changed in place, or replaced.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// A file is longer than [`CERTIFICATE_FILE_BYTES_MAX`].
    #[error("{0} is too large for a certificate or a key")]
    TooLarge(PathBuf),
    /// A file has no certificate or key in it.
    #[error("{path} has no usable PEM block: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The server's own certificate is of a version that no client takes.
    #[error(
        "{path} is a certificate of X.509 version {version}, which no browser takes: make one of version 3 that says \
         its host names as subjectAltName (with openssl: -addext subjectAltName=DNS:NAME, or -extfile)"
    )]
    OldVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The key is that of another certificate, or of a kind that cannot sign here.
    #[error("{certificate} and {key} do not fit together: {why}")]
    NoPair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls says.
        why: rustls::Error,
    },
    /// No pair, or more than [`CERTIFICATES_MAX`].
    #[error("TLS wants from 1 to {CERTIFICATES_MAX} certificates, not {0}")]
    Count(usize),
}

/// What a reload has found out.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// The certificates that are served as they were read now.
    pub taken: Vec<PathBuf>,
    /// Why others are served as they were before.
    pub refused: Vec<CertificateError>,
}

impl Certificates {
    /// Reads all pairs. The first one is for clients that ask for no name, or for one that no
    /// certificate has.
    ///
    /// # Errors
    /// A pair cannot be served, or there is none.
    pub fn load(pairs: &[Pair]) -> Result<Self, CertificateError> {
        if pairs.is_empty() || pairs.len() > CERTIFICATES_MAX {
            return Err(CertificateError::Count(pairs.len()));
        }
        let served = pairs.iter().map(|pair| read_pair(pair, stamps(pair))).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { served: ArcSwap::from_pointee(served), reading: Mutex::new(()) })
    }

    /// Reads all pairs again. One that cannot be served stays as it was.
    pub fn reload(&self) -> Reloaded {
        // It guards no data that a panic could have left half changed.
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = Reloaded::default();
        let again = |old: &Served| {
            let stamps = stamps(&old.pair);
            match read_pair(&old.pair, stamps) {
                Ok(served) => {
                    outcome.taken.push(old.pair.certificate.clone());
                    served
                }
                Err(error) => {
                    outcome.refused.push(error);
                    Served { stamps, refused: true, ..old.clone() }
                }
            }
        };
        let served: Vec<Served> = self.served.load().iter().map(again).collect();
        self.served.store(Arc::new(served));
        outcome
    }

    /// Whether a file is another than when it was read last.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.served.load().iter().any(|served| stamps(&served.pair) != served.stamps)
    }

    /// Pairs whose files cannot be served as they are now: what was read before is.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.served.load().iter().filter(|served| served.refused).count()
    }

    /// Seconds since 1970 at which the first certificate ends.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.served.load().iter().map(|served| served.not_after_s).min().unwrap_or_default()
    }

    /// Key files that others than their owner may read.
    #[must_use]
    pub fn exposed_keys(&self) -> Vec<PathBuf> {
        let served = self.served.load();
        served.iter().map(|served| &served.pair.key).filter(|key| is_exposed(key)).cloned().collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.served.load();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let suits = |served: &&Served| served.certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = name.and_then(|name| served.iter().filter(|served| served.answers(&name)).find(suits));
        let any = || served.iter().find(suits);
        named.or_else(any).or_else(|| served.first()).map(|served| served.certified.clone())
    }
}

impl Served {
    /// Whether the certificate has the name, which is in lower case.
    fn answers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|known| known == name || (parent.is_some() && known.strip_prefix("*.") == parent))
    }
}

/// `stamps` are those of before the files are read: what changes meanwhile is seen as a change.
fn read_pair(pair: &Pair, stamps: [Stamp; 2]) -> Result<Served, CertificateError> {
    let malformed =
        |path: &Path, why: &dyn ToString| CertificateError::Malformed { path: path.to_owned(), why: why.to_string() };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read_file(&pair.certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|why| malformed(&pair.certificate, &why))?;
    let first = chain.first().ok_or_else(|| malformed(&pair.certificate, &"there is no certificate"))?;
    let Facts { names, not_after_s, version } = facts(first).map_err(|why| malformed(&pair.certificate, &why))?;
    if version != Version::V3 {
        return Err(CertificateError::OldVersion { path: pair.certificate.clone(), version: version as u8 + 1 });
    }
    let key = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(read_file(&pair.key)?))
        .map_err(|why| malformed(&pair.key, &why))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|why| {
        CertificateError::NoPair { certificate: pair.certificate.clone(), key: pair.key.clone(), why }
    })?;
    Ok(Served { pair: pair.clone(), certified: Arc::new(certified), names, not_after_s, stamps, refused: false })
}

/// What a certificate says of itself.
struct Facts {
    names: Vec<String>,
    /// When it ends.
    not_after_s: u64,
    version: Version,
}

fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, x509_cert::der::Error> {
    let certificate = Certificate::from_der(certificate)?;
    let body = certificate.tbs_certificate();
    let not_after_s = body.validity().not_after.to_unix_duration().as_secs();
    let names = body.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0).unwrap_or_default();
    let dns = |name: GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    };
    Ok(Facts { names: names.into_iter().filter_map(dns).collect(), not_after_s, version: body.version() })
}

fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |why| CertificateError::Unreadable { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        return Err(CertificateError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn stamps(pair: &Pair) -> [Stamp; 2] {
    [&pair.certificate, &pair.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), inode(&file)))
    })
}

#[cfg(unix)]
fn inode(file: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

#[cfg(not(unix))]
fn inode(_file: &fs::Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_path: &Path) -> bool {
    false
}
