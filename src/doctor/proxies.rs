//! Proxies in front: whether the configuration believes those that it must, and no others, and
//! what a gateway that runs has seen of them.
//!
//! Owns: what of it is worth a finding. Never: asks; the texts are given.

use std::net::SocketAddr;
use std::time::Duration;

use super::running::Told;
use super::{Finding, Scrapes, Severity};
use crate::clock;
use crate::config::Config;
use crate::fair::Networks;
use crate::limits::PROXY_SEEN_TOLD_S;
use crate::metrics::names;
use crate::metrics::proxies::{Heard, Sighting, Unsaid};
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
        found.extend(seen(&Glimpse { told: Told(&scrapes.now), now_s: clock::wall_ms() / 1000 }, config));
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
    for address in
        listen_proxy.iter().filter(|address| !address.ip().to_canonical().is_loopback() || trusted.is_empty())
    {
        if !trusted.is_local() {
            continue;
        }
        // A proxy on this machine has another address than loopback if it connects to one.
        let some = address.ip().to_canonical().is_unspecified() && !trusted.is_empty();
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
    format!(
        "trusted_proxies = {all:?}, and a restart   # only if ADDRESS, which the log names, is your own proxy: scanners \
         and others behind a NAT send such headers, too, and what is trusted may say that it is any address"
    )
}

/// The metrics of a gateway, and when they are judged, in Unix seconds.
struct Glimpse<'a> {
    told: Told<'a>,
    now_s: u64,
}

impl Glimpse<'_> {
    fn counted(&self, metric: names::Metric, labels: &str) -> f64 {
        self.told.series(metric).filter(|(of, _)| *of == labels).map(|(_, count)| count).sum()
    }

    fn refused(&self, why: GateRefusal) -> f64 {
        self.counted(names::GATE_REFUSED, &format!("reason=\"{}\"", why.label()))
    }

    /// How much it matters, of all connections: strangers try everything now and then.
    fn notable(&self, count: f64) -> Severity {
        let accepted = self.told.sum(names::ACCEPTED).unwrap_or_default();
        if count >= accepted * NOTABLE { Severity::Warning } else { Severity::Note }
    }

    /// A finding with the time of its last sighting. What is counted stays until the next start, so
    /// what has not been seen for a while is only told: it may be mended.
    fn dated(&self, finding: Finding, of: &[Sighting]) -> Finding {
        let last = |what: &Sighting| self.counted(names::PROXY_SEEN, &format!("what=\"{}\"", what.label())) as u64;
        // Earlier versions do not say it.
        let Some(last_s) = of.iter().map(last).max().filter(|last_s| *last_s > 0) else { return finding };
        let age_s = self.now_s.saturating_sub(last_s);
        let whole_s = if age_s < 60 { age_s } else { age_s / 60 * 60 };
        let ago = humantime::format_duration(Duration::from_secs(whole_s));
        let found = format!("{}, since its start; the last {ago} ago", finding.found);
        if age_s <= PROXY_SEEN_TOLD_S {
            return Finding { found, ..finding };
        }
        let severity = finding.severity.min(Severity::Note);
        Finding { severity, found: format!("seen earlier: {found}"), ..finding }
    }
}

/// What a gateway has seen since its start.
fn seen(page: &Glimpse<'_>, config: &Config) -> Vec<Finding> {
    let mut found: Vec<Finding> = untrusted(page, config).into_iter().chain(mute(page, config)).collect();
    found.extend(pages(page));
    found.extend(preambles(page, config));
    found
}

/// How many requests were heard so.
fn heard(page: &Glimpse<'_>, heard: Heard) -> f64 {
    page.counted(names::PROXIED, &format!("outcome=\"{}\"", heard.label()))
}

/// Headers that are not believed.
fn untrusted(page: &Glimpse<'_>, config: &Config) -> Option<Finding> {
    let of = |what: Heard| heard(page, what);
    let all: f64 = Heard::ALL.iter().map(|heard| of(*heard)).sum();
    let untrusted = of(Heard::Untrusted) + of(Heard::UntrustedPrivate);
    // Behind the PROXY protocol the peer is the client, and whatever it says in headers is moot.
    let most = untrusted * 2.0 >= all && config.listen_proxy.is_empty();
    let most = most && (all >= MANY || of(Heard::UntrustedPrivate) > 0.0);
    if !most && of(Heard::UntrustedPrivate) == 0.0 {
        return None;
    }
    let severity = if most { Severity::Warning } else { Severity::Note };
    let why = "their X-Forwarded-… and Forwarded are not believed: all who come through that proxy share the limits \
               of its address (503), and login cookies are not Secure";
    let finding =
        Finding::bad(severity, WHAT, format!("{untrusted} of {all} requests are of a peer that is not trusted"), why)
            .mend(trust_more(&config.trusted_proxies));
    // A proxy with a private address that was mended is not seen again because of scanners.
    let near = of(Heard::UntrustedPrivate) >= of(Heard::Untrusted);
    let both = [Sighting::UntrustedPrivate, Sighting::Untrusted];
    Some(page.dated(finding, both.get(..if near { 1 } else { 2 }).unwrap_or_default()))
}

/// Headers of trusted proxies that say nothing.
fn mute(page: &Glimpse<'_>, config: &Config) -> Option<Finding> {
    let of = |what: Heard| heard(page, what);
    // Where only this machine is trusted, as it comes, whoever tries something out says nothing.
    let silent = if config.trusted_proxies.is_local() { 0.0 } else { of(Heard::Silent) };
    let mute = silent + of(Heard::NoClient);
    let proxied = mute + of(Heard::Believed);
    if mute == 0.0 || mute * 2.0 < proxied {
        return None;
    }
    // A balancer is silent when it asks for itself, whether the gateway lives. It may be nothing
    // else where it says its clients otherwise, or where none has come yet.
    let unused = page.told.sum(names::SESSIONS_OPENED).unwrap_or_default() == 0.0;
    let may_be_checks = of(Heard::NoClient) == 0.0 && (unused || !config.listen_proxy.is_empty());
    let checks = of(Heard::Believed) > 0.0 || may_be_checks;
    let (severity, why) = if checks {
        let why = "health checks of a balancer do not; if clients come so, all of them count as one address, which \
                   has no limits";
        (Severity::Note, why)
    } else {
        (Severity::Warning, "all clients of that proxy count as one address, which has no limits")
    };
    let text = format!("{mute} of {proxied} requests of trusted proxies do not say whose they are");
    let finding = Finding::bad(severity, WHAT, text, why)
        .mend("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;   # nginx; haproxy: option forwardfor");
    let both = [Sighting::NoClient, Sighting::Silent];
    Some(page.dated(finding, both.get(..if silent > 0.0 { 2 } else { 1 }).unwrap_or_default()))
}

/// What pages show that proxies have not said.
fn pages(page: &Glimpse<'_>) -> Vec<Finding> {
    let unsaid = |what: Unsaid| page.counted(names::UNSAID, &format!("what=\"{}\"", what.label()));
    let mut found = Vec::new();
    let (scheme, host) = (unsaid(Unsaid::Scheme), unsaid(Unsaid::Host));
    // Behind a proxy everybody may write such a request by hand.
    let all = page.told.sum(names::PROXIED).unwrap_or_default();
    let warn = |(count, what): (f64, Sighting), text: &str, why: &str, mend: &str| {
        let severity = if count >= all * NOTABLE { Severity::Warning } else { Severity::Note };
        page.dated(Finding::bad(severity, WHAT, format!("{count} {text}"), why).mend(mend), &[what])
    };
    if scheme > 0.0 {
        let why = "their login cookies are not Secure, and old pages are told ws: instead of wss:";
        let mend = "proxy_set_header X-Forwarded-Proto $scheme;   # nginx; behind another proxy that ends TLS \
                    $http_x_forwarded_proto, what that one says; haproxy: http-request set-header X-Forwarded-Proto \
                    https, or send-proxy-v2-ssl with listen_proxy";
        found.push(warn(
            (scheme, Sighting::Scheme),
            "requests of pages by https of which the proxy does not say so",
            why,
            mend,
        ));
    }
    if host > 0.0 {
        let why = "browsers log in, and their WebSockets may be refused as those of another origin";
        let mend =
            "proxy_set_header Host $http_host;   # nginx; or X-Forwarded-Host, or origins = [\"https://PUBLIC-HOST\"]";
        let text = "requests of pages of another host or port than the proxy asks for";
        found.push(warn((host, Sighting::Host), text, why, mend));
    }
    let foreign = page.refused(GateRefusal::CrossOrigin);
    if foreign > 0.0 && host == 0.0 {
        let why = "a page elsewhere tries it, or the proxy rewrites Host and the gateway does not know its own name";
        let mend = "if the pages are yours: origins = [\"https://PUBLIC-HOST\"], or have the proxy keep Host";
        let text = format!("{foreign} sessions of pages of another origin refused");
        let finding = Finding::bad(page.notable(foreign), WHAT, text, why).mend(mend);
        found.push(page.dated(finding, &[Sighting::CrossOrigin]));
    }
    found
}

/// Headers of the PROXY protocol that are missing, or too many.
fn preambles(page: &Glimpse<'_>, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |why_refused: GateRefusal, what: &str, why: &str, mend: &str| {
        let count = page.refused(why_refused);
        if count > 0.0 {
            let text = format!("{count} connections {what}");
            let finding = Finding::bad(page.notable(count), WHAT, text, why).mend(mend);
            found.push(page.dated(finding, why_refused.sighting().as_slice()));
        }
    };
    tell(
        GateRefusal::ProxyHeader,
        "to listen_proxy without a header of the PROXY protocol",
        "they are closed without a word, health checks, too: the balancer takes the gateway for dead",
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

    /// When the pages are judged.
    const NOW_S: u64 = 1_800_000_000;

    fn told(page: &str, settings: &[(&str, &[&str])]) -> Vec<(Severity, String, String)> {
        let found = seen(&Glimpse { told: Told(page), now_s: NOW_S }, &config(settings)).into_iter();
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
        let mapped = ["::ffff:127.0.0.1", "[::ffff:127.0.0.1]:8083"];
        assert_eq!(of(&[("listen_proxy", &[mapped[1]]), ("trusted_proxies", &[mapped[0]])]), [ok], "IPv4, as IPv6");
        assert_eq!(of(&[("listen_proxy", &["[::ffff:0.0.0.0]:8083"])]), [warns]);
    }

    #[test]
    fn what_was_not_seen_for_a_while_is_only_told() {
        let page = |count: u32, ago_s: u64| {
            format!(
                "imgate_accepted_total 1\nimgate_gate_refused_total{{reason=\"preamble\"}} {count}\n\
                 imgate_proxy_seen_timestamp_seconds{{what=\"preamble\"}} {}\n",
                NOW_S - ago_s
            )
        };
        let of = |ago_s: u64| {
            let (severity, found, _) = told(&page(5, ago_s), &[]).remove(0);
            (severity, found.replace("connections with a header of the PROXY protocol to an address that", ""))
        };
        let text = |ago: &str| format!("5  expects none, since its start; the last {ago} ago");
        assert_eq!(of(7), (Severity::Warning, text("7s")));
        assert_eq!(of(PROXY_SEEN_TOLD_S), (Severity::Warning, text("10m")));
        assert_eq!(of(3_700), (Severity::Note, format!("seen earlier: {}", text("1h 1m"))));
        assert!(told(&page(0, NOW_S), &[]).is_empty());
        let mended = format!(
            "imgate_proxied_total{{outcome=\"untrusted_private\"}} 9\nimgate_proxied_total{{outcome=\"untrusted\"}} 2\n\
             imgate_proxy_seen_timestamp_seconds{{what=\"untrusted_private\"}} {}\n\
             imgate_proxy_seen_timestamp_seconds{{what=\"untrusted\"}} {NOW_S}\n",
            NOW_S - 3_600
        );
        assert_eq!(told(&mended, &[])[0].0, Severity::Note, "only a scanner is left");
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
        assert!(mend.contains("only if ADDRESS") && mend.contains("is your own proxy"), "{mend}");
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
    fn health_checks_of_a_balancer_are_no_warning() {
        let explicit: (&str, &[&str]) = ("trusted_proxies", &["10.0.0.2"]);
        let behind: (&str, &[&str]) = ("listen_proxy", &["10.0.0.5:8083"]);
        let page = |opened: u32, no_client: u32| {
            format!(
                "imgate_sessions_opened_total {opened}\nimgate_proxied_total{{outcome=\"silent\"}} 500\n\
                 imgate_proxied_total{{outcome=\"no_client\"}} {no_client}\n"
            )
        };
        let of = |page: &str, settings: &[(&str, &[&str])]| told(page, settings)[0].0;
        assert_eq!(of(&page(0, 0), &[explicit]), Severity::Note, "no client has come yet");
        assert_eq!(of(&page(1, 0), &[explicit]), Severity::Warning);
        assert_eq!(of(&page(1, 0), &[explicit, behind]), Severity::Note, "clients are known otherwise");
        assert_eq!(of(&page(0, 1), &[explicit]), Severity::Warning, "that is no health check");
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
