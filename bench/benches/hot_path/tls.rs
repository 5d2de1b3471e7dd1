//! What the server's end of TLS costs: a whole handshake, and a record of a group message for one member.
//!
//! Only the server's steps are timed; the client between them is rustls' own, in the same thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use imgate_tls::limits::RECORD_PLAIN_BYTES_MAX;
use imgate_tls::{Acceptor, Certificates, Finished, KeyLife, Outgoing, Pair, Setup, Step};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

const SUITES: [(&str, SupportedCipherSuite); 3] = [
    ("AES-128", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("AES-256", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("ChaCha20", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
];

pub(crate) fn handshakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("tls handshake");
    let (acceptor, certificate) = server();
    for (suite_name, suite) in SUITES {
        for (kx_name, kx) in [("X25519", kx_group::X25519), ("X25519MLKEM768", kx_group::X25519MLKEM768)] {
            let config = client_config(&certificate, suite, kx);
            group.bench_function(format!("{suite_name}, {kx_name}"), |b| {
                b.iter_custom(|times| (0..times).map(|_| shake(&acceptor, &config).0).sum());
            });
        }
    }
    group.finish();
}

pub(crate) fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("tls record");
    let (acceptor, certificate) = server();
    for (name, suite) in SUITES {
        let (_, mut finished) = shake(&acceptor, &client_config(&certificate, suite, kx_group::X25519));
        let mut out = Outgoing::new(RECORD_PLAIN_BYTES_MAX, KeyLife::default());
        for bytes in [166, 2_600] {
            let plain = vec![7; bytes];
            group.bench_function(format!("{name}, {bytes} bytes"), |b| {
                b.iter(|| {
                    let sealed = finished.session.seal(black_box(&plain), &mut out);
                    let length = sealed.bytes().len();
                    sealed.sent(length)
                });
            });
        }
    }
    group.finish();
}

fn server() -> (Acceptor, CertificateDer<'static>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let pair = Pair { certificate: folder.path().join("one.pem"), key: folder.path().join("one.key") };
    std::fs::write(&pair.certificate, made.cert.pem()).expect("the folder is ours");
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("the folder is ours");
    let certificates = Arc::new(Certificates::load(&[pair]).expect("just written"));
    let setup = Setup { certificates, ticket_secret: b"a secret".to_vec(), own_records: true };
    (Acceptor::new(setup).expect("there are ciphers"), made.cert.der().clone())
}

fn client_config(
    certificate: &CertificateDer<'static>,
    suite: SupportedCipherSuite,
    kx: &'static dyn SupportedKxGroup,
) -> Arc<ClientConfig> {
    let provider = CryptoProvider { cipher_suites: vec![suite], kx_groups: vec![kx], ..default_provider() };
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[suite.version()])
        .expect("the suite is of that version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A whole handshake, and how long the server's steps of it took.
fn shake(acceptor: &Acceptor, config: &Arc<ClientConfig>) -> (Duration, Finished) {
    // A ticket would save the signature.
    let mut config = ClientConfig::clone(config);
    config.resumption = rustls::client::Resumption::disabled();
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("it can begin");
    let mut took = Duration::ZERO;
    let began = Instant::now();
    let mut handshake = acceptor.accept().expect("it can begin");
    took += began.elapsed();
    loop {
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).expect("a vector takes all");
        }
        let began = Instant::now();
        assert_eq!(handshake.receive(&said), said.len());
        let mut step = handshake.step();
        while step == Step::More {
            step = handshake.step();
        }
        if step == Step::Done {
            let finished = handshake.finish().expect("it is done");
            return (took + began.elapsed(), finished);
        }
        took += began.elapsed();
        assert_eq!(step, Step::Wait);
        let mut output = handshake.output();
        while !output.is_empty() {
            client.read_tls(&mut output).expect("its buffer is emptied each time");
            client.process_new_packets().expect("it understands");
        }
        handshake.sent(handshake.output().len());
    }
}
