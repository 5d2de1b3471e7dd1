//! What a gateway needs of others and of its files: certificates that fit, and the bus.

use std::sync::Arc;

use imgate_tls::{Certificates, Pair};

use super::{Finding, Severity};
use crate::clock;
use crate::cluster;
use crate::config::Config;
use crate::limits::CERTIFICATE_ENDS_SOON_S;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let certificates = config.tls_pairs.iter().map(|pair| certificate(pair, clock::wall_ms() / 1000));
    let bus = (!config.cluster.is_empty())
        .then(|| bus(cluster::probe(config.cluster.expose(), &config.cluster_name, config.node.0)));
    certificates.chain(bus).collect()
}

fn certificate(pair: &Pair, now_s: u64) -> Finding {
    const WHAT: &str = "certificate";
    let path = pair.certificate.display();
    let renew = "certbot renew, or whatever makes yours; the gateway takes it up by itself";
    let loaded = match Certificates::load(std::slice::from_ref(pair)) {
        Ok(loaded) => Arc::new(loaded),
        Err(error) => {
            let why = "a gateway does not start with it; one that runs serves the pair that it had";
            return Finding::bad(Severity::Stops, WHAT, error.to_string(), why).mend(renew);
        }
    };
    let (ends_s, day_s) = (loaded.not_after_s(), 86_400);
    if ends_s <= now_s {
        let found = format!("{path} ended {} days ago", (now_s - ends_s) / day_s);
        return Finding::bad(Severity::Stops, WHAT, found, "browsers and clients refuse the gateway").mend(renew);
    }
    let found = format!("{path} ends in {} days", (ends_s - now_s) / day_s);
    if ends_s - now_s < CERTIFICATE_ENDS_SOON_S {
        let why = "browsers and clients refuse the gateway from then on";
        return Finding::bad(Severity::Warning, WHAT, found, why).mend(renew);
    }
    if let [exposed, ..] = &loaded.exposed_keys()[..] {
        let why = "whoever reads it can pretend to be this gateway";
        return Finding::bad(Severity::Warning, WHAT, format!("others may read {}", exposed.display()), why)
            .mend(format!("sudo chmod 600 {}", exposed.display()));
    }
    Finding::ok(WHAT, found)
}

fn bus(outcome: Result<(), String>) -> Finding {
    const WHAT: &str = "cluster";
    match outcome {
        Ok(()) => Finding::ok(WHAT, "the bus takes messages and brings them"),
        Err(error) => {
            let why = "messages of other gateways come from the database, up to 10 s late";
            let mend = if error.to_ascii_lowercase().contains("violation") {
                "user, password and permissions in the configuration of nats-server   # docs/cluster.md, NATS"
            } else {
                "systemctl status nats-server   # where `cluster` points to"
            };
            Finding::bad(Severity::Warning, WHAT, error, why).mend(mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair that ends at some time of the year 2126.
    fn pair(folder: &std::path::Path) -> Pair {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
        let pair = Pair { certificate: folder.join("one.pem"), key: folder.join("one.key") };
        std::fs::write(&pair.certificate, made.cert.pem()).expect("a folder");
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("a folder");
        pair
    }

    #[test]
    fn a_certificate_is_judged_by_its_end_and_its_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let pair = pair(folder.path());
        let ends_s = Certificates::load(std::slice::from_ref(&pair)).expect("just made").not_after_s();
        let judged = |now_s| {
            let finding = certificate(&pair, now_s);
            (finding.severity, finding.found.rsplit_once(' ').map(|(_, last)| last.to_owned()))
        };
        std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o600)).expect("a file");
        let word = |word: &str| Some(word.to_owned());
        assert_eq!(judged(ends_s - CERTIFICATE_ENDS_SOON_S), (Severity::Ok, word("days")));
        assert_eq!(judged(ends_s - CERTIFICATE_ENDS_SOON_S + 1), (Severity::Warning, word("days")));
        assert_eq!(judged(ends_s), (Severity::Stops, word("ago")));
        std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o644)).expect("a file");
        assert_eq!(judged(0).0, Severity::Warning);
        std::fs::write(&pair.key, "none").expect("a file");
        assert_eq!(judged(0).0, Severity::Stops);
    }

    #[test]
    fn a_bus_that_is_not_there_is_a_warning() {
        // A port of this machine at which nothing listens.
        let finding = bus(cluster::probe(&["nats://user:sesame@127.0.0.1:1".to_owned()], "imgate", 1));
        assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
        assert!(!format!("{finding:?}").contains("sesame"), "a password is never shown");
    }
}
