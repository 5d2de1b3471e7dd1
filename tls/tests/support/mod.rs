//! What the tests share: certificates, a server end in memory, and rustls' client as its judge.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use imgate_tls::limits::RECORD_WIRE_BYTES_MAX;
use imgate_tls::{
    Acceptor, Certificates, End, Failure, Finished, KeyLife, Opened, Outgoing, Pair, Session, Setup, Step,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

/// All cipher suites that can be negotiated.
pub(crate) const SUITES: [SupportedCipherSuite; 6] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Writes a self-signed certificate for `names` and its key below `folder`.
pub(crate) fn write_pair(folder: &Path, stem: &str, names: &[&str]) -> (Pair, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("names are names");
    let pair = Pair { certificate: folder.join(format!("{stem}.pem")), key: folder.join(format!("{stem}.key")) };
    std::fs::write(&pair.certificate, made.cert.pem()).expect("the folder is ours");
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("the folder is ours");
    (pair, made.cert.der().clone())
}

/// A server and whom its clients trust.
pub(crate) struct Place {
    _folder: tempfile::TempDir,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) certificate_file: std::path::PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let (pair, certificate) = write_pair(folder.path(), "one", &["localhost"]);
        let certificates = Arc::new(Certificates::load(std::slice::from_ref(&pair)).expect("it was just written"));
        Self { _folder: folder, certificates, certificate, certificate_file: pair.certificate }
    }

    pub(crate) fn acceptor(&self, own_records: bool) -> Acceptor {
        self.acceptor_with(own_records, b"a secret of the tests")
    }

    pub(crate) fn acceptor_with(&self, own_records: bool, secret: &[u8]) -> Acceptor {
        let certificates = self.certificates.clone();
        Acceptor::new(Setup { certificates, ticket_secret: secret.to_vec(), own_records }).expect("it can be made")
    }

    /// A configuration that offers one suite.
    pub(crate) fn client_config(&self, suite: SupportedCipherSuite) -> ClientConfig {
        self.client_config_of(vec![suite])
    }

    /// A configuration that offers suites of one version, in this order.
    pub(crate) fn client_config_of(&self, suites: Vec<SupportedCipherSuite>) -> ClientConfig {
        let version = suites[0].version();
        let provider = CryptoProvider { cipher_suites: suites, ..default_provider() };
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("it is a certificate");
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("the suite is of that version")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub(crate) fn client(&self, suite: SupportedCipherSuite) -> ClientConnection {
        client(self.client_config(suite))
    }
}

pub(crate) fn client(config: ClientConfig) -> ClientConnection {
    let name = "localhost".try_into().expect("it is a name");
    ClientConnection::new(Arc::new(config), name).expect("it can be made")
}

/// Everything that the client has to send.
pub(crate) fn said_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("a vector takes all");
    }
    bytes
}

/// Gives the client bytes; answers the plaintext.
pub(crate) fn tell(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("its buffer is emptied each time");
        client.process_new_packets()?;
        // An error means that there is nothing more.
        let _ = client.reader().read_to_end(&mut plain);
    }
    Ok(plain)
}

/// A handshake in memory, with the client's bytes in pieces of `cut`.
pub(crate) fn shake(acceptor: &Acceptor, client: &mut ClientConnection, cut: usize) -> Result<Finished, Failure> {
    let mut handshake = acceptor.accept().expect("it can begin");
    let mut step = Step::Wait;
    while step != Step::Done {
        let said = said_by(client);
        assert!(!said.is_empty(), "the handshake stands still");
        let mut rest = &said[..];
        while !rest.is_empty() {
            let piece = &rest[..cut.min(rest.len())];
            rest = &rest[handshake.receive(piece)..];
            loop {
                step = handshake.step();
                let output = handshake.output().to_vec();
                handshake.sent(output.len());
                // What it does not like is seen by what it says next.
                let _ = tell(client, &output);
                match step {
                    Step::More => {}
                    Step::Failed(failure) => return Err(failure),
                    Step::Wait | Step::Done => break,
                }
            }
            if step == Step::Done {
                // Whatever is left goes the way of unread bytes.
                let mut finished = handshake.finish()?;
                return if rest.is_empty() {
                    Ok(finished)
                } else {
                    let (plain, end) = open(&mut finished.session, rest);
                    assert_eq!((plain, end), (Vec::new(), None));
                    Ok(finished)
                };
            }
        }
    }
    handshake.finish()
}

/// Opens `bytes` at once; answers the plaintext.
pub(crate) fn open(session: &mut Session, bytes: &[u8]) -> (Vec<u8>, Option<End>) {
    open_in_minute(session, bytes, 1)
}

pub(crate) fn open_in_minute(session: &mut Session, bytes: &[u8], minute: u64) -> (Vec<u8>, Option<End>) {
    let mut buffer = vec![0xaa; RECORD_WIRE_BYTES_MAX];
    buffer.extend_from_slice(bytes);
    let fresh = RECORD_WIRE_BYTES_MAX..buffer.len();
    let Opened { plain, end, .. } = session.open(&mut buffer, fresh, minute);
    (buffer[plain].to_vec(), end)
}

/// A buffer for what the tests send.
pub(crate) fn outgoing() -> Outgoing {
    Outgoing::new(64 * 1024, KeyLife::default())
}

/// Seals `plain` and sends it to the client as a whole.
pub(crate) fn send(session: &mut Session, client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    let (mut out, mut bytes, mut done) = (outgoing(), Vec::new(), 0);
    // What was kept leaves first, perhaps alone.
    while done < plain.len() || session.wants_write() {
        let sealed = session.seal(&plain[done..], &mut out);
        assert_eq!(sealed.refused(), None);
        bytes.extend_from_slice(sealed.bytes());
        let len = sealed.bytes().len();
        assert!(len > 0, "there is something to be sent");
        done += sealed.sent(len);
    }
    tell(client, &bytes).expect("it is what a server says")
}

/// Has the client say `plain`, as it travels.
pub(crate) fn seal_by_client(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    client.set_buffer_limit(None);
    client.writer().write_all(plain).expect("its buffer grows");
    said_by(client)
}
