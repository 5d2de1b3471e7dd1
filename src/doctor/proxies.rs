//! Proxies in front: whether the configuration believes those that it must, and no others, and
//! what a gateway that runs has seen of them.
//!
//! Owns: what of it is worth a finding. Never: asks; the texts are given.

use std::net::SocketAddr;

use super::running::Told;
use super::{Finding, Scrapes, Severity};
use crate::config::Config;
use crate::fair::Networks;
use crate::metrics::names;
use crate::metrics::proxies::{Heard, Unsaid};
use crate::metrics::tally::GateRefusal;

const TRUSTED: &str = "trusted_proxies";
const WHAT: &str = "proxies";

/// Of the connections, what is no scan of strangers any more.
const NOTABLE: f64 = 0.01;
/// Requests after which it is no handful of scans that most of them are of the same sort.
const MANY: f64 = 100.0;

/// By the configuration, and by what a gateway says that runs on it.
pub(super) fn findings(config: &Config, scrapes: Option<&Scrapes>) -> Vec<Finding> {
    let mut found = trusted(&config.trusted_proxies, &config.listen_proxy);
    if let Some(scrapes) = scrapes {
        found.extend(seen(&Told(&scrapes.now), config));
    }
    found
}

/// Whom the configuration believes.
fn trusted(trusted: &Networks, listen_proxy: &[SocketAddr]) -> Vec<Finding> {
    let shown = if trusted.is_empty() { "none".to_owned() } else { trusted.texts().join(", ") };
    let mut found = Vec::new();
    if trusted.holds_everybody() {
        let why = "every client may say that it is any other: limits per address, logs and bans go by what it says";
        found.push(
            Finding::bad(Severity::Warning, TRUSTED, shown.as_str(), why)
                .wanted("the addresses of your proxies")
                .mend("trusted_proxies = [\"10.0.0.2\"], or [\"none\"] without a proxy, and a restart"),
        );
    }
    for address in listen_proxy.iter().filter(|address| !address.ip().is_loopback() || trusted.is_empty()) {
        if !trusted.is_local() {
            continue;
        }
        // A proxy on this machine has another address than loopback if it connects to one.
        let some = address.ip().is_unspecified() && !trusted.is_empty();
        let (severity, whom) =
            if some { (Severity::Warning, "only proxies of this machine") } else { (Severity::Stops, "no proxy") };
        let why = format!("{whom} may connect to listen_proxy = {address}: all others are closed without a word");
        found.push(Finding::bad(severity, TRUSTED, shown.as_str(), why).mend(trust_more(trusted)));
    }
    if found.is_empty() {
        found.push(Finding::ok(TRUSTED, shown));
    }
    found
}

/// What it takes to believe one more.
fn trust_more(trusted: &Networks) -> String {
    let all: Vec<String> = trusted.texts().into_iter().chain(["ADDRESS".to_owned()]).collect();
    format!("trusted_proxies = {all:?}, the proxy's, and a restart   # the log of the gateway names it")
}

/// What a gateway has seen since its start.
fn seen(told: &Told<'_>, config: &Config) -> Vec<Finding> {
    let mut found = headers(told, config);
    found.extend(pages(told));
    found.extend(preambles(told, config));
    found
}

fn counted(told: &Told<'_>, metric: names::Metric, labels: &str) -> f64 {
    told.series(metric).filter(|(of, _)| *of == labels).map(|(_, count)| count).sum()
}

/// Headers that are not believed, and those that say nothing.
fn headers(told: &Told<'_>, config: &Config) -> Vec<Finding> {
    let of = |heard: Heard| counted(told, names::PROXIED, &format!("outcome=\"{}\"", heard.label()));
    let mut found = Vec::new();
    let all: f64 = Heard::ALL.iter().map(|heard| of(*heard)).sum();
    let untrusted = of(Heard::Untrusted) + of(Heard::UntrustedPrivate);
    // Behind the PROXY protocol the peer is the client, and whatever it says in headers is moot.
    let most = untrusted * 2.0 >= all && config.listen_proxy.is_empty();
    let most = most && (all >= MANY || of(Heard::UntrustedPrivate) > 0.0);
    if most || of(Heard::UntrustedPrivate) > 0.0 {
        let severity = if most { Severity::Warning } else { Severity::Note };
        let why = "their X-Forwarded-… and Forwarded are not believed: all who come through that proxy share the \
                   limits of its address (503), and login cookies are not Secure";
        found.push(
            Finding::bad(
                severity,
                WHAT,
                format!("{untrusted} of {all} requests are of a peer that is not trusted"),
                why,
            )
            .mend(trust_more(&config.trusted_proxies)),
        );
    }
    // Where only this machine is trusted, as it comes, whoever tries something out says nothing.
    let silent = if config.trusted_proxies.is_local() { 0.0 } else { of(Heard::Silent) };
    let mute = silent + of(Heard::NoClient);
    let proxied = mute + of(Heard::Believed);
    if mute > 0.0 && mute * 2.0 >= proxied {
        let why = "all clients of that proxy count as one address, which has no limits";
        // One that says it otherwise is silent when it asks for itself, whether the gateway lives.
        let severity = if of(Heard::Believed) > 0.0 { Severity::Note } else { Severity::Warning };
        found.push(
            Finding::bad(
                severity,
                WHAT,
                format!("{mute} of {proxied} requests of trusted proxies do not say whose they are"),
                why,
            )
            .mend("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;   # nginx; haproxy: option forwardfor"),
        );
    }
    found
}

/// What pages show that proxies have not said.
fn pages(told: &Told<'_>) -> Vec<Finding> {
    let unsaid = |what: Unsaid| counted(told, names::UNSAID, &format!("what=\"{}\"", what.label()));
    let mut found = Vec::new();
    let (scheme, host) = (unsaid(Unsaid::Scheme), unsaid(Unsaid::Host));
    // Behind a proxy everybody may write such a request by hand.
    let all = told.sum(names::PROXIED).unwrap_or_default();
    let warn = |count: f64, text: &str, why: &str, mend: &str| {
        let severity = if count >= all * NOTABLE { Severity::Warning } else { Severity::Note };
        Finding::bad(severity, WHAT, format!("{count} {text}"), why).mend(mend)
    };
    if scheme > 0.0 {
        let why = "their login cookies are not Secure, and old pages are told ws: instead of wss:";
        let mend = "proxy_set_header X-Forwarded-Proto $scheme;   # nginx; haproxy: http-request set-header \
                    X-Forwarded-Proto https, or send-proxy-v2-ssl with listen_proxy";
        found.push(warn(scheme, "requests of pages by https of which the proxy does not say so", why, mend));
    }
    if host > 0.0 {
        let why = "browsers log in, and their WebSockets may be refused as those of another origin";
        let mend =
            "proxy_set_header Host $http_host;   # nginx; or X-Forwarded-Host, or origins = [\"https://PUBLIC-HOST\"]";
        found.push(warn(host, "requests of pages of another host or port than the proxy asks for", why, mend));
    }
    let foreign = refused(told, GateRefusal::CrossOrigin);
    if foreign > 0.0 && host == 0.0 {
        let why = "a page elsewhere tries it, or the proxy rewrites Host and the gateway does not know its own name";
        let mend = "if the pages are yours: origins = [\"https://PUBLIC-HOST\"], or have the proxy keep Host";
        found.push(
            Finding::bad(
                notable(told, foreign),
                WHAT,
                format!("{foreign} sessions of pages of another origin refused"),
                why,
            )
            .mend(mend),
        );
    }
    found
}

/// Headers of the PROXY protocol that are missing, or too many.
fn preambles(told: &Told<'_>, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |why_refused: GateRefusal, what: &str, why: &str, mend: &str| {
        let count = refused(told, why_refused);
        if count > 0.0 {
            found.push(Finding::bad(notable(told, count), WHAT, format!("{count} connections {what}"), why).mend(mend));
        }
    };
    tell(
        GateRefusal::ProxyHeader,
        "to listen_proxy without a header of the PROXY protocol",
        "they are closed without a word",
        "send-proxy-v2-ssl check-send-proxy   # haproxy; or listen instead of listen_proxy for what speaks HTTP",
    );
    tell(
        GateRefusal::ProxyPeer,
        "to listen_proxy of peers that are not trusted",
        "they are closed without a word",
        &trust_more(&config.trusted_proxies),
    );
    tell(
        GateRefusal::Preamble,
        "with a header of the PROXY protocol to an address that expects none",
        "they are refused (400)",
        "listen_proxy = [\"ADDRESS:PORT\"] for that proxy, or no send-proxy there",
    );
    found
}

fn refused(told: &Told<'_>, why: GateRefusal) -> f64 {
    counted(told, names::GATE_REFUSED, &format!("reason=\"{}\"", why.label()))
}

/// How much it matters, of all connections: strangers try everything now and then.
fn notable(told: &Told<'_>, count: f64) -> Severity {
    let accepted = told.sum(names::ACCEPTED).unwrap_or_default();
    if count >= accepted * NOTABLE { Severity::Warning } else { Severity::Note }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FIELDS, Layers};

    fn config(settings: &[(&str, &[&str])]) -> Config {
        let mut layers = Layers::default();
        for (key, values) in settings {
            let field = FIELDS.iter().find(|field| field.key == *key).expect("a setting");
            layers.flag(field, values.iter().map(|value| (*value).to_owned()).collect());
        }
        Config::from_layers(&layers).expect("a good configuration")
    }

    fn of(settings: &[(&str, &[&str])]) -> Vec<(Severity, &'static str)> {
        let config = config(settings);
        let found = trusted(&config.trusted_proxies, &config.listen_proxy);
        found.into_iter().map(|finding| (finding.severity, finding.what)).collect()
    }

    fn told(page: &str, settings: &[(&str, &[&str])]) -> Vec<(Severity, String, String)> {
        let found = seen(&Told(page), &config(settings)).into_iter();
        found.map(|finding| (finding.severity, finding.found, finding.mend.expect("there is one"))).collect()
    }

    #[test]
    fn whom_the_configuration_believes_is_judged() {
        let (ok, warns, stops) = ((Severity::Ok, TRUSTED), (Severity::Warning, TRUSTED), (Severity::Stops, TRUSTED));
        assert_eq!(of(&[]), [ok]);
        assert_eq!(of(&[("trusted_proxies", &["none"])]), [ok]);
        assert_eq!(of(&[("trusted_proxies", &["10.0.0.2", "0.0.0.0/0"])]), [warns]);
        assert_eq!(of(&[("trusted_proxies", &["::/0"])]), [warns]);
        assert_eq!(of(&[("listen_proxy", &["127.0.0.1:8083"])]), [ok]);
        assert_eq!(of(&[("listen_proxy", &["0.0.0.0:8083"])]), [warns]);
        assert_eq!(of(&[("listen_proxy", &["10.0.0.5:8083"])]), [stops]);
        assert_eq!(of(&[("listen_proxy", &["127.0.0.1:8083"]), ("trusted_proxies", &["none"])]), [stops]);
        assert_eq!(of(&[("listen_proxy", &["10.0.0.5:8083"]), ("trusted_proxies", &["10.0.0.2"])]), [ok]);
    }

    #[test]
    fn a_proxy_that_is_not_trusted_is_told_with_the_setting() {
        let page = |direct: u32, near: u32, far: u32| {
            format!(
                "imgate_proxied_total{{outcome=\"direct\"}} {direct}\nimgate_proxied_total{{outcome=\"untrusted_private\"}} {near}\n\
                 imgate_proxied_total{{outcome=\"untrusted\"}} {far}\n"
            )
        };
        let [(severity, found, mend)] = &told(&page(2, 5, 0), &[])[..] else { panic!("one finding") };
        assert_eq!(
            (*severity, found.as_str()),
            (Severity::Warning, "5 of 7 requests are of a peer that is not trusted")
        );
        assert!(mend.starts_with(r#"trusted_proxies = ["127.0.0.0/8", "::1/128", "ADDRESS"]"#), "{mend}");
        assert_eq!(told(&page(0, 0, 300), &[])[0].0, Severity::Warning, "nothing else comes");
        assert!(told(&page(0, 0, 3), &[]).is_empty(), "a gateway that was just found by strangers");
        assert_eq!(told(&page(9, 1, 0), &[])[0].0, Severity::Note, "somebody in the same network");
        assert!(told(&page(9, 0, 3), &[]).is_empty(), "clients may write what they like");
        let behind: &[(&str, &[&str])] = &[("listen_proxy", &["127.0.0.1:8083"])];
        assert!(told(&page(0, 0, 300), behind).is_empty(), "its clients are known otherwise");
    }

    #[test]
    fn a_proxy_that_does_not_say_whose_a_request_is_is_told() {
        let page = "imgate_proxied_total{outcome=\"silent\"} 5\nimgate_proxied_total{outcome=\"no_client\"} 1\n\
                    imgate_proxied_total{outcome=\"believed\"} 3\n";
        assert!(told(page, &[]).is_empty(), "this machine is trusted as it comes");
        let explicit: &[(&str, &[&str])] = &[("trusted_proxies", &["10.0.0.2"])];
        let [(severity, found, _)] = &told(page, explicit)[..] else { panic!("one finding") };
        let text = "6 of 9 requests of trusted proxies do not say whose they are";
        assert_eq!((*severity, found.as_str()), (Severity::Note, text), "it may look whether the gateway lives");
        assert_eq!(told(&page.replace("\"} 3", "\"} 0"), explicit)[0].0, Severity::Warning);
    }

    #[test]
    fn what_pages_and_preambles_show_is_told() {
        let page = "imgate_accepted_total 1000\nimgate_proxy_unsaid_total{what=\"scheme\"} 3\n\
                    imgate_proxy_unsaid_total{what=\"host\"} 0\nimgate_gate_refused_total{reason=\"cross_origin\"} 2\n\
                    imgate_gate_refused_total{reason=\"proxy_header\"} 4\nimgate_gate_refused_total{reason=\"proxy_peer\"} 50\n\
                    imgate_gate_refused_total{reason=\"preamble\"} 10\n";
        let shown: Vec<_> =
            told(page, &[]).into_iter().map(|(severity, found, _)| format!("{severity:?} {found}")).collect();
        assert_eq!(
            shown,
            [
                "Warning 3 requests of pages by https of which the proxy does not say so",
                "Note 2 sessions of pages of another origin refused",
                "Note 4 connections to listen_proxy without a header of the PROXY protocol",
                "Warning 50 connections to listen_proxy of peers that are not trusted",
                "Warning 10 connections with a header of the PROXY protocol to an address that expects none",
            ]
        );
        let few = format!("{page}imgate_proxied_total{{outcome=\"believed\"}} 1000\n");
        assert_eq!(told(&few, &[])[0].0, Severity::Note, "by hand");
        let host = page.replace("what=\"host\"} 0", "what=\"host\"} 7");
        let shown = told(&host, &[]);
        assert!(shown[1].1.starts_with("7 requests of pages of another host") && shown.len() == 5, "{shown:?}");
        assert!(told("imgate_accepted_total 5\n", &[]).is_empty());
    }
}
