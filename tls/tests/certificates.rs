//! Certificates: which one a client gets, and what a reload does and refuses.

mod support;

use std::fs;
use std::sync::Arc;

use imgate_tls::{Acceptor, CertificateError, Certificates, Pair, Setup};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::{open, seal_by_client, send, shake, write_pair};

fn acceptor(certificates: &Arc<Certificates>) -> Acceptor {
    let certificates = certificates.clone();
    Acceptor::new(Setup { certificates, ticket_secret: vec![1], own_records: true }).expect("it can be made")
}

fn client(name: &str, trusted: &[&CertificateDer<'static>]) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).expect("it is a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), name.to_owned().try_into().expect("it is a name")).expect("it can be made")
}

/// Whether a client that asks for `name` gets exactly this certificate.
fn gets(certificates: &Arc<Certificates>, name: &str, certificate: &CertificateDer<'static>) -> bool {
    let mut client = client(name, &[certificate]);
    // Names that the certificate does not have fail at the client, after it has seen it.
    let _ = shake(&acceptor(certificates), &mut client, usize::MAX);
    client.peer_certificates().is_some_and(|chain| chain[0] == *certificate)
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (one, first) = write_pair(folder.path(), "one", &["chat.example", "www.chat.example"]);
    let (two, second) = write_pair(folder.path(), "two", &["*.other.example"]);
    let certificates = Arc::new(Certificates::load(&[one, two]).expect("they fit"));
    assert!(gets(&certificates, "chat.example", &first));
    assert!(gets(&certificates, "WWW.chat.example", &first));
    assert!(gets(&certificates, "im.other.example", &second));
    // A star is one label, and not none.
    assert!(!gets(&certificates, "a.b.other.example", &second));
    assert!(!gets(&certificates, "other.example", &second));
    assert!(certificates.not_after_s() > 4_000_000_000);
}

#[test]
fn a_reload_is_noticed_by_new_clients_only() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (pair, old) = write_pair(folder.path(), "one", &["localhost"]);
    let certificates = Arc::new(Certificates::load(std::slice::from_ref(&pair)).expect("it fits"));
    let mut before = client("localhost", &[&old]);
    let mut session = shake(&acceptor(&certificates), &mut before, usize::MAX).expect("both want it").session;
    assert!(!certificates.changed());

    let (_, new) = write_pair(folder.path(), "one", &["localhost"]);
    assert!(certificates.changed());
    assert!(gets(&certificates, "localhost", &old), "nothing was read yet");
    let reloaded = certificates.reload();
    assert_eq!((reloaded.taken, reloaded.refused.len()), (vec![pair.certificate.clone()], 0));
    assert!(!certificates.changed());
    assert!(gets(&certificates, "localhost", &new));

    // Whoever was there goes on.
    assert_eq!(open(&mut session, &seal_by_client(&mut before, b"still")), (b"still".to_vec(), None));
    assert_eq!(send(&mut session, &mut before, b"here"), b"here");
}

#[test]
fn a_pair_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (one, first) = write_pair(folder.path(), "one", &["one.example"]);
    let (two, _) = write_pair(folder.path(), "two", &["two.example"]);
    let (stranger, _) = write_pair(folder.path(), "stranger", &["localhost"]);
    let certificates = Arc::new(Certificates::load(&[one.clone(), two.clone()]).expect("they fit"));
    let key = fs::read(&one.key).expect("it was written");

    // As between the two writes of a renewal: the key is another's, or half, or gone.
    for wrong in [fs::read(&stranger.key).expect("it was written"), key[..key.len() / 2].to_vec(), Vec::new()] {
        fs::write(&one.key, &wrong).expect("the folder is ours");
        let (_, renewed) = write_pair(folder.path(), "two", &["two.example"]);
        let reloaded = certificates.reload();
        let taken = vec![two.certificate.clone()];
        assert_eq!((reloaded.taken, reloaded.refused.len()), (taken, 1), "the other pair is taken");
        assert_eq!(certificates.refused(), 1);
        assert!(gets(&certificates, "one.example", &first));
        assert!(gets(&certificates, "two.example", &renewed));
        assert!(!certificates.changed(), "what was refused is not tried again before it changes");
    }
    fs::remove_file(&one.key).expect("it was written");
    let reloaded = certificates.reload();
    assert!(matches!(reloaded.refused[..], [CertificateError::Unreadable { .. }]));

    fs::write(&one.key, &key).expect("the folder is ours");
    assert!(certificates.changed());
    assert_eq!(certificates.refused(), 1);
    assert_eq!((certificates.reload().refused.len(), certificates.refused()), (0, 0));
}

/// A renewal that ends while a reload reads: what was read is half old, and nothing changes any more.
#[cfg(unix)]
#[test]
fn a_renewal_that_ends_during_a_reload_is_seen() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (pair, _) = write_pair(folder.path(), "one", &["localhost"]);
    let certificates = Arc::new(Certificates::load(std::slice::from_ref(&pair)).expect("it fits"));
    let (renewed, new) = write_pair(folder.path(), "renewed", &["localhost"]);
    // The reload reads its key from a pipe, so it stands still exactly there.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("coreutils").success());
    fs::rename(&pipe, &pair.key).expect("the folder is ours");
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| certificates.reload());
        let mut half = fs::OpenOptions::new().write(true).open(&pair.key).expect("it is read");
        fs::copy(&renewed.certificate, &pair.certificate).expect("the folder is ours");
        fs::rename(&renewed.key, &pair.key).expect("the folder is ours");
        std::io::Write::write_all(&mut half, b"half a key").expect("it is read");
        drop(half);
        assert_eq!(reloading.join().expect("no panic").refused.len(), 1);
    });
    assert!(certificates.changed(), "there is something to be read");
    assert_eq!(certificates.reload().refused.len(), 0);
    assert!(gets(&certificates, "localhost", &new));
}

#[test]
fn what_cannot_be_served_is_not_loaded() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (one, _) = write_pair(folder.path(), "one", &["localhost"]);
    let (two, _) = write_pair(folder.path(), "two", &["localhost"]);
    let load = |pair: Pair| Certificates::load(&[pair]).expect_err("it does not fit");
    let mixed = Pair { certificate: one.certificate.clone(), key: two.key };
    assert!(matches!(load(mixed), CertificateError::NoPair { .. }));
    let swapped = Pair { certificate: one.key.clone(), key: one.certificate.clone() };
    assert!(matches!(load(swapped), CertificateError::Malformed { .. }));
    let missing = Pair { certificate: folder.path().join("none"), key: one.key.clone() };
    assert!(matches!(load(missing), CertificateError::Unreadable { .. }));
    fs::write(folder.path().join("large"), vec![b'\n'; (1 << 20) + 1]).expect("the folder is ours");
    let large = Pair { certificate: folder.path().join("large"), key: one.key.clone() };
    assert!(matches!(load(large), CertificateError::TooLarge(_)));
    assert!(matches!(Certificates::load(&[]), Err(CertificateError::Count(0))));
    assert!(matches!(Certificates::load(&vec![one; 65]), Err(CertificateError::Count(65))));
}

/// What `openssl x509 -req` makes without extensions.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBIzCBywIUai/QRqVGTNMsaxvF+deNfNw7YJMwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDE3NTc0NloYDzIxMjYxMTA2MTc1NzQ2
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAR4T6X4lfwkOJAh74W2J7c5Nv9HunlJO35pVBpBdj35MkGVwzwJwUGH0oUJx5wy
rurKywqkIHgkYkwxE7R7diFsMAoGCCqGSM49BAMCA0cAMEQCIARj5Qz6fwrEOK08
I4xkCDDKH/fsxzNGe14d4wQAadnGAiB0Cr1a6/xCDdnjayfqFx1UE5co6WJBmnFx
95gRv0+vPA==
-----END CERTIFICATE-----
";

#[test]
fn a_certificate_of_an_old_version_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (one, _) = write_pair(folder.path(), "one", &["localhost"]);
    let old = Pair { certificate: folder.path().join("old.pem"), key: one.key };
    fs::write(&old.certificate, VERSION_1).expect("the folder is ours");
    let error = Certificates::load(std::slice::from_ref(&old)).expect_err("no client takes it");
    assert!(matches!(error, CertificateError::OldVersion { version: 1, .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("old.pem") && told.contains("version 1") && told.contains("subjectAltName"), "{told}");
    assert!(!told.contains("fit together"), "the key is not at fault: {told}");
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (pair, _) = write_pair(folder.path(), "one", &["localhost"]);
    let certificates = Certificates::load(std::slice::from_ref(&pair)).expect("it fits");
    for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&pair.key, fs::Permissions::from_mode(mode)).expect("the file is ours");
        assert_eq!(!certificates.exposed_keys().is_empty(), exposed, "{mode:o}");
    }
}
